//! The notation of the tables: rows as text, and the change of a client, step by step.
//!
//! The text of some rows is a list of words:
//!
//! - `a#3`, or `s:a#3`: the session of client `a`, founded by commit 3, in the unnamed container or in that of the
//!   package `s`. These may follow: `@50` (its last access), `^40` (when it was founded), `%45` (when it got its id, if
//!   at another time), `*45` (when its owner logged in), `+` (a request presented its id), `"phone` (its label), `~30`
//!   (its timeout) and `=ann` (its owner). Times are milliseconds. A missing time is 0.
//! - `p/2{j=1,k=x}`: the package `p` of that session, as commit 2 wrote it. `p?` is listed, but has no row.
//! - `a!50`: the id of client `a` is refused until 50.
//! - `now=50`: the time by the clock. If it is missing, 100.
//! - `registered`, `ended`, `expired`: since the transaction began, a container was registered, the session of any
//!   client was ended, or it was found expired.

use super::super::{CurrentRows, MergeRefusal, resolve};
use super::edit::Edit;
use crate::client_id::{ClientIds, ClientKey, Freshness, Secret};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::storage::record::{
    AccessPart, PackageRow, RecordCipher, SessionRow, client_of, package_key,
};
use crate::storage::{
    ChangeSet, ClientChange, ContainerId, ContainerRef, Limits, Mark, MergedWrites, StaleCommute,
    TombstonePolicy, Version,
};
use crate::value;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The mark before each part of a session.
const MARKS: [char; 8] = ['@', '^', '%', '*', '+', '"', '~', '='];

/// The number of the commit that the tables test.
const COMMIT: u64 = 9;

/// When its transaction began.
pub(super) const NOW: Timestamp = Timestamp(100);

pub(super) fn client(name: &str) -> ClientKey {
    ClientKey::from_bytes([name.as_bytes()[0]; 16])
}

fn client_name(client: ClientKey) -> char {
    char::from(client.as_bytes()[0])
}

/// The container of a package: one that begins with `s` has its own.
pub(super) fn place(package: &str) -> ContainerRef {
    let (id, name) = match package.starts_with('s') {
        true => (ContainerId(1), "s"),
        false => (ContainerId::UNNAMED, ""),
    };
    let name = name.into();
    ContainerRef { id, name }
}

fn span(millis: &str) -> Duration {
    Duration::from_millis(millis.parse().unwrap())
}

pub(super) fn time(millis: &str) -> Timestamp {
    Timestamp(millis.parse().unwrap())
}

pub(super) fn stored(text: &str) -> Bytes {
    let bytes = match text.parse::<i64>() {
        Ok(number) => value::encode(&number),
        Err(_) => value::encode(text),
    };
    bytes.unwrap().into()
}

fn shown(bytes: &[u8]) -> String {
    match value::decode::<i64>(bytes) {
        Ok(number) => number.to_string(),
        Err(_) => value::decode(bytes).unwrap(),
    }
}

type SessionAt = (ContainerId, ClientKey);

/// All rows of a store.
#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) sessions: BTreeMap<SessionAt, SessionRow>,
    pub(super) packages: BTreeMap<(ContainerId, ClientKey, String), PackageRow>,
    pub(super) tombstones: BTreeMap<ClientKey, Timestamp>,
    pub(super) now: Option<Timestamp>,
    pub(super) registered: bool,
    pub(super) ended: bool,
    pub(super) expired: bool,
}

impl World {
    pub(super) fn of(text: &str) -> Self {
        let mut world = Self::default();
        let mut at = None;
        for word in text.split_whitespace() {
            if let Some((client, until)) = word.split_once('!') {
                world.tombstones.insert(self::client(client), time(until));
            } else if word.contains('#') {
                at = Some(world.put_session(word));
            } else if let Some(now) = word.strip_prefix("now=") {
                world.now = Some(time(now));
            } else if let Some(flag) = world.flag(word) {
                *flag = true;
            } else {
                world.put_package(at.expect("a session"), word);
            }
        }
        world
    }

    pub(super) fn flag(&mut self, word: &str) -> Option<&mut bool> {
        match word {
            "registered" => Some(&mut self.registered),
            "ended" => Some(&mut self.ended),
            "expired" => Some(&mut self.expired),
            _ => None,
        }
    }

    pub(super) fn put_session(&mut self, word: &str) -> SessionAt {
        let (container, word) = match word.strip_prefix("s:") {
            Some(word) => ("s", word),
            None => ("", word),
        };
        let (name, rest) = word.split_once('#').unwrap();
        // The text after a mark, up to the next mark.
        let after = |mark| {
            let (_, rest) = rest.split_once(mark)?;
            rest.split(MARKS).next()
        };
        let incarnation = rest.split(MARKS).next().unwrap();
        let mut row = SessionRow::new(Timestamp::default(), Version(incarnation.parse().unwrap()));
        row.access = AccessPart {
            created: after('^').map(time).unwrap_or_default(),
            last_access: after('@').map(time).unwrap_or_default(),
            id_issued: after('%').or(after('^')).map(time).unwrap_or_default(),
            is_id_confirmed: after('+').is_some(),
        };
        row.timeout = after('~').map(span);
        row.owner = after('=').map(Arc::from);
        row.optional.label = after('"').map(Arc::from);
        row.optional.authenticated_at = after('*').map(time);
        let at = (place(container).id, client(name));
        self.sessions.insert(at, row);
        at
    }

    pub(super) fn put_package(&mut self, at: SessionAt, word: &str) {
        let name = word.split(['/', '?']).next().unwrap();
        let row = self.sessions.get_mut(&at).unwrap();
        let packages = row.packages.iter().cloned().chain([name.into()]);
        row.packages = packages.collect();
        assert!(row.packages.is_sorted());
        let Some((_, rest)) = word.split_once('/') else {
            return;
        };
        let (version, keys) = rest.split_once('{').unwrap();
        let keys = keys.strip_suffix('}').unwrap().split(',');
        let entries = keys.map(|entry| entry.split_once('=').unwrap());
        let entries: Vec<_> = entries.map(|(key, text)| (key, stored(text))).collect();
        let key = package_key(at.0, at.1, name);
        let entries = entries.iter().map(|(key, value)| (*key, &**value));
        let record = PackageRow::encode(&key, Version(version.parse().unwrap()), entries).unwrap();
        let row = PackageRow::decode(&key, record.into(), &RecordCipher::Plain).unwrap();
        self.packages.insert((at.0, at.1, name.to_owned()), row);
    }

    pub(super) fn text(&self) -> String {
        let mut words = Vec::new();
        for ((container, client), row) in &self.sessions {
            let mark = if container.0 == 0 { "" } else { "s:" };
            let mut word = format!("{mark}{}#{}", client_name(*client), row.incarnation.0);
            let mut add = |mark, time: Timestamp| {
                if time != Timestamp::default() {
                    word.push_str(&format!("{mark}{}", time.0));
                }
            };
            add('@', row.access.last_access);
            add('^', row.access.created);
            if row.access.id_issued != row.access.created {
                add('%', row.access.id_issued);
            }
            add('*', row.optional.authenticated_at.unwrap_or_default());
            if row.access.is_id_confirmed {
                word.push('+');
            }
            if let Some(label) = &row.optional.label {
                word.push_str(&format!("\"{label}"));
            }
            if let Some(timeout) = row.timeout {
                word.push_str(&format!("~{}", timeout.as_millis()));
            }
            if let Some(owner) = &row.owner {
                word.push_str(&format!("={owner}"));
            }
            words.push(word);
            for package in row.packages.iter() {
                let row = self
                    .packages
                    .get(&(*container, *client, package.to_string()));
                words.push(row.map_or_else(
                    || format!("{package}?"),
                    |row| {
                        let keys = row.iter().map(|(k, v)| format!("{k}={}", shown(&v)));
                        let keys: Vec<_> = keys.collect();
                        format!("{package}/{}{{{}}}", row.version.0, keys.join(","))
                    },
                ));
            }
        }
        let refused = self.tombstones.iter();
        words
            .extend(refused.map(|(client, until)| format!("{}!{}", client_name(*client), until.0)));
        words.join(" ")
    }

    /// The rows after these writes, and the other results of the writes.
    pub(super) fn after(mut self, writes: MergedWrites) -> String {
        for write in writes.sessions {
            let at = (write.container, write.client);
            let owner = self.sessions.get(&at).and_then(|row| row.owner.clone());
            assert_eq!(write.old_owner, owner, "the old owner");
            match write.row {
                Some(row) => self.sessions.insert(at, row),
                None => self.sessions.remove(&at),
            };
        }
        for write in writes.packages {
            let session: [u8; 20] = write.key[..20].try_into().unwrap();
            let name = String::from_utf8(write.key[20..].to_vec()).unwrap();
            let at = (write.container, client_of(&session), name);
            match write.row {
                Some(row) => {
                    let row =
                        PackageRow::decode(&write.key, row.into(), &RecordCipher::Plain).unwrap();
                    self.packages.insert(at, row)
                }
                None => self.packages.remove(&at),
            };
        }
        for (_, client, until) in writes.tombstones {
            self.tombstones.insert(client, until);
        }
        for (container, client, name) in self.packages.keys() {
            let row = self.sessions.get(&(*container, *client));
            assert!(row.is_some_and(|row| row.has(name)), "unlisted: {name}");
        }
        let mut text = self.text();
        for (client, over) in writes.swept {
            text.push_str(&format!(" swept:{}@{}", client_name(client), over.0));
        }
        if writes.founded > 0 {
            text.push_str(&format!(" founded:{}", writes.founded));
        }
        text.trim().to_owned()
    }
}

impl CurrentRows for World {
    fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
        _: Option<&SessionRow>,
    ) -> Result<Option<SessionRow>> {
        Ok(self.sessions.get(&(container, client)).cloned())
    }

    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
        _: Option<&PackageRow>,
    ) -> Result<Option<PackageRow>> {
        let at = (container, client, package.to_owned());
        Ok(self.packages.get(&at).cloned())
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        Ok(self.tombstones.get(&client).copied())
    }

    fn now(&self) -> Timestamp {
        self.now.unwrap_or(NOW)
    }

    fn ended_since(&self, _: ClientKey, _: Mark) -> bool {
        self.ended
    }

    fn expired_since(&self, _: ClientKey, _: Timestamp) -> bool {
        self.expired
    }

    fn is_used(&self, _: ClientKey, founder: &Freshness) -> bool {
        !founder.is_fresh()
    }

    fn registry(&self) -> u64 {
        u64::from(self.registered)
    }
}

pub(super) fn fresh() -> Freshness {
    let ids = ClientIds::new(Secret::from_key(1, [7; 32]), Vec::new());
    ids.issue().freshness()
}

pub(super) fn used() -> Freshness {
    let ids = ClientIds::new(Secret::from_key(1, [7; 32]), Vec::new());
    let id = ids.issue();
    id.mark_used();
    id.freshness()
}

pub(super) const NOWHERE: Mark = Mark {
    durable: [0; 2],
    memory: 0,
};

fn set(clients: Vec<ClientChange>) -> ChangeSet {
    let millis = Duration::from_millis;
    ChangeSet {
        now: NOW,
        since: NOWHERE,
        clients,
        refusals: TombstonePolicy {
            now: NOW,
            lasts: millis(10),
            slack: millis(0),
        },
        limits: Limits {
            name: 255,
            package: 100,
            packages: 2,
            keys: 3,
        },
        registry: 0,
        foreign: None,
        carried: None,
        findings: None,
        swept: 0,
    }
}

/// The result of some edits: the writes, or the refusal.
pub(super) fn merge(rows: &World, edits: Vec<Edit>) -> Result<MergedWrites, MergeRefusal> {
    let clients = edits.into_iter().map(|edit| edit.change).collect();
    resolve(&set(clients), rows, Version(COMMIT))
}

/// The result of some edits, as text. This is the rows after them, or an error such as `Conflict p.k`, or the closures
/// that must run again, each with its new input.
pub(super) fn outcome(rows: &World, edits: Vec<Edit>) -> String {
    match merge(rows, edits) {
        Ok(writes) => rows.clone().after(writes),
        Err(MergeRefusal::Failed(error, _)) => failed(&error),
        Err(MergeRefusal::Stale(stale)) => {
            let again = |it: &StaleCommute| {
                let current = it.current.as_deref().map(shown);
                format!("again {} from {}", it.index, current.unwrap_or_default())
            };
            let again: Vec<_> = stale.iter().map(again).collect();
            again.join(", ").trim().to_owned()
        }
    }
}

fn failed(error: &Error) -> String {
    let mut text = format!("{:?}", error.kind());
    for (mark, name) in [(" ", error.package()), (".", error.key())] {
        if let Some(name) = name {
            text.push_str(&format!("{mark}{name}"));
        }
    }
    text
}

/// One row of a table: its title, the rows that the transaction read, the rows at its commit, its change of client `a`,
/// and the result.
pub(super) type Case = (
    &'static str,
    &'static str,
    &'static str,
    fn(&mut Edit) -> &mut Edit,
    &'static str,
);

/// Tests each row of a table.
#[track_caller]
pub(super) fn check(table: &[Case]) {
    for (what, read, current, change, expected) in table {
        let mut edit = Edit::new(&World::of(read), "a");
        change(&mut edit);
        let found = outcome(&World::of(current), vec![edit]);
        assert_eq!(&found, expected, "{what}: {read:?}, then {current:?}");
    }
}

//! Reads the records of a damaged store about itself: its identity, secrets, keys, journal and containers.

use crate::error::Result;
use crate::storage::ContainerId;
#[cfg(feature = "encryption")]
use crate::storage::record::FileKeys;
use crate::storage::record::{ContainerRecord, PlainValue, RecordKind, open_plain, open_value};
use crate::storage::redb::backend::folder::Location;
#[cfg(feature = "encryption")]
use crate::storage::redb::failure;
use crate::storage::redb::integrity::inspect::parse_key;
use crate::storage::redb::integrity::newer::NewerRows;
use crate::storage::redb::integrity::pages::Visited;
use crate::storage::redb::integrity::salvage::run::{SalvageRun, corrupt};
use crate::storage::redb::journal::{self, JournalRef};
use crate::storage::redb::memtable::row_key::RowTree;
use crate::storage::redb::meta::{
    self, COVERED, INDEX_KEY, JOURNAL, REACHED, SEALED_BY, SECRET_TIMES,
};
use crate::storage::redb::{names, sealing};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Whether the application provides secrets. If so, the store's own may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnSecrets {
    Needed,
    Dispensable,
}

/// The store's own records; `None` for a lost one.
pub(super) struct StoreRecords {
    pub(super) identity: Option<[u8; 16]>,
    pub(super) secrets: Option<Vec<(u8, [u8; 32])>>,
    /// `None` also in a store of an earlier version.
    pub(super) secret_times: Option<sealing::SecretTimes>,
    pub(super) containers: Vec<ContainerRecord>,
}

/// How the store keeps its secrets.
enum ReadSecrets {
    Plain,
    Encrypted,
}

impl SalvageRun<'_> {
    /// Reads the store's own records.
    pub(super) fn own(&mut self, secrets: OwnSecrets, store: &Location) -> Result<StoreRecords> {
        let mut meta: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        self.each_counted(names::META, |_, key, value| {
            meta.insert(key.to_vec(), value.to_vec());
            Ok(())
        })?;
        let secret_list = self.keys(&meta)?;
        let mut own = StoreRecords {
            identity: self.record(&meta, meta::IDENTITY),
            secrets: match secret_list {
                ReadSecrets::Plain => self.record(&meta, meta::SECRETS),
                ReadSecrets::Encrypted => self.encrypted_secrets(&meta),
            },
            // Stores of an earlier version do not have this record.
            secret_times: meta
                .contains_key(SECRET_TIMES.as_bytes())
                .then(|| self.record(&meta, SECRET_TIMES))
                .flatten(),
            containers: Vec::new(),
        };
        if own.secrets.as_ref().is_some_and(Vec::is_empty) {
            own.secrets = None;
        }
        if (own.identity.is_none() || own.secrets.is_none()) && secrets == OwnSecrets::Needed {
            return Err(corrupt(
                "the store's identity or its secrets cannot be read; give the builder a secret, \
                 and the new store gets an identity of its own",
            ));
        }
        self.salvaged.new_identity = own.identity.is_none();
        self.salvaged.new_secrets = own.secrets.is_none();
        self.epoch = self.record(&meta, meta::EPOCH).unwrap_or(0);
        self.next_container = self.record(&meta, meta::NEXT_CONTAINER).unwrap_or(1);
        self.journal(&meta, own.identity, store)?;
        self.each(names::RETIRED, |this, key, _| {
            if let Ok(id) = <[u8; 4]>::try_from(key) {
                this.retired.insert(u32::from_le_bytes(id));
            }
            Ok(())
        })?;
        own.containers = self.containers()?;
        Ok(own)
    }

    /// Checks the keys against those that the store names. A store that names none may have been encrypted all the same:
    /// its record may be lost.
    fn keys(&mut self, meta: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<ReadSecrets> {
        let is_named = meta.contains_key(SEALED_BY.as_bytes());
        let is_encrypted = is_named || meta.contains_key(INDEX_KEY.as_bytes());
        if is_encrypted && !self.cipher.encrypts() {
            return Err(sealing::no_key());
        }
        #[cfg(feature = "encryption")]
        if let Some(keys) = self.cipher.keys() {
            let named = is_named.then(|| self.record::<sealing::NamedKeys>(meta, SEALED_BY));
            sealing::check(keys, &named.flatten().unwrap_or_default())?;
            let index = meta.get(INDEX_KEY.as_bytes()).map(|record| {
                let read = open_value(self.cipher, RecordKind::Meta, INDEX_KEY.as_bytes(), record);
                read.map(|(_, is_mixed): sealing::IndexKey| is_mixed)
            });
            if let Some(Err(_)) = index {
                self.lost(
                    None,
                    None,
                    corrupt("the key of the index of owners is lost"),
                );
            }
            self.cipher.know(FileKeys {
                // The index is made anew.
                index: failure::random()?.into(),
                accepts_plain: index.and_then(Result::ok).unwrap_or(true),
                has_former_hashes: false,
            });
        }
        Ok(match is_encrypted {
            true => ReadSecrets::Encrypted,
            false => ReadSecrets::Plain,
        })
    }

    fn encrypted_secrets(
        &mut self,
        meta: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Option<Vec<(u8, [u8; 32])>> {
        let (key, kind) = (meta::SECRETS.as_bytes(), RecordKind::Meta);
        let record = meta.get(key);
        let read = record.map(|record| open_value(self.cipher, kind, key, record));
        let read = read.and_then(Result::ok);
        if read.is_none() {
            self.lost(
                None,
                None,
                corrupt("the store's record \"secrets\" is lost"),
            );
        }
        read
    }

    fn record<T: PlainValue>(&mut self, meta: &BTreeMap<Vec<u8>, Vec<u8>>, key: &str) -> Option<T> {
        let read = meta
            .get(key.as_bytes())
            .map(|record| open_plain(RecordKind::Meta, key.as_bytes(), record));
        match read {
            Some(Ok(value)) => Some(value),
            _ => {
                let why = format!("the store's record {key:?} is lost");
                self.lost(None, None, corrupt(why));
                None
            }
        }
    }

    /// Reads the rows of the journal that the file does not hold.
    fn journal(
        &mut self,
        meta: &BTreeMap<Vec<u8>, Vec<u8>>,
        identity: Option<[u8; 16]>,
        store: &Location,
    ) -> Result<()> {
        if self.format.is_some_and(|f| meta::came_later(JOURNAL, f)) {
            return Ok(());
        }
        let known = journal::KnownJournal {
            store: identity,
            named: self.record(meta, JOURNAL).map(JournalRef::from_wire),
            covered: self.record(meta, COVERED),
            // Stores of an earlier form do not have this record.
            reached: meta
                .contains_key(REACHED.as_bytes())
                .then(|| self.record(meta, REACHED))
                .flatten(),
        };
        let mut lost = Vec::new();
        let frames = journal::salvage(store, known, &mut |error| lost.push(error))?;
        let newer = NewerRows::new(frames, &mut |error| lost.push(error));
        lost.into_iter()
            .for_each(|error| self.lost(None, None, error));
        self.newer = Rc::new(newer);
        Ok(())
    }

    /// Reads the containers. One with a damaged record gets the default settings if its number is certain: the
    /// unnamed container, or the only lost one if only one number is left.
    fn containers(&mut self) -> Result<Vec<ContainerRecord>> {
        let mut containers = Vec::new();
        let mut nameless = Vec::new();
        self.each_counted(names::CONTAINERS, |this, key, value| {
            let name = String::from_utf8_lossy(key).into_owned();
            match ContainerRecord::decode(&name, value) {
                Ok(record) => containers.push(record),
                Err(error) => {
                    this.lost(None, Some(&name), error);
                    nameless.push(name);
                }
            }
            Ok(())
        })?;
        if !containers.iter().any(|c| ContainerId(c.id).is_unnamed()) {
            nameless.retain(|name| !name.is_empty());
            containers.push(defaults(String::new(), 0));
        }
        let known: BTreeSet<u32> = containers.iter().map(|c| c.id).collect();
        let unknown = match nameless[..] {
            [_] => self.unknown_containers(&known)?,
            _ => BTreeSet::new(),
        };
        if let ([name], Some(id), 1) = (&nameless[..], unknown.first(), unknown.len()) {
            containers.push(defaults(name.clone(), *id));
        }
        for container in &containers {
            let id = ContainerId(container.id);
            self.names.insert(id, container.name.clone());
            self.next_container = self.next_container.max(id.number() + 1);
        }
        for id in &self.retired {
            let number = ContainerId(*id).number();
            self.next_container = self.next_container.max(number.saturating_add(1));
        }
        Ok(containers)
    }

    /// The numbers of containers that have sessions but no record, two at most.
    fn unknown_containers(&self, known: &BTreeSet<u32>) -> Result<BTreeSet<u32>> {
        let mut unknown = BTreeSet::new();
        let Some(table) = self.tables.get(names::SESSIONS) else {
            return Ok(unknown);
        };
        let mut look = |key: &[u8]| {
            if let Some(parsed) = parse_key(key)
                && !known.contains(&parsed.container.0)
                && !self.retired.contains(&parsed.container.0)
                && unknown.len() < 2
            {
                unknown.insert(parsed.container.0);
            }
        };
        // Damaged pages are reported when the rows are copied.
        self.pages.second_reader().walk(table, |met| {
            if let Visited::Row { key, .. } = met {
                look(key);
            }
            Ok(())
        })?;
        self.newer
            .rows(RowTree::Sessions)
            .for_each(|(key, _)| look(key));
        Ok(unknown)
    }
}

/// A new record for a container whose own is lost.
fn defaults(name: String, id: u32) -> ContainerRecord {
    ContainerRecord {
        name,
        id,
        timeout_ms: 3_600_000,
        resolution_ms: 600_000,
        max_lifetime_ms: None,
        implicit_sweeps: true,
        aliases: Vec::new(),
    }
}

//! What the contract says, as plainly as it can be computed: maps instead of tables, copies instead of
//! snapshots. Touches take effect at once, for when they are written is nobody's business (C3.2, C3.4).

mod aging;
mod commit;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};

/// How long an ended id is refused (C4.8).
const REFUSED: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelContainer {
    First,
    Second,
}

impl ModelContainer {
    pub(super) const BOTH: [Self; 2] = [Self::First, Self::Second];

    /// The name of the container.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::First => "",
            Self::Second => "other",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub(super) container: ModelContainer,
    pub(super) package: usize,
    pub(super) key: usize,
}

impl At {
    fn place(self) -> PackagePath {
        (self.container, self.package)
    }
}

type PackagePath = (ModelContainer, usize);

type Id = usize;

pub(super) type Content = BTreeMap<usize, i64>;

/// In milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub(super) timeout: u64,
    pub(super) resolution: u64,
    pub(super) max_lifetime: Option<u64>,
}

impl Policy {
    fn timeout_of(&self, row: &Row) -> u64 {
        row.timeout.unwrap_or(self.timeout)
    }

    fn expired(&self, row: &Row, now: u64) -> bool {
        let timeout = self.timeout_of(row);
        let idle = now.saturating_sub(row.accessed);
        let age = now.saturating_sub(row.created);
        (timeout != 0 && idle > timeout) || self.max_lifetime.is_some_and(|max| age > max)
    }

    fn touch_due(&self, row: &Row, now: u64) -> bool {
        let timeout = self.timeout_of(row);
        timeout != 0 && now.saturating_sub(row.accessed) > self.resolution.min(timeout / 2)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Tells a session from a later one of the same client (C2.11).
    born: u64,
    pub(super) created: u64,
    pub(super) accessed: u64,
    /// The part of `accessed` that is certainly on the disk.
    kept: u64,
    timeout: Option<u64>,
    pub(super) packages: BTreeMap<usize, Content>,
}

#[derive(Clone, Default)]
struct World {
    commits: u64,
    rows: BTreeMap<(ModelContainer, Id), Row>,
    refused: BTreeMap<(ModelContainer, Id), u64>,
    /// Which commit ended a session.
    ended: BTreeMap<Id, u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Add(i64),
    Max(i64),
    Commute(i64),
}

impl Step {
    pub(super) fn of(self, value: Option<i64>) -> i64 {
        match self {
            Self::Add(n) => value.unwrap_or(0) + n,
            Self::Max(n) => value.map_or(n, |value| value.max(n)),
            Self::Commute(n) => (value.unwrap_or(7) * 3 + n) % 1000,
        }
    }
}

#[derive(Clone, Debug)]
enum Base {
    Stored,
    Own(Option<i64>),
}

/// What becomes of a key.
#[derive(Clone, Debug)]
struct Change {
    base: Base,
    steps: Vec<Step>,
}

impl Change {
    fn own(value: Option<i64>) -> Self {
        Self {
            base: Base::Own(value),
            steps: Vec::new(),
        }
    }

    fn of(&self, stored: Option<i64>) -> Option<i64> {
        let start = match self.base {
            Base::Stored => stored,
            Base::Own(value) => value,
        };
        self.steps
            .iter()
            .fold(start, |value, step| Some(step.of(value)))
    }

    fn inserts(&self) -> bool {
        !self.steps.is_empty() || matches!(self.base, Base::Own(Some(_)))
    }
}

#[derive(Clone, Debug, Default)]
struct Package {
    cleared: bool,
    keys: BTreeMap<usize, Change>,
}

impl Package {
    fn of(&self, stored: Option<&Content>) -> Content {
        let mut content = match stored {
            Some(content) if !self.cleared => content.clone(),
            _ => Content::new(),
        };
        for (key, change) in &self.keys {
            match change.of(content.get(key).copied()) {
                Some(value) => content.insert(*key, value),
                None => content.remove(key),
            };
        }
        content
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Fate {
    #[default]
    Stays,
    Rotated,
    Destroyed,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum New {
    #[default]
    None,
    /// To be issued; the store will tell.
    Due,
    Id(Id),
}

#[derive(Clone, Debug, Default)]
struct Changes {
    fate: Fate,
    new: New,
    packages: BTreeMap<PackagePath, Package>,
    timeout: Option<Option<u64>>,
}

impl Changes {
    fn inserts(&self, container: Option<ModelContainer>) -> bool {
        let here = |place: &PackagePath| container.is_none_or(|container| container == place.0);
        self.packages
            .iter()
            .filter(|(place, _)| here(place))
            .any(|(_, package)| package.keys.values().any(Change::inserts))
    }

    /// Whether a session comes into being with them (C1.4, C8.1).
    fn founds(&self) -> bool {
        matches!(self.timeout, Some(Some(_))) || self.inserts(None)
    }

    fn writes(&self) -> bool {
        let package = |p: &Package| p.cleared || !p.keys.is_empty();
        self.timeout.is_some() || self.packages.values().any(package)
    }
}

/// A session as a transaction saw it in a container.
#[derive(Clone, Debug)]
struct Seen {
    row: Option<Row>,
    live: bool,
    used: bool,
    observed: bool,
}

impl Seen {
    fn live_row(&self) -> Option<&Row> {
        self.row.as_ref().filter(|_| self.live)
    }
}

#[derive(Clone, Debug, Default)]
struct Read {
    all: bool,
    keys: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
struct Subject {
    seen: BTreeMap<ModelContainer, Seen>,
    exists: Option<bool>,
    read: BTreeMap<PackagePath, Read>,
}

impl Subject {
    fn live(&self) -> bool {
        self.seen.values().any(|seen| seen.live)
    }

    /// Where a session begins that nothing was inserted into.
    fn home(&self) -> ModelContainer {
        let used = self.seen.iter().find(|(_, seen)| seen.used);
        used.map_or(ModelContainer::First, |(container, _)| *container)
    }
}

type AllChanges = BTreeMap<Id, Changes>;

#[derive(Clone)]
struct Txn {
    now: u64,
    /// How many commits there were when it began.
    begun: u64,
    /// And how many times a session had been found expired.
    looks: u64,
    world: World,
    subjects: BTreeMap<Id, Subject>,
    changes: AllChanges,
    savepoints: Vec<AllChanges>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    Committed,
    Conflict,
}

/// Nothing but its being one matters of a conflict here.
struct Conflict;

#[derive(Clone)]
pub(super) struct Spec {
    policies: [Policy; 2],
    pub(super) now: u64,
    world: World,
    /// The ids under which a session may still be founded (C4.8).
    pub(super) fresh: BTreeSet<Id>,
    /// Whether an access was recorded that may wait to be written.
    pub(super) touched: bool,
    /// How many times a session was found expired, and which of them each was found so last.
    looks: u64,
    found_expired: BTreeMap<(ModelContainer, Id), u64>,
    open: BTreeMap<usize, Txn>,
}

/// The session that a client has in a container while a commit is computed.
struct Merged {
    /// As it is there.
    stored: Option<Row>,
    /// The row as the transaction must see it: without a session that had expired for it.
    row: Option<Row>,
}

impl Spec {
    pub(super) fn new(policies: [Policy; 2]) -> Self {
        Self {
            policies,
            now: 0,
            world: World::default(),
            fresh: BTreeSet::new(),
            touched: false,
            looks: 0,
            found_expired: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    pub(super) fn policy(&self, container: ModelContainer) -> Policy {
        self.policies[container as usize]
    }

    fn txn(&mut self, t: usize) -> &mut Txn {
        self.open.get_mut(&t).unwrap()
    }

    fn changes(&mut self, t: usize, id: Id) -> &mut Changes {
        self.txn(t).changes.entry(id).or_default()
    }

    fn fate(&mut self, t: usize, id: Id) -> Fate {
        self.changes(t, id).fate
    }

    /// Whether a transaction has closures to run at its commit.
    pub(super) fn commutes(&self, t: usize) -> bool {
        let Some(txn) = self.open.get(&t) else {
            return false;
        };
        let mut packages = txn.changes.values().flat_map(|c| c.packages.values());
        packages.any(|package| {
            let mut steps = package.keys.values().flat_map(|change| &change.steps);
            steps.any(|step| matches!(step, Step::Commute(_)))
        })
    }

    /// Whether the two outcomes of a commit serve different rows.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        self.world.rows != other.world.rows || self.world.refused != other.world.refused
    }

    pub(super) fn served(&self, id: Id, container: ModelContainer) -> Option<&Row> {
        let row = self.world.rows.get(&(container, id))?;
        (!self.policy(container).expired(row, self.now)).then_some(row)
    }

    /// How many rows of sessions and of packages there are, served or not.
    pub(super) fn rows(&self) -> (u64, u64) {
        let packages = self.world.rows.values().map(|row| row.packages.len());
        (self.world.rows.len() as u64, packages.sum::<usize>() as u64)
    }
}

//! What the contract says, as plainly as it can be computed: maps instead of tables, copies instead of
//! snapshots. Touches take effect at once, for when they are written is nobody's business (C3.2, C3.4).

use std::collections::{BTreeMap, BTreeSet};

/// How long an ended id is refused (C4.8).
const REFUSED: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    First,
    Second,
}

impl Room {
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
    pub(super) room: Room,
    pub(super) package: usize,
    pub(super) key: usize,
}

impl At {
    fn place(self) -> Place {
        (self.room, self.package)
    }
}

type Place = (Room, usize);
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
    /// What of that is certainly on the disk.
    kept: u64,
    timeout: Option<u64>,
    pub(super) packages: BTreeMap<usize, Content>,
}

#[derive(Clone, Default)]
struct World {
    commits: u64,
    rows: BTreeMap<(Room, Id), Row>,
    refused: BTreeMap<(Room, Id), u64>,
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
    packages: BTreeMap<Place, Package>,
    timeout: Option<Option<u64>>,
}

impl Changes {
    fn inserts(&self, room: Option<Room>) -> bool {
        let here = |place: &Place| room.is_none_or(|room| room == place.0);
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
    seen: BTreeMap<Room, Seen>,
    exists: Option<bool>,
    read: BTreeMap<Place, Read>,
}

impl Subject {
    fn live(&self) -> bool {
        self.seen.values().any(|seen| seen.live)
    }

    /// Where a session begins that nothing was inserted into.
    fn home(&self) -> Room {
        let used = self.seen.iter().find(|(_, seen)| seen.used);
        used.map_or(Room::First, |(room, _)| *room)
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
    found_expired: BTreeMap<(Room, Id), u64>,
    open: BTreeMap<usize, Txn>,
}

/// The session that a client has in a container while a commit is computed.
struct Merged {
    /// As it is there.
    stored: Option<Row>,
    /// As the transaction must see it: what had expired for it is not there.
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

    pub(super) fn policy(&self, room: Room) -> Policy {
        self.policies[room as usize]
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

    pub(super) fn begin(&mut self, t: usize) {
        let txn = Txn {
            now: self.now,
            begun: self.world.commits,
            looks: self.looks,
            world: self.world.clone(),
            subjects: BTreeMap::new(),
            changes: AllChanges::new(),
            savepoints: Vec::new(),
        };
        self.open.insert(t, txn);
    }

    pub(super) fn abort(&mut self, t: usize) {
        self.open.remove(&t);
    }

    pub(super) fn enter(&mut self, t: usize, id: Id) {
        self.txn(t).subjects.entry(id).or_default();
    }

    /// Looks at a session: the snapshot's row (C2.1), with the latest access time (C3.2).
    fn look(&mut self, t: usize, id: Id, room: Room) -> &mut Seen {
        let subject = self.txn(t).subjects.entry(id).or_default();
        let is_first = !subject.seen.contains_key(&room);
        let seen = self.look_at(t, id, room);
        if is_first && !seen.live && seen.row.is_some() {
            self.finds_expired(id, room);
        }
        self.look_at(t, id, room)
    }

    /// No access that came before brings back what somebody found expired (C3.2).
    fn finds_expired(&mut self, id: Id, room: Room) {
        self.looks += 1;
        self.found_expired.insert((room, id), self.looks);
    }

    /// Somebody looks at these sessions as they are now.
    pub(super) fn look_over(&mut self, ids: &[Id]) {
        for id in ids {
            for room in Room::BOTH {
                if self.is_expired(*id, room) {
                    self.finds_expired(*id, room);
                }
            }
        }
    }

    pub(super) fn is_expired(&self, id: Id, room: Room) -> bool {
        let row = self.world.rows.get(&(room, id));
        row.is_some_and(|row| self.policy(room).expired(row, self.now))
    }

    fn look_at(&mut self, t: usize, id: Id, room: Room) -> &mut Seen {
        let policy = self.policy(room);
        let newest = self.world.rows.get(&(room, id)).cloned();
        let txn = self.txn(t);
        let (now, row) = (txn.now, txn.world.rows.get(&(room, id)).cloned());
        let subject = txn.subjects.entry(id).or_default();
        subject.seen.entry(room).or_insert_with(|| {
            let row = row.map(|row| match newest {
                Some(newest)
                    if newest.born == row.born
                        && (policy.expired(&row, now) || policy.touch_due(&row, now)) =>
                {
                    Row {
                        accessed: newest.accessed,
                        ..row
                    }
                }
                _ => row,
            });
            Seen {
                live: row.as_ref().is_some_and(|row| !policy.expired(row, now)),
                row,
                used: false,
                observed: false,
            }
        })
    }

    fn live_anywhere(&mut self, t: usize, id: Id) -> bool {
        Room::BOTH
            .map(|room| self.look(t, id, room).live)
            .contains(&true)
    }

    /// A package as of the snapshot; what was destroyed in this transaction is gone.
    fn stored(&mut self, t: usize, id: Id, place: Place) -> Option<Content> {
        if self.fate(t, id) == Fate::Destroyed {
            return None;
        }
        let row = self.look(t, id, place.0).live_row()?;
        row.packages.get(&place.1).cloned()
    }

    fn planned(&mut self, t: usize, id: Id, at: At) -> Option<Change> {
        let package = self.changes(t, id).packages.get(&at.place())?;
        let cleared = package.cleared.then(|| Change::own(None));
        package.keys.get(&at.key).cloned().or(cleared)
    }

    pub(super) fn get(&mut self, t: usize, id: Id, at: At) -> Option<i64> {
        let planned = self.planned(t, id, at);
        self.look(t, id, at.room).used = true;
        if let Some(
            change @ Change {
                base: Base::Own(_), ..
            },
        ) = planned
        {
            return change.of(None);
        }
        let stored = self.stored(t, id, at.place());
        if self.fate(t, id) != Fate::Destroyed {
            self.note(t, id, at.place()).keys.insert(at.key);
        }
        let stored = stored.and_then(|content| content.get(&at.key).copied());
        planned.map_or(stored, |change| change.of(stored))
    }

    fn note(&mut self, t: usize, id: Id, place: Place) -> &mut Read {
        let subject = self.txn(t).subjects.entry(id).or_default();
        subject.read.entry(place).or_default()
    }

    pub(super) fn content(&mut self, t: usize, id: Id, at: At) -> Content {
        self.look(t, id, at.room).used = true;
        let stored = self.stored(t, id, at.place());
        if self.fate(t, id) != Fate::Destroyed {
            self.note(t, id, at.place()).all = true;
        }
        match self.changes(t, id).packages.get(&at.place()) {
            Some(package) => package.of(stored.as_ref()),
            None => stored.unwrap_or_default(),
        }
    }

    /// What is inserted needs a session to go to (C4.8).
    fn found(&mut self, t: usize, id: Id, room: Room) {
        if self.changes(t, id).new != New::None {
            return;
        }
        let destroyed = self.fate(t, id) == Fate::Destroyed;
        // Unless it is live here, the session is looked for everywhere: what it has of its own goes
        // along into a further container.
        let live = !destroyed && (self.look(t, id, room).live || self.live_anywhere(t, id));
        let there = live || self.fresh.contains(&id);
        if destroyed || !there {
            if !destroyed {
                self.acts_on_absence(t, id);
            }
            self.changes(t, id).new = New::Due;
        }
    }

    /// What is acted on as absent counts as read (C2.7).
    fn acts_on_absence(&mut self, t: usize, id: Id) {
        let subject = self.txn(t).subjects.entry(id).or_default();
        subject.exists = Some(false);
    }

    fn write(&mut self, t: usize, id: Id, at: At, change: Change) {
        self.look(t, id, at.room).used = true;
        let package = self.changes(t, id).packages.entry(at.place()).or_default();
        package.keys.insert(at.key, change);
    }

    pub(super) fn insert(&mut self, t: usize, id: Id, at: At, value: i64) {
        self.found(t, id, at.room);
        self.write(t, id, at, Change::own(Some(value)));
    }

    pub(super) fn remove(&mut self, t: usize, id: Id, at: At) -> bool {
        let there = self.get(t, id, at).is_some();
        if there {
            self.write(t, id, at, Change::own(None));
        }
        there
    }

    pub(super) fn clear(&mut self, t: usize, id: Id, at: At) {
        self.look(t, id, at.room).used = true;
        let package = self.changes(t, id).packages.entry(at.place()).or_default();
        *package = Package {
            cleared: true,
            keys: BTreeMap::new(),
        };
    }

    pub(super) fn step(&mut self, t: usize, id: Id, at: At, step: Step) {
        self.found(t, id, at.room);
        let change = match self.planned(t, id, at) {
            Some(change) => change,
            None => Change {
                base: Base::Stored,
                steps: Vec::new(),
            },
        };
        let mut steps = change.steps;
        steps.push(step);
        let change = Change { steps, ..change };
        self.write(t, id, at, change);
    }

    pub(super) fn exists(&mut self, t: usize, id: Id, room: Option<Room>) -> bool {
        let live = match room {
            Some(room) => self.look(t, id, room).live,
            None => self.live_anywhere(t, id),
        };
        let subject = self.txn(t).subjects.entry(id).or_default();
        match room {
            Some(room) => subject.seen.get_mut(&room).unwrap().observed = true,
            None => subject.exists = Some(live),
        }
        for (here, seen) in &mut subject.seen {
            seen.used |= seen.live && room.is_none_or(|room| room == *here);
        }
        let alive = live && self.fate(t, id) != Fate::Destroyed;
        alive || self.founds_in(t, id, room)
    }

    /// Whether a transaction founds a session, in one container or in any.
    fn founds_in(&mut self, t: usize, id: Id, room: Option<Room>) -> bool {
        let changes = self.changes(t, id).clone();
        let subject = self.txn(t).subjects.entry(id).or_default();
        let lives_on = subject.live() && changes.fate != Fate::Destroyed;
        let alone = changes.founds() && !changes.inserts(None) && !lives_on;
        let home = subject.home();
        changes.inserts(room) || (alone && room.is_none_or(|room| room == home))
    }

    pub(super) fn client_id(&mut self, t: usize, id: Id) -> Option<Id> {
        let changes = self.changes(t, id).clone();
        let seen = self.txn(t).subjects[&id].live();
        let founds = changes.founds();
        match (changes.new, changes.fate) {
            (New::Id(new), Fate::Rotated) => Some(new),
            (New::Id(new), _) => founds.then_some(new),
            (New::Due, _) => unreachable!("told at once"),
            (New::None, Fate::Destroyed) => None,
            (New::None, _) if seen || founds => Some(id),
            (New::None, _) => self.live_anywhere(t, id).then_some(id),
        }
    }

    pub(super) fn lacks_id(&mut self, t: usize, id: Id) -> bool {
        self.changes(t, id).new == New::Due
    }

    pub(super) fn issued(&mut self, t: usize, id: Id, new: Id) {
        self.fresh.insert(new);
        self.changes(t, id).new = New::Id(new);
    }

    pub(super) fn rotate(&mut self, t: usize, id: Id) {
        if self.fate(t, id) == Fate::Destroyed {
            return;
        }
        if !self.live_anywhere(t, id) {
            self.acts_on_absence(t, id);
            return;
        }
        self.changes(t, id).fate = Fate::Rotated;
        // Rotating is an access, wherever the session lives.
        let subject = self.txn(t).subjects.entry(id).or_default();
        for seen in subject.seen.values_mut() {
            seen.used |= seen.live;
        }
    }

    /// Ends what is stored, also if it has expired.
    pub(super) fn destroy(&mut self, t: usize, id: Id) {
        self.live_anywhere(t, id);
        let subject = self.txn(t).subjects.entry(id).or_default();
        let stored = subject.seen.values().any(|seen| seen.row.is_some());
        if !stored {
            self.acts_on_absence(t, id);
        }
        let fate = if stored { Fate::Destroyed } else { Fate::Stays };
        *self.changes(t, id) = Changes {
            fate,
            ..Changes::default()
        };
    }

    pub(super) fn set_timeout(&mut self, t: usize, id: Id, timeout: Option<u64>) {
        self.live_anywhere(t, id);
        if timeout.is_some() {
            self.found(t, id, Room::First);
        }
        self.changes(t, id).timeout = Some(timeout);
    }

    pub(super) fn savepoint(&mut self, t: usize) {
        let txn = self.txn(t);
        txn.savepoints.push(txn.changes.clone());
    }

    pub(super) fn roll_back(&mut self, t: usize, n: usize) {
        let txn = self.txn(t);
        txn.savepoints.truncate(n + 1);
        txn.changes = txn.savepoints[n].clone();
    }

    /// The id that a visitor will have if the transaction is committed, where that is a new one.
    pub(super) fn given(&mut self, t: usize, id: Id) -> Option<Id> {
        let changes = self.changes(t, id);
        match changes.new {
            New::Id(new) if changes.fate == Fate::Rotated || changes.founds() => Some(new),
            _ => None,
        }
    }

    /// Whether a transaction's changes would leave other than its snapshot (C2.12).
    fn differs(&mut self, t: usize) -> bool {
        let all: Vec<_> = self.txn(t).changes.clone().into_iter().collect();
        all.into_iter().any(|(id, changes)| {
            if changes.fate != Fate::Stays {
                return true;
            }
            let subject = self.txn(t).subjects.entry(id).or_default();
            if !subject.live() && changes.founds() && !changes.inserts(None) {
                return true;
            }
            let mut rows = subject.seen.values().filter_map(Seen::live_row);
            if rows.any(|row| {
                changes
                    .timeout
                    .is_some_and(|timeout| timeout != row.timeout)
            }) {
                return true;
            }
            changes.packages.iter().any(|(place, package)| {
                let stored = self.stored(t, id, *place);
                package.of(stored.as_ref()) != stored.unwrap_or_default()
            })
        })
    }

    pub(super) fn commit(&mut self, t: usize) -> Outcome {
        let differs = self.differs(t);
        let txn = self.open.remove(&t).unwrap();
        if !differs {
            for (id, subject) in &txn.subjects {
                for (room, seen) in &subject.seen {
                    self.touch_beside(&txn, *room, *id, seen);
                }
            }
            return Outcome::Committed;
        }
        let before = self.world.clone();
        self.world.commits += 1;
        let mut founders = Vec::new();
        for (id, subject) in &txn.subjects {
            let changes = txn.changes.get(id).cloned().unwrap_or_default();
            if self
                .subject(&txn, *id, subject, changes, &mut founders)
                .is_err()
            {
                self.world = before;
                return Outcome::Conflict;
            }
        }
        for id in founders {
            self.fresh.remove(&id);
        }
        Outcome::Committed
    }

    /// An access to a session that nobody has found expired meanwhile.
    fn touch_beside(&mut self, txn: &Txn, room: Room, id: Id, seen: &Seen) {
        if !self.is_found_expired(txn, id, room) {
            self.touch(txn, room, id, seen);
        }
    }

    /// Whether changes write to the session in a container.
    fn writes_in(changes: &Changes, room: Room) -> bool {
        let mut packages = changes.packages.iter();
        let written = |package: &Package| package.cleared || !package.keys.is_empty();
        changes.timeout.is_some()
            || packages.any(|((place, _), package)| *place == room && written(package))
    }

    /// The time only grows, and only that of the session that was used (C3.5).
    fn touch(&mut self, txn: &Txn, room: Room, id: Id, seen: &Seen) {
        let Some(row) = seen.live_row().filter(|_| seen.used) else {
            return;
        };
        if !self.policy(room).touch_due(row, txn.now) {
            return;
        }
        if let Some(now) = self.world.rows.get_mut(&(room, id))
            && now.born == row.born
        {
            now.accessed = now.accessed.max(txn.now);
            self.touched = true;
        }
    }

    fn refused(&self, id: Id) -> bool {
        let until = |room| self.world.refused.get(&(room, id)).copied().unwrap_or(0);
        Room::BOTH.map(until).iter().any(|until| *until > self.now)
    }

    fn subject(
        &mut self,
        txn: &Txn,
        id: Id,
        subject: &Subject,
        changes: Changes,
        founders: &mut Vec<Id>,
    ) -> Result<(), Conflict> {
        let new = match changes.new {
            New::Id(new) => Some(new),
            New::None | New::Due => None,
        };
        founders.extend(new);
        let (own, elsewhere) = match (changes.fate, new) {
            (Fate::Rotated, _) | (Fate::Stays, None) => (changes.clone(), None),
            _ => (Changes::default(), new.filter(|_| changes.founds())),
        };
        let replaces =
            changes.fate == Fate::Destroyed && subject.seen.values().any(|seen| seen.live);
        let forsaken = elsewhere.is_some() && !replaces;
        let mut merged = self.validate(txn, id, subject, &own, changes.fate, forsaken)?;
        if own.founds() {
            founders.push(id);
        }
        let home = subject.home();
        self.apply(txn, id, &own, home, &mut merged)?;
        for (room, one) in merged {
            let seen = &subject.seen[&room];
            if changes.fate == Fate::Stays {
                if let Some(row) = one.row {
                    self.world.rows.insert((room, id), row);
                    self.touch_beside(txn, room, id, seen);
                }
                continue;
            }
            if one.stored.is_some() {
                self.world.refused.insert((room, id), self.now + REFUSED);
                self.world.ended.insert(id, self.world.commits);
                self.world.rows.remove(&(room, id));
            }
            if let (Fate::Rotated, Some(row), Some(new)) = (changes.fate, one.row, new) {
                // Touched first, then carried over under a new name.
                self.world.rows.insert((room, id), row);
                self.touch(txn, room, id, seen);
                let row = self.world.rows.remove(&(room, id)).unwrap();
                let born = self.world.commits;
                self.world.rows.insert((room, new), Row { born, ..row });
            }
        }
        if let Some(new) = elsewhere {
            let mut rooms: BTreeSet<Room> = changes.packages.keys().map(|place| place.0).collect();
            if changes.timeout.is_some_and(|timeout| timeout.is_some()) {
                rooms.insert(home);
            }
            let mut merged = rooms
                .into_iter()
                .map(|room| {
                    (
                        room,
                        Merged {
                            stored: None,
                            row: None,
                        },
                    )
                })
                .collect();
            self.apply(txn, new, &changes, home, &mut merged)?;
            for (room, one) in merged {
                self.world
                    .rows
                    .extend(one.row.map(|row| ((room, new), row)));
            }
        }
        Ok(())
    }

    /// What was read still holds (C2.7), and what is changed is the session that was seen (C2.11).
    fn validate(
        &self,
        txn: &Txn,
        id: Id,
        subject: &Subject,
        own: &Changes,
        fate: Fate,
        forsaken: bool,
    ) -> Result<BTreeMap<Room, Merged>, Conflict> {
        let mut merged = BTreeMap::new();
        for (room, seen) in &subject.seen {
            let stored = self.world.rows.get(&(*room, id)).cloned();
            let same = |row: &Row| {
                let seen = seen.row.as_ref();
                seen.is_some_and(|seen| seen.born == row.born)
            };
            let as_expired = |row: &Row| {
                let expired = seen.row.as_ref().filter(|_| !seen.live);
                let times = |row: &Row| (row.accessed, row.timeout);
                same(row) && expired.is_some_and(|seen| times(seen) == times(row))
            };
            let row = stored.clone().filter(|row| !as_expired(row));
            if fate != Fate::Stays || own.writes() {
                let ended = seen.live && !stored.as_ref().is_some_and(same);
                // What is destroyed may have been touched meanwhile: it ends all the same.
                let destroyed = fate == Fate::Destroyed;
                let renewed = !seen.live && !destroyed && row.as_ref().is_some_and(same);
                if ended || renewed {
                    return Err(Conflict);
                }
            }
            if seen.observed && seen.live != row.is_some() {
                return Err(Conflict);
            }
            merged.insert(*room, Merged { stored, row });
        }
        if self.was_over(txn, id, subject, own, fate) {
            return Err(Conflict);
        }
        let exists = merged.values().any(|one| one.row.is_some());
        if subject.exists.is_some_and(|seen| seen != exists) {
            return Err(Conflict);
        }
        // However long that is ago, what came before an id ended founds nothing in its stead (C4.8).
        let ended = self.world.ended.get(&id).is_some_and(|by| *by > txn.begun);
        let founded = exists && fate != Fate::Destroyed;
        if forsaken && (founded || ended || self.refused(id)) {
            return Err(Conflict);
        }
        for ((room, package), read) in &subject.read {
            let then = subject.seen[room].live_row();
            let then = then.and_then(|row| row.packages.get(package));
            let now = merged[room]
                .row
                .as_ref()
                .and_then(|row| row.packages.get(package));
            let value = |content: Option<&Content>, key| content.and_then(|c| c.get(key)).copied();
            let mut keys = read.keys.iter();
            if (read.all && then != now) || keys.any(|key| value(then, key) != value(now, key)) {
                return Err(Conflict);
            }
        }
        Ok(merged)
    }

    /// Whether somebody has found expired, since the transaction began, what it saw live and writes into, or all
    /// that it saw live (C2.11, C3.2).
    fn was_over(&self, txn: &Txn, id: Id, subject: &Subject, own: &Changes, fate: Fate) -> bool {
        let rotated = fate == Fate::Rotated;
        if fate == Fate::Destroyed || !(rotated || own.writes()) {
            return false;
        }
        let live = || subject.seen.iter().filter(|(_, seen)| seen.live);
        let is_over = |room: Room| self.is_found_expired(txn, id, room);
        live().any(|(room, _)| (rotated || Self::writes_in(own, *room)) && is_over(*room))
            || (live().count() > 0 && live().all(|(room, _)| is_over(*room)))
    }

    /// Whether somebody has found a session expired since a transaction began.
    fn is_found_expired(&self, txn: &Txn, id: Id, room: Room) -> bool {
        let found = self.found_expired.get(&(room, id));
        found.is_some_and(|look| *look > txn.looks)
    }

    /// Changes are made to what is current (C2.8, C2.9).
    fn apply(
        &self,
        txn: &Txn,
        id: Id,
        own: &Changes,
        home: Room,
        merged: &mut BTreeMap<Room, Merged>,
    ) -> Result<(), Conflict> {
        let founds_alone = own.timeout.is_some_and(|timeout| timeout.is_some());
        let joins: Vec<Room> = merged
            .iter()
            .filter(|(room, one)| {
                let then = txn.world.rows.contains_key(&(**room, id));
                founds_alone && !then && one.row.is_some()
            })
            .map(|(room, _)| *room)
            .collect();
        for ((room, package), change) in &own.packages {
            let elsewhere = merged.values().find_map(|one| one.row.as_ref()?.timeout);
            let alive = merged.values().any(|one| one.row.is_some());
            let one = merged.get_mut(room).unwrap();
            let stored = one.row.as_ref().and_then(|row| row.packages.get(package));
            let content = change.of(stored);
            if content == stored.cloned().unwrap_or_default() {
                continue;
            }
            let founded_meanwhile = !txn.world.rows.contains_key(&(*room, id));
            let used_up = !alive && !self.fresh.contains(&id);
            if one.row.is_none() && (used_up || self.refused(id)) {
                return Err(Conflict);
            }
            let row = one.row.get_or_insert_with(|| Row {
                born: self.world.commits,
                created: txn.now,
                accessed: txn.now,
                kept: txn.now,
                timeout: elsewhere,
                packages: BTreeMap::new(),
            });
            if founded_meanwhile {
                row.accessed = row.accessed.max(txn.now);
            }
            if content.is_empty() {
                row.packages.remove(package);
            } else {
                row.packages.insert(*package, content);
            }
        }
        if founds_alone && merged.values().all(|one| one.row.is_none()) {
            if !self.fresh.contains(&id) || self.refused(id) {
                return Err(Conflict);
            }
            merged.get_mut(&home).unwrap().row = Some(Row {
                born: self.world.commits,
                created: txn.now,
                accessed: txn.now,
                kept: txn.now,
                timeout: None,
                packages: BTreeMap::new(),
            });
        }
        // To join a session that was founded meanwhile is an access.
        for room in joins {
            if let Some(row) = merged.get_mut(&room).and_then(|one| one.row.as_mut()) {
                row.accessed = row.accessed.max(txn.now);
            }
        }
        if let Some(timeout) = own.timeout {
            for one in merged.values_mut() {
                if let Some(row) = &mut one.row {
                    row.timeout = timeout;
                }
            }
        }
        Ok(())
    }

    pub(super) fn sweep(&mut self, room: Room) -> u64 {
        let (policy, now) = (self.policy(room), self.now);
        let before = self.world.rows.len();
        self.world
            .rows
            .retain(|(here, _), row| *here != room || !policy.expired(row, now));
        // It takes along what has had its time.
        self.world.refused.retain(|_, until| *until > now);
        (before - self.world.rows.len()) as u64
    }

    /// Other settings of a container.
    pub(super) fn configure(&mut self, room: Room, policy: Policy) {
        self.policies[room as usize] = policy;
    }

    /// All that is recorded is on the disk.
    pub(super) fn flushed(&mut self) {
        for row in self.world.rows.values_mut() {
            row.kept = row.accessed;
        }
    }

    /// An access time as a crash left it: that of the last flush, or a later one.
    pub(super) fn recovered(&mut self, id: Id, room: Room, accessed: u64) {
        let row = self.world.rows.get_mut(&(room, id)).unwrap();
        let (kept, latest) = (row.kept, row.accessed);
        assert!(
            kept <= accessed && accessed <= latest,
            "accessed at {accessed}, which is not between {kept} and {latest}"
        );
        row.accessed = accessed;
        row.kept = accessed;
    }

    /// Whether a crash may have ended a session: without the accesses that are not certainly on the disk
    /// it is over.
    pub(super) fn may_be_over(&self, id: Id, room: Room) -> bool {
        self.world.rows.get(&(room, id)).is_some_and(|row| {
            let accessed = row.kept;
            let row = Row {
                accessed,
                ..row.clone()
            };
            self.policy(room).expired(&row, self.now)
        })
    }

    /// A session is over.
    pub(super) fn is_over(&mut self, id: Id, room: Room) {
        self.world.rows.remove(&(room, id));
    }

    /// All transactions end.
    pub(super) fn abort_all(&mut self) {
        self.open.clear();
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

    /// What a restart loses: containers in memory, and the freshness of ids.
    pub(super) fn restart(&mut self, ram: bool) {
        self.fresh.clear();
        if ram {
            self.world.rows.retain(|(room, _), _| *room != Room::Second);
            self.world
                .refused
                .retain(|(room, _), _| *room != Room::Second);
        }
    }

    /// Whether there is no telling, from what is served, in which of two ways a commit ended.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        self.world.rows != other.world.rows || self.world.refused != other.world.refused
    }

    pub(super) fn served(&self, id: Id, room: Room) -> Option<&Row> {
        let row = self.world.rows.get(&(room, id))?;
        (!self.policy(room).expired(row, self.now)).then_some(row)
    }

    /// How many rows of sessions and of packages there are, served or not.
    pub(super) fn rows(&self) -> (u64, u64) {
        let packages = self.world.rows.values().map(|row| row.packages.len());
        (self.world.rows.len() as u64, packages.sum::<usize>() as u64)
    }
}

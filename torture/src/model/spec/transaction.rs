//! What a transaction sees, and what it plans.

use super::{
    AllChanges, At, Base, Change, Changes, Content, Fate, Id, ModelContainer, New, Package,
    PackagePath, Read, Row, Seen, Spec, Step, Txn,
};
use std::collections::BTreeMap;

impl Spec {
    pub(in crate::model) fn begin(&mut self, t: usize) {
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

    pub(in crate::model) fn abort(&mut self, t: usize) {
        self.open.remove(&t);
    }

    pub(in crate::model) fn enter(&mut self, t: usize, id: Id) {
        self.txn(t).subjects.entry(id).or_default();
    }

    /// Looks at a session: the snapshot's row (C2.1), with the latest access time (C3.2).
    fn look(&mut self, t: usize, id: Id, container: ModelContainer) -> &mut Seen {
        let subject = self.txn(t).subjects.entry(id).or_default();
        let is_first = !subject.seen.contains_key(&container);
        let seen = self.look_at(t, id, container);
        if is_first && !seen.live && seen.row.is_some() {
            self.finds_expired(id, container);
        }
        self.look_at(t, id, container)
    }

    /// No access that came before brings back what somebody found expired (C3.2).
    pub(super) fn finds_expired(&mut self, id: Id, container: ModelContainer) {
        self.looks += 1;
        self.found_expired.insert((container, id), self.looks);
    }

    fn look_at(&mut self, t: usize, id: Id, container: ModelContainer) -> &mut Seen {
        let policy = self.policy(container);
        let newest = self.world.rows.get(&(container, id)).cloned();
        let txn = self.txn(t);
        let (now, row) = (txn.now, txn.world.rows.get(&(container, id)).cloned());
        let subject = txn.subjects.entry(id).or_default();
        subject.seen.entry(container).or_insert_with(|| {
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
        ModelContainer::BOTH
            .map(|container| self.look(t, id, container).live)
            .contains(&true)
    }

    /// A package as of the snapshot. Empty if this transaction destroyed the session.
    pub(super) fn stored(&mut self, t: usize, id: Id, place: PackagePath) -> Option<Content> {
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

    pub(in crate::model) fn get(&mut self, t: usize, id: Id, at: At) -> Option<i64> {
        let planned = self.planned(t, id, at);
        self.look(t, id, at.container).used = true;
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

    fn note(&mut self, t: usize, id: Id, place: PackagePath) -> &mut Read {
        let subject = self.txn(t).subjects.entry(id).or_default();
        subject.read.entry(place).or_default()
    }

    pub(in crate::model) fn content(&mut self, t: usize, id: Id, at: At) -> Content {
        self.look(t, id, at.container).used = true;
        let stored = self.stored(t, id, at.place());
        if self.fate(t, id) != Fate::Destroyed {
            self.note(t, id, at.place()).all = true;
        }
        match self.changes(t, id).packages.get(&at.place()) {
            Some(package) => package.of(stored.as_ref()),
            None => stored.unwrap_or_default(),
        }
    }

    /// An insert needs a session to go to (C4.8).
    fn found(&mut self, t: usize, id: Id, container: ModelContainer) {
        if self.changes(t, id).new != New::None {
            return;
        }
        let destroyed = self.fate(t, id) == Fate::Destroyed;
        // Unless it is live here, the session is looked for everywhere: what it has of its own goes
        // along into a further container.
        let live = !destroyed && (self.look(t, id, container).live || self.live_anywhere(t, id));
        let there = live || self.fresh.contains(&id);
        if destroyed || !there {
            if !destroyed {
                self.acts_on_absence(t, id);
            }
            self.changes(t, id).new = New::Due;
        }
    }

    /// To act on absence is to observe it (C2.7).
    fn acts_on_absence(&mut self, t: usize, id: Id) {
        let subject = self.txn(t).subjects.entry(id).or_default();
        subject.exists = Some(false);
    }

    fn write(&mut self, t: usize, id: Id, at: At, change: Change) {
        self.look(t, id, at.container).used = true;
        let package = self.changes(t, id).packages.entry(at.place()).or_default();
        package.keys.insert(at.key, change);
    }

    pub(in crate::model) fn insert(&mut self, t: usize, id: Id, at: At, value: i64) {
        self.found(t, id, at.container);
        self.write(t, id, at, Change::own(Some(value)));
    }

    pub(in crate::model) fn remove(&mut self, t: usize, id: Id, at: At) -> bool {
        let there = self.get(t, id, at).is_some();
        if there {
            self.write(t, id, at, Change::own(None));
        }
        there
    }

    pub(in crate::model) fn clear(&mut self, t: usize, id: Id, at: At) {
        self.look(t, id, at.container).used = true;
        let package = self.changes(t, id).packages.entry(at.place()).or_default();
        *package = Package {
            cleared: true,
            keys: BTreeMap::new(),
        };
    }

    pub(in crate::model) fn step(&mut self, t: usize, id: Id, at: At, step: Step) {
        self.found(t, id, at.container);
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

    pub(in crate::model) fn exists(
        &mut self,
        t: usize,
        id: Id,
        container: Option<ModelContainer>,
    ) -> bool {
        let live = match container {
            Some(container) => self.look(t, id, container).live,
            None => self.live_anywhere(t, id),
        };
        let subject = self.txn(t).subjects.entry(id).or_default();
        match container {
            Some(container) => subject.seen.get_mut(&container).unwrap().observed = true,
            None => subject.exists = Some(live),
        }
        for (here, seen) in &mut subject.seen {
            seen.used |= seen.live && container.is_none_or(|container| container == *here);
        }
        let alive = live && self.fate(t, id) != Fate::Destroyed;
        alive || self.founds_in(t, id, container)
    }

    /// Whether a transaction founds a session, in one container or in any.
    fn founds_in(&mut self, t: usize, id: Id, container: Option<ModelContainer>) -> bool {
        let changes = self.changes(t, id).clone();
        let subject = self.txn(t).subjects.entry(id).or_default();
        let lives_on = subject.live() && changes.fate != Fate::Destroyed;
        let alone = changes.founds() && !changes.inserts(None) && !lives_on;
        let home = subject.home();
        changes.inserts(container) || (alone && container.is_none_or(|container| container == home))
    }

    pub(in crate::model) fn client_id(&mut self, t: usize, id: Id) -> Option<Id> {
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

    pub(in crate::model) fn lacks_id(&mut self, t: usize, id: Id) -> bool {
        self.changes(t, id).new == New::Due
    }

    pub(in crate::model) fn issued(&mut self, t: usize, id: Id, new: Id) {
        self.fresh.insert(new);
        self.changes(t, id).new = New::Id(new);
    }

    pub(in crate::model) fn rotate(&mut self, t: usize, id: Id) {
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

    /// Ends the stored session, also if it has expired.
    pub(in crate::model) fn destroy(&mut self, t: usize, id: Id) {
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

    pub(in crate::model) fn set_timeout(&mut self, t: usize, id: Id, timeout: Option<u64>) {
        self.live_anywhere(t, id);
        if timeout.is_some() {
            self.found(t, id, ModelContainer::First);
        }
        self.changes(t, id).timeout = Some(timeout);
    }

    pub(in crate::model) fn savepoint(&mut self, t: usize) {
        let txn = self.txn(t);
        txn.savepoints.push(txn.changes.clone());
    }

    pub(in crate::model) fn roll_back(&mut self, t: usize, n: usize) {
        let txn = self.txn(t);
        txn.savepoints.truncate(n + 1);
        txn.changes = txn.savepoints[n].clone();
    }

    /// The id that a visitor will have if the transaction is committed, where that is a new one.
    pub(in crate::model) fn given(&mut self, t: usize, id: Id) -> Option<Id> {
        let changes = self.changes(t, id);
        match changes.new {
            New::Id(new) if changes.fate == Fate::Rotated || changes.founds() => Some(new),
            _ => None,
        }
    }
}

//! What a commit comes to.

use super::{
    Changes, Conflict, Content, Fate, Id, Merged, ModelContainer, New, Outcome, Package, REFUSED,
    Row, Seen, Spec, Subject, Txn,
};
use std::collections::{BTreeMap, BTreeSet};

impl Spec {
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

    pub(in crate::model) fn commit(&mut self, t: usize) -> Outcome {
        let differs = self.differs(t);
        let txn = self.open.remove(&t).unwrap();
        if !differs {
            for (id, subject) in &txn.subjects {
                for (container, seen) in &subject.seen {
                    self.touch_beside(&txn, *container, *id, seen);
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
    fn touch_beside(&mut self, txn: &Txn, container: ModelContainer, id: Id, seen: &Seen) {
        if !self.is_found_expired(txn, id, container) {
            self.touch(txn, container, id, seen);
        }
    }

    /// Whether changes write to the session in a container.
    fn writes_in(changes: &Changes, container: ModelContainer) -> bool {
        let mut packages = changes.packages.iter();
        let written = |package: &Package| package.cleared || !package.keys.is_empty();
        changes.timeout.is_some()
            || packages.any(|((place, _), package)| *place == container && written(package))
    }

    /// The time only grows, and only that of the session that was used (C3.5).
    fn touch(&mut self, txn: &Txn, container: ModelContainer, id: Id, seen: &Seen) {
        let Some(row) = seen.live_row().filter(|_| seen.used) else {
            return;
        };
        if !self.policy(container).touch_due(row, txn.now) {
            return;
        }
        if let Some(now) = self.world.rows.get_mut(&(container, id))
            && now.born == row.born
        {
            now.accessed = now.accessed.max(txn.now);
            self.touched = true;
        }
    }

    fn refused(&self, id: Id) -> bool {
        let until = |container| {
            self.world
                .refused
                .get(&(container, id))
                .copied()
                .unwrap_or(0)
        };
        ModelContainer::BOTH
            .map(until)
            .iter()
            .any(|until| *until > self.now)
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
        let replaces_dead_id = elsewhere.is_some() && !replaces;
        let mut merged = self.validate(txn, id, subject, &own, changes.fate, replaces_dead_id)?;
        if own.founds() {
            founders.push(id);
        }
        let home = subject.home();
        self.apply(txn, id, &own, home, &mut merged)?;
        for (container, one) in merged {
            let seen = &subject.seen[&container];
            if changes.fate == Fate::Stays {
                if let Some(row) = one.row {
                    self.world.rows.insert((container, id), row);
                    self.touch_beside(txn, container, id, seen);
                }
                continue;
            }
            if one.stored.is_some() {
                self.world
                    .refused
                    .insert((container, id), self.now + REFUSED);
                self.world.ended.insert(id, self.world.commits);
                self.world.rows.remove(&(container, id));
            }
            if let (Fate::Rotated, Some(row), Some(new)) = (changes.fate, one.row, new) {
                // Touched first, then carried over under a new name.
                self.world.rows.insert((container, id), row);
                self.touch(txn, container, id, seen);
                let row = self.world.rows.remove(&(container, id)).unwrap();
                let born = self.world.commits;
                self.world
                    .rows
                    .insert((container, new), Row { born, ..row });
            }
        }
        if let Some(new) = elsewhere {
            let mut containers: BTreeSet<ModelContainer> =
                changes.packages.keys().map(|place| place.0).collect();
            if changes.timeout.is_some_and(|timeout| timeout.is_some()) {
                containers.insert(home);
            }
            let mut merged = containers
                .into_iter()
                .map(|container| {
                    (
                        container,
                        Merged {
                            stored: None,
                            row: None,
                        },
                    )
                })
                .collect();
            self.apply(txn, new, &changes, home, &mut merged)?;
            for (container, one) in merged {
                self.world
                    .rows
                    .extend(one.row.map(|row| ((container, new), row)));
            }
        }
        Ok(())
    }

    /// Checks that all observations still hold (C2.7), and that the changed session is the one that was seen (C2.11).
    fn validate(
        &self,
        txn: &Txn,
        id: Id,
        subject: &Subject,
        own: &Changes,
        fate: Fate,
        replaces_dead_id: bool,
    ) -> Result<BTreeMap<ModelContainer, Merged>, Conflict> {
        let mut merged = BTreeMap::new();
        for (container, seen) in &subject.seen {
            let stored = self.world.rows.get(&(*container, id)).cloned();
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
                // The session may have been touched meanwhile. It ends all the same.
                let destroyed = fate == Fate::Destroyed;
                let renewed = !seen.live && !destroyed && row.as_ref().is_some_and(same);
                if ended || renewed {
                    return Err(Conflict);
                }
            }
            if seen.observed && seen.live != row.is_some() {
                return Err(Conflict);
            }
            merged.insert(*container, Merged { stored, row });
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
        if replaces_dead_id && (founded || ended || self.refused(id)) {
            return Err(Conflict);
        }
        for ((container, package), read) in &subject.read {
            let then = subject.seen[container].live_row();
            let then = then.and_then(|row| row.packages.get(package));
            let now = merged[container]
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
        let is_over = |container: ModelContainer| self.is_found_expired(txn, id, container);
        live().any(|(container, _)| {
            (rotated || Self::writes_in(own, *container)) && is_over(*container)
        }) || (live().count() > 0 && live().all(|(container, _)| is_over(*container)))
    }

    /// Whether somebody has found a session expired since a transaction began.
    fn is_found_expired(&self, txn: &Txn, id: Id, container: ModelContainer) -> bool {
        let found = self.found_expired.get(&(container, id));
        found.is_some_and(|look| *look > txn.looks)
    }

    /// Applies the changes to the current rows (C2.8, C2.9).
    fn apply(
        &self,
        txn: &Txn,
        id: Id,
        own: &Changes,
        home: ModelContainer,
        merged: &mut BTreeMap<ModelContainer, Merged>,
    ) -> Result<(), Conflict> {
        let founds_alone = own.timeout.is_some_and(|timeout| timeout.is_some());
        let joins: Vec<ModelContainer> = merged
            .iter()
            .filter(|(container, one)| {
                let then = txn.world.rows.contains_key(&(**container, id));
                founds_alone && !then && one.row.is_some()
            })
            .map(|(container, _)| *container)
            .collect();
        for ((container, package), change) in &own.packages {
            let elsewhere = merged.values().find_map(|one| one.row.as_ref()?.timeout);
            let alive = merged.values().any(|one| one.row.is_some());
            let one = merged.get_mut(container).unwrap();
            let stored = one.row.as_ref().and_then(|row| row.packages.get(package));
            let content = change.of(stored);
            if content == stored.cloned().unwrap_or_default() {
                continue;
            }
            let founded_meanwhile = !txn.world.rows.contains_key(&(*container, id));
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
        for container in joins {
            if let Some(row) = merged.get_mut(&container).and_then(|one| one.row.as_mut()) {
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
}

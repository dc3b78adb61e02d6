//! One transaction by itself: whether it saw its own changes and one state of everything else, and
//! what of it concerns others. Knows no other transaction.

use super::model::{Name, Op};
use std::collections::BTreeMap;

/// What a transaction read of an object that others wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    List(Vec<u64>),
    Register(Option<u64>),
    Counter(u64),
    Flag(bool),
}

/// What a transaction made of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Appended(Vec<u64>),
    Wrote(u64),
    Added(u64),
    Raised(bool),
}

/// What a listing told of flags that others put up.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) prefix: Name,
    pub(super) up: Vec<Name>,
    /// Of these it tells nothing but the transaction's own changes at that time.
    pub(super) own: Vec<Name>,
}

/// A transaction as others could see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) reads: BTreeMap<Name, Value>,
    pub(super) lists: Vec<Listing>,
    pub(super) changes: BTreeMap<Name, Change>,
    /// Registers and the value that each held where it was read before it was written.
    pub(super) replaced: BTreeMap<Name, Option<u64>>,
    /// Everything ever written, overwritten and rolled back or not.
    pub(super) attempted: Vec<(Name, u64)>,
    /// Where it contradicts itself.
    pub(super) contradictions: Vec<String>,
}

/// Follows a transaction from its first operation to its last.
pub(super) fn replay(ops: &[Op]) -> Facts {
    let mut facts = Facts::default();
    let mut savepoints: Vec<BTreeMap<Name, Change>> = Vec::new();
    for op in ops {
        match op {
            Op::ReadList(name, seen) => facts.read_list(name, seen),
            Op::Read(name, seen) => match facts.changes.get(name) {
                Some(Change::Wrote(own)) => {
                    let own = Some(*own);
                    facts.agree(
                        name,
                        own == *seen,
                        &format!("{seen:?}, having written {own:?}"),
                    );
                }
                _ => facts.external(name, Value::Register(*seen)),
            },
            Op::Sum(name, seen) => {
                let own = match facts.changes.get(name) {
                    Some(Change::Added(own)) => *own,
                    _ => 0,
                };
                match seen.checked_sub(own) {
                    Some(rest) => facts.external(name, Value::Counter(rest)),
                    None => facts.agree(name, false, "less than it added itself"),
                }
            }
            Op::Seen(name, up) => facts.seen(name, *up),
            Op::Listed(prefix, names) => facts.listed(prefix, names),
            Op::Append(name, element) => {
                facts.attempted.push((name.clone(), *element));
                let list = Change::Appended(Vec::new());
                let change = facts.changes.entry(name.clone()).or_insert(list);
                if let Change::Appended(elements) = change {
                    elements.push(*element);
                }
            }
            Op::Write(name, value) => {
                facts.attempted.push((name.clone(), *value));
                if let Some(Value::Register(before)) = facts.reads.get(name) {
                    facts.replaced.insert(name.clone(), *before);
                }
                facts.changes.insert(name.clone(), Change::Wrote(*value));
            }
            Op::Add(name, n) => {
                facts.attempted.push((name.clone(), *n));
                let none = Change::Added(0);
                let change = facts.changes.entry(name.clone()).or_insert(none);
                if let Change::Added(sum) = change {
                    *sum += n;
                }
            }
            Op::Raise(name) => drop(facts.changes.insert(name.clone(), Change::Raised(true))),
            Op::Lower(name) => drop(facts.changes.insert(name.clone(), Change::Raised(false))),
            Op::Savepoint => savepoints.push(facts.changes.clone()),
            Op::RollBack(place) => {
                savepoints.truncate(place + 1);
                if let Some(changes) = savepoints.last() {
                    facts.changes.clone_from(changes);
                }
            }
        }
    }
    facts
}

impl Facts {
    fn read_list(&mut self, name: &Name, seen: &[u64]) {
        let own = match self.changes.get(name) {
            Some(Change::Appended(own)) => own.as_slice(),
            _ => &[],
        };
        match seen.strip_suffix(own) {
            Some(rest) => self.external(name, Value::List(rest.to_vec())),
            None => {
                let story = format!("{seen:?}, having appended {own:?}");
                self.agree(name, false, &story);
            }
        }
    }

    fn seen(&mut self, name: &Name, up: bool) {
        match self.changes.get(name) {
            Some(Change::Raised(own)) => {
                let own = *own;
                self.agree(name, own == up, &format!("up: {up}, having made it {own}"));
            }
            _ => self.external(name, Value::Flag(up)),
        }
    }

    fn listed(&mut self, prefix: &Name, names: &[Name]) {
        let mut others = names.to_vec();
        let own: Vec<_> = self
            .changes
            .iter()
            .filter(|(name, _)| name.starts_with(&**prefix))
            .map(|(name, change)| (name.clone(), *change == Change::Raised(true)))
            .collect();
        for (name, up) in &own {
            let (name, up) = (name, *up);
            let listed = names.contains(name);
            self.agree(name, listed == up, "a listing that misses its own change");
            others.retain(|other| other != name);
        }
        for name in &others {
            self.external(name, Value::Flag(true));
        }
        let before = self
            .reads
            .iter()
            .filter(|(name, _)| name.starts_with(&**prefix));
        let gone: Vec<_> = before
            .filter(|(name, value)| **value == Value::Flag(true) && !others.contains(name))
            .map(|(name, _)| name.clone())
            .filter(|name| !self.changes.contains_key(name))
            .collect();
        for name in gone {
            self.agree(&name, false, "a listing without it, having seen it before");
        }
        self.lists.push(Listing {
            prefix: prefix.clone(),
            up: others,
            own: own.into_iter().map(|(name, _)| name).collect(),
        });
    }

    /// Notes a read of another transaction's write. A second read must give the same.
    fn external(&mut self, name: &Name, value: Value) {
        match self.reads.get(name) {
            Some(before) if *before != value => {
                let story = format!("{value:?} after {before:?}");
                self.agree(name, false, &story);
            }
            Some(_) => {}
            None => drop(self.reads.insert(name.clone(), value)),
        }
    }

    fn agree(&mut self, name: &Name, agrees: bool, story: &str) {
        if !agrees {
            self.contradictions.push(format!("read {name} as {story}"));
        }
    }
}

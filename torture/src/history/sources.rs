//! Who wrote what, and which of the unknown were committed. Knows no order.

use super::model::{Name, Outcome, Transaction};
use super::replay::{Change, Facts, Value};
use std::collections::BTreeMap;

/// Where a value that was read comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// What this transaction left there.
    Committed(usize),
    /// Something that this one, committed, overwrote or took back.
    Intermediate(usize),
    /// This one was never committed.
    Aborted(usize),
    /// Nobody.
    Nobody,
}

/// All writers of a history, and the fate of each.
#[derive(Debug)]
pub(super) struct Sources {
    /// Whether each transaction's changes are part of the history.
    pub(super) committed: Vec<bool>,
    writers: BTreeMap<(Name, u64), Vec<(usize, bool)>>,
    flags: BTreeMap<Name, Flag>,
}

/// Who put a flag up and took it down, committed or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Flag {
    pub(super) raised_by: Vec<usize>,
    pub(super) lowered_by: Vec<usize>,
}

impl Sources {
    pub(super) fn new(transactions: &[Transaction], facts: &[Facts]) -> Self {
        let mut writers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut flags: BTreeMap<Name, Flag> = BTreeMap::new();
        for (n, facts) in facts.iter().enumerate() {
            for (name, value) in &facts.attempted {
                let kept = match facts.changes.get(name) {
                    Some(Change::Appended(elements)) => elements.contains(value),
                    Some(Change::Wrote(last)) => last == value,
                    Some(Change::Added(sum)) => sum & value == *value,
                    _ => false,
                };
                let key = (name.clone(), *value);
                writers.entry(key).or_default().push((n, kept));
            }
            for (name, change) in &facts.changes {
                match change {
                    Change::Raised(true) => {
                        flags.entry(name.clone()).or_default().raised_by.push(n)
                    }
                    Change::Raised(false) => {
                        flags.entry(name.clone()).or_default().lowered_by.push(n);
                    }
                    _ => {}
                }
            }
        }
        let committed = transactions.iter().map(|t| t.outcome == Outcome::Committed);
        let mut sources = Self {
            committed: committed.collect(),
            writers,
            flags,
        };
        sources.resolve_unknown(transactions, facts);
        sources
    }

    /// Who is unknown was committed if anybody saw what it wrote, and nobody else wrote that.
    fn resolve_unknown(&mut self, transactions: &[Transaction], facts: &[Facts]) {
        let unknown = |n: &usize| transactions[*n].outcome == Outcome::Unknown;
        let mut seen = Vec::new();
        for (reader, facts) in facts.iter().enumerate() {
            for (name, value) in &facts.reads {
                for value in atoms(value) {
                    if let Source::Aborted(writer) = self.of(name, value) {
                        seen.push(writer);
                    }
                }
                let Some(flag) = self.flags.get(name) else {
                    continue;
                };
                let decided = |by: &[usize]| by.iter().any(|n| self.committed[*n]);
                let raised_before = flag.raised_by.iter().any(|n| {
                    self.committed[*n] && transactions[*n].end < transactions[reader].begin
                });
                if *value == Value::Flag(true) && !decided(&flag.raised_by) {
                    seen.extend(&flag.raised_by);
                } else if *value == Value::Flag(false)
                    && raised_before
                    && !decided(&flag.lowered_by)
                {
                    seen.extend(&flag.lowered_by);
                }
            }
        }
        for writer in seen.iter().filter(|n| unknown(n)) {
            self.committed[*writer] = true;
        }
    }

    /// Where the value of an object comes from.
    pub(super) fn of(&self, name: &Name, value: u64) -> Source {
        let writers = self.writers.get(&(name.clone(), value));
        let writers = writers.map_or(&[][..], Vec::as_slice);
        let committed = |(n, _): &&(usize, bool)| self.committed[*n];
        match writers.iter().filter(committed).max_by_key(|w| w.1) {
            Some((n, true)) => Source::Committed(*n),
            Some((n, false)) => Source::Intermediate(*n),
            None => writers
                .first()
                .map_or(Source::Nobody, |(n, _)| Source::Aborted(*n)),
        }
    }

    /// A flag as the committed transactions left it, and whether anybody else touched it.
    pub(super) fn flag(&self, name: &Name) -> (Flag, Option<usize>) {
        let flag = self.flags.get(name).cloned().unwrap_or_default();
        let aborted = flag.raised_by.iter().copied().find(|n| !self.committed[*n]);
        let committed = |by: Vec<usize>| by.into_iter().filter(|n| self.committed[*n]).collect();
        let flag = Flag {
            raised_by: committed(flag.raised_by),
            lowered_by: committed(flag.lowered_by),
        };
        (flag, aborted)
    }

    pub(super) fn flag_names(&self) -> impl Iterator<Item = &Name> {
        self.flags.keys()
    }
}

/// The single values that a value that was read is made of, each written by somebody.
pub(super) fn atoms(value: &Value) -> Vec<u64> {
    match value {
        Value::List(elements) => elements.clone(),
        Value::Register(value) => value.iter().copied().collect(),
        Value::Counter(sum) => bits(*sum).collect(),
        Value::Flag(_) => Vec::new(),
    }
}

/// The powers of two that make up a sum.
pub(super) fn bits(sum: u64) -> impl Iterator<Item = u64> {
    (0..u64::BITS)
        .map(|n| 1 << n)
        .filter(move |bit| sum & bit != 0)
}

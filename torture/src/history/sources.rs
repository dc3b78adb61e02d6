//! Finds the writer of each value, and which of the undecided transactions were committed. Knows no order.

use super::model::{Name, Outcome, Transaction};
use super::replay::{Change, Facts, Listing, Value};
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
    unknown: Vec<bool>,
    writers: BTreeMap<(Name, u64), Vec<(usize, bool)>>,
    flags: BTreeMap<Name, Flag>,
}

/// The transactions that set and cleared a flag, committed or not.
#[derive(Clone, Debug, Default)]
struct Flag {
    raised_by: Vec<usize>,
    lowered_by: Vec<usize>,
}

/// The certain and the possible writers of a flag.
#[derive(Debug)]
pub(super) struct Touched {
    pub(super) raised_by: Vec<usize>,
    pub(super) lowered_by: Vec<usize>,
    /// Somebody unknown may have put it up, too.
    pub(super) perhaps_raised: bool,
    pub(super) perhaps_lowered: bool,
    /// Somebody put it up and was not committed.
    pub(super) in_vain: Option<usize>,
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
        let unknown = transactions.iter().map(|t| t.outcome == Outcome::Unknown);
        let mut sources = Self {
            committed: committed.collect(),
            unknown: unknown.collect(),
            writers,
            flags,
        };
        sources.resolve_unknown(transactions, facts);
        sources
    }

    /// An undecided transaction was committed if another transaction saw a value that nobody else wrote.
    fn resolve_unknown(&mut self, transactions: &[Transaction], facts: &[Facts]) {
        let mut seen = Vec::new();
        for (reader, facts) in facts.iter().enumerate() {
            for (name, value) in &facts.reads {
                for value in atoms(value) {
                    if let Source::Aborted(writer) = self.of(name, value) {
                        seen.push(writer);
                    }
                }
            }
            seen.extend(self.seen_by_flags(transactions, &transactions[reader], facts));
        }
        for writer in seen {
            self.committed[writer] |= self.unknown[writer];
        }
    }

    /// The transactions that must have been committed, because only they can have left a flag as a reader found it.
    fn seen_by_flags(
        &self,
        transactions: &[Transaction],
        reader: &Transaction,
        facts: &Facts,
    ) -> Vec<usize> {
        let mut seen = Vec::new();
        for (name, flag) in &self.flags {
            let listed = |listing: &&Listing| {
                name.starts_with(&*listing.prefix) && !listing.own.contains(name)
            };
            let up = match facts.reads.get(name) {
                Some(value) => *value == Value::Flag(true),
                None => match facts.lists.iter().find(listed) {
                    Some(listing) => listing.up.contains(name),
                    None => continue,
                },
            };
            let decided = |by: &[usize]| by.iter().any(|n| self.committed[*n]);
            let raised_before =
                |n: &usize| self.committed[*n] && transactions[*n].end < reader.begin;
            let by = if up {
                &flag.raised_by
            } else if flag.raised_by.iter().any(raised_before) {
                &flag.lowered_by
            } else {
                continue;
            };
            let mut possible = by.iter().filter(|n| self.unknown[**n]);
            if let (false, Some(only), None) = (decided(by), possible.next(), possible.next()) {
                seen.push(*only);
            }
        }
        seen
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

    /// The committed transactions that touched a flag.
    pub(super) fn flag(&self, name: &Name) -> Touched {
        let flag = self.flags.get(name).cloned().unwrap_or_default();
        let committed = |by: &[usize]| -> Vec<usize> {
            by.iter().copied().filter(|n| self.committed[*n]).collect()
        };
        let in_doubt = |by: &[usize]| by.iter().any(|n| self.unknown[*n] && !self.committed[*n]);
        Touched {
            raised_by: committed(&flag.raised_by),
            lowered_by: committed(&flag.lowered_by),
            perhaps_raised: in_doubt(&flag.raised_by),
            perhaps_lowered: in_doubt(&flag.lowered_by),
            in_vain: flag.raised_by.into_iter().find(|n| !self.committed[*n]),
        }
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

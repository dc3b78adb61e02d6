//! Holds a history against strict serializability (C2.7), by way of Elle (Kingsbury and Alvaro, 2020):
//! versions are recovered from what was read, dependencies from versions, anomalies from cycles.
//!
//! Transactions that were not committed take part as readers: they, too, saw one moment (C2.1).

use super::graph::{Because, Graph};
use super::model::{Anomaly, Name, Transaction};
use super::replay::{Change, Facts, Value, replay};
use super::sources::{Source, Sources, atoms, bits};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that is wrong with a history; nothing, if there is a serial order of the committed
/// transactions that explains what all of them read, and agrees with real time.
#[must_use]
pub fn check(transactions: &[Transaction]) -> Vec<Anomaly> {
    let facts: Vec<Facts> = transactions.iter().map(|t| replay(&t.ops)).collect();
    let sources = Sources::new(transactions, &facts);
    let mut check = Check {
        transactions,
        graph: Graph::new(transactions.len()),
        facts: &facts,
        sources,
        anomalies: Vec::new(),
    };
    check.each_by_itself();
    check.lists();
    check.registers();
    check.counters();
    check.flags();
    let spans: Vec<_> = transactions
        .iter()
        .enumerate()
        .map(|(n, t)| {
            let late = t.outcome == super::model::Outcome::Unknown && check.sources.committed[n];
            (t.begin, (!late).then_some(t.end))
        })
        .collect();
    check.graph.add_real_time(&spans);
    check.anomalies.extend(check.graph.cycles());
    check.anomalies
}

struct Check<'a> {
    transactions: &'a [Transaction],
    facts: &'a [Facts],
    sources: Sources,
    graph: Graph,
    anomalies: Vec<Anomaly>,
}

impl Check<'_> {
    fn found(&mut self, name: &str, story: String) {
        self.anomalies.push(Anomaly {
            name: name.to_owned(),
            story,
        });
    }

    /// Contradictions within a transaction, and values that it should not have seen at all.
    fn each_by_itself(&mut self) {
        for (n, facts) in self.facts.iter().enumerate() {
            for story in &facts.contradictions {
                self.found("internal", format!("T{n} {story}"));
            }
            for (name, value) in &facts.reads {
                for atom in atoms(value) {
                    match self.sources.of(name, atom) {
                        Source::Committed(_) => {}
                        Source::Intermediate(by) => {
                            let story =
                                format!("T{n} read {atom} of {name}, which T{by} took back");
                            self.found("G1b", story);
                        }
                        Source::Aborted(by) => {
                            let story = format!(
                                "T{n} read {atom} of {name}, which T{by} wrote, {:?}",
                                self.transactions[by].outcome
                            );
                            self.found("G1a", story);
                        }
                        Source::Nobody => {
                            let story = format!("T{n} read {atom} of {name}, which nobody wrote");
                            self.found("garbage", story);
                        }
                    }
                }
            }
        }
    }

    /// The reads of one kind, by object.
    fn reads<T>(&self, kind: impl Fn(&Value) -> Option<T>) -> BTreeMap<Name, Vec<(usize, T)>> {
        let mut reads: BTreeMap<Name, Vec<_>> = BTreeMap::new();
        for (n, facts) in self.facts.iter().enumerate() {
            for (name, value) in &facts.reads {
                if let Some(value) = kind(value) {
                    reads.entry(name.clone()).or_default().push((n, value));
                }
            }
        }
        reads
    }

    /// What the committed changed, in one way, by object.
    fn changes<T>(&self, kind: impl Fn(&Change) -> Option<T>) -> BTreeMap<Name, Vec<(usize, T)>> {
        let mut changes: BTreeMap<Name, Vec<_>> = BTreeMap::new();
        for (n, facts) in self.facts.iter().enumerate() {
            if self.sources.committed[n] {
                for (name, change) in &facts.changes {
                    if let Some(change) = kind(change) {
                        changes.entry(name.clone()).or_default().push((n, change));
                    }
                }
            }
        }
        changes
    }

    /// Whether one ended before another began, and must be known to it therefore.
    fn precedes(&self, one: usize, other: usize) -> bool {
        let certain = self.transactions[one].outcome == super::model::Outcome::Committed;
        certain && self.transactions[one].end < self.transactions[other].begin
    }

    fn lists(&mut self) {
        let reads = self.reads(|value| match value {
            Value::List(elements) => Some(elements.clone()),
            _ => None,
        });
        let appends = self.changes(|change| match change {
            Change::Appended(elements) => Some(elements.clone()),
            _ => None,
        });
        for (name, reads) in &reads {
            let appends = appends.get(name).map_or(&[][..], Vec::as_slice);
            self.list(name, reads, appends);
        }
    }

    fn list(&mut self, name: &Name, reads: &[(usize, Vec<u64>)], appends: &[(usize, Vec<u64>)]) {
        let longest = reads.iter().max_by_key(|(_, elements)| elements.len());
        let order = longest.map_or(&[][..], |(_, elements)| elements.as_slice());
        for (reader, elements) in reads {
            let once: BTreeSet<_> = elements.iter().collect();
            if once.len() < elements.len() {
                let story = format!("T{reader} read {name} as {elements:?}");
                self.found("duplicate append", story);
            }
            if !order.starts_with(elements) {
                let story = format!("T{reader} read {name} as {elements:?}, others as {order:?}");
                self.found("incompatible orders", story);
            }
            for (writer, own) in appends {
                let there = own.iter().filter(|e| elements.contains(e)).count();
                if there > 0 && there < own.len() {
                    let story = format!(
                        "T{reader} read {name} as {elements:?}, part of {own:?}, which T{writer} appended"
                    );
                    self.found("G1b", story);
                }
                if there == 0 && self.precedes(*writer, *reader) {
                    let story = format!(
                        "T{reader} read {name} as {elements:?}, without {own:?}, which T{writer} had appended"
                    );
                    self.found("lost append", story);
                }
            }
        }
        let by = |element: &u64| match self.sources.of(name, *element) {
            Source::Committed(n) | Source::Intermediate(n) => Some(n),
            Source::Aborted(_) | Source::Nobody => None,
        };
        let writers: Vec<Option<usize>> = order.iter().map(by).collect();
        for pair in writers.windows(2) {
            if let [Some(one), Some(next)] = pair {
                self.graph.add(*one, *next, Because::WriteWrite, name);
            }
        }
        let unread = appends
            .iter()
            .filter(|(_, own)| !own.iter().any(|e| order.contains(e)));
        let unread: Vec<usize> = unread.map(|(n, _)| *n).collect();
        for (reader, elements) in reads {
            if let Some(Some(writer)) = elements
                .len()
                .checked_sub(1)
                .map(|n| writers[n.min(writers.len() - 1)])
            {
                self.graph.add(writer, *reader, Because::WriteRead, name);
            }
            match writers.get(elements.len()) {
                Some(Some(next)) => self.graph.add(*reader, *next, Because::ReadWrite, name),
                Some(None) => {}
                None => {
                    for writer in &unread {
                        self.graph.add(*reader, *writer, Because::ReadWrite, name);
                    }
                }
            }
        }
    }

    fn registers(&mut self) {
        let reads = self.reads(|value| match value {
            Value::Register(value) => Some(*value),
            _ => None,
        });
        let writes = self.changes(|change| match change {
            Change::Wrote(value) => Some(*value),
            _ => None,
        });
        // The transactions that replaced each version.
        let mut next: BTreeMap<(Name, Option<u64>), Vec<usize>> = BTreeMap::new();
        for (name, writes) in &writes {
            for (writer, _) in writes {
                if let Some(before) = self.facts[*writer].replaced.get(name) {
                    let version = (name.clone(), *before);
                    next.entry(version).or_default().push(*writer);
                }
            }
        }
        for ((name, before), writers) in &next {
            if writers.len() > 1 {
                let story = format!("{name} was {before:?}, which each of T{writers:?} replaced");
                self.found("lost update", story);
            }
            let Some(Source::Committed(one)) = before.map(|value| self.sources.of(name, value))
            else {
                continue;
            };
            for writer in writers {
                self.graph.add(one, *writer, Because::WriteWrite, name);
            }
        }
        for (name, reads) in &reads {
            for (reader, value) in reads {
                if let Some(Source::Committed(writer)) = value.map(|v| self.sources.of(name, v)) {
                    self.graph.add(writer, *reader, Because::WriteRead, name);
                }
                let version = (name.clone(), *value);
                for writer in next.get(&version).into_iter().flatten() {
                    self.graph.add(*reader, *writer, Because::ReadWrite, name);
                }
            }
        }
    }

    fn counters(&mut self) {
        let reads = self.reads(|value| match value {
            Value::Counter(sum) => Some(*sum),
            _ => None,
        });
        let adds = self.changes(|change| match change {
            Change::Added(sum) => Some(*sum),
            _ => None,
        });
        for (name, reads) in &reads {
            for (reader, sum) in reads {
                for (writer, own) in adds.get(name).into_iter().flatten() {
                    if reader == writer {
                        continue;
                    }
                    if sum & own == *own {
                        self.graph.add(*writer, *reader, Because::WriteRead, name);
                        continue;
                    }
                    self.graph.add(*reader, *writer, Because::ReadWrite, name);
                    if sum & own != 0 {
                        let story = format!(
                            "T{reader} read {name} as {sum:#b}, part of {own:#b}, which T{writer} added"
                        );
                        self.found("G1b", story);
                    } else if self.precedes(*writer, *reader) {
                        let lost: Vec<_> = bits(*own).collect();
                        let story = format!(
                            "T{reader} read {name} as {sum:#b}, without {lost:?}, which T{writer} had added"
                        );
                        self.found("lost add", story);
                    }
                }
            }
        }
    }

    fn flags(&mut self) {
        let names: Vec<Name> = self.sources.flag_names().cloned().collect();
        for name in &names {
            let flag = self.sources.flag(name);
            if flag.lowered_by.len() > 1 {
                let story = format!("each of T{:?} found {name} and removed it", flag.lowered_by);
                self.found("lost update", story);
            }
            if let ([up], [down]) = (&flag.raised_by[..], &flag.lowered_by[..]) {
                self.graph.add(*up, *down, Because::WriteWrite, name);
            }
        }
        for (reader, facts) in self.facts.iter().enumerate() {
            for (name, value) in &facts.reads {
                if let Value::Flag(up) = value {
                    self.flag(reader, name, *up, Because::ReadWrite);
                }
            }
            for listing in &facts.lists {
                let of_others = |name: &&Name| {
                    name.starts_with(&*listing.prefix) && !listing.own.contains(name)
                };
                for name in names.iter().filter(of_others) {
                    let up = listing.up.contains(name);
                    self.flag(reader, name, up, Because::Predicate);
                }
            }
        }
    }

    /// What follows from that a reader found a flag up, or down.
    fn flag(&mut self, reader: usize, name: &Name, up: bool, anti: Because) {
        let flag = self.sources.flag(name);
        let after = |check: &mut Self, writers: &[usize]| {
            for writer in writers {
                check.graph.add(reader, *writer, anti, name);
            }
        };
        if up {
            match (&flag.raised_by[..], flag.in_vain) {
                // Which of several put it up first is not known.
                _ if flag.perhaps_raised => {}
                ([], Some(by)) => {
                    let story = format!("T{reader} found {name}, which T{by} put there, in vain");
                    self.found("G1a", story);
                }
                ([], None) => {
                    let story = format!("T{reader} found {name}, which nobody put there");
                    self.found("garbage", story);
                }
                ([by], _) => self.graph.add(*by, reader, Because::WriteRead, name),
                _ => {}
            }
            after(self, &flag.lowered_by);
            return;
        }
        match (&flag.raised_by[..], &flag.lowered_by[..]) {
            _ if flag.perhaps_lowered => {}
            (raised_by, []) => after(self, raised_by),
            ([up], [down]) => {
                // Before it went up, or after it came down: real time tells, if anything does.
                if *down == reader || self.precedes(*up, reader) {
                    self.graph.add(*down, reader, Because::WriteRead, name);
                } else if self.precedes(reader, *down) || *up == reader {
                    after(self, &[*up]);
                }
            }
            _ => {}
        }
    }
}

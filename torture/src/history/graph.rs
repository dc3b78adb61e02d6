//! The dependency graph of a history, and its cycles in words. Knows transactions by number only.

use super::model::{Anomaly, Tick};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Because {
    /// The other's version follows its own.
    WriteWrite,
    /// The other read its version.
    WriteRead,
    /// The other wrote what it had not seen.
    ReadWrite,
    /// The same, if a listing told that it was not there.
    Predicate,
    /// It ended before the other began.
    RealTime,
}

use Because::{Predicate, ReadWrite, RealTime, WriteRead, WriteWrite};

/// Transactions, then barriers: points in time, in a chain, through which real time goes so that its
/// edges are as few as the transactions.
#[derive(Debug)]
pub(super) struct Graph {
    transactions: usize,
    edges: Vec<Vec<(usize, Because)>>,
    /// The object of each edge.
    about: BTreeMap<(usize, usize, Because), String>,
}

type Path = Vec<(usize, Because)>;

impl Graph {
    pub(super) fn new(transactions: usize) -> Self {
        Self {
            transactions,
            edges: vec![Vec::new(); transactions],
            about: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, from: usize, to: usize, because: Because, about: &str) {
        let new = from != to && !self.about.contains_key(&(from, to, because));
        if new {
            self.edges[from].push((to, because));
            self.about.insert((from, to, because), about.to_owned());
        }
    }

    /// Adds the order of real time. A transaction without an end precedes nobody by it.
    pub(super) fn add_real_time(&mut self, spans: &[(Tick, Option<Tick>)]) {
        let begins = spans.iter().enumerate().map(|(n, s)| (s.0, false, n));
        let ends = spans.iter().enumerate();
        let ends = ends.filter_map(|(n, s)| Some((s.1?, true, n)));
        let mut moments: Vec<_> = begins.chain(ends).collect();
        moments.sort_unstable();
        let mut barrier = None;
        for (_, is_end, transaction) in moments {
            if is_end {
                let next = self.edges.len();
                self.edges.push(Vec::new());
                self.edges[transaction].push((next, RealTime));
                if let Some(barrier) = barrier.replace(next) {
                    let chain: &mut Vec<_> = &mut self.edges[barrier];
                    chain.push((next, RealTime));
                }
            } else if let Some(barrier) = barrier {
                let out: &mut Vec<_> = &mut self.edges[barrier];
                out.push((transaction, RealTime));
            }
        }
    }

    /// Every kind of cycle, the plainest first. A cycle that contains a plainer one is not reported.
    pub(super) fn cycles(&self) -> Vec<Anomaly> {
        let mut found = Vec::new();
        let mut told = BTreeSet::new();
        for real_time in [false, true] {
            for kinds in [
                &[WriteWrite][..],
                &[WriteWrite, WriteRead],
                &[WriteWrite, WriteRead, ReadWrite, Predicate],
            ] {
                let allowed =
                    |because| kinds.contains(&because) || real_time && because == RealTime;
                for component in self.components(allowed) {
                    let component: BTreeSet<_> = component.into_iter().collect();
                    if !told.is_disjoint(&component) {
                        continue;
                    }
                    let Some(path) = self.plainest(&component, allowed) else {
                        continue;
                    };
                    told.extend(component);
                    found.push(Anomaly {
                        name: name_of(&path),
                        story: self.story(&path),
                    });
                }
            }
        }
        found
    }

    /// The shortest cycle, if there is one with a single read-write edge, of that kind.
    fn plainest(
        &self,
        component: &BTreeSet<usize>,
        allowed: impl Fn(Because) -> bool,
    ) -> Option<Path> {
        let is_anti = |because| because == ReadWrite || because == Predicate;
        let mut best: Option<(bool, usize, Path)> = None;
        for &from in component {
            for &(to, because) in &self.edges[from] {
                if !allowed(because) || !component.contains(&to) {
                    continue;
                }
                // Real time alone goes forward: a cycle has another edge, from where to look.
                if because == RealTime {
                    continue;
                }
                for single in [true, false] {
                    let step = |next| allowed(next) && !(single && is_anti(next));
                    let Some(back) = self.shortest(to, from, component, step) else {
                        continue;
                    };
                    let mut path = vec![(from, because)];
                    path.extend(back);
                    let anti = path.iter().filter(|(_, b)| is_anti(*b)).count() > 1;
                    let length = path.len();
                    if best.as_ref().is_none_or(|b| (anti, length) < (b.0, b.1)) {
                        best = Some((anti, length, path));
                    }
                    break;
                }
            }
        }
        best.map(|(_, _, path)| path)
    }

    /// The steps from one node to another, breadth first.
    fn shortest(
        &self,
        from: usize,
        to: usize,
        within: &BTreeSet<usize>,
        allowed: impl Fn(Because) -> bool,
    ) -> Option<Path> {
        let mut came: BTreeMap<usize, (usize, Because)> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            if node == to {
                let mut path = Vec::new();
                let mut at = to;
                while at != from {
                    let (before, because) = came[&at];
                    path.push((before, because));
                    at = before;
                }
                path.reverse();
                return Some(path);
            }
            for &(next, because) in &self.edges[node] {
                let new = next != from && !came.contains_key(&next);
                if new && allowed(because) && within.contains(&next) {
                    came.insert(next, (node, because));
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// The strongly connected components of more than one node: Tarjan's, without recursion.
    fn components(&self, allowed: impl Fn(Because) -> bool) -> Vec<Vec<usize>> {
        const NEW: usize = usize::MAX;
        let count = self.edges.len();
        let (mut index, mut low) = (vec![NEW; count], vec![NEW; count]);
        let mut on_stack = vec![false; count];
        let (mut stack, mut found, mut next) = (Vec::new(), Vec::new(), 0);
        for root in 0..count {
            if index[root] != NEW {
                continue;
            }
            let mut work = vec![(root, 0)];
            while let Some((node, edge)) = work.pop() {
                if edge == 0 {
                    (index[node], low[node]) = (next, next);
                    next += 1;
                    stack.push(node);
                    on_stack[node] = true;
                }
                if let Some(&(to, because)) = self.edges[node].get(edge) {
                    work.push((node, edge + 1));
                    if allowed(because) && index[to] == NEW {
                        work.push((to, 0));
                    } else if allowed(because) && on_stack[to] {
                        low[node] = low[node].min(index[to]);
                    }
                    continue;
                }
                if low[node] == index[node] {
                    let at = stack.iter().rposition(|n| *n == node).unwrap_or(0);
                    let component = stack.split_off(at);
                    for n in &component {
                        on_stack[*n] = false;
                    }
                    if component.len() > 1 {
                        found.push(component);
                    }
                }
                if let Some(&(parent, _)) = work.last() {
                    low[parent] = low[parent].min(low[node]);
                }
            }
        }
        found
    }

    fn story(&self, path: &Path) -> String {
        // It begins at a transaction: a cycle that has none but barriers there is not.
        let first = path.iter().position(|(node, _)| *node < self.transactions);
        let mut path = path.clone();
        path.rotate_left(first.unwrap_or(0));
        let mut story = String::new();
        for (at, (node, because)) in path.iter().enumerate() {
            if *node >= self.transactions {
                continue;
            }
            let later = path.iter().cycle().skip(at + 1);
            let next = later.map(|(n, _)| *n).find(|n| *n < self.transactions);
            let next = next.unwrap_or(*node);
            let about = self.about.get(&(*node, next, *because));
            let about = about.map_or("", String::as_str);
            story.push_str(&match because {
                WriteWrite => format!("T{node} wrote {about} before T{next} did; "),
                WriteRead => format!("T{node} wrote what T{next} read of {about}; "),
                ReadWrite => format!("T{node} read {about} without what T{next} wrote; "),
                Predicate => format!("T{node} listed {about} without what T{next} did to it; "),
                RealTime => format!("T{node} ended before T{next} began; "),
            });
        }
        story.push_str("so each comes before itself");
        story
    }
}

/// Adya's name for a cycle, and Elle's where it takes real time to close it.
fn name_of(path: &Path) -> String {
    let count = |because| path.iter().filter(|(_, b)| *b == because).count();
    let anti = count(ReadWrite) + count(Predicate);
    let name = match (anti, count(Predicate), count(WriteRead)) {
        (0, _, 0) => "G0",
        (0, _, _) => "G1c",
        (1, _, _) => "G-single",
        (_, 0, _) => "G2-item",
        _ => "G2",
    };
    let suffix = if count(RealTime) > 0 { "-realtime" } else { "" };
    format!("{name}{suffix}")
}

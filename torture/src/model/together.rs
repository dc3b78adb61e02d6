//! Commits that wait for the disk together.

use super::ops::{Cookies, T};
use super::play::Play;
use super::recover::since_start;
use super::spec::{ModelContainer, Outcome, Spec};
use cloakroom::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A transaction, and how its commit ended.
pub(super) type Answered = (T, Result<()>);

type Committing = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A transaction whose commit was begun.
struct Member {
    t: T,
    state: Waiting,
    /// Whether it was not answered at once.
    waited: bool,
}

enum Waiting {
    For(Committing),
    Answered(Result<()>),
}

impl Member {
    /// Whether it still waits.
    fn poll(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        if let Waiting::For(commit) = &mut self.state
            && let Poll::Ready(answer) = commit.as_mut().poll(&mut context)
        {
            self.state = Waiting::Answered(answer);
        }
        matches!(self.state, Waiting::For(_))
    }

    fn answer(self) -> Answered {
        let answer = match self.state {
            Waiting::For(commit) => pollster::block_on(commit),
            Waiting::Answered(answer) => answer,
        };
        (self.t, answer)
    }
}

impl Play {
    /// All open transactions wait for the disk together. Meanwhile nothing of them is to be seen.
    pub(super) fn commit_together(&mut self) -> Result<()> {
        let open = (0..self.open.len()).filter(|t| self.open[*t].is_some());
        let open: Vec<T> = open.collect();
        // A closure that is run again comes later than its turn.
        if !self.scene.file || open.iter().any(|t| self.spec.commutes(*t)) {
            return open
                .into_iter()
                .try_for_each(|t| self.commit(t, Cookies::Taken));
        }
        self.disk.hold();
        let mut members: Vec<Member> = Vec::new();
        // The expected state: without the commits that had to wait.
        let mut seen = self.spec.clone();
        for t in open {
            let Some(open) = self.open[t].take() else {
                continue;
            };
            let commit = Box::pin(open.txn.commit_async());
            let state = Waiting::For(commit);
            let waited = false;
            members.push(Member { t, state, waited });
            let waits = self.waits(&mut members);
            match members.last_mut() {
                Some(member) if waits => member.waited = true,
                _ => drop(seen.commit(t)),
            }
        }
        // To find a session expired would change what the others may do.
        let expired = |id: usize| {
            ModelContainer::BOTH
                .iter()
                .any(|container| seen.is_expired(id, *container))
        };
        let may_look = !self.jars.iter().any(|id| expired(*id));
        if may_look && !self.disk.has_crashed() && members.iter_mut().any(Member::poll) {
            // Where that cannot be read, a fault has struck.
            let found = self.mismatches(&seen, self.jars).unwrap_or_default();
            assert!(found.is_empty(), "seen before it is on the disk: {found:?}");
        }
        self.disk.release();
        // The first that waits was computed before the others came, unless the disk held something else, such as a
        // checkpoint. The rest is computed when it is on the disk, after those that did not have to wait.
        let first = members.iter().position(|member| member.waited);
        let waited: Vec<bool> = members.iter().map(|member| member.waited).collect();
        let answers: Vec<_> = members.into_iter().map(Member::answer).collect();
        let in_order = |before: &dyn Fn(usize) -> bool| {
            let mut order: Vec<usize> = (0..answers.len()).collect();
            order.sort_by_key(|member| waited[*member] && !before(*member));
            order
                .into_iter()
                .map(|member| answers[member].clone())
                .collect()
        };
        let mut orders = vec![in_order(&|member| Some(member) == first)];
        if first.is_some_and(|first| waited[first..].contains(&false)) {
            orders.push(in_order(&|_| false));
        }
        self.all_answered(orders)?;
        self.expect(self.jars)
    }

    /// Whether the last member waits: for the disk, or behind another that does.
    fn waits(&self, members: &mut [Member]) -> bool {
        let Some((last, before)) = members.split_last_mut() else {
            return false;
        };
        if before.iter_mut().any(Member::poll) {
            return last.poll();
        }
        while last.poll() {
            if self.disk.is_held() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    /// Takes every way in which these answers can have come about, in one of these orders of the members.
    pub(super) fn all_answered(&mut self, orders: Vec<Vec<Answered>>) -> Result<()> {
        let mut failed: Option<Error> = None;
        for (t, answer) in orders.iter().take(1).flatten() {
            if std::env::var_os("CLOAKROOM_TRACE").is_some() {
                eprintln!("  answered: {t} {answer:?}");
            }
            match answer {
                Ok(()) => self.commits += 1,
                Err(error) if error.is_conflict() => {}
                Err(error) => drop(failed.get_or_insert_with(|| error.clone())),
            }
        }
        // Whether or not a commit founded them, no later session is founded under these ids.
        let mut spent = BTreeSet::new();
        let ways = orders
            .iter()
            .map(|order| self.ways_of_all(order, &mut spent));
        let mut ways: Vec<Spec> = ways.collect::<Vec<_>>().concat();
        assert!(!ways.is_empty(), "these cannot end so: {orders:?}");
        if orders.len() > 1 {
            self.keep_accessed(&mut ways);
        }
        for way in &mut ways {
            way.fresh.retain(|id| !spent.contains(id));
        }
        self.spec = ways.remove(0);
        self.instead = ways;
        failed.map_or(Ok(()), Err)
    }

    /// Every way in which these answers can have come about, in this order; none if they cannot.
    fn ways_of_all(&self, order: &[Answered], spent: &mut BTreeSet<usize>) -> Vec<Spec> {
        let mut ways = vec![self.spec.clone()];
        for (t, answer) in order {
            let mut next = Vec::new();
            for way in &ways {
                if matches!(answer, Err(e) if e.kind() == ErrorKind::OutcomeUnknown) {
                    let mut after = way.clone();
                    after.commit(*t);
                    spent.extend(way.fresh.difference(&after.fresh).copied());
                }
                next.extend(ways_of(way, *t, answer, self.disk.has_failed()));
            }
            ways = next;
        }
        ways
    }

    /// Keeps the ways whose access times the store serves. The order of an access and of a rotation shows in nothing
    /// else. Where none fits, or where they cannot be read because a fault has struck, all stay.
    fn keep_accessed(&self, ways: &mut Vec<Spec>) {
        let accessed =
            |way: &Spec, id, container| way.served(id, container).map(|row| row.accessed);
        let Ok(txn) = self.store().begin() else {
            return;
        };
        let mut fits = vec![true; ways.len()];
        for id in 0..self.ids.len() {
            for container in ModelContainer::BOTH {
                let foretold: Vec<_> = ways
                    .iter()
                    .map(|way| accessed(way, id, container))
                    .collect();
                if foretold.iter().all(|one| *one == foretold[0]) {
                    continue;
                }
                let data = txn
                    .container(container.name())
                    .and_then(|container| container.session_data(&self.ids[id]));
                let Ok(last) = data.and_then(|data| data.last_access()) else {
                    return;
                };
                let last = last.map(|time| since_start(time.timestamp_millis()));
                for (fits, foretold) in fits.iter_mut().zip(foretold) {
                    *fits &= foretold == last;
                }
            }
        }
        if fits.contains(&true) {
            let mut fits = fits.into_iter();
            ways.retain(|_| fits.next() == Some(true));
        }
    }
}

/// The specifications after a commit that was answered so.
fn ways_of(before: &Spec, t: T, answer: &Result<()>, struck: bool) -> Vec<Spec> {
    let mut after = before.clone();
    let foretold = after.commit(t);
    let mut without = before.clone();
    without.abort(t);
    match answer {
        Ok(()) if foretold == Outcome::Committed => vec![after],
        Err(error) if error.is_conflict() && foretold == Outcome::Conflict => vec![without],
        // Where a checkpoint failed between two members, their snapshots went with it: what cannot be compared
        // with its snapshot any more counts as a change.
        Err(error) if error.is_conflict() && struck => vec![without],
        Err(error) => match error.kind() {
            ErrorKind::OutcomeUnknown => vec![after, without],
            ErrorKind::NotWritten | ErrorKind::Unavailable => vec![without],
            // A panic below looks like a damaged file.
            ErrorKind::Corrupt if struck => vec![without],
            _ => Vec::new(),
        },
        Ok(()) => Vec::new(),
    }
}

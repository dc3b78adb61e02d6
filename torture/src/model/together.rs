//! Commits that wait for the disk together.

use super::ops::{Cookies, T};
use super::play::Play;
use super::spec::{Outcome, Room, Spec};
use cloakroom::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

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

    fn answer(self) -> (T, Result<()>) {
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
        // What is to be seen: the world of those that did not have to wait.
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
        let expired = |id: usize| Room::BOTH.iter().any(|room| seen.is_expired(id, *room));
        let may_look = !self.jars.iter().any(|id| expired(*id));
        if may_look && !self.disk.has_crashed() && members.iter_mut().any(Member::poll) {
            // Where that cannot be read, a fault has struck.
            let found = self.mismatches(&seen, self.jars).unwrap_or_default();
            assert!(found.is_empty(), "seen before it is on the disk: {found:?}");
        }
        self.disk.release();
        // The first that waits was computed before the others came; the rest is computed when it is on
        // the disk, after those that did not have to wait.
        let first = members.iter().position(|member| member.waited);
        if let Some((_, rest)) = first.and_then(|first| members.split_at_mut_checked(first + 1)) {
            rest.sort_by_key(|member| member.waited);
        }
        let answers = members.into_iter().map(Member::answer).collect();
        self.all_answered(answers)?;
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

    /// Takes every way in which these answers can have come about, in the order of the members.
    pub(super) fn all_answered(&mut self, answers: Vec<(T, Result<()>)>) -> Result<()> {
        let mut ways = vec![self.spec.clone()];
        let mut failed: Option<Error> = None;
        // Whether or not a commit founded them, no later session is founded under these ids.
        let mut spent = BTreeSet::new();
        for (t, answer) in answers {
            if std::env::var_os("CLOAKROOM_TRACE").is_some() {
                eprintln!("  answered: {t} {answer:?}");
            }
            let mut next = Vec::new();
            for way in &ways {
                if matches!(&answer, Err(e) if e.kind() == ErrorKind::OutcomeUnknown) {
                    let mut after = way.clone();
                    after.commit(t);
                    spent.extend(way.fresh.difference(&after.fresh).copied());
                }
                next.extend(ways_of(way, t, &answer, self.disk.has_failed()));
            }
            assert!(
                !next.is_empty(),
                "transaction {t} cannot end with {answer:?}"
            );
            ways = next;
            match answer {
                Ok(()) => self.commits += 1,
                Err(error) if error.is_conflict() => {}
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        for way in &mut ways {
            way.fresh.retain(|id| !spent.contains(id));
        }
        self.spec = ways.remove(0);
        self.instead = ways;
        failed.map_or(Ok(()), Err)
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

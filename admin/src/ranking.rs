//! All sessions that match, in another order than that of their keys. That takes reading each of them, so it goes on in
//! the background, and of what it finds only the first are kept.

use cloakroom::{ClientKey, Container, Error, ListedSession, SessionFilter, SessionList};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How many sessions of a ranking are kept.
pub(crate) const KEPT: usize = 1000;
/// How many rankings are kept or run.
const HELD: usize = 4;
/// How long a page waits for a ranking before it tells how far that is.
const PATIENCE: Duration = Duration::from_millis(600);
/// A ranking that is older is made anew.
const FRESH: Duration = Duration::from_secs(60);
/// One that nobody has asked for as long is given up.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// How many sessions are asked for at once.
const READ: usize = 1000;

/// By what sessions are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    Oldest,
    Newest,
    LongestIdle,
    LastUsed,
    Largest,
    Smallest,
}

impl Order {
    pub(crate) const ALL: [Self; 6] = [
        Self::Oldest,
        Self::Newest,
        Self::LongestIdle,
        Self::LastUsed,
        Self::Largest,
        Self::Smallest,
    ];

    /// Its name in addresses.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oldest => "oldest",
            Self::Newest => "newest",
            Self::LongestIdle => "longest-idle",
            Self::LastUsed => "last-used",
            Self::Largest => "largest",
            Self::Smallest => "smallest",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.name() == name)
    }

    /// Damaged sessions come first, whatever the order: somebody has to look at them.
    fn compare(self, a: &ListedSession, b: &ListedSession) -> Ordering {
        let by_time = match self {
            Self::Oldest => a.created.cmp(&b.created),
            Self::Newest => b.created.cmp(&a.created),
            Self::LongestIdle => a.last_access.cmp(&b.last_access),
            Self::LastUsed => b.last_access.cmp(&a.last_access),
            Self::Largest => b.bytes.cmp(&a.bytes),
            Self::Smallest => a.bytes.cmp(&b.bytes),
        };
        let is_sound = a.error.is_some().cmp(&b.error.is_some()).reverse();
        is_sound.then(by_time).then(a.client.cmp(&b.client))
    }
}

/// What is sorted, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) container: String,
    pub(crate) filter: SessionFilter,
    pub(crate) order: Order,
}

/// The first sessions of an order, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranked {
    pub(crate) sessions: Vec<ListedSession>,
    pub(crate) examined: u64,
    /// How many sessions match.
    pub(crate) matching: u64,
    pub(crate) is_complete: bool,
}

impl Ranked {
    fn add(&mut self, list: SessionList, order: Order) -> Option<ClientKey> {
        self.examined += list.examined as u64;
        self.matching += list.sessions.len() as u64;
        self.sessions.extend(list.sessions);
        if self.sessions.len() >= 2 * KEPT || list.next.is_none() {
            self.sessions.sort_unstable_by(|a, b| order.compare(a, b));
            self.sessions.truncate(KEPT);
        }
        self.is_complete = list.next.is_none();
        list.next
    }
}

struct Ranking {
    question: Question,
    began: Instant,
    state: Mutex<RankingState>,
    /// Whether it has ended.
    ended: watch::Sender<bool>,
}

struct RankingState {
    ranked: Ranked,
    failure: Option<Error>,
    asked: Instant,
}

/// The last rankings that were asked for.
#[derive(Clone, Default)]
pub(crate) struct Rankings {
    inner: Arc<Mutex<VecDeque<Arc<Ranking>>>>,
}

impl Rankings {
    /// The answer, or how far it is. Begins to look for it if nobody has. Must be called in a runtime.
    pub(crate) async fn answer(
        &self,
        question: Question,
        container: Container,
    ) -> Result<Ranked, Error> {
        let ranking = self.find_or_begin(question, container);
        let mut ended = ranking.ended.subscribe();
        // Either is fine: it has ended, or it is told how far it is.
        drop(timeout(PATIENCE, ended.wait_for(|has_ended| *has_ended)).await);
        let mut state = ranking.state();
        state.asked = Instant::now();
        match state.failure.clone() {
            Some(failure) => Err(failure),
            None if state.ranked.is_complete => Ok(state.ranked.clone()),
            None => Ok(Ranked {
                sessions: Vec::new(),
                ..state.ranked
            }),
        }
    }

    fn find_or_begin(&self, question: Question, container: Container) -> Arc<Ranking> {
        let now = Instant::now();
        let mut all = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|ranking| ranking.is_of_use(now));
        if let Some(ranking) = all.iter().find(|ranking| ranking.question == question) {
            return ranking.clone();
        }
        let ranking = Arc::new(Ranking {
            question,
            began: now,
            state: Mutex::new(RankingState {
                ranked: Ranked::default(),
                failure: None,
                asked: now,
            }),
            ended: watch::Sender::new(false),
        });
        all.push_back(ranking.clone());
        if all.len() > HELD {
            // It stops, as it is held no more.
            all.pop_front();
        }
        let (rankings, running) = (self.clone(), ranking.clone());
        tokio::spawn(async move {
            let failure = running.run(&rankings, &container).await.err();
            running.state().failure = failure;
            running.ended.send_replace(true);
        });
        ranking
    }

    fn holds(&self, ranking: &Arc<Ranking>) -> bool {
        let all = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|it| Arc::ptr_eq(it, ranking))
    }
}

impl Ranking {
    fn state(&self) -> MutexGuard<'_, RankingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it can still answer its question, or somebody waits for it.
    fn is_of_use(&self, now: Instant) -> bool {
        let state = self.state();
        match *self.ended.borrow() {
            true => state.failure.is_none() && state.ranked.is_complete && now < self.began + FRESH,
            false => now < state.asked + FORGOTTEN,
        }
    }

    async fn run(
        self: &Arc<Self>,
        rankings: &Rankings,
        container: &Container,
    ) -> Result<(), Error> {
        let Question { filter, order, .. } = &self.question;
        let mut after = None;
        loop {
            let list = container.sessions_async(filter, after, READ).await?;
            after = self.state().ranked.add(list, *order);
            if after.is_none() || !rankings.holds(self) || !self.is_of_use(Instant::now()) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use cloakroom::Store;

    #[tokio::test]
    async fn a_few_rankings_are_held_and_the_same_question_is_asked_once() {
        let store = Store::in_memory().unwrap();
        let id = store.client_ids().issue();
        store
            .transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 1))
            .unwrap();
        let rankings = Rankings::default();
        for owner in 0..3 {
            for order in Order::ALL {
                for _ in 0..2 {
                    let question = Question {
                        container: String::new(),
                        filter: SessionFilter::new().label(&owner.to_string()),
                        order,
                    };
                    let container = store.container("").unwrap();
                    let ranked = rankings.answer(question, container).await.unwrap();
                    assert!(ranked.is_complete && ranked.sessions.is_empty());
                    assert_eq!(ranked.examined, 1);
                }
                let held = rankings.inner.lock().unwrap();
                let last = held.iter().filter(|it| it.question.order == order);
                assert_eq!(last.count(), 1);
                assert!(held.len() <= HELD);
            }
        }
    }
}

//! All sessions that match, in another order than that of their keys. That takes reading each of them, so it goes on in
//! the background, and of what it finds only the first are kept.

use chrono::{DateTime, Utc};
use cloakroom::{ClientKey, Container, Error, ListedSession, SessionFilter, SessionList};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How many sessions of a ranking are kept.
pub(crate) const KEPT: usize = 1000;
/// How many rankings are kept or run.
const HELD: usize = 4;
/// How long a page waits for a ranking before it tells how far that is.
const PATIENCE: Duration = Duration::from_millis(600);
/// A first page shows no ranking that ended longer ago. It is made anew.
const FRESH: Duration = Duration::from_secs(60);
/// For so long after its end, the further pages of a ranking are there, unless it makes room for another.
const LEAFED: Duration = Duration::from_secs(600);
/// A ranking that runs is given up if nobody has asked for it for so long.
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
    /// Of the ranking, or 0 if it waits until another one has ended.
    pub(crate) number: u64,
    pub(crate) ended: Option<DateTime<Utc>>,
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
    number: u64,
    question: Question,
    state: Mutex<RankingState>,
    /// Whether it has ended.
    ended: watch::Sender<bool>,
}

struct RankingState {
    ranked: Ranked,
    failure: Option<Error>,
    asked: Instant,
    ended: Option<Instant>,
}

/// The last rankings that were asked for.
#[derive(Clone, Default)]
pub(crate) struct Rankings {
    inner: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    last: u64,
    all: VecDeque<Arc<Ranking>>,
}

impl Rankings {
    /// The answer, or how far it is: that of the ranking with this number, if it is held, or of one that is fresh. Begins
    /// to look for it if nobody has, and if there is room. Must be called in a runtime.
    pub(crate) async fn answer(
        &self,
        question: Question,
        container: Container,
        number: Option<u64>,
    ) -> Result<Ranked, Error> {
        let Some(ranking) = self.find_or_begin(question, container, number) else {
            // Who asks again at once is held back.
            sleep(PATIENCE).await;
            return Ok(Ranked::default());
        };
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

    /// Nothing, if as many run as may.
    fn find_or_begin(
        &self,
        question: Question,
        container: Container,
        number: Option<u64>,
    ) -> Option<Arc<Ranking>> {
        let now = Instant::now();
        let mut held = self.lock();
        held.all.retain(|ranking| ranking.is_of_use(now));
        let of_question = || held.all.iter().filter(|it| it.question == question);
        let found = of_question().find(|it| number == Some(it.number));
        if let Some(ranking) = found.or_else(|| of_question().find(|it| it.is_fresh(now))) {
            return Some(ranking.clone());
        }
        if held.all.len() >= HELD {
            // One that runs would never end if others took its place.
            let oldest = held.all.iter().position(|it| it.has_ended())?;
            held.all.remove(oldest);
        }
        held.last += 1;
        let ranking = Arc::new(Ranking::new(held.last, question));
        held.all.push_back(ranking.clone());
        let (rankings, running) = (self.clone(), ranking.clone());
        tokio::spawn(async move {
            let outcome = running.run(&rankings, &container).await;
            running.end(outcome);
        });
        Some(ranking)
    }

    fn holds(&self, ranking: &Arc<Ranking>) -> bool {
        self.lock().all.iter().any(|it| Arc::ptr_eq(it, ranking))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ranking {
    fn new(number: u64, question: Question) -> Self {
        let ranked = Ranked {
            number,
            ..Ranked::default()
        };
        Self {
            number,
            question,
            state: Mutex::new(RankingState {
                ranked,
                failure: None,
                asked: Instant::now(),
                ended: None,
            }),
            ended: watch::Sender::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, RankingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.state().ended.is_some()
    }

    /// Whether a first page may show it, or wait for it.
    fn is_fresh(&self, now: Instant) -> bool {
        self.state().ended.is_none_or(|ended| now < ended + FRESH)
    }

    /// Whether it can still answer its question, or somebody waits for it.
    fn is_of_use(&self, now: Instant) -> bool {
        let state = self.state();
        match state.ended {
            Some(ended) => {
                state.failure.is_none() && state.ranked.is_complete && now < ended + LEAFED
            }
            None => now < state.asked + FORGOTTEN,
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

    fn end(&self, outcome: Result<(), Error>) {
        let mut state = self.state();
        state.failure = outcome.err();
        state.ended = Some(Instant::now());
        state.ranked.ended = Some(Utc::now());
        drop(state);
        self.ended.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use cloakroom::Store;
    use tokio::time::advance;

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
                    let ranked = rankings.answer(question, container, None).await.unwrap();
                    assert!(ranked.is_complete && ranked.sessions.is_empty());
                    assert_eq!(ranked.examined, 1);
                }
                let held = &rankings.lock().all;
                let last = held.iter().filter(|it| it.question.order == order);
                assert_eq!(last.count(), 1);
                assert!(held.len() <= HELD);
            }
        }
    }

    fn question(label: &str) -> Question {
        Question {
            container: String::new(),
            filter: SessionFilter::new().label(label),
            order: Order::Largest,
        }
    }

    /// A ranking that runs, or whose end the test gives.
    fn held(rankings: &Rankings, label: &str) -> Arc<Ranking> {
        let mut held = rankings.lock();
        held.last += 1;
        let ranking = Arc::new(Ranking::new(held.last, question(label)));
        held.all.push_back(ranking.clone());
        ranking
    }

    #[tokio::test(start_paused = true)]
    async fn a_ranking_that_took_long_is_shown_for_as_long_as_another() {
        let store = Store::in_memory().unwrap();
        let container = || store.container("").unwrap();
        let rankings = Rankings::default();
        let slow = held(&rankings, "slow");
        advance(FRESH * 2).await;
        slow.state().ranked.is_complete = true;
        slow.end(Ok(()));
        let found = |number| rankings.find_or_begin(question("slow"), container(), number);
        advance(FRESH / 2).await;
        assert!(Arc::ptr_eq(&found(None).unwrap(), &slow));
        // A first page is made anew then, and the further pages of the older one are still there.
        advance(FRESH).await;
        let newer = found(None).unwrap();
        assert_ne!(newer.number, slow.number);
        assert!(Arc::ptr_eq(&found(Some(slow.number)).unwrap(), &slow));
        advance(LEAFED).await;
        assert_ne!(found(Some(slow.number)).unwrap().number, slow.number);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ranking_waits_while_as_many_run_as_may() {
        let store = Store::in_memory().unwrap();
        let rankings = Rankings::default();
        let running: Vec<_> = (0..HELD)
            .map(|number| held(&rankings, &number.to_string()))
            .collect();
        let answer = || rankings.answer(question("more"), store.container("").unwrap(), None);
        let waits = answer().await.unwrap();
        assert_eq!((waits.number, waits.is_complete), (0, false));
        assert!(running.iter().all(|it| rankings.holds(it)));

        running[1].state().ranked.is_complete = true;
        running[1].end(Ok(()));
        let begun = answer().await.unwrap();
        assert!(begun.number > HELD as u64);
        let holds = running.iter().map(|it| rankings.holds(it));
        assert_eq!(holds.collect::<Vec<_>>(), [true, false, true, true]);
    }
}

//! How many sessions there are. That takes examining each of them, so they are counted in the background while somebody
//! looks, now and then, and what is shown says how old it is.

use crate::forms::number;
use chrono::{DateTime, Utc};
use cloakroom::{Error, ErrorKind, Store};
use serde::Serialize;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long a page waits for the first count.
const PATIENCE: Duration = Duration::from_millis(600);
/// Sessions are counted again this long after the last count, and later where counting takes long.
const SHORTEST_REST: Duration = Duration::from_secs(60);
/// Counting takes at most one part of the time in so many.
const SHARE: u32 = 20;

/// The sessions of all containers, as they were counted last.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Counted {
    pub(crate) live: u64,
    /// Not removed yet.
    pub(crate) expired: u64,
    pub(crate) unreadable: u64,
    pub(crate) counted_at: DateTime<Utc>,
    took_seconds: f64,
}

/// What is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) counted: Option<Counted>,
    is_counting: bool,
    /// Why the last count has failed.
    pub(crate) failure: Option<ErrorKind>,
    /// When to count again.
    due: Option<Instant>,
}

impl Known {
    /// The number for people.
    pub(crate) fn sessions(&self) -> String {
        self.counted
            .map_or_else(|| "–".to_owned(), |it| number(it.live))
    }

    /// How old the number is, or why there is none.
    pub(crate) fn remark(&self, now: DateTime<Utc>) -> String {
        match &self.counted {
            Some(counted) => {
                let age = (now - counted.counted_at).to_std().unwrap_or_default();
                format!("counted {}", age_for_people(age))
            }
            None if self.failure.is_some() => "could not be counted".to_owned(),
            None => "being counted".to_owned(),
        }
    }
}

fn age_for_people(age: Duration) -> String {
    match age.as_secs() / 60 {
        0 => "just now".to_owned(),
        minutes if minutes < 120 => format!("{minutes} min ago"),
        minutes => format!("{} h ago", minutes / 60),
    }
}

fn rest_after(took: Duration) -> Duration {
    SHORTEST_REST.max(took * SHARE)
}

/// Counts sessions, once at a time.
#[derive(Clone, Default)]
pub(crate) struct Census {
    known: watch::Sender<Known>,
}

impl Census {
    /// What is known; begins to count if that is due. Must be called in a runtime.
    pub(crate) fn known(&self, store: &Store) -> Known {
        let begins = self.known.send_if_modified(|known| {
            let is_due = known.due.is_none_or(|due| due <= Instant::now());
            let begins = is_due && !known.is_counting;
            known.is_counting |= begins;
            begins
        });
        if begins {
            let (census, store) = (self.clone(), store.clone());
            tokio::spawn(async move { census.run(&store).await });
        }
        *self.known.borrow()
    }

    /// [`known`](Self::known) after a short wait, if nothing is known yet.
    pub(crate) async fn known_soon(&self, store: &Store) -> Known {
        let mut changes = self.known.subscribe();
        self.known(store);
        let tried = changes.wait_for(|known| known.counted.is_some() || known.failure.is_some());
        // Either is fine: there is a number, or the page says why not.
        drop(timeout(PATIENCE, tried).await);
        *self.known.borrow()
    }

    async fn run(&self, store: &Store) {
        let began = Instant::now();
        let counted = count(store).await;
        let took = began.elapsed();
        if let Err(error) = &counted {
            tracing::warn!(%error, "the sessions could not be counted for the administration page");
        }
        self.known.send_modify(|known| {
            known.is_counting = false;
            known.failure = counted.as_ref().err().map(Error::kind);
            known.due = Some(Instant::now() + rest_after(took));
            if let Ok(counted) = counted {
                known.counted = Some(Counted {
                    took_seconds: took.as_secs_f64(),
                    ..counted
                });
            }
        });
    }
}

async fn count(store: &Store) -> Result<Counted, Error> {
    let mut counted = Counted {
        live: 0,
        expired: 0,
        unreadable: 0,
        counted_at: Utc::now(),
        took_seconds: 0.0,
    };
    for container in store.containers() {
        match container.statistics_async().await {
            Ok(statistics) => {
                counted.live += statistics.live;
                counted.expired += statistics.expired;
                counted.unreadable += statistics.unreadable;
            }
            // It was unregistered meanwhile.
            Err(error) if error.kind() == ErrorKind::NoSuchContainer => {}
            Err(error) => return Err(error),
        }
    }
    counted.counted_at = Utc::now();
    Ok(counted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_not_known_is_said() {
        let now = Utc::now();
        let mut known = Known::default();
        assert_eq!(
            (&*known.sessions(), &*known.remark(now)),
            ("–", "being counted")
        );
        known.failure = Some(ErrorKind::Io);
        assert_eq!(known.remark(now), "could not be counted");
        known.counted = Some(Counted {
            live: 1_000_000,
            expired: 0,
            unreadable: 1,
            counted_at: now,
            took_seconds: 2.0,
        });
        assert_eq!(known.sessions(), "1,000,000");
        for (seconds, shown) in [
            (0, "counted just now"),
            (185, "counted 3 min ago"),
            (7205, "counted 2 h ago"),
        ] {
            let later = now + Duration::from_secs(seconds);
            assert_eq!(known.remark(later), shown);
        }
    }

    #[test]
    fn counting_rests_longer_the_longer_it_takes() {
        assert_eq!(rest_after(Duration::from_millis(5)), SHORTEST_REST);
        assert_eq!(rest_after(Duration::from_secs(9)), Duration::from_secs(180));
    }

    #[tokio::test]
    async fn sessions_are_counted_again_when_it_is_due() {
        let store = Store::in_memory().unwrap();
        let census = Census::default();
        let add = || {
            let id = store.client_ids().issue();
            let founded = store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 1));
            founded.unwrap();
        };
        add();
        let first = census.known_soon(&store).await;
        assert_eq!(first.counted.unwrap().live, 1);
        add();
        // Not before the rest is over.
        assert!(!census.known(&store).is_counting);
        assert_eq!(census.known_soon(&store).await.counted.unwrap().live, 1);
        census.known.send_modify(|known| known.due = None);
        let mut changes = census.known.subscribe();
        assert!(census.known(&store).is_counting);
        changes.wait_for(|known| !known.is_counting).await.unwrap();
        assert_eq!(census.known(&store).counted.unwrap().live, 2);
        // A store that is closed cannot be counted: the last number stays, with its age.
        store.clone().close().unwrap();
        census.known.send_modify(|known| known.due = None);
        census.known(&store);
        let failed = changes
            .wait_for(|known| known.failure == Some(ErrorKind::Closed))
            .await
            .unwrap();
        assert_eq!(failed.sessions(), "2");
    }
}

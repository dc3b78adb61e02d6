//! The figures of the last hour, taken every few seconds on a thread of their own.

use chrono::{DateTime, Utc};
use cloakroom::{CommitTimes, Statistics, Store};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The time between two samples.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// How many samples make an hour.
const KEPT: usize = 3600 / EVERY.as_secs() as usize + 1;

/// The counters of a store at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    at: Instant,
    time: DateTime<Utc>,
    statistics: Statistics,
    commit_times: CommitTimes,
}

/// What happened between two samples.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Rates {
    /// When it ended.
    pub(crate) at: DateTime<Utc>,
    pub(crate) commits_per_second: f64,
    pub(crate) conflicts_per_second: f64,
    pub(crate) reruns_per_second: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) syncs_per_second: f64,
    /// How long half of the commits took, and 99 of 100, in seconds. Nothing, if there were none.
    pub(crate) commit_p50_seconds: Option<f64>,
    pub(crate) commit_p99_seconds: Option<f64>,
    pub(crate) journal_bytes: u64,
    pub(crate) file_bytes: u64,
}

impl Sample {
    pub(crate) fn now(store: &Store) -> cloakroom::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            time: Utc::now(),
            statistics: store.statistics()?,
            commit_times: store.commit_times(),
        })
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The rates since an earlier sample.
    pub(crate) fn since(&self, earlier: &Self) -> Rates {
        let seconds = (self.at - earlier.at).as_secs_f64().max(0.001);
        let (new, old) = (&self.statistics, &earlier.statistics);
        let rate = |count: fn(&Statistics) -> u64| {
            // Counters begin anew when a store is opened; a page belongs to one opening.
            count(new).saturating_sub(count(old)) as f64 / seconds
        };
        let times = self.commit_times.since(&earlier.commit_times);
        let within = |percent| times.percentile(percent).map(|time| time.as_secs_f64());
        Rates {
            at: self.time,
            commits_per_second: rate(Statistics::commits),
            conflicts_per_second: rate(Statistics::conflicts),
            reruns_per_second: rate(Statistics::reruns),
            bytes_per_second: rate(Statistics::bytes_written),
            syncs_per_second: rate(Statistics::syncs),
            commit_p50_seconds: within(50.0),
            commit_p99_seconds: within(99.0),
            journal_bytes: new.journal_len(),
            file_bytes: new.file_len(),
        }
    }
}

/// The samples of the last hour.
#[derive(Debug)]
pub(crate) struct Samples {
    store: Store,
    kept: Mutex<VecDeque<Sample>>,
    /// The thread ends when the sender is dropped.
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Samples {
    /// Takes samples until the result is dropped everywhere. The thread itself keeps no store open.
    pub(crate) fn start(store: Store) -> Arc<Self> {
        Arc::new_cyclic(|samples: &Weak<Self>| {
            let (ends, ended) = mpsc::channel();
            let samples = samples.clone();
            let thread = thread::Builder::new().name("cloakroom-admin".to_owned());
            let thread = thread.spawn(move || take_samples(&samples, &ended));
            if let Err(error) = &thread {
                tracing::warn!(%error, "no thread for the figures of the administration page");
            }
            Self {
                store,
                kept: Mutex::default(),
                thread: thread.ok().map(|thread| (ends, thread)),
            }
        })
    }

    /// What happened between each sample and the next, the oldest first.
    pub(crate) fn rates(&self) -> Vec<Rates> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = kept.iter().zip(kept.iter().skip(1));
        pairs.map(|(old, new)| new.since(old)).collect()
    }

    /// Takes a sample, unless the store is closed.
    fn take(&self) {
        match Sample::now(&self.store) {
            Ok(sample) => {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == KEPT {
                    kept.pop_front();
                }
                kept.push_back(sample);
            }
            Err(error) => tracing::debug!(%error, "no figures for the administration page"),
        }
    }
}

impl Drop for Samples {
    fn drop(&mut self) {
        let Some((ends, thread)) = self.thread.take() else {
            return;
        };
        drop(ends);
        // The thread may hold the last handle for the moment in which it takes a sample.
        if thread.thread().id() != thread::current().id() {
            drop(thread.join());
        }
    }
}

fn take_samples(samples: &Weak<Samples>, ended: &Receiver<()>) {
    // The first sample is taken when the samples are there.
    let mut wait = Duration::from_millis(10);
    while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let Some(samples) = samples.upgrade() else {
            return;
        };
        samples.take();
        wait = EVERY;
    }
}

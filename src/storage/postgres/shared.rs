//! The state that the parts of the engine share.

use super::cache::RowCache;
use super::client_rows::StoredClient;
use super::current::{LoadedRows, RowsByClient};
use super::event::{HeardEvents, mark};
use super::failure::Failure;
use super::heard::ServerNews;
use super::load_queue::LoadQueue;
use super::memory_parts::MemoryParts;
use super::pool::{Borrowed, Pool};
use super::reclaim_state::ReclaimState;
use super::rules::PostgresRules;
use super::sweep_state::SweepState;
use super::sweep_times::SweepTimes;
use super::write_terms::WriteTerms;
use crate::client_id::ClientKey;
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::storage::memory::Random;
use crate::storage::{Mark, StoreSettings, TombstonePolicy, Touch};
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::{Instant, timeout_at};

pub(super) struct Shared {
    pub(super) pool: Arc<Pool>,
    pub(super) clock: Clock,
    pub(super) rules: PostgresRules,
    pub(super) heard: ServerNews,
    pub(super) events: Mutex<HeardEvents>,
    pub(super) cache: Mutex<RowCache>,
    pub(super) loads: LoadQueue,
    pub(super) memory_parts: Arc<MemoryParts>,
    /// The newest settings that were loaded.
    pub(super) settings: ArcSwap<StoreSettings>,
    /// When sweeps look at rows, by these settings.
    pub(super) sweep_times: ArcSwap<SweepTimes>,
    pub(super) sweeps: Mutex<SweepState>,
    pub(super) reclaim: Mutex<ReclaimState>,
    pub(super) random: Mutex<Random>,
    pub(super) counters: PgCounters,
    pub(super) process: Process,
    pub(super) is_closed: AtomicBool,
    /// The record of the keys of the store since all rows began to be encrypted again.
    #[cfg(feature = "encryption")]
    pub(super) reseal_fence: Mutex<Option<Vec<u8>>>,
    /// The server was found in an earlier state than the one that this process knows.
    pub(super) went_back: AtomicBool,
}

#[derive(Default)]
pub(super) struct PgCounters {
    pub(super) commits: AtomicU64,
    /// Statements and transactions that were to write commits.
    pub(super) groups: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) touches: AtomicU64,
    pub(super) lost_touches: AtomicU64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed")
}

/// The time until a moment, for the server: at least a millisecond, since none would be no limit.
fn left_millis(until: Instant) -> i64 {
    let left = until.saturating_duration_since(Instant::now()).as_millis();
    i64::try_from(left).unwrap_or(i64::MAX).clamp(1, 1 << 30)
}

fn back() -> Error {
    let why = "the store is closed: the server has lost changes of the settings that this process knows, as after the \
               restore of a backup, or the promotion of a standby that lacked them: open the store again";
    Error::new(ErrorKind::Closed, why)
}

impl Shared {
    /// Until when a request that begins now waits for the server.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.rules.server.deadline
    }

    /// Under which conditions rows are written by a request that waits until this moment. A statement that comes later, on a
    /// connection that was given up, writes nothing: the moment that it states for what it ends would be long past.
    pub(super) fn write_terms(&self, epoch: u64, until: Instant) -> WriteTerms {
        let left = left_millis(until);
        WriteTerms {
            epoch,
            until: self.heard.server_time().saturating_add(left),
        }
    }

    /// Begins a transaction that locks rows. Neither it nor its locks outlast the request by much, even if this process
    /// falls silent.
    pub(super) fn begin(until: Instant) -> String {
        let left = left_millis(until);
        // The answer has to arrive in time.
        let wait = (left * 3 / 4).max(1);
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {wait}; \
             SET LOCAL idle_in_transaction_session_timeout = {left}"
        )
    }

    pub(super) fn check_open(&self) -> Result<()> {
        self.process.check()?;
        match self.is_closed.load(Ordering::Acquire) {
            true => Err(closed()),
            false if self.went_back.load(Ordering::Acquire) => Err(back()),
            false => Ok(()),
        }
    }

    /// Notes that the server has other settings than it had before under the same number, or earlier ones. Nothing that
    /// this process knows can be relied on any more.
    pub(super) fn find_back(&self) -> Error {
        if !self.went_back.swap(true, Ordering::AcqRel) {
            tracing::error!("{}", back());
        }
        back()
    }

    /// A connection, until this moment.
    pub(super) async fn connection(&self, until: Instant) -> Result<Borrowed, Failure> {
        self.check_open().map_err(Failure::Refused)?;
        self.greeted(self.pool.get(until).await?, until).await
    }

    /// A connection for a commit, until this moment.
    pub(super) async fn connection_to_write(&self, until: Instant) -> Result<Borrowed, Failure> {
        self.check_open().map_err(Failure::Refused)?;
        self.greeted(self.pool.get_to_write(until).await?, until)
            .await
    }

    /// A connection that a request may keep for longer, if one is to spare.
    pub(super) async fn connection_to_keep(&self, until: Instant) -> Option<Borrowed> {
        let connection = self.pool.spare(until).await?;
        self.greeted(connection, until).await.ok()
    }

    /// A connection beside those of the pool.
    pub(super) async fn connection_beside(&self, until: Instant) -> Result<Borrowed, Failure> {
        self.check_open().map_err(Failure::Refused)?;
        self.greeted(self.pool.beside(until).await?, until).await
    }

    /// A connection that is asked first whether it leads to the server as it was: it may lead to another one, or to the
    /// same one after a restore.
    async fn greeted(&self, connection: Borrowed, until: Instant) -> Result<Borrowed, Failure> {
        if connection.is_greeted() {
            return Ok(connection);
        }
        match self.within(until, self.greet(&connection)).await {
            Ok(()) => Ok(connection),
            Err(failure) => {
                connection.after(&failure);
                Err(match failure {
                    Failure::Lost(error) => Failure::NotSent(error),
                    other => other,
                })
            }
        }
    }

    pub(super) fn version(&self) -> u64 {
        lock(&self.random).version()
    }

    /// By how much the time of an event may be wrong, in milliseconds.
    pub(super) fn margin(&self) -> i64 {
        i64::try_from(self.rules.server.margin().as_millis()).unwrap_or(i64::MAX)
    }

    pub(super) fn mark(&self) -> Mark {
        let newest = lock(&self.events).newest();
        mark(newest, self.heard.server_time())
    }

    /// Runs a request on a connection, within the deadline. A request that has no answer in time costs the connection.
    pub(super) async fn within<T>(
        &self,
        until: Instant,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match timeout_at(until, request).await {
            Ok(answer) => answer,
            Err(_) => Err(super::connection::late(self.rules.server.deadline)),
        }
    }

    /// Notes what the rows of a client tell of events.
    pub(super) fn hear(&self, client: ClientKey, rows: &StoredClient) {
        let found = rows.seen.iter().filter_map(|seen| seen.found_expired);
        let mut all = found.chain(rows.end.map(|end| end.event)).peekable();
        if all.peek().is_some() {
            let mut events = lock(&self.events);
            all.for_each(|event| events.hear(client, event));
        }
    }

    /// Calls `read` with the rows of clients as a change set is validated against them.
    pub(super) fn with_loaded<T>(
        &self,
        clients: &RowsByClient,
        under_way: &[Touch],
        refusals: TombstonePolicy,
        read: impl FnOnce(&LoadedRows<'_>) -> T,
    ) -> T {
        let events = lock(&self.events);
        let rows = LoadedRows {
            clients,
            under_way,
            events: &events,
            cipher: &self.rules.cipher,
            registry: self.settings.load().registry,
            refusals: TombstonePolicy {
                now: self.now(),
                ..refusals
            },
            server_time: self.heard.server_time(),
            margin: self.margin(),
            missing: Default::default(),
            lowered: Default::default(),
        };
        read(&rows)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.timestamp()
    }
}

//! The connections of one process. A request has one to itself until it ends. Connections whose state is not known are
//! dropped.

use super::backoff::Backoff;
use super::connection::{Connection, Connector};
use super::failure::{Failure, unavailable};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

pub(super) struct Pool {
    connector: Arc<Connector>,
    permits: Arc<Semaphore>,
    /// For those that write: nearly all. While the server confirms no commit, the others still read.
    writing: Arc<Semaphore>,
    /// For the connections that are kept for longer: a part of all.
    kept: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
    /// Since when every attempt to connect has failed.
    down_since: Mutex<Option<Instant>>,
    is_closed: AtomicBool,
    /// How long a connection that was given up keeps its place at most.
    patience: Mutex<Duration>,
}

/// How long a connection that was given up keeps its place at first. The server may carry out for longer what was sent: it may
/// wait for a standby. Without a bound no other server could be reached while the old one is silent.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much longer it may become, while no commit succeeds.
const LONGEST_PATIENCE: Duration = Duration::from_secs(320);

fn busy() -> Failure {
    Failure::NotSent(unavailable("all connections to the server are in use"))
}

/// A connection that one request uses. It goes back to the pool by [`give_back`](Self::give_back) only.
pub(super) struct Borrowed {
    pool: Arc<Pool>,
    connection: Connection,
    /// `None` of a connection beside those of the pool.
    permit: Option<OwnedSemaphorePermit>,
    writing: Option<OwnedSemaphorePermit>,
    /// Of a connection that is kept for longer.
    kept: Option<OwnedSemaphorePermit>,
}

impl Pool {
    /// `kept`: how many connections are kept for longer than a request at most.
    pub(super) fn new(connector: Connector, connections: usize, kept: usize) -> Arc<Self> {
        Arc::new(Self {
            connector: Arc::new(connector),
            permits: Arc::new(Semaphore::new(connections.max(1))),
            writing: Arc::new(Semaphore::new((connections - connections / 8).max(1))),
            kept: Arc::new(Semaphore::new(kept)),
            idle: Mutex::default(),
            down_since: Mutex::default(),
            is_closed: AtomicBool::new(false),
            patience: Mutex::new(PATIENCE),
        })
    }

    /// A connection, as soon as there is one.
    pub(super) async fn get(self: &Arc<Self>, until: Instant) -> Result<Borrowed, Failure> {
        let permit = timeout_at(until, self.permits.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        let mut backoff = Backoff::after_first();
        loop {
            if let Some(connection) = self.take_idle() {
                return Ok(self.lend(connection, permit));
            }
            match self.connector.connect(until).await {
                Ok(connection) => {
                    *self.down_since() = None;
                    return Ok(self.lend(connection, permit));
                }
                Err(failure) => {
                    self.down_since().get_or_insert_with(Instant::now);
                    if !failure.may_be_repeated() || !backoff.pause(until).await {
                        return Err(failure);
                    }
                }
            }
        }
    }

    /// A connection for a commit, as soon as there is one.
    pub(super) async fn get_to_write(
        self: &Arc<Self>,
        until: Instant,
    ) -> Result<Borrowed, Failure> {
        let permit = timeout_at(until, self.writing.clone().acquire_owned()).await;
        let writing = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        let mut connection = self.get(until).await?;
        connection.writing = Some(writing);
        Ok(connection)
    }

    /// A connection beside those of the pool, for maintenance: it must not keep requests from theirs.
    pub(super) async fn beside(self: &Arc<Self>, until: Instant) -> Result<Borrowed, Failure> {
        let connection = self.connector.connect(until).await?;
        Ok(Borrowed {
            pool: self.clone(),
            connection,
            permit: None,
            writing: None,
            kept: None,
        })
    }

    /// A connection that a request may keep for longer, if most connections would not be missed.
    pub(super) async fn spare(self: &Arc<Self>, until: Instant) -> Option<Borrowed> {
        if self.permits.available_permits() == 0 {
            return None;
        }
        let kept = self.kept.clone().try_acquire_owned().ok()?;
        let mut connection = self.get(until).await.ok()?;
        connection.kept = Some(kept);
        Some(connection)
    }

    fn lend(self: &Arc<Self>, connection: Connection, permit: OwnedSemaphorePermit) -> Borrowed {
        Borrowed {
            pool: self.clone(),
            connection,
            permit: Some(permit),
            writing: None,
            kept: None,
        }
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Whether the server could not be reached for longer than `time`. A request that comes sooner waits for it.
    pub(super) fn is_down_for(&self, time: Duration) -> bool {
        self.down_since()
            .is_some_and(|since| since.elapsed() > time)
    }

    fn down_since(&self) -> MutexGuard<'_, Option<Instant>> {
        let down = self.down_since.lock();
        down.unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the server takes commits.
    pub(super) fn has_written(&self) {
        *self.patience() = PATIENCE;
    }

    fn patience(&self) -> MutexGuard<'_, Duration> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the idle connections, and those in use as they come back.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.clear();
    }
}

impl Borrowed {
    /// Gives the connection back, which is in no transaction.
    pub(super) fn give_back(self) {
        let Self {
            pool,
            connection,
            permit,
            writing,
            kept,
        } = self;
        // The server has answered.
        *pool.down_since() = None;
        let is_of_the_pool = permit.is_some();
        if is_of_the_pool && !connection.is_closed() && !pool.is_closed.load(Ordering::Acquire) {
            let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(connection);
        }
        drop((permit, writing, kept));
    }

    /// Gives the connection back after a statement outside transactions failed, unless it is of no more use.
    pub(super) fn after(self, failure: &Failure) {
        match failure {
            Failure::Refused(_) | Failure::Again(_) => self.give_back(),
            Failure::NotSent(_) | Failure::Lost(_) => self.give_up(),
        }
    }

    /// Gives up the connection, and all that are idle: the server does not answer, or is not the one that it was. The
    /// connection keeps its place for a while if it has not ended: the server may still be at work for it.
    pub(super) fn give_up(self) {
        let Self {
            pool,
            connection,
            permit,
            writing,
            kept,
        } = self;
        let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.clear();
        drop(idle);
        if permit.is_none() || connection.is_closed() {
            return;
        }
        tokio::spawn(async move {
            let patience = *pool.patience();
            if !connection.end_within(patience).await {
                let longer = (patience * 2).min(LONGEST_PATIENCE);
                let mut patience = pool.patience();
                *patience = longer.max(*patience);
            }
            drop((permit, writing, kept));
        });
    }
}

impl Deref for Borrowed {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

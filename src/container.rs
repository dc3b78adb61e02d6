//! Containers: where sessions live, by which settings, and how what has expired is swept.

use crate::client_id::{ClientId, ClientKey};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::ExpiryPolicy;
use crate::session::SessionData;
use crate::storage::record::{ContainerRecord, SessionRow, millis, whole_millis};
use crate::storage::{
    ChangeSet, ClientChange, ContainerId, ContainerRef, Outcome, Seen, SeenState, SessionEnd,
    Submission, TouchAt,
};
use crate::throttle::Throttle;
use crate::transaction::{ContainerEntry, ContainerLink, Env, Txn};
use std::fmt;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// How many rows are looked at in one step of a sweep or a count. Whoever commits meanwhile on the same
/// core waits as long as a step takes.
const SCANNED: usize = 256;
/// How many sessions are removed in one commit.
const REMOVED: usize = 32;
/// How long a sweep waits before it looks again whether the storage has room for more.
const PAUSE: Duration = Duration::from_millis(5);
/// How many times at most the storage is asked to reclaim rows, a bounded number each.
const RECLAIMS: usize = 10_000;

/// Where the sessions of a container live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Residence {
    /// In the store's file.
    #[default]
    File,
    /// In memory, until the store is closed.
    Memory,
}

/// The settings of a container. They are stored with the container, survive a restart, and can change while the store
/// runs. Times are kept in milliseconds, rounded up.
///
/// ```
/// use cloakroom::{ContainerSettings, Store};
/// use std::time::Duration;
///
/// let store = Store::in_memory()?;
/// let settings = ContainerSettings::new().timeout(Duration::from_secs(1800));
/// let carts = store.register("shop.cart", settings)?;
/// assert_eq!(carts.settings()?.timeout, Duration::from_secs(1800));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSettings {
    /// A session that is idle for longer than this expires. Zero: never. Default: one hour.
    pub timeout: Duration,
    /// An access is recorded only if the recorded one is older than this. The resolution in force is at most half the
    /// timeout. Default: ten minutes.
    pub resolution: Duration,
    /// The age at which a session ends, even if it is in use. Default: none.
    pub max_lifetime: Option<Duration>,
    /// Whether the store sweeps it once per resolution. If not, expired sessions keep their rows until
    /// [`Container::sweep`] is called; they are not served either way. Has no effect in a store that was opened with
    /// [`StoreBuilder::implicit_sweeps(false)`](crate::StoreBuilder::implicit_sweeps). Default: yes.
    pub implicit_sweeps: bool,
    /// Where the sessions live. Cannot change later. Default: in the file.
    pub residence: Residence,
}

impl Default for ContainerSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3600),
            resolution: Duration::from_secs(600),
            max_lifetime: None,
            implicit_sweeps: true,
            residence: Residence::File,
        }
    }
}

impl ContainerSettings {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self {
            timeout: whole_millis(timeout),
            ..self
        }
    }

    /// Sets [`resolution`](Self::resolution).
    #[must_use]
    pub fn resolution(self, resolution: Duration) -> Self {
        Self {
            resolution: whole_millis(resolution),
            ..self
        }
    }

    /// Sets [`max_lifetime`](Self::max_lifetime).
    #[must_use]
    pub fn max_lifetime(self, max_lifetime: Option<Duration>) -> Self {
        Self {
            max_lifetime: max_lifetime.map(whole_millis),
            ..self
        }
    }

    /// Sets [`implicit_sweeps`](Self::implicit_sweeps).
    ///
    /// ```
    /// use cloakroom::{ContainerSettings, Store};
    ///
    /// let store = Store::in_memory()?;
    /// let quiet = ContainerSettings::new().implicit_sweeps(false);
    /// let carts = store.register("shop.cart", quiet.clone())?;
    /// // At night, by a job of one's own:
    /// carts.sweep()?;
    /// // In force at once:
    /// carts.configure(quiet.implicit_sweeps(true))?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn implicit_sweeps(self, implicit_sweeps: bool) -> Self {
        Self {
            implicit_sweeps,
            ..self
        }
    }

    /// Keeps the sessions in memory.
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self {
            residence: Residence::Memory,
            ..self
        }
    }

    pub(crate) fn record(&self, name: &str, id: ContainerId) -> ContainerRecord {
        ContainerRecord {
            name: name.to_owned(),
            id: id.0,
            timeout_ms: millis(self.timeout),
            resolution_ms: millis(self.resolution),
            max_lifetime_ms: self.max_lifetime.map(millis),
            implicit_sweeps: self.implicit_sweeps,
        }
    }

    fn of(container: &ContainerEntry) -> Self {
        Self {
            timeout: container.policy.timeout,
            resolution: container.policy.resolution,
            max_lifetime: container.policy.max_lifetime,
            implicit_sweeps: container.implicit_sweeps,
            residence: if container.id().is_in_memory() {
                Residence::Memory
            } else {
                Residence::File
            },
        }
    }
}

/// A container as transactions see it, from its record.
pub(crate) fn container(record: &ContainerRecord) -> ContainerEntry {
    ContainerEntry {
        place: ContainerRef {
            id: ContainerId(record.id),
            name: Arc::from(record.name.as_str()),
        },
        policy: ExpiryPolicy {
            timeout: Duration::from_millis(record.timeout_ms),
            resolution: Duration::from_millis(record.resolution_ms),
            max_lifetime: record.max_lifetime_ms.map(Duration::from_millis),
        },
        implicit_sweeps: record.implicit_sweeps,
    }
}

/// A registered container: a handle for its settings and maintenance. It does not keep the store open.
#[derive(Clone)]
pub struct Container {
    env: Arc<Env>,
    configure: Arc<dyn Configure>,
    name: Arc<str>,
}

/// The store's part in changing a container's settings.
pub(crate) trait Configure: Send + Sync {
    fn configure(&self, name: &str, settings: ContainerSettings) -> Result<()>;
}

/// The result of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Sessions examined.
    pub scanned: u64,
    /// Expired sessions removed.
    pub removed: u64,
    /// Sessions with a damaged record, which a sweep does not remove. A part of the file that cannot be read counts
    /// once, however many sessions it holds.
    pub unreadable: u64,
}

/// The number of sessions in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerStatistics {
    /// Sessions that have not expired.
    pub live: u64,
    /// Sessions that have expired and are not swept yet.
    pub expired: u64,
    /// Sessions with a damaged record. A part of the file that cannot be read counts once, however many sessions it
    /// holds.
    pub unreadable: u64,
    /// Packages of the live sessions.
    pub packages: u64,
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

pub(crate) fn no_such_container(name: &str) -> Error {
    Error::new(
        ErrorKind::NoSuchContainer,
        "no container of this name is registered",
    )
    .in_container(name)
}

impl Container {
    pub(crate) fn new(env: Arc<Env>, configure: Arc<dyn Configure>, name: Arc<str>) -> Self {
        Self {
            env,
            configure,
            name,
        }
    }

    /// Returns the name that it is registered under; `""` is the unnamed container.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the settings in force.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer) after it was unregistered.
    pub fn settings(&self) -> Result<ContainerSettings> {
        self.container()
            .map(|container| ContainerSettings::of(&container))
    }

    /// Stores new settings. They apply to every transaction that has not read anything yet.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the sessions would move between file and memory;
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer); or a failure of the storage.
    pub fn configure(&self, settings: ContainerSettings) -> Result<()> {
        self.container()?;
        self.configure.configure(&self.name, settings)
    }

    /// Removes expired sessions in bounded batches, and waits for that. It also removes unreachable rows: those of
    /// unregistered containers, and outdated tombstones of ended sessions.
    ///
    /// # Errors
    ///
    /// A failure of the storage. Sessions that were removed before it stay removed.
    pub fn sweep(&self) -> Result<Swept> {
        let swept = sweep(&self.env, &*self.container()?)?;
        reclaim(&self.env)?;
        Ok(swept)
    }

    /// Counts the sessions. It examines every one of them.
    ///
    /// # Errors
    ///
    /// A failure of the storage.
    pub fn statistics(&self) -> Result<ContainerStatistics> {
        let container = self.container()?;
        let now = self.env.clock.timestamp();
        let mut counts = ContainerStatistics::default();
        scan(&self.env, container.id(), |_, row| {
            match row {
                Err(_) => counts.unreadable += 1,
                Ok(row) => match judge(&self.env, &container, row, now)? {
                    SweepVerdict::Expired(..) => counts.expired += 1,
                    SweepVerdict::Stands | SweepVerdict::Ahead(..) => {
                        counts.live += 1;
                        counts.packages += row.1.packages.len() as u64;
                    }
                },
            }
            Ok(())
        })?;
        Ok(counts)
    }

    fn container(&self) -> Result<Arc<ContainerEntry>> {
        let registry = self.env.registry.load();
        registry
            .get(&self.name)
            .cloned()
            .ok_or_else(|| no_such_container(&self.name))
    }
}

type SessionSummary<'a> = (ClientKey, &'a SessionRow);

/// Visits all sessions of a container in bounded steps, each on the newest snapshot, whose number it tells.
pub(crate) fn scan(
    env: &Env,
    id: ContainerId,
    mut visit: impl FnMut(u64, Result<SessionSummary<'_>, (ClientKey, &Error)>) -> Result<()>,
) -> Result<()> {
    let mut after = None;
    loop {
        // It is let go before the visits, which may take a while.
        let snapshot = env.snapshot()?;
        let (number, rows) = (snapshot.number(), snapshot.sessions(id, after, SCANNED)?);
        drop(snapshot);
        let Some((last, _)) = rows.last() else {
            return Ok(());
        };
        after = Some(*last);
        for (client, row) in &rows {
            crate::steps::count(1);
            let row = row.as_ref().map(|row| (*client, row));
            visit(number, row.map_err(|e| (*client, e)))?;
        }
        // Nobody waits for this thread; somebody may wait for its core.
        thread::yield_now();
    }
}

/// What a sweep makes of a session.
enum SweepVerdict {
    Stands,
    /// It has expired, and is removed if a commit still finds it so.
    Expired(SeenState, Timestamp),
    /// A clock that was wrong has put its times far ahead (C3.5).
    Ahead(SeenState, TouchAt),
}

fn judge(
    env: &Env,
    container: &ContainerEntry,
    (client, row): SessionSummary<'_>,
    now: Timestamp,
) -> Result<SweepVerdict> {
    let times = env.times_of(container, client, row, now, None)?;
    let (policy, incarnation) = (&container.policy, row.incarnation);
    if policy.is_expired(&times, now) {
        let state = SeenState::Expired {
            incarnation,
            last_access: times.last_access,
            timeout: row.timeout,
        };
        return Ok(SweepVerdict::Expired(state, policy.over_at(&times)));
    }
    if !policy.is_ahead(&times, now) {
        return Ok(SweepVerdict::Stands);
    }
    // By the clock as it is: a sweep may take long.
    let now = env.clock.timestamp();
    if !policy.is_ahead(&times, now) {
        return Ok(SweepVerdict::Stands);
    }
    let latest = policy.latest(&times, now);
    let at = TouchAt {
        time: now,
        slack: policy.resolution_of(&times, None),
        founded: (times.created > latest).then_some((times.created, now)),
    };
    Ok(SweepVerdict::Ahead(SeenState::Live { incarnation }, at))
}

/// Removes what has expired in a container. While a batch is committed, the next one is looked for.
pub(crate) fn sweep(env: &Env, container: &ContainerEntry) -> Result<Swept> {
    let now = env.clock.timestamp();
    let registry = env.registry.load().number;
    let mut swept = Swept::default();
    let empty = || ChangeSet {
        now,
        as_of: 0,
        looks: env.storage.looks(),
        clients: Vec::new(),
        refusals: env.refusals(),
        limits: env.rules.limits,
        registry,
    };
    let mut batch = empty();
    let mut flying: Option<Removal> = None;
    let end = |flying: Option<Removal>| flying.map_or(Ok(0), |it| it.end(env, container));
    scan(env, container.id(), |as_of, row| {
        swept.scanned += 1;
        match row {
            Err((_, error)) => {
                swept.unreadable += 1;
                static DAMAGED: Throttle = Throttle::new(1);
                if let Some(left_out) = DAMAGED.pass() {
                    tracing::warn!(%error, left_out, "a sweep met a damaged session");
                }
            }
            Ok(row) => {
                let (state, over, touch) = match judge(env, container, row, now)? {
                    SweepVerdict::Stands => return Ok(()),
                    SweepVerdict::Expired(state, over) => (state, over, None),
                    SweepVerdict::Ahead(state, at) => (state, now, Some(at)),
                };
                if batch.clients.is_empty() {
                    batch.as_of = as_of;
                }
                batch
                    .clients
                    .push(removal(container, row, (state, over), touch));
            }
        }
        if batch.clients.len() >= REMOVED {
            swept.removed += end(flying.take())?;
            while env.storage.has_backpressure() {
                thread::sleep(PAUSE);
            }
            let full = std::mem::replace(&mut batch, empty());
            flying = Some(Removal::begin(env, full));
        }
        Ok(())
    })?;
    swept.removed += end(flying)?;
    if !batch.clients.is_empty() {
        swept.removed += Removal::begin(env, batch).end(env, container)?;
    }
    if swept.removed > 0 {
        tracing::debug!(container = &*container.place.name, ?swept, "swept");
        metrics::counter!("cloakroom_swept_total").increment(swept.removed);
    }
    Ok(swept)
}

/// Removes what unregistered containers and old tombstones left, in bounded batches.
pub(crate) fn reclaim(env: &Env) -> Result<()> {
    for _ in 0..RECLAIMS {
        if env.storage.reclaim(env.refusals())? == 0 {
            break;
        }
    }
    Ok(())
}

fn removal(
    container: &ContainerEntry,
    (client, row): SessionSummary<'_>,
    (state, over): (SeenState, Timestamp),
    touch: Option<TouchAt>,
) -> ClientChange {
    ClientChange {
        client,
        seen: vec![Seen {
            place: container.place.clone(),
            row: Some(row.clone()),
            state,
            observed: false,
            touch,
        }],
        exists: None,
        replaced: None,
        founder: None,
        packages: Vec::new(),
        home: None,
        timeout: None,
        owner: None,
        carries: 0,
        end: SessionEnd::Swept(over),
    }
}

/// Sessions that are being removed.
struct Removal {
    clients: Vec<ClientKey>,
    answer: mpsc::Receiver<Result<()>>,
    _submission: Submission,
}

impl Removal {
    /// Has a batch of a sweep committed.
    fn begin(env: &Env, set: ChangeSet) -> Self {
        let clients = set.clients.iter().map(|change| change.client).collect();
        let (reply, answer) = mpsc::sync_channel(1);
        let submission = env.storage.submit(
            set,
            Box::new(move |outcome| {
                let _ = reply.send(match outcome {
                    Outcome::Committed(_) => Ok(()),
                    Outcome::Failed(error, _) => Err(error),
                    Outcome::Stale(..) => Err(Error::new(
                        ErrorKind::Conflict,
                        "a sweep has no values to compute",
                    )),
                });
            }),
        );
        Self {
            clients,
            answer,
            _submission: submission,
        }
    }

    /// Waits until it is committed; returns how many sessions are gone.
    fn end(self, env: &Env, container: &ContainerEntry) -> Result<u64> {
        self.answer.recv().map_err(|_| Error::stopped())??;
        let newest = env.snapshot()?;
        let mut removed = 0;
        for client in self.clients {
            if newest.session(container.id(), client)?.is_none() {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A container inside a transaction.
#[derive(Clone)]
pub struct ContainerTxn {
    txn: Txn,
    container: ContainerLink,
}

impl fmt::Debug for ContainerTxn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerTxn")
            .field("name", &self.txn.name_of(Some(self.container), ""))
            .finish_non_exhaustive()
    }
}

impl Txn {
    /// Returns a container as this transaction sees it.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer) if no container has this name;
    /// [`Closed`](ErrorKind::Closed). A transaction uses the containers that are registered at its first read. If this
    /// container is unregistered before, that read gives `NoSuchContainer`. If the transaction has changed values
    /// before, and any container was registered or unregistered meanwhile, it gives a
    /// [`Conflict`](ErrorKind::Conflict).
    pub fn container(&self, name: &str) -> Result<ContainerTxn> {
        let container = self.link(name)?;
        Ok(ContainerTxn {
            txn: self.clone(),
            container: container.ok_or_else(|| no_such_container(name))?,
        })
    }
}

impl ContainerTxn {
    /// Returns the session of a client in this container.
    ///
    /// # Errors
    ///
    /// As for [`Txn::session`].
    pub fn session_data(&self, id: &ClientId) -> Result<SessionData> {
        let session = self.txn.session(id)?;
        Ok(session.in_container(self.container))
    }

    /// [`session_data`](Self::session_data) as a future.
    ///
    /// # Errors
    ///
    /// As for [`Txn::session`].
    pub fn session_data_async(
        &self,
        id: &ClientId,
    ) -> impl Future<Output = Result<SessionData>> + Send {
        let entering = self.txn.session_async(id);
        let container = self.container;
        async move { Ok(entering.await?.in_container(container)) }
    }
}

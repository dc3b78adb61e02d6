//! What a transaction reads: the rows of the clients that it has loaded. Loading another client checks in the same
//! statement that the earlier ones are unchanged, or else, that what was read of them is. So all rows are those of one moment:
//! that of the last load. After some loads, the moment is kept on the server, and later loads show it, too.

use super::client_rows::StoredClient;
use super::load::{CheckedKeys, LoadedClients};
use super::load_queue::{LoadReply, RowsOrDamage};
use super::pages::{owned, page};
use super::runtime::Runtime;
use super::server_snapshot::ServerSnapshot;
use super::shared::{Shared, lock};
use super::touches::PendingTouches;
use crate::client_id::ClientKey;
use crate::clock::{Moment, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{Answer, ContainerId, SessionPage, Snapshot, TombstonePolicy};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::task::JoinHandle;

/// From how many loads on a snapshot keeps a moment of the server for those that follow. Until then, each load checks the
/// clients of those before, which would take too long for many.
const CHECKED_LOADS: u32 = 8;

/// How often a load is tried while others change clients that were loaded before, in parts that were not read.
const MOVES: usize = 8;

/// Clients that were loaded before.
type KnownClients = Vec<(ClientKey, Arc<StoredClient>)>;

pub(super) struct PgSnapshot {
    state: Arc<SnapshotState>,
}

struct SnapshotState {
    runtime: Arc<Runtime>,
    shared: Arc<Shared>,
    touches: Arc<PendingTouches>,
    shown: Mutex<ShownRows>,
    conflict: Mutex<Option<(Error, ClientKey)>>,
    /// One load at a time: each checks the rows of those before.
    loading: Arc<tokio::sync::Mutex<LoadState>>,
    /// How often a load has moved the moment that is shown.
    moved: AtomicU64,
}

/// What is shown, and what of it was read. Both change together: what was read is of the rows that were shown then.
#[derive(Default)]
struct ShownRows {
    loaded: HashMap<ClientKey, Result<Arc<StoredClient>>>,
    /// The packages that were read.
    read: Vec<(ClientKey, ContainerId, Box<str>)>,
}

#[derive(Default)]
struct LoadState {
    begun: Option<Moment>,
    loads: u32,
    kept: Option<KeptMoment>,
}

/// A moment of the server that later loads show, too.
struct KeptMoment {
    snapshot: ServerSnapshot,
    /// Ends it when it becomes too old.
    timer: JoinHandle<()>,
}

impl Drop for KeptMoment {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

/// The first load of a transaction. It ends whether or not its caller goes on: other loads of the transaction wait for it.
struct FirstLoad {
    state: Arc<SnapshotState>,
    client: ClientKey,
    loading: OwnedMutexGuard<LoadState>,
    done: oneshot::Sender<Result<()>>,
}

impl LoadReply for FirstLoad {
    fn send(self: Box<Self>, rows: Result<RowsOrDamage>) {
        let Self {
            state,
            client,
            loading,
            done,
        } = *self;
        let shown = rows.map(|rows| {
            lock(&state.shown).loaded.insert(client, rows);
            state.moved.fetch_add(1, Ordering::AcqRel);
        });
        drop(loading);
        let _ = done.send(shown);
    }

    fn is_awaited(&self) -> bool {
        !self.done.is_closed()
    }
}

impl PgSnapshot {
    pub(super) fn new(
        runtime: Arc<Runtime>,
        shared: Arc<Shared>,
        touches: Arc<PendingTouches>,
    ) -> Self {
        Self {
            state: Arc::new(SnapshotState {
                runtime,
                shared,
                touches,
                shown: Mutex::default(),
                conflict: Mutex::default(),
                loading: Arc::default(),
                moved: AtomicU64::new(0),
            }),
        }
    }

    fn rows(&self, client: ClientKey) -> Result<Arc<StoredClient>> {
        lock(&self.state.shown).rows(client)
    }
}

impl ShownRows {
    fn rows(&self, client: ClientKey) -> Result<Arc<StoredClient>> {
        let not_loaded = || {
            let why = "a client was read that was not loaded";
            Error::new(ErrorKind::InvalidInput, why)
        };
        self.loaded.get(&client).ok_or_else(not_loaded)?.clone()
    }

    /// Whether the newest rows of a client show the transaction what it has read. Access times are no observations.
    fn reads_the_same(&self, client: ClientKey, before: &StoredClient, now: &StoredClient) -> bool {
        let rows = before.sessions.iter().zip(&now.sessions);
        let mut rows = rows.map(|(before, now)| (&before.row, &now.row));
        let is_same =
            |(before, now): (&Result<SessionRow>, &Result<SessionRow>)| match (before, now) {
                (Ok(before), Ok(now)) => {
                    let access = before.access;
                    *before
                        == SessionRow {
                            access,
                            ..now.clone()
                        }
                }
                _ => false,
            };
        let places = |rows: &StoredClient| -> Vec<_> {
            let sessions = rows.sessions.iter();
            sessions.map(|session| session.record.container).collect()
        };
        let mut read = self.read.iter().filter(|(of, ..)| *of == client);
        before.version() == now.version()
            || (before.tombstone() == now.tombstone()
                && places(before) == places(now)
                && rows.all(is_same)
                && read.all(|(_, container, package)| {
                    let record =
                        |rows: &StoredClient| rows.package_record(*container, package).cloned();
                    record(before) == record(now)
                }))
    }

    /// Shows other rows of the clients that are loaded, and those of others. `Err`: a client of which something else was
    /// read.
    fn renew(&mut self, known: KnownClients, found: LoadedClients) -> Result<(), ClientKey> {
        for (client, now) in &known {
            let before = self.loaded.get(client);
            let same = before.is_some_and(|before| {
                let before = before.as_ref().ok();
                before.is_some_and(|before| self.reads_the_same(*client, before, now))
            });
            if !same {
                return Err(*client);
            }
        }
        let known = known.into_iter().map(|(key, rows)| (key, Ok(rows)));
        self.loaded.extend(known.chain(found));
        Ok(())
    }
}

impl SnapshotState {
    /// Begins the first load of most transactions: that of one client. It has no earlier ones to check, so it needs no task
    /// on the engine's thread. `None` of any other load.
    fn load_first(
        self: &Arc<Self>,
        client: ClientKey,
    ) -> Option<impl Future<Output = Result<()>> + Send + use<>> {
        let mut loading = self.loading.clone().try_lock_owned().ok()?;
        if loading.loads > 0 || self.shared.rules.server.keeps_first_look {
            return None;
        }
        // Else it may have to wait.
        self.shared.memory_parts.check(|it| it == client).ok()?;
        let now = self.shared.clock.moment();
        loading.begun.get_or_insert(now);
        loading.loads = 1;
        let (done, answer) = oneshot::channel();
        let reply = FirstLoad {
            state: self.clone(),
            client,
            loading,
            done,
        };
        let (asked, shared) = (
            self.shared.load_for(client, Box::new(reply)),
            self.shared.clone(),
        );
        Some(async move {
            asked?;
            answer.await.unwrap_or_else(|_| Err(shared.broken_off()))
        })
    }

    /// Loads clients as of the moment that is kept, or, if there is none, of now.
    async fn load(self: &Arc<Self>, clients: &[ClientKey]) -> Result<()> {
        let (parts, until) = (&self.shared.memory_parts, self.shared.deadline());
        parts.settle(|it| self.reads(clients, it), until).await?;
        let mut loading = self.loading.lock().await;
        // Another load may have loaded some meanwhile. What was read of them since must not change.
        let clients = self.not_loaded(clients);
        if clients.is_empty() {
            return Ok(());
        }
        self.check_age(&mut loading)?;
        if let Some(kept) = &loading.kept {
            // Without the kept moment, the load checks the earlier ones again.
            if let Ok(found) = kept.snapshot.load(&self.shared, &clients).await {
                lock(&self.shown).loaded.extend(found);
                return Ok(());
            }
        }
        self.move_to_now(&mut loading, &clients).await
    }

    /// Whether a load of clients reads this one, too: it moves those that were loaded before.
    fn reads(&self, clients: &[ClientKey], client: ClientKey) -> bool {
        clients.contains(&client) || lock(&self.shown).loaded.contains_key(&client)
    }

    fn not_loaded(&self, clients: &[ClientKey]) -> Vec<ClientKey> {
        let shown = lock(&self.shown);
        let clients = clients.iter().copied();
        clients
            .filter(|client| !shown.loaded.contains_key(client))
            .collect()
    }

    /// Loads clients that are not loaded as of now, and checks that what was read of the others has not changed.
    async fn move_to_now(
        self: &Arc<Self>,
        loading: &mut LoadState,
        clients: &[ClientKey],
    ) -> Result<()> {
        loading.kept = None;
        loading.loads += 1;
        let mut known = self.known();
        for _ in 0..MOVES {
            let others = CheckedKeys::of(known.iter().map(|(key, rows)| (*key, rows.version())));
            let found = match self.keep_moment(loading, clients, &others).await {
                Some(found) => found,
                None if known.is_empty() => Some(self.shared.load(clients).await?),
                None => self.shared.load_checked(clients, &others).await?,
            };
            if let Some(found) = found {
                // More may have been read while the server was asked.
                let renewed = lock(&self.shown).renew(known, found);
                renewed.map_err(|client| self.conflicted(Some(client)))?;
                self.moved.fetch_add(1, Ordering::AcqRel);
                return Ok(());
            }
            known = self.newest_of(known).await?;
        }
        let client = known.first().map(|(client, _)| *client);
        Err(self.conflicted(client))
    }

    /// Whether more may be read (C2.14).
    fn check_age(&self, loading: &mut LoadState) -> Result<()> {
        let now = self.shared.clock.moment();
        let begun = *loading.begun.get_or_insert(now);
        if now.since(begun) > self.shared.rules.snapshot_max_age
            && !lock(&self.shown).loaded.is_empty()
        {
            loading.kept = None;
            let why = "the transaction outlived its snapshot";
            return Err(Error::new(ErrorKind::SnapshotTooOld, why));
        }
        Ok(())
    }

    /// The clients that were loaded before, with their rows.
    fn known(&self) -> KnownClients {
        let shown = lock(&self.shown);
        let known = shown.loaded.iter();
        known
            .filter_map(|(client, rows)| Some((*client, rows.as_ref().ok()?.clone())))
            .collect()
    }

    /// Loads clients, and keeps the moment for the loads that follow. `None` if that is not worth a connection, or none is
    /// to spare.
    async fn keep_moment(
        self: &Arc<Self>,
        loading: &mut LoadState,
        clients: &[ClientKey],
        others: &CheckedKeys,
    ) -> Option<Option<LoadedClients>> {
        let keeps_first_look = self.shared.rules.server.keeps_first_look;
        if loading.loads < CHECKED_LOADS && !keeps_first_look {
            return None;
        }
        // The moment may show a commit whose part in memory comes later.
        if !self.shared.memory_parts.is_empty() {
            return None;
        }
        let until = self.shared.deadline();
        let connection = self.shared.connection_to_keep(until).await?;
        let runtime = self.runtime.clone();
        let begun =
            ServerSnapshot::begin_with(runtime, &self.shared, connection, (clients, others));
        let (snapshot, found) = begun.await.ok()?;
        if found.is_some() {
            let (max_age, state) = (self.shared.rules.snapshot_max_age, Arc::downgrade(self));
            let timer = tokio::spawn(async move {
                tokio::time::sleep(max_age).await;
                if let Some(state) = state.upgrade() {
                    state.loading.lock().await.kept = None;
                }
            });
            loading.kept = Some(KeptMoment { snapshot, timer });
        }
        Some(found)
    }

    /// The newest rows of clients that were loaded before. An error if what was read of one of them has changed.
    async fn newest_of(&self, known: KnownClients) -> Result<KnownClients> {
        let all: Vec<_> = known.iter().map(|(client, _)| *client).collect();
        let mut newest: HashMap<_, _> = self.shared.load(&all).await?.into_iter().collect();
        let mut renewed = KnownClients::with_capacity(known.len());
        for (client, before) in known {
            let now = newest.remove(&client).and_then(Result::ok);
            let shown = lock(&self.shown);
            let same = now.filter(|now| shown.reads_the_same(client, &before, now));
            let Some(now) = same else {
                return Err(self.conflicted(Some(client)));
            };
            renewed.push((client, now));
        }
        Ok(renewed)
    }

    /// The error of a load after clients that were loaded before have changed.
    fn conflicted(&self, client: Option<ClientKey>) -> Error {
        let why = "a session that the transaction had read was changed before it read another one";
        let error = Error::new(ErrorKind::Conflict, why);
        *lock(&self.conflict) = client.map(|client| (error.clone(), client));
        error
    }
}

impl Snapshot for PgSnapshot {
    fn load(&self, clients: &[ClientKey]) -> Answer<'_, Result<()>> {
        if let [client] = clients
            && let Some(first) = self.state.load_first(*client)
        {
            return Answer::later(first);
        }
        let (state, clients) = (self.state.clone(), clients.to_vec());
        let asked = async move { state.load(&clients).await };
        Answer::later(self.state.runtime.ask(asked))
    }

    fn moved(&self) -> u64 {
        self.state.moved.load(Ordering::Acquire)
    }

    fn load_now(&self, clients: &[ClientKey]) -> Answer<'_, Result<()>> {
        let (state, clients) = (self.state.clone(), clients.to_vec());
        let asked = async move {
            // All commits that concern memory wait for this load.
            let parts = &state.shared.memory_parts;
            parts.check(|it| state.reads(&clients, it))?;
            let mut loading = state.loading.lock().await;
            state.check_age(&mut loading)?;
            let clients = state.not_loaded(&clients);
            state.move_to_now(&mut loading, &clients).await
        };
        Answer::later(self.state.runtime.ask(asked))
    }

    fn load_conflict(&self) -> Option<(Error, ClientKey)> {
        lock(&self.state.conflict).clone()
    }

    fn is_loaded(&self, client: ClientKey) -> bool {
        lock(&self.state.shown).loaded.contains_key(&client)
    }

    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>> {
        let rows = self.rows(client)?;
        let touches = self
            .state
            .touches
            .under_way([client], self.state.shared.now());
        if touches.is_empty() {
            return rows.session(container);
        }
        // An access of this process that is on its way shows.
        let rows = HashMap::from([(client, rows)]);
        let refusals = TombstonePolicy::default();
        self.state
            .shared
            .with_loaded(&rows, &touches, refusals, |rows| {
                rows.newest_session(container, client)
            })
    }

    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>> {
        let cipher = &self.state.shared.rules.cipher;
        let rows = {
            let mut shown = lock(&self.state.shown);
            let rows = shown.rows(client)?;
            shown.read.push((client, container, package.into()));
            rows
        };
        rows.package(container, client, package, cipher)
    }

    fn package_len(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<usize> {
        // No observation.
        let rows = self.rows(client)?;
        let record = rows.package_record(container, package);
        Ok(record.map_or(0, bytes::Bytes::len))
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        Ok(self.rows(client)?.tombstone())
    }

    fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<SessionPage>> {
        let shared = self.state.shared.clone();
        let asked = async move { page((&shared, None), container, after, limit).await };
        Answer::later(self.state.runtime.ask(asked))
    }

    fn owned(&self, owner: &str) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        let (shared, owner) = (self.state.shared.clone(), owner.to_owned());
        let asked = async move { owned(&shared, &owner).await };
        Answer::later(self.state.runtime.ask(asked))
    }
}

//! Opens a store: the engine, then everything above it.

use super::StoreBuilder;
use super::check::Check;
use super::secrets::client_ids;
use super::store::{Store, StoreInner};
use super::sweeper::Sweeper;
use crate::block_on::block_on;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::latency::LatencyCounter;
use crate::meters::describe_metrics;
use crate::process::Process;
use crate::storage::composite::{Composite, MemoryRules};
#[cfg(feature = "torture")]
use crate::storage::fake_remote::{FakeRemote, RemoteRules};
use crate::storage::quota::SharedQuota;
use crate::storage::record::RecordCipher;
use crate::storage::redb::{Engine, EngineRules, OpenOptions};
#[cfg(feature = "torture")]
use crate::storage::{ChosenEngine, chosen_engine};
use crate::storage::{Finding, Storage};
use crate::transaction::{
    BACKGROUND_THREADS, Env, EventQueue, KnownSettings, Recomputer, Registry, Turns, Worker,
};
use arc_swap::ArcSwap;
use futures_channel::oneshot;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

impl Store {
    /// Opens the store in the file at `path`, and creates it if there is no file. If the process is killed at any
    /// moment, the earlier state or a complete store remains.
    ///
    /// An empty file that nobody has locked becomes a store. It is replaced by a new file, which belongs to the user
    /// of this process and has the permissions 0600. An empty file that is itself a mount point (a bind mount of the
    /// file alone) cannot be replaced: mount its folder instead.
    ///
    /// A store works only in the process that opened it: daemonize before opening. A forked process must open the
    /// store itself, after the first process has closed it. If the first process ends without closing the store, the
    /// forked process has inherited the lock. Nobody can open the store until that process ends too;
    /// [`Locked`](ErrorKind::Locked) names it.
    ///
    /// On a full disk, an existing store can be opened and read. Commits get [`Unavailable`](ErrorKind::Unavailable)
    /// until there is space, and [`Statistics::is_read_only`](crate::Statistics::is_read_only) is true.
    ///
    /// # Errors
    ///
    /// [`Locked`](ErrorKind::Locked) if the store is open elsewhere; [`NotAStore`](ErrorKind::NotAStore) or
    /// [`TooNew`](ErrorKind::TooNew), in which case the file is unchanged; [`Corrupt`](ErrorKind::Corrupt);
    /// [`Io`](ErrorKind::Io); [`NotPrivate`](ErrorKind::NotPrivate) if the builder requires private files.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(path)
    }

    /// [`open`](Self::open) as a future: [`StoreBuilder::open_async`] describes it.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_async(
        path: impl AsRef<Path>,
    ) -> impl Future<Output = Result<Self>> + Send + 'static {
        Self::builder().open_async(path)
    }

    /// Opens a store in memory, with the same guarantees except durability.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the system provides no threads or no random bytes.
    pub fn in_memory() -> Result<Self> {
        Self::builder().in_memory()
    }

    /// Returns a builder, to change settings before the store is opened.
    #[must_use]
    pub fn builder() -> StoreBuilder {
        StoreBuilder::default()
    }
}

impl StoreBuilder {
    /// Opens the store in the file at `path`, and creates it if there is no file. [`Store::open`] describes the
    /// details.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store> {
        self.build(Some(path.as_ref()))
    }

    /// [`open`](Self::open) as a future. Opening may take long: it waits for the disk, reads the journal of a store that was
    /// killed, and may [wait for the lock](Self::wait_for_lock). A thread that is started for it does that. If the future is
    /// dropped, the store is closed as soon as it is open.
    ///
    /// ```
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    /// # }
    /// use cloakroom::Store;
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("sessions.redb");
    /// let opening = Store::builder().open_async(&path);
    /// let store = block_on(opening)?;
    /// assert_eq!(store.containers().len(), 1);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    pub fn open_async(
        self,
        path: impl AsRef<Path>,
    ) -> impl Future<Output = Result<Store>> + Send + 'static {
        let path = path.as_ref().to_owned();
        async move {
            #[cfg(feature = "torture")]
            if let Some(engine) = chosen_engine()? {
                return self.on_a_chosen_engine(Some(&path), engine).await;
            }
            let (reply, answer) = oneshot::channel();
            spawn("cloakroom-open", move || drop(reply.send(self.open(path))))?;
            let ended = |_| Error::new(ErrorKind::Io, "the thread that opens the store has ended");
            answer.await.map_err(ended)?
        }
    }

    /// Opens a store in memory.
    ///
    /// # Errors
    ///
    /// As for [`Store::in_memory`].
    pub fn in_memory(self) -> Result<Store> {
        self.build(None)
    }

    fn build(self, path: Option<&Path>) -> Result<Store> {
        #[cfg(feature = "torture")]
        if let Some(engine) = chosen_engine()? {
            return block_on(self.on_a_chosen_engine(path, engine));
        }
        self.opened(path, |options, clock, rules, found| {
            Engine::open(path, options, clock, rules, found)
        })
    }

    /// Opens the engine. What verifying the file finds is the error.
    fn opened(
        self,
        path: Option<&Path>,
        open: impl FnOnce(OpenOptions, Clock, EngineRules, &mut dyn FnMut(Finding)) -> Result<Engine>,
    ) -> Result<Store> {
        let mut check = Check::default();
        let rules = EngineRules {
            cipher: path.map_or(Ok(RecordCipher::Plain), |_| self.cipher())?,
            ..self.engine_rules()
        };
        let new_sessions = rules.new_sessions.clone();
        let opened = open(self.options(), self.clock.clone(), rules, &mut |found| {
            check.note(found)
        });
        check.into_result().map_err(|e| match path {
            Some(path) => {
                let kind = e.kind();
                e.of_file(path, kind)
            }
            None => e,
        })?;
        let engine = opened?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|e| {
            Error::new(ErrorKind::Io, "the system has no randomness").with_source(e)
        })?;
        // It answers at once.
        block_on(self.beside_memory(Arc::new(engine), u64::from_be_bytes(seed), new_sessions))
    }

    /// Builds the store above a durable engine, with containers in memory beside it.
    pub(super) async fn beside_memory(
        self,
        durable: Arc<dyn Storage>,
        seed: u64,
        new_sessions: Option<SharedQuota>,
    ) -> Result<Store> {
        let rules = MemoryRules {
            snapshot_max_age: self.rules.snapshot_max_age,
            new_sessions,
            seed,
        };
        let engine = Composite::new(durable, self.clock.clone(), rules)?;
        self.wire(Arc::new(engine)).await
    }

    /// Opens the store of this name on the engine that the environment asks for.
    #[cfg(feature = "torture")]
    async fn on_a_chosen_engine(self, name: Option<&Path>, engine: ChosenEngine) -> Result<Store> {
        match engine {
            ChosenEngine::FakeRemote(seed) => self.on_a_remote_engine(name, seed).await,
            #[cfg(feature = "postgres")]
            ChosenEngine::Postgres(server) => self.on_a_test_server(name, server).await,
        }
    }

    /// Opens the store on an engine for tests, whose every call comes late: the one whose server has this name.
    #[cfg(feature = "torture")]
    pub(super) async fn on_a_remote_engine(self, name: Option<&Path>, seed: u64) -> Result<Store> {
        let rules = self.engine_rules();
        let new_sessions = rules.new_sessions.clone();
        let rules = RemoteRules {
            seed,
            admission: rules.admission,
            new_sessions: rules.new_sessions,
            initial: rules.initial,
        };
        let engine = FakeRemote::connect(name, rules, self.clock.clone())?;
        let engine = Arc::new(engine);
        self.beside_memory(engine, seed, new_sessions).await
    }

    /// Opens the store of this name in a folder of the harness's own.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    #[cfg(feature = "torture")]
    #[doc(hidden)]
    pub fn open_in(
        self,
        folder: std::sync::Arc<dyn crate::storage::redb::backend::folder::Folder>,
        name: &str,
    ) -> Result<Store> {
        let location = crate::storage::redb::Location::within(folder, name);
        self.opened(Some(Path::new(name)), |options, clock, rules, found| {
            Engine::open_at(&location, options, clock, rules, found)
        })
    }

    /// Builds the store above an engine, which may have to be waited for.
    async fn wire(self, storage: Arc<dyn Storage>) -> Result<Store> {
        describe_metrics();
        let settings = storage.settings().await?;
        settings.require_role(self.copy_of.as_deref())?;
        let (source, ids) = client_ids(&settings, &self.secrets.0)?;
        #[cfg(feature = "torture")]
        let ids = ids.guessable(self.guessable_ids);
        let clock = self.clock.clone().corrected_by(storage.clock_offset());
        let env = Arc::new(Env {
            storage,
            clock,
            ids,
            rules: self.rules,
            registry: ArcSwap::from_pointee(Registry::of(&settings, self.rules.unconfirmed)?),
            known: KnownSettings::new(&settings, source, self.rules.unconfirmed),
            turns: Arc::new(Turns::default()),
            hooks: Worker::new("cloakroom-hooks"),
            events: EventQueue::new(self.events),
            recomputer: Recomputer::new(),
            background: Worker::with_spares("cloakroom-scan", BACKGROUND_THREADS - 1),
            process: Process::this(),
            warned_of_blocking: AtomicBool::new(false),
            commit_times: LatencyCounter::default(),
            reruns: AtomicU64::new(0),
        });
        let sweeper = Arc::new(Sweeper::default());
        let woken = sweeper.clone();
        env.known.notify(move || woken.wake());
        let inner = StoreInner {
            identity: settings.identity,
            env,
            sweeper,
            threads: Mutex::default(),
        };
        let store = Store {
            inner: Arc::new(inner),
        };
        store.start_deadlines()?;
        if self.implicit_sweeps {
            store.start_sweeps()?;
        }
        Ok(store)
    }
}

impl Store {
    fn start_deadlines(&self) -> Result<()> {
        let turns = self.inner.env.turns.clone();
        self.keep(spawn("cloakroom-turns", move || turns.keep_deadlines())?);
        Ok(())
    }

    fn start_sweeps(&self) -> Result<()> {
        let inner = &self.inner;
        let (env, sweeper) = (inner.env.clone(), inner.sweeper.clone());
        self.keep(spawn("cloakroom-sweep", move || sweeper.run(&env))?);
        inner.sweeper.watch(&inner.env.clock);
        Ok(())
    }

    /// A thread that ends with the store.
    fn keep(&self, thread: JoinHandle<()>) {
        let threads = self.inner.threads.lock();
        let mut threads = threads.unwrap_or_else(PoisonError::into_inner);
        threads.push(thread);
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|e| Error::new(ErrorKind::Io, "no thread can be started").with_source(e))
}

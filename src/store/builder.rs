//! The settings of a store, and how it is put together.

use super::check::Check;
use super::memory::default_cache_size;
use super::secrets::Secrets;
use super::sweeper::Sweeper;
use super::{Containers, Inner, Records, Store};
use crate::clock::Clock;
use crate::container::room;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::storage::quota::Quota;
use crate::storage::redb::bugs::Bugs;
use crate::storage::redb::{Bounds, Contents, Engine, EngineRules, JournalRules, OpenOptions};
use crate::storage::{Found, Limits};
use crate::transaction::{House, Registry, Reruns, Rules, Turns, Worker};
use arc_swap::ArcSwap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The settings of a store, to change before it is opened. Made by [`Store::builder`].
#[derive(Clone, Debug)]
pub struct StoreBuilder {
    clock: Clock,
    /// None: as much as the machine allows.
    cache_size: Option<usize>,
    rules: Rules,
    room: Bounds,
    journal: JournalRules,
    new_sessions: Option<(u64, Duration)>,
    implicit_sweeps: bool,
    verify_on_open: bool,
    wait_for_lock: Duration,
    require_private_files: bool,
    secrets: Given,
    bugs: Bugs,
    #[cfg(feature = "torture")]
    guessable_ids: Option<u64>,
}

/// Secrets given by the application, the newest first; never printed.
#[derive(Clone, Default)]
struct Given(Vec<[u8; 32]>);

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} given", self.0.len())
    }
}

impl Default for StoreBuilder {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            cache_size: None,
            rules: Rules {
                limits: Limits {
                    name: 255,
                    package: 1 << 20,
                    packages: 64,
                    keys: 1024,
                },
                attempts: 32,
                turn_wait: Duration::from_secs(2),
                snapshot_max_age: Duration::from_secs(30),
                tombstone: Duration::from_secs(10),
            },
            room: Bounds {
                commits: 8192,
                bytes: 64 << 20,
            },
            journal: JournalRules {
                size: 128 << 20,
                memory: 128 << 20,
                interval: Duration::from_secs(60),
                in_the_foreground: false,
                largest_group: 512 << 20,
            },
            new_sessions: None,
            implicit_sweeps: true,
            verify_on_open: false,
            wait_for_lock: Duration::ZERO,
            require_private_files: false,
            secrets: Given::default(),
            bugs: Bugs::default(),
            #[cfg(feature = "torture")]
            guessable_ids: None,
        }
    }
}

impl StoreBuilder {
    /// Where the store reads the time from. Default: the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How many bytes of the file are kept in memory, at most. Default: a quarter of the machine's memory or,
    /// if that is less, of what its container may use, but at least 64 MiB and at most 1 GiB; 256 MiB elsewhere
    /// than on Linux.
    #[must_use]
    pub fn cache_size(mut self, bytes: usize) -> Self {
        self.cache_size = Some(bytes);
        self
    }

    /// How often [`Store::transact`] and the web layer run a transaction, at most, before a conflict is
    /// final. At least 1. Default: 32.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.rules.attempts = attempts.max(1);
        self
    }

    /// How long a wait for a session's turn lasts at most. Default: 2 s.
    #[must_use]
    pub fn turn_wait(mut self, wait: Duration) -> Self {
        self.rules.turn_wait = wait;
        self
    }

    /// How long a transaction can read what it has not read yet, from its first look at anything on. One that has
    /// looked at nothing yet, as a request that waits for its body, is never too old. Default: 30 s.
    ///
    /// Until then the file cannot use again what was overwritten since that look: a transaction that
    /// is left open lets the file grow by what is written in that time, some 20 kB a commit.
    #[must_use]
    pub fn snapshot_max_age(mut self, age: Duration) -> Self {
        self.rules.snapshot_max_age = age;
        self
    }

    /// How long the id of a session that was rotated or destroyed is refused, by requests that came after that.
    /// Default: 10 s. Zero refuses none of them; a request that came before hands out no new id however long ago
    /// that was, and an ended id founds no session again.
    #[must_use]
    pub fn tombstone_lifetime(mut self, lifetime: Duration) -> Self {
        self.rules.tombstone = lifetime;
        self
    }

    /// How many bytes a key, a package id, an owner or a container's name may have. At least 1,
    /// and 4096 at most. Default: 255.
    #[must_use]
    pub fn max_name_len(mut self, bytes: usize) -> Self {
        self.rules.limits.name = bytes.clamp(1, 4096);
        self
    }

    /// How many bytes a package may have as it is stored. 256 MiB at most. Default: 1 MiB.
    #[must_use]
    pub fn max_package_size(mut self, bytes: usize) -> Self {
        self.rules.limits.package = bytes.min(256 << 20);
        self
    }

    /// How many packages a session may have in one container. Default: 64.
    #[must_use]
    pub fn max_packages(mut self, packages: usize) -> Self {
        self.rules.limits.packages = packages;
        self
    }

    /// How many keys a package may have. Default: 1024.
    ///
    /// Each commit that changes a package writes it whole, so values that are many belong into several packages,
    /// or into one value. Beyond the limit a commit fails with [`TooLarge`](ErrorKind::TooLarge), which names the
    /// package and both numbers. A package that has more, because the limit was higher once, can still be read, and
    /// its keys can be changed and removed; it cannot get more of them.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, Store};
    ///
    /// let store = Store::builder().max_keys(2).in_memory()?;
    /// let txn = store.begin()?;
    /// let package = txn.session(&store.client_ids().issue())?.pkg("cart");
    /// for item in ["apple", "pear", "plum"] {
    ///     package.insert(item, 1)?;
    /// }
    /// assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::TooLarge);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.rules.limits.keys = keys;
        self
    }

    /// How many commits may wait at once, those that are being written included. At least 1. Default: 8192.
    ///
    /// Beyond that a commit waits until there is room, in the order of coming:
    /// [`commit`](crate::Transaction::commit) blocks, the future of
    /// [`commit_async`](crate::Transaction::commit_async) is pending, and dropping it then aborts.
    #[must_use]
    pub fn max_waiting_commits(mut self, commits: usize) -> Self {
        self.room.commits = commits.max(1);
        self
    }

    /// How many bytes the commits that wait may take at once, in memory and counted roughly: what they
    /// write, what they read, and what sessions that are rotated hold. Beyond, they wait as for [`max_waiting_commits`](Self::max_waiting_commits);
    /// one that is larger by itself is let through alone. Default: 64 MiB.
    #[must_use]
    pub fn max_waiting_bytes(mut self, bytes: usize) -> Self {
        self.room.bytes = bytes;
        self
    }

    /// How many bytes the journal may take on the disk, in two files beside the store that are there while
    /// it is open. At least 256 KiB. Default: 128 MiB.
    ///
    /// A commit is durable once it is in the journal. When one file is full the other one is written, and a
    /// checkpoint brings what the first holds into the store's file. The larger they are, the fewer bytes
    /// a commit costs in all, because what was changed several times is brought over once, and the longer
    /// takes opening a store that was killed. They begin small and grow as they are needed; a commit that
    /// is larger than a file makes it as large as that.
    #[must_use]
    pub fn journal_size(mut self, bytes: u64) -> Self {
        self.journal.size = bytes.max(256 << 10);
        self
    }

    /// How many bytes of memory the rows in the journal may take until they are in the store's file,
    /// roughly. At least 256 KiB. Default: 128 MiB.
    ///
    /// Beyond half of it, a checkpoint begins; beyond three quarters, while that is not done, commits are
    /// slowed down; beyond all of it, they wait. Old snapshots that transactions hold may keep
    /// rows longer.
    #[must_use]
    pub fn unmerged_memory(mut self, bytes: usize) -> Self {
        self.journal.memory = bytes.max(256 << 10);
        self
    }

    /// How long a commit stays in the journal at most before a checkpoint brings it into the store's file,
    /// while there is room. It is durable all the time. Default: one minute.
    #[must_use]
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.journal.interval = interval;
        self
    }

    /// At most `count` new sessions in any interval of length `per`, however the wall clock is set: a bound for
    /// what visitors who keep no cookie can do to the disk. Default: no limit, because how many visitors
    /// are too many only the application knows.
    ///
    /// It cannot tell honest visitors from bots: beyond it all who have no session yet are turned away alike. Set it to what
    /// the disk bears, and use `http::SessionLayer::admit_new` for a limit by address or whatever else tells them apart.
    ///
    /// Beyond it a commit that founds a session fails with
    /// [`Unavailable`](crate::ErrorKind::Unavailable) and writes nothing; sessions that exist go on. The error's
    /// [`retry_after`](crate::Error::retry_after) is the time until there is room. A
    /// session counts once, in however many containers it begins; `rotate` counts none, and founding a
    /// session over an expired one counts. What was counted counts for `per`, and up to a sixteenth
    /// longer; a commit that is not written does not count. A commit that founds more than `count`
    /// sessions at once never succeeds. A `per` below 16 ms counts as 16. The count begins anew when the
    /// store is opened.
    #[must_use]
    pub fn max_new_sessions(mut self, count: u64, per: Duration) -> Self {
        self.new_sessions = Some((count, per));
        self
    }

    /// Whether expired sessions are swept by the store itself, once per resolution. If not,
    /// [`Container::sweep`](crate::Container::sweep) does it when it is called. Default: yes. A container
    /// [can do without](crate::ContainerSettings::implicit_sweeps), too.
    #[must_use]
    pub fn implicit_sweeps(mut self, sweeps: bool) -> Self {
        self.implicit_sweeps = sweeps;
        self
    }

    /// Whether the whole file is verified before it is opened, which takes time in proportion to its size.
    /// What [`Store::check`] would find makes opening fail with
    /// [`Corrupt`](ErrorKind::Corrupt), which names the first of the sessions hit; the file is then as it
    /// was. Default: no.
    #[must_use]
    pub fn verify_on_open(mut self, verify: bool) -> Self {
        self.verify_on_open = verify;
        self
    }

    /// How long [`open`](Self::open) waits for another process, or another store of this one, to let go of the store's
    /// files, before it gives [`Locked`](ErrorKind::Locked). For deployments in which the new process is started before
    /// the old one has ended. Default: not at all.
    ///
    /// It looks again every tenth of a second, and **blocks the thread** that opens meanwhile: a task calls it on a thread
    /// for such work. The path is resolved anew each time.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions.redb");
    /// use std::time::Duration;
    ///
    /// let builder = cloakroom::Store::builder().wait_for_lock(Duration::from_secs(30));
    /// let store = builder.open(path)?;
    /// # store.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn wait_for_lock(mut self, wait: Duration) -> Self {
        self.wait_for_lock = wait;
        self
    }

    /// Whether a store whose file others can get at is refused with [`NotPrivate`](ErrorKind::NotPrivate): one that its
    /// group or everybody can read or write, or that belongs to another user than the one who runs this process. The file is
    /// then as it was. Whoever reads it has what is in the sessions, and the secret of their ids unless a
    /// [`secret`](Self::secret) is given. Default: no, but a warning is logged that says what to do.
    ///
    /// The files that a store makes, its journals too, are its user's alone (mode 0600). Elsewhere than on Unix nothing
    /// is looked at.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions.redb");
    /// let store = cloakroom::Store::builder().require_private_files(true).open(path)?;
    /// # store.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn require_private_files(mut self, require: bool) -> Self {
        self.require_private_files = require;
        self
    }

    /// Issues ids under this secret instead of one kept in the store. Keep it as one keeps a
    /// password: whoever has it can make ids.
    #[must_use]
    pub fn secret(mut self, secret: [u8; 32]) -> Self {
        self.secrets.0.insert(0, secret);
        self
    }

    /// Verifies ids of an earlier [`secret`](Self::secret), too.
    #[must_use]
    pub fn older_secret(mut self, secret: [u8; 32]) -> Self {
        self.secrets.0.push(secret);
        self
    }

    /// Opens the store in the file at `path`, and makes it if there is none. An empty file that nobody has locked becomes a
    /// store: another file takes its place, which belongs to the user of this process and has the permissions 0600. An empty
    /// file that is a mount point (a bind mount of the file alone) cannot be replaced: mount its folder. A kill at any moment
    /// leaves what was there before, or a store.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store> {
        self.build(Some(path.as_ref()))
    }

    /// A store in memory.
    ///
    /// # Errors
    ///
    /// As for [`Store::in_memory`].
    pub fn in_memory(self) -> Result<Store> {
        self.build(None)
    }

    fn build(self, path: Option<&Path>) -> Result<Store> {
        self.opened(path, |options, clock, rules, found| {
            Engine::open(path, options, clock, rules, found)
        })
    }

    /// Opens the engine. What verifying the file finds is the error.
    fn opened(
        self,
        path: Option<&Path>,
        open: impl FnOnce(
            OpenOptions,
            Clock,
            EngineRules,
            &mut dyn FnMut(Found),
        ) -> Result<(Engine, Contents)>,
    ) -> Result<Store> {
        let mut check = Check::default();
        let opened = open(
            self.options(),
            self.clock.clone(),
            self.engine_rules(),
            &mut |found| check.note(found),
        );
        check.into_result().map_err(|e| match path {
            Some(path) => {
                let kind = e.kind();
                e.of_file(path, kind)
            }
            None => e,
        })?;
        let (engine, contents) = opened?;
        self.wire(engine, contents)
    }

    /// Gives the store a bug.
    #[cfg(feature = "torture")]
    #[doc(hidden)]
    #[must_use]
    pub fn bug(mut self, bug: crate::storage::redb::bugs::Bug) -> Self {
        self.bugs.0 = Some(bug);
        self
    }

    /// Issues ids by this seed instead of by the system's randomness: anyone can guess them.
    #[cfg(feature = "torture")]
    #[doc(hidden)]
    #[must_use]
    pub fn guessable_ids(mut self, seed: u64) -> Self {
        self.guessable_ids = Some(seed);
        self
    }

    /// Makes checkpoints as soon as the rows in the journal take so many bytes of memory, and between
    /// commits instead of beside them, so that what is asked of the disk comes in one order.
    #[cfg(feature = "torture")]
    #[doc(hidden)]
    #[must_use]
    pub fn checkpoints_in_the_foreground(mut self, bytes: usize) -> Self {
        self.journal.memory = 2 * bytes;
        self.journal.interval = Duration::from_secs(1 << 30);
        self.journal.in_the_foreground = true;
        self
    }

    /// Lets a group of commits write so many bytes of rows at most.
    #[cfg(feature = "torture")]
    #[doc(hidden)]
    #[must_use]
    pub fn groups_of_at_most(mut self, bytes: usize) -> Self {
        self.journal.largest_group = bytes;
        self
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
        folder: std::sync::Arc<dyn crate::storage::redb::folder::Folder>,
        name: &str,
    ) -> Result<Store> {
        let location = crate::storage::redb::Location::within(folder, name);
        self.opened(Some(Path::new(name)), |options, clock, rules, found| {
            Engine::open_at(&location, options, clock, rules, found)
        })
    }

    pub(super) fn options(&self) -> OpenOptions {
        OpenOptions {
            cache_size: self.cache_size.unwrap_or_else(default_cache_size),
            verify: self.verify_on_open,
            wait: self.wait_for_lock,
            private: self.require_private_files,
            bugs: self.bugs,
        }
    }

    fn engine_rules(&self) -> EngineRules {
        EngineRules {
            snapshot_max_age: self.rules.snapshot_max_age,
            room: self.room,
            new_sessions: self.new_sessions.map(|(count, per)| Quota::new(count, per)),
            journal: self.journal,
        }
    }

    pub(super) fn gives_secrets(&self) -> bool {
        !self.secrets.0.is_empty()
    }

    fn wire(self, engine: Engine, contents: Contents) -> Result<Store> {
        let registry = Registry::new(0, contents.containers.iter().map(room))?;
        let (secrets, ids) = Secrets::new(contents.secrets, &self.secrets.0)?;
        #[cfg(feature = "torture")]
        let ids = ids.guessable(self.guessable_ids);
        let house = Arc::new(House {
            storage: Arc::new(engine),
            clock: self.clock.clone(),
            ids,
            rules: self.rules,
            registry: ArcSwap::from_pointee(registry),
            turns: Arc::new(Turns::default()),
            hooks: Worker::new("cloakroom-hooks"),
            reruns: Reruns::new(),
            process: Process::this(),
            warned_of_blocking: AtomicBool::new(false),
        });
        let sweeper = Arc::new(Sweeper::default());
        let containers = Arc::new(Containers {
            house: house.clone(),
            sweeper: sweeper.clone(),
            records: Mutex::new(Records {
                by_name: contents
                    .containers
                    .into_iter()
                    .map(|record| (record.name.clone(), record))
                    .collect(),
                next: contents.next_container,
            }),
        });
        let inner = Inner {
            identity: contents.identity,
            house,
            containers,
            secrets,
            sweeper,
            threads: Mutex::default(),
        };
        let store = Store {
            inner: Arc::new(inner),
        };
        store.start(self.implicit_sweeps)?;
        Ok(store)
    }
}

impl Store {
    fn start(&self, sweeps: bool) -> Result<()> {
        let inner = &self.inner;
        let turns = inner.house.turns.clone();
        let mut threads = vec![spawn("cloakroom-turns", move || turns.keep_deadlines())?];
        if sweeps {
            let (house, sweeper) = (inner.house.clone(), inner.sweeper.clone());
            threads.push(spawn("cloakroom-sweep", move || sweeper.run(&house))?);
            inner.sweeper.watch(&inner.house.clock);
        }
        if let Ok(mut there) = inner.threads.lock() {
            there.extend(threads);
        }
        Ok(())
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|e| Error::new(ErrorKind::Io, "no thread can be started").with_source(e))
}

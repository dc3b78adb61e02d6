//! The settings of a store, and how it is put together.

use super::file_settings::FileSettings;
#[cfg(feature = "postgres")]
use super::postgres_settings::PostgresSettings;
use crate::clock::Clock;
#[cfg(feature = "encryption")]
use crate::encryption::KeyRing;
use crate::error::Result;
use crate::storage::quota::SharedQuota;
use crate::storage::record::RecordCipher;
use crate::storage::redb::{AdmissionBounds, EngineRules, OpenOptions};
use crate::storage::{Limits, StoreSettings};
use crate::transaction::{EventHooks, OwnerLimit, TxnRules, WhenFull};
use std::sync::Arc;
use std::time::Duration;

/// The settings of a store, to change before it is opened. [`Store::builder`](crate::Store::builder) makes one.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.redb");
/// use cloakroom::Store;
/// use std::time::Duration;
///
/// let store = Store::builder()
///     .max_package_size(64 << 10)
///     .max_new_sessions(100, Duration::from_secs(1))
///     .open(path)?;
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct StoreBuilder {
    pub(super) clock: Clock,
    pub(super) rules: TxnRules,
    admission: AdmissionBounds,
    new_sessions: Option<(u64, Duration)>,
    pub(super) implicit_sweeps: bool,
    pub(super) events: EventHooks,
    pub(super) secrets: Given,
    #[cfg(feature = "encryption")]
    keys: Option<KeyRing>,
    /// The settings of the engine that keeps a file. Every engine has the others.
    pub(super) file: FileSettings,
    /// The settings of the store whose copy this one is to be.
    pub(super) copy_of: Option<Arc<StoreSettings>>,
    #[cfg(feature = "postgres")]
    pub(super) postgres: PostgresSettings,
    #[cfg(feature = "torture")]
    pub(super) guessable_ids: Option<u64>,
}

/// Secrets given by the application, the newest first; never printed.
#[derive(Clone, Default)]
pub(super) struct Given(pub(super) Vec<[u8; 32]>);

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} given", self.0.len())
    }
}

impl Default for StoreBuilder {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            rules: TxnRules {
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
                unconfirmed: None,
                owner_limit: None,
            },
            admission: AdmissionBounds {
                commits: 8192,
                bytes: 64 << 20,
            },
            new_sessions: None,
            implicit_sweeps: true,
            events: EventHooks::default(),
            secrets: Given::default(),
            #[cfg(feature = "encryption")]
            keys: None,
            file: FileSettings::default(),
            copy_of: None,
            #[cfg(feature = "postgres")]
            postgres: PostgresSettings::default(),
            #[cfg(feature = "torture")]
            guessable_ids: None,
        }
    }
}

impl StoreBuilder {
    /// The clock of the store. Default: the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The maximum number of bytes of the file that are cached in memory. Default: a quarter of the machine's memory,
    /// or of the memory limit of its container if that is less, but at least 64 MiB and at most 1 GiB. On systems
    /// other than Linux: 256 MiB.
    #[must_use]
    pub fn cache_size(mut self, bytes: usize) -> Self {
        self.file.cache_size = Some(bytes);
        self
    }

    /// The maximum number of times that [`Store::transact`](crate::Store::transact) and the web layer run a
    /// transaction before they return a conflict. At least 1. Default: 32.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.rules.attempts = attempts.max(1);
        self
    }

    /// The maximum time that a transaction waits for a session's turn. Default: 2 s.
    #[must_use]
    pub fn turn_wait(mut self, wait: Duration) -> Self {
        self.rules.turn_wait = wait;
        self
    }

    /// The time from a transaction's first read until it can read nothing new. A transaction that has read nothing
    /// yet, such as that of a request that waits for its body, is never too old. Default: 30 s.
    ///
    /// Until then the file cannot reuse the space that was overwritten since that first read. A transaction that
    /// stays open makes the file grow by the data written in this time, some 20 kB per commit.
    #[must_use]
    pub fn snapshot_max_age(mut self, age: Duration) -> Self {
        self.rules.snapshot_max_age = age;
        self
    }

    /// The time for which the id of a rotated or destroyed session is refused, for requests that arrived after it
    /// ended. Default: 10 s. With zero, none of them is refused. A request that arrived before hands out no new id,
    /// however long ago the session ended, and an ended id never creates a session again.
    #[must_use]
    pub fn tombstone_lifetime(mut self, lifetime: Duration) -> Self {
        self.rules.tombstone = lifetime;
        self
    }

    /// The time after which a session ends whose id never came back: that of a visitor who does not take the cookie, such
    /// as a bot. It counts from when the id was handed out, at the first write or a log-in. Default: none, such a session
    /// lasts as long as any other. It is a setting of the code, not stored in the file.
    ///
    /// The first request that comes back with an id records its access, whatever the resolution is. An id that was
    /// issued in this process, and not sent by a visitor, confirms nothing when it is used.
    ///
    /// ```
    /// use cloakroom::{Clock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    /// let minute = Duration::from_secs(60);
    /// let store = Store::builder().clock(clock.clone()).unconfirmed_timeout(minute).in_memory()?;
    /// let id = store.client_ids().issue();
    /// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
    /// clock.advance(2 * minute);
    /// assert!(!store.begin()?.session(&id)?.exists()?);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn unconfirmed_timeout(mut self, timeout: Duration) -> Self {
        self.rules.unconfirmed = Some(timeout);
        self
    }

    /// The number of live sessions that one owner may have, at least 1. [`log_in`](crate::Session::log_in) decides: it
    /// counts the owner's other sessions that its transaction sees, and [`when_full`](WhenFull) decides between refusal
    /// and ending old sessions if they are too many. Default: no limit.
    ///
    /// Logins of one owner at the same moment do not see each other, and may exceed the limit by their number. With
    /// [`WhenFull::EndOldest`], the next login ends the surplus. [`set_owner`](crate::Session::set_owner) is not limited.
    #[must_use]
    pub fn max_sessions_per_owner(mut self, sessions: usize, when_full: WhenFull) -> Self {
        let sessions = sessions.max(1);
        self.rules.owner_limit = Some(OwnerLimit {
            sessions,
            when_full,
        });
        self
    }

    /// The maximum length of a key, a package id, an owner or a container's name, in bytes. From 1 to 4096. Default:
    /// 255.
    #[must_use]
    pub fn max_name_len(mut self, bytes: usize) -> Self {
        self.rules.limits.name = bytes.clamp(1, 4096);
        self
    }

    /// The maximum stored size of a package, in bytes. At most 256 MiB. Default: 1 MiB.
    #[must_use]
    pub fn max_package_size(mut self, bytes: usize) -> Self {
        self.rules.limits.package = bytes.min(256 << 20);
        self
    }

    /// The maximum number of packages of a session in one container. Default: 64.
    #[must_use]
    pub fn max_packages(mut self, packages: usize) -> Self {
        self.rules.limits.packages = packages;
        self
    }

    /// The maximum number of keys of a package. Default: 1024.
    ///
    /// Each commit that changes a package writes the whole package. So put many values into several packages, or into
    /// one value. Beyond the limit, a commit fails with [`TooLarge`](crate::ErrorKind::TooLarge), which names the package
    /// and both numbers. A package may have more keys because the limit was higher before. It can still be read, and
    /// its keys can be changed and removed, but it cannot get more.
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

    /// The maximum number of commits that wait, including those that are being written. At least 1. Default: 8192.
    ///
    /// Beyond that, commits wait for admission in order of arrival: [`commit`](crate::Transaction::commit) blocks,
    /// and the future of [`commit_async`](crate::Transaction::commit_async) is pending. Dropping that future then
    /// aborts the transaction.
    #[must_use]
    pub fn max_waiting_commits(mut self, commits: usize) -> Self {
        self.admission.commits = commits.max(1);
        self
    }

    /// The maximum memory of the commits that wait, in bytes, estimated: the data that they write and read, and the
    /// data of sessions that they rotate. Beyond that, commits wait as for
    /// [`max_waiting_commits`](Self::max_waiting_commits). A single commit that is larger is admitted alone. Default:
    /// 64 MiB.
    #[must_use]
    pub fn max_waiting_bytes(mut self, bytes: usize) -> Self {
        self.admission.bytes = bytes;
        self
    }

    /// The maximum size of the journal on the disk, in bytes. The journal consists of two files beside the store,
    /// which exist while it is open. At least 256 KiB. Default: 128 MiB.
    ///
    /// A commit is durable once it is in the journal. When one file is full, commits continue in the other, and a
    /// checkpoint writes the rows of the first to the store's file. A larger journal means fewer bytes per commit in
    /// total, because a row that changed several times is written only once. It also means that a store that was
    /// killed takes longer to open. The files start small and grow as needed. A commit larger than a file makes the
    /// file as large as the commit.
    #[must_use]
    pub fn journal_size(mut self, bytes: u64) -> Self {
        self.file.journal.size = bytes.max(256 << 10);
        self
    }

    /// The memory, in bytes, for rows that are in the journal but not yet in the store's file, estimated. At least
    /// 256 KiB. Default: 128 MiB.
    ///
    /// At half of it, a checkpoint begins. At three quarters, commits are slowed down until the checkpoint is done.
    /// At the limit, they wait. Old snapshots that transactions hold may keep rows longer.
    #[must_use]
    pub fn unmerged_memory(mut self, bytes: usize) -> Self {
        self.file.journal.memory = bytes.max(256 << 10);
        self
    }

    /// The maximum time that a commit stays in the journal before a checkpoint writes it to the store's file,
    /// provided there is space. The commit is durable all the time. Default: one minute.
    #[must_use]
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.file.journal.interval = interval;
        self
    }

    /// Allows at most `count` new sessions in any interval of length `per`, measured by the monotonic clock. This
    /// bounds what visitors who keep no cookie can do to the disk. Default: no limit, because only the application
    /// knows how many visitors are too many.
    ///
    /// The limit cannot tell honest visitors from bots: beyond it, all visitors without a session are refused. Set it
    /// to the rate that the disk can take. For a limit by address or another criterion, use
    /// `http::SessionLayer::admit_new`.
    ///
    /// Beyond the limit, a commit that creates a session fails with [`Unavailable`](crate::ErrorKind::Unavailable)
    /// and writes nothing. Existing sessions are not affected. The error's [`retry_after`](crate::Error::retry_after)
    /// is the time until new sessions are admitted.
    ///
    /// - A session counts once, even if it begins in several containers.
    /// - `rotate` does not count. Creating a session over an expired one counts.
    /// - A session counts for `per`, and up to a sixteenth longer. A commit that is not written does not count.
    /// - A commit that creates more than `count` sessions at once never succeeds.
    /// - A `per` below 16 ms counts as 16 ms.
    /// - The count starts again when the store is opened.
    #[must_use]
    pub fn max_new_sessions(mut self, count: u64, per: Duration) -> Self {
        self.new_sessions = Some((count, per));
        self
    }

    /// Whether the store sweeps expired sessions by itself, once per resolution. If not, call
    /// [`Container::sweep`](crate::Container::sweep). Default: yes. A single container can [opt
    /// out](crate::ContainerSettings::implicit_sweeps).
    #[must_use]
    pub fn implicit_sweeps(mut self, sweeps: bool) -> Self {
        self.implicit_sweeps = sweeps;
        self
    }

    /// Whether opening first verifies the whole file, which takes time proportional to its size. If there is anything
    /// that [`Store::check`](crate::Store::check) would report, opening fails with
    /// [`Corrupt`](crate::ErrorKind::Corrupt), which names the first damaged session, and the file is unchanged.
    /// Default: no.
    #[must_use]
    pub fn verify_on_open(mut self, verify: bool) -> Self {
        self.file.verify = verify;
        self
    }

    /// The time that [`open`](Self::open) waits for another process, or another store of this process, to release the
    /// store's files, before it returns [`Locked`](crate::ErrorKind::Locked). Use it for deployments that start the new
    /// process before the old one has ended. Default: zero.
    ///
    /// It retries every tenth of a second and **blocks the thread** meanwhile. Async code must call it on a thread
    /// for blocking work. The path is resolved again each time.
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
        self.file.wait = wait;
        self
    }

    /// Whether a store whose file others can access is refused with [`NotPrivate`](crate::ErrorKind::NotPrivate): a file
    /// that its group or everybody can read or write, or that belongs to a user other than the one who runs this
    /// process. A refused file is unchanged. A reader of the file has the data of all sessions, and the secret of
    /// their ids unless a [`secret`](Self::secret) is given. Default: no, but a warning with advice is logged.
    ///
    /// Files that a store creates, its journals included, are accessible only to its user (mode 0600). On systems
    /// other than Unix, nothing is checked.
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
        self.file.private = require;
        self
    }

    /// Whether opening creates a store where there is no file, or an empty one. If not, a missing file gives
    /// [`Io`](crate::ErrorKind::Io), and an empty one [`NotAStore`](crate::ErrorKind::NotAStore). Default: yes.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions.redb");
    /// let error = cloakroom::Store::builder().create_missing(false).open(&path).unwrap_err();
    /// assert_eq!(error.io_error().unwrap().kind(), std::io::ErrorKind::NotFound);
    /// assert!(!path.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn create_missing(mut self, create: bool) -> Self {
        self.file.creates = create;
        self
    }

    /// Whether opening migrates a store of an older format, which an older version of the crate cannot open any more. If
    /// not, such a store gives [`Unsupported`](crate::ErrorKind::Unsupported) and stays as it is. Default: yes.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions.redb");
    /// # cloakroom::Store::open(&path)?.close()?;
    /// let store = cloakroom::Store::builder().migrate_older(false).open(&path)?;
    /// # store.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn migrate_older(mut self, migrate: bool) -> Self {
        self.file.migrates = migrate;
        self
    }

    /// Signs ids with this secret instead of one that is kept in the store. Protect it like a password: a reader of
    /// the secret can make ids.
    #[must_use]
    pub fn secret(mut self, secret: [u8; 32]) -> Self {
        self.secrets.0.insert(0, secret);
        self
    }

    /// Also verifies ids of an earlier [`secret`](Self::secret).
    #[must_use]
    pub fn older_secret(mut self, secret: [u8; 32]) -> Self {
        self.secrets.0.push(secret);
        self
    }

    /// Encrypts the sessions' data in the store's files: values and their keys, owners, labels, and the secrets that
    /// sign ids. The cipher is XChaCha20-Poly1305, under the current key of the ring. Default: nothing is encrypted.
    ///
    /// The names of packages and containers, the times of sessions and the keys of clients stay readable. The guide to
    /// security describes the power of an attacker who reads or writes the files.
    ///
    /// A store that was written without keys can be opened with them. From then on, everything that is written is
    /// encrypted, and the store cannot be opened without the keys. [`Store::reseal`](crate::Store::reseal) encrypts the
    /// rest. Free pages of the file keep their old content. To remove it, [`salvage`](Self::salvage) the closed store
    /// with these keys, and remove the old file.
    ///
    /// A store in memory has no files, so keys change nothing.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions.redb");
    /// # let key_from_a_safe_place = [7; 32];
    /// use cloakroom::{ErrorKind, KeyRing, Store};
    ///
    /// let ring = KeyRing::new(1, key_from_a_safe_place);
    /// let store = Store::builder().encryption(ring).open(&path)?;
    /// store.close()?;
    /// assert_eq!(Store::open(&path).unwrap_err().kind(), ErrorKind::WrongKey);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn encryption(mut self, keys: KeyRing) -> Self {
        self.keys = Some(keys);
        self
    }

    /// The cipher of the keys that were given.
    pub(super) fn cipher(&self) -> Result<RecordCipher> {
        #[cfg(feature = "encryption")]
        if let Some(keys) = &self.keys {
            return RecordCipher::of(keys);
        }
        Ok(RecordCipher::Plain)
    }

    /// Gives the store a bug.
    #[cfg(feature = "torture")]
    #[doc(hidden)]
    #[must_use]
    pub fn bug(mut self, bug: crate::storage::redb::fault_injection::InjectedFault) -> Self {
        self.file.faults.0 = Some(bug);
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

    /// Makes checkpoints as soon as the rows in the journal take so many bytes of memory, and between commits instead
    /// of beside them, so that the requests to the disk come in one order.
    #[cfg(feature = "torture")]
    #[doc(hidden)]
    #[must_use]
    pub fn checkpoints_in_the_foreground(mut self, bytes: usize) -> Self {
        self.file.journal.memory = 2 * bytes;
        self.file.journal.interval = Duration::from_secs(1 << 30);
        self.file.journal.in_the_foreground = true;
        self
    }

    /// Lets a group of commits write so many bytes of rows at most.
    #[cfg(feature = "torture")]
    #[doc(hidden)]
    #[must_use]
    pub fn groups_of_at_most(mut self, bytes: usize) -> Self {
        self.file.journal.largest_group = bytes;
        self
    }

    pub(super) fn options(&self) -> OpenOptions {
        self.file.options()
    }

    pub(super) fn engine_rules(&self) -> EngineRules {
        EngineRules {
            snapshot_max_age: self.rules.snapshot_max_age,
            admission: self.admission,
            new_sessions: self
                .new_sessions
                .map(|(count, per)| SharedQuota::new(count, per)),
            journal: self.file.journal,
            cipher: RecordCipher::Plain,
            initial: self.copy_of.clone(),
        }
    }

    pub(super) fn gives_secrets(&self) -> bool {
        !self.secrets.0.is_empty()
    }
}

//! Opens a store whose sessions are in a PostgreSQL server.

use super::postgres_settings::PostgresSettings;
use super::{Store, StoreBuilder};
use crate::error::Result;
use crate::storage::postgres::{PostgresRules, connect, migrate};
use std::sync::Arc;

impl Store {
    /// Opens the store in the PostgreSQL server at `url`, and makes its tables if there are none. Any number of processes
    /// may use it at once.
    ///
    /// The rules are those of a store in a file: transactions are strictly serializable across all processes, conflicts
    /// and merges are the same, and what ends or changes in one process has ended or changed in all. There are two
    /// differences. A transaction that reads a second session sees the store as it is at that read, and conflicts there if
    /// the first session was changed meanwhile; [`keep_first_look`](PostgresSettings::keep_first_look) changes that. And
    /// [`max_new_sessions`](StoreBuilder::max_new_sessions) holds for each process.
    ///
    /// The URL may name several servers, of which the one that can be written to is used:
    /// `postgres://app@db1,db2/shop`. Reads go to it, too. If it goes away, calls return
    /// [`Unavailable`](crate::ErrorKind::Unavailable) within the [deadline](PostgresSettings::deadline), and go on by themselves
    /// when there is a server again.
    ///
    /// The store talks to the server on a thread of its own. So each thread may call the blocking functions, except one
    /// that runs async tasks: those functions would keep it from its other tasks for as long as the server takes.
    ///
    /// ```no_run
    /// # async fn example() -> cloakroom::Result<()> {
    /// use cloakroom::Store;
    ///
    /// let store = Store::connect("postgres://app@localhost/shop").await?;
    /// let visits: u32 = store
    ///     .transact_async(async |txn| {
    ///         let visitor = txn.session(&store.client_ids().issue())?;
    ///         visitor.pkg("visits").update("count", |n: Option<u32>| n.unwrap_or(0) + 1)
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is no such URL; [`Unavailable`](crate::ErrorKind::Unavailable) if
    /// the server cannot be reached within the deadline; [`Io`](crate::ErrorKind::Io) if it refuses the role;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the role may not make the tables;
    /// [`TooNew`](crate::ErrorKind::TooNew); [`WrongKey`](crate::ErrorKind::WrongKey); [`Corrupt`](crate::ErrorKind::Corrupt).
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().connect(url).await
    }

    /// Makes or migrates the tables of the store in the PostgreSQL server at `url`, and does nothing else. It needs a role
    /// that may create tables; afterwards the application's own role need not.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    pub async fn migrate(url: &str) -> Result<()> {
        Self::builder().migrate(url).await
    }
}

impl StoreBuilder {
    /// How the store uses its PostgreSQL server. A store in a file ignores this.
    #[must_use]
    pub fn postgres(mut self, settings: PostgresSettings) -> Self {
        self.postgres = settings;
        self
    }

    /// Opens the store in the PostgreSQL server at `url`. [`Store::connect`] describes the details. The settings that
    /// concern files have no effect, except [`create_missing`](Self::create_missing) and
    /// [`migrate_older`](Self::migrate_older).
    ///
    /// # Errors
    ///
    /// As for [`Store::connect`].
    pub async fn connect(self, url: &str) -> Result<Store> {
        let rules = self.engine_rules();
        let new_sessions = rules.new_sessions.clone();
        let rules = PostgresRules {
            server: self.postgres.server(self.file.schema_changes()),
            admission: rules.admission,
            new_sessions: rules.new_sessions,
            cipher: self.cipher()?,
            snapshot_max_age: self.rules.snapshot_max_age,
            unconfirmed: self.rules.unconfirmed,
            initial: rules.initial,
        };
        let engine = connect(url, rules, self.clock.clone()).await?;
        let seed = crate::storage::postgres::seed()?;
        self.beside_memory(Arc::new(engine), seed, new_sessions)
            .await
    }

    /// Makes or migrates the tables of the store in the PostgreSQL server at `url`: [`Store::migrate`] describes it.
    ///
    /// # Errors
    ///
    /// As for [`Store::connect`].
    pub async fn migrate(self, url: &str) -> Result<()> {
        let settings = self.postgres.server((true, true));
        migrate(url, settings, self.cipher()?).await
    }

    /// Opens the store of this name, or a new one, in a schema of its own of the server for tests.
    #[cfg(feature = "torture")]
    pub(super) async fn on_a_test_server(
        mut self,
        name: Option<&std::path::Path>,
        server: crate::storage::ChosenServer,
    ) -> Result<Store> {
        use sha2::{Digest, Sha256};
        let name = match name {
            Some(name) => std::path::absolute(name)
                .unwrap_or_default()
                .into_os_string(),
            None => format!("{:016x}", crate::storage::postgres::seed()?).into(),
        };
        let hash = Sha256::digest(name.as_encoded_bytes());
        let digits = hash.iter().take(12).map(|byte| format!("{byte:02x}"));
        let schema = format!("test_{}", digits.collect::<String>());
        self.postgres = self.postgres.schema(schema);
        if server.keeps_first_look {
            self.postgres = self.postgres.keep_first_look();
        }
        self.connect(&server.url).await
    }
}

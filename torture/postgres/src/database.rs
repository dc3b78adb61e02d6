//! Databases of one test each, on the server that the tests of a process share.

use crate::install::is_available;
use crate::server::{Server, sql};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A database that is dropped with this value, whoever is still connected.
#[derive(Debug)]
pub struct Database {
    name: String,
    server: String,
}

/// A role that may do with a database what an application needs, but not change its tables.
#[derive(Debug)]
pub struct Role<'a> {
    database: &'a Database,
    name: String,
}

/// A new database on the server of `CLOAKROOM_TEST_POSTGRES`, or on the one that this process starts once. `None` without
/// PostgreSQL.
///
/// # Panics
///
/// If there is none and `CLOAKROOM_POSTGRES=required`.
#[must_use]
pub fn database() -> Option<Database> {
    if let Ok(url) = std::env::var("CLOAKROOM_TEST_POSTGRES") {
        return Some(Database::create(&url));
    }
    shared().map(Server::database)
}

/// The server that the tests of this process share, and must not break.
///
/// # Panics
///
/// If there is no PostgreSQL and `CLOAKROOM_POSTGRES=required`.
#[must_use]
pub fn shared() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| is_available().then(Server::start));
    shared.as_ref()
}

impl Database {
    /// On the server with this address, whose path names another database.
    #[must_use]
    pub fn create(server: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        sql(server, &format!("CREATE DATABASE {name}"));
        Self {
            name,
            server: server.to_owned(),
        }
    }

    /// Its name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `postgres://…`, as the superuser.
    #[must_use]
    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }

    /// Carries out statements in it, in one transaction. Gives their rows, the columns divided by `|`.
    pub fn sql(&self, statements: &str) -> String {
        sql(&self.url(), statements)
    }

    /// A role that reads and writes the tables that are there now, and may neither create nor alter any.
    #[must_use]
    pub fn role(&self) -> Role<'_> {
        let name = format!("{}_plain", self.name);
        self.sql(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD '{name}';
             REVOKE CREATE ON SCHEMA public FROM PUBLIC;
             GRANT USAGE ON SCHEMA public TO {name};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}"
        ));
        Role {
            database: self,
            name,
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The server may have been stopped by the test.
        let dropped = std::panic::catch_unwind(|| {
            sql(
                &self.server,
                &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            )
        });
        drop(dropped);
    }
}

impl Role<'_> {
    /// Its name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database, as this role.
    #[must_use]
    pub fn url(&self) -> String {
        let url = self.database.url();
        let (_, place) = url.rsplit_once('@').unwrap();
        format!("postgres://{0}:{0}@{place}", self.name)
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let name = &self.name;
        let dropped = std::panic::catch_unwind(|| {
            self.database
                .sql(&format!("DROP OWNED BY {name} CASCADE; DROP ROLE {name}"))
        });
        drop(dropped);
    }
}

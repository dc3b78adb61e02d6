//! The schema: made and migrated in one transaction. Many processes may start at once: each that comes too late finds
//! what another has made.

use super::connection::{Connection, late};
use super::failure::{Failure, sent, unavailable};
use super::keys::new_keys;
use super::pool::Pool;
use super::random::random;
use super::rules::ServerSettings;
use super::settings::{encode, new_settings};
use super::statements::quoted;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::StoreSettings;
use crate::storage::record::RecordCipher;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::error::SqlState;

/// The migrations, in their order. Each leads to the format of its number.
const MIGRATIONS: &[&str] = &[include_str!(
    "../../../migrations/postgres/0001_initial.sql"
)];

/// How long a process waits that met another one which migrates.
const PAUSE: Duration = Duration::from_millis(30);

/// The newest format.
fn newest() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// How the schema of a server is brought up to date.
pub(super) struct Migration<'a> {
    pub(super) settings: &'a ServerSettings,
    pub(super) cipher: &'a RecordCipher,
    /// What a new store begins with, where it is to be the copy of another one.
    pub(super) initial: Option<&'a StoreSettings>,
    /// When a new store is made.
    pub(super) now: Timestamp,
}

/// How an attempt failed.
enum MigrationFailure {
    /// Another process makes the same change.
    Again(Error),
    Failed(Failure),
}

impl Migration<'_> {
    /// Makes or migrates the schema, if that is needed and allowed.
    pub(super) async fn run(&self, pool: &Arc<Pool>) -> Result<()> {
        let until = Instant::now() + self.settings.deadline;
        loop {
            let connection = pool.get(until).await.map_err(Failure::into_error)?;
            let failure = match self.attempt(&connection, until).await {
                Ok(()) => {
                    connection.give_back();
                    return Ok(());
                }
                Err(failure) => failure,
            };
            connection.give_up();
            match failure {
                MigrationFailure::Again(_) if Instant::now() < until => sleep(PAUSE).await,
                MigrationFailure::Failed(Failure::NotSent(_) | Failure::Lost(_))
                    if Instant::now() < until =>
                {
                    sleep(PAUSE).await;
                }
                MigrationFailure::Again(error) => return Err(error),
                MigrationFailure::Failed(failure) => return Err(failure.into_error()),
            }
        }
    }

    async fn attempt(
        &self,
        connection: &Connection,
        until: Instant,
    ) -> Result<(), MigrationFailure> {
        let format = self.within(until, self.format(connection)).await?;
        let newest = newest();
        match format {
            Some(format) if format == newest => Ok(()),
            Some(format) if format > newest => {
                let why = format!(
                    "the server's tables have format {format}, and this version of the crate knows up to {newest}"
                );
                Err(refused(ErrorKind::TooNew, &why))
            }
            None if !self.settings.creates => {
                let why = "the database has no tables of a store, and none are to be made";
                Err(refused(ErrorKind::NotAStore, why))
            }
            Some(_) if !self.settings.migrates => {
                let why = "the server's tables are of an older format, and are not to be migrated";
                Err(refused(ErrorKind::Unsupported, why))
            }
            // Tables are made in a moment. To migrate those that are there may take long.
            None => {
                let until = Instant::now() + self.settings.deadline;
                self.within(until, self.migrate(connection, 0)).await
            }
            Some(format) => self.migrate(connection, format).await,
        }
    }

    async fn within<T>(
        &self,
        until: Instant,
        request: impl Future<Output = Result<T, MigrationFailure>>,
    ) -> Result<T, MigrationFailure> {
        let late = |_| MigrationFailure::Failed(late(self.settings.deadline));
        timeout_at(until, request).await.map_err(late)?
    }

    /// The format of the tables. `None`: there are none.
    async fn format(&self, connection: &Connection) -> Result<Option<i32>, MigrationFailure> {
        let prefix = self.settings.schema.as_deref();
        let prefix = prefix.map_or(String::new(), |schema| quoted(schema) + ".");
        let text = format!("SELECT format FROM {prefix}cloakroom_meta WHERE one = 1");
        match connection.probe(&text).await {
            Ok(rows) => {
                let row = rows.first();
                let format = row.map(|row| row.try_get(0));
                format.transpose().map_err(failed)
            }
            Err(error) => match error.code() {
                Some(code) if is_missing(code) => Ok(None),
                _ => Err(failed(error)),
            },
        }
    }

    /// Applies the migrations after `format` in one transaction.
    async fn migrate(&self, connection: &Connection, format: i32) -> Result<(), MigrationFailure> {
        let mut missing = None;
        if let Some(schema) = self.settings.schema.as_deref().filter(|_| format == 0) {
            // To make a schema, even if it is there, needs a right on the database.
            let name = format!("convert_from({}, 'UTF8')", hex(schema.as_bytes()));
            let text = format!("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {name}");
            let found = connection.probe(&text).await.map_err(failed)?;
            missing = Some(schema).filter(|_| found.is_empty());
        }
        let text = self.text(format, missing).map_err(failed_with)?;
        let applied = connection.probe_all(&text).await;
        let Err(error) = applied else {
            return Ok(());
        };
        let Some(code) = error.code() else {
            return Err(failed(error));
        };
        if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            let why = "this role may not make the tables of the store: let a role that may do so run \
                       `Store::migrate` or `cloakroom migrate` first";
            let refused = Error::new(ErrorKind::Unsupported, why).with_source(error);
            return Err(failed_with(refused));
        }
        match is_of_another(code) {
            true => Err(MigrationFailure::Again(
                unavailable("other processes migrate the store at the same time")
                    .with_source(error),
            )),
            false => Err(failed(error)),
        }
    }

    /// The statements that lead from `format` to the newest one. They make the schema that is `missing`.
    fn text(&self, format: i32, missing: Option<&str>) -> Result<String> {
        let mut text = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED;\nSET LOCAL lock_timeout = {};\n",
            self.settings.deadline.as_millis()
        );
        if let Some(schema) = missing {
            text.push_str(&format!(
                "CREATE SCHEMA IF NOT EXISTS {};\n",
                quoted(schema)
            ));
        }
        if let Some(schema) = &self.settings.schema {
            let schema = quoted(schema);
            text.push_str(&format!("SET LOCAL search_path = {schema};\n"));
        }
        if format > 0 {
            // Who comes second waits here, and then fails in the first line of a migration.
            text.push_str("SELECT format FROM cloakroom_meta WHERE one = 1 FOR UPDATE;\n");
        }
        let done = usize::try_from(format).unwrap_or(0);
        for migration in MIGRATIONS.iter().skip(done) {
            text.push_str(migration);
        }
        if format == 0 {
            text.push_str(&self.first_row()?);
        }
        text.push_str(&format!(
            "UPDATE cloakroom_meta SET format = {} WHERE one = 1;\nCOMMIT;",
            newest()
        ));
        Ok(text)
    }

    /// The statement that writes the store's own row.
    fn first_row(&self) -> Result<String> {
        let keys = new_keys(self.cipher)?;
        let settings = match self.initial {
            Some(initial) => initial.clone(),
            None => new_settings(random()?, random()?, self.now),
        };
        let record = encode(&settings, self.cipher)?;
        let keys = keys.map_or("NULL".to_owned(), |keys| hex(&keys));
        Ok(format!(
            "INSERT INTO cloakroom_meta (one, format, identity, epoch, settings, keys) \
             VALUES (1, {}, {}, {}, {}, {keys});\n",
            newest(),
            hex(&settings.identity),
            settings.version,
            hex(&record)
        ))
    }
}

/// Bytes as SQL writes them.
fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("'\\x{}'::bytea", digits.collect::<String>())
}

fn failed(error: tokio_postgres::Error) -> MigrationFailure {
    MigrationFailure::Failed(sent(error))
}

fn failed_with(error: Error) -> MigrationFailure {
    MigrationFailure::Failed(Failure::Refused(error))
}

fn refused(kind: ErrorKind, why: &str) -> MigrationFailure {
    failed_with(Error::new(kind, why))
}

/// Whether an error says that there are no tables.
fn is_missing(code: &SqlState) -> bool {
    [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME].contains(code)
}

/// Whether an error says that another process makes the same change.
fn is_of_another(code: &SqlState) -> bool {
    [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_SCHEMA,
        SqlState::DUPLICATE_OBJECT,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        // "tuple concurrently updated"
        SqlState::INTERNAL_ERROR,
    ]
    .contains(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    // C10.1
    #[test]
    fn the_schema_is_made_in_one_transaction_and_names_are_quoted() {
        let settings = ServerSettings {
            schema: Some("a\"; DROP".into()),
            ..ServerSettings::default()
        };
        let migration = Migration {
            settings: &settings,
            cipher: &RecordCipher::Plain,
            initial: None,
            now: Timestamp(0),
        };
        let text = migration.text(0, None).unwrap();
        assert!(text.starts_with("BEGIN") && text.ends_with("COMMIT;"));
        assert!(text.contains(r#"SET LOCAL search_path = "a""; DROP";"#));
        assert!(text.contains("SET LOCAL lock_timeout = 5000;") && !text.contains("SCHEMA"));
        let with_schema = migration.text(0, Some("a")).unwrap();
        assert!(with_schema.contains(r#"CREATE SCHEMA IF NOT EXISTS "a";"#));
        assert_eq!(text.matches("INSERT INTO cloakroom_meta").count(), 1);
        let again = migration.text(1, None).unwrap();
        assert!(!again.contains("CREATE TABLE") && again.contains("FOR UPDATE"));
    }
}

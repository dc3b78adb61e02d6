//! The accounts of the shop: names and password hashes in a file of their own.
//!
//! An application has a database for this. The example uses a table of redb, so that there is nothing to install.

use crate::answers::ShopError;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::error::Error;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Password hashes by name.
const ACCOUNTS: TableDefinition<'_, &str, &str> = TableDefinition::new("accounts");
/// Each hash takes 19 MiB and some ten milliseconds of a processor.
const HASHES_AT_ONCE: usize = 4;
const LONGEST_WAIT: Duration = Duration::from_secs(5);

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Accounts {
    database: Arc<Database>,
    /// The hash that is compared if there is no account, so that the time of an answer tells nothing.
    nobody: Arc<str>,
    hashing: Arc<Semaphore>,
}

impl Accounts {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        create_private(path)?;
        let database = Database::create(path)?;
        let txn = database.begin_write()?;
        txn.open_table(ACCOUNTS)?;
        txn.commit()?;
        Ok(Self {
            database: Arc::new(database),
            nobody: hash("nobody")?.into(),
            hashing: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
        })
    }

    /// Adds an account. Returns false if the name is taken.
    pub(crate) async fn add(&self, name: &str, password: &str) -> Result<bool, ShopError> {
        let (name, password) = (name.to_owned(), password.to_owned());
        self.work(move |accounts| accounts.insert(&name, &hash(&password)?))
            .await
    }

    /// Gives an account another password.
    pub(crate) async fn change(&self, name: &str, password: &str) -> Result<(), ShopError> {
        let (name, password) = (name.to_owned(), password.to_owned());
        self.work(move |accounts| accounts.replace(&name, &hash(&password)?))
            .await
    }

    /// Whether the password is that of the account.
    pub(crate) async fn verify(&self, name: &str, password: &str) -> Result<bool, ShopError> {
        let (name, password) = (name.to_owned(), password.to_owned());
        self.work(move |accounts| {
            let stored = accounts.get(&name)?;
            let hash = PasswordHash::new(stored.as_deref().unwrap_or(&accounts.nobody))?;
            let matches = Argon2::default().verify_password(password.as_bytes(), &hash);
            Ok(matches.is_ok() && stored.is_some())
        })
        .await
    }

    /// Runs what computes a hash on a thread that may block. Only a few run at once, also if their requests were given
    /// up meanwhile; the others wait, but not for long.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, ShopError> {
        let permit = Arc::clone(&self.hashing).acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(LONGEST_WAIT, permit).await else {
            return Err(ShopError::Busy);
        };
        let accounts = self.clone();
        let work = move || {
            let _permit = permit;
            work(&accounts)
        };
        Ok(tokio::task::spawn_blocking(work).await??)
    }

    fn get(&self, name: &str) -> Result<Option<String>, Failure> {
        let txn = self.database.begin_read()?;
        let stored = txn.open_table(ACCOUNTS)?.get(name)?;
        Ok(stored.map(|hash| hash.value().to_owned()))
    }

    fn insert(&self, name: &str, hash: &str) -> Result<bool, Failure> {
        let txn = self.database.begin_write()?;
        let is_new = {
            let mut table = txn.open_table(ACCOUNTS)?;
            let is_new = table.get(name)?.is_none();
            if is_new {
                table.insert(name, hash)?;
            }
            is_new
        };
        txn.commit()?;
        Ok(is_new)
    }

    fn replace(&self, name: &str, hash: &str) -> Result<(), Failure> {
        let txn = self.database.begin_write()?;
        txn.open_table(ACCOUNTS)?.insert(name, hash)?;
        txn.commit()?;
        Ok(())
    }
}

/// Creates a file that only the user of this process can read. The database finds it empty.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?;
    Ok(())
}

fn hash(password: &str) -> Result<String, Failure> {
    let hash = Argon2::default().hash_password(password.as_bytes())?;
    Ok(hash.to_string())
}

//! The accounts of the shop: names and password hashes in a file of their own.
//!
//! An application has a database for this. The example uses a table of redb, so that there is nothing to install.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// Password hashes by name.
const ACCOUNTS: TableDefinition<'_, &str, &str> = TableDefinition::new("accounts");

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Accounts {
    database: Arc<Database>,
    /// The hash that is compared if there is no account, so that the time of an answer tells nothing.
    nobody: Arc<str>,
}

impl Accounts {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let database = Database::create(path)?;
        let txn = database.begin_write()?;
        txn.open_table(ACCOUNTS)?;
        txn.commit()?;
        Ok(Self {
            database: Arc::new(database),
            nobody: hash("nobody")?.into(),
        })
    }

    /// Adds an account. Returns false if the name is taken. Blocks while it computes the hash.
    pub(crate) fn add(&self, name: &str, password: &str) -> Result<bool, Failure> {
        let hash = hash(password)?;
        let txn = self.database.begin_write()?;
        let is_new = {
            let mut table = txn.open_table(ACCOUNTS)?;
            let is_new = table.get(name)?.is_none();
            if is_new {
                table.insert(name, &*hash)?;
            }
            is_new
        };
        txn.commit()?;
        Ok(is_new)
    }

    /// Whether the password is that of the account. Blocks while it computes the hash.
    pub(crate) fn verify(&self, name: &str, password: &str) -> Result<bool, Failure> {
        let txn = self.database.begin_read()?;
        let stored = txn.open_table(ACCOUNTS)?.get(name)?;
        let stored = stored.map(|hash| hash.value().to_owned());
        let hash = PasswordHash::new(stored.as_deref().unwrap_or(&self.nobody))?;
        let matches = Argon2::default().verify_password(password.as_bytes(), &hash);
        Ok(matches.is_ok() && stored.is_some())
    }
}

fn hash(password: &str) -> Result<String, Failure> {
    let hash = Argon2::default().hash_password(password.as_bytes())?;
    Ok(hash.to_string())
}

//! The secrets of the client ids: kept in the store, or given by the application (C4.2).

use super::Store;
use crate::block_on::block_on;
use crate::client_id::{ClientId, ClientIds, Secret};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{SecretRecord, SettingsChange, StoreSettings};
use crate::transaction::{Env, SecretSource, split_secrets};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

/// A secret that verifies client ids, without the secret: [`Store::secrets`].
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let newest = store.rotate_secret()?;
/// let secrets = store.secrets()?;
/// assert_eq!(secrets.len(), 2);
/// assert!(secrets[1].is_issuing && secrets[1].name == newest);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecretInfo {
    /// The byte that names it, in [`retire_secret`](Store::retire_secret) and in ids.
    pub name: u8,
    /// Whether it signs new ids.
    pub is_issuing: bool,
    /// When it was made, by the clock of the store. `None` if the store does not know, because an earlier version of the
    /// crate made it.
    pub created: Option<DateTime<Utc>>,
}

impl Store {
    /// Returns the secrets that the store keeps, the oldest first, without their content. If the application gives the
    /// secrets, they are not among these. Blocks until they are read.
    ///
    /// # Errors
    ///
    /// A failure of the storage.
    pub fn secrets(&self) -> Result<Vec<SecretInfo>> {
        block_on(secrets(&self.inner.env))
    }

    /// [`secrets`](Self::secrets) as a future.
    ///
    /// # Errors
    ///
    /// As for [`secrets`](Self::secrets).
    pub fn secrets_async(&self) -> impl Future<Output = Result<Vec<SecretInfo>>> + Send + use<> {
        let store = self.clone();
        async move { secrets(&store.inner.env).await }
    }

    /// Returns the id that `text` spells, as [`ClientIds::verify`] does. If the text names a secret that this process does
    /// not know, this asks the storage for newer ones first: another process that uses the same storage may have made it.
    /// It asks no more than once a second, so that forged ids do not keep the storage busy. A file is used by one process
    /// alone. There this never waits.
    ///
    /// ```
    /// use cloakroom::Store;
    ///
    /// let store = Store::in_memory()?;
    /// let id = store.client_ids().issue();
    /// assert_eq!(store.verify(id.as_str())?, Some(id));
    /// assert_eq!(store.verify("garbled")?, None);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A failure of the storage, if it was asked.
    pub fn verify(&self, text: &str) -> Result<Option<ClientId>> {
        block_on(self.verify_async(text))
    }

    /// [`verify`](Self::verify) as a future.
    ///
    /// # Errors
    ///
    /// As for [`verify`](Self::verify).
    pub fn verify_async(
        &self,
        text: &str,
    ) -> impl Future<Output = Result<Option<ClientId>>> + Send + use<> {
        let (store, text) = (self.clone(), text.to_owned());
        async move {
            let ids = store.client_ids();
            if ids.names_unknown_secret(text.as_bytes()) {
                store.learn_secrets().await?;
            }
            Ok(ids.verify(&text))
        }
    }

    /// An id names a secret that is not known. Returns whether that is worth another look, because there are newer
    /// secrets now.
    pub(crate) async fn learn_secrets(&self) -> Result<bool> {
        self.inner.env.learn_secrets().await
    }

    /// Creates a new secret and signs new ids with it. Ids of older secrets verify until their secret is retired.
    /// Returns the byte that names the new secret. Blocks until the secret is stored.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if the builder was given the secrets, or if all 256 names are in use;
    /// [`Conflict`](ErrorKind::Conflict) if others changed the secrets again and again meanwhile; or a failure of the
    /// storage.
    pub fn rotate_secret(&self) -> Result<u8> {
        block_on(rotate(&self.inner.env))
    }

    /// [`rotate_secret`](Self::rotate_secret) as a future. If it is dropped, the secret may be stored all the same.
    ///
    /// # Errors
    ///
    /// As for [`rotate_secret`](Self::rotate_secret).
    pub fn rotate_secret_async(&self) -> impl Future<Output = Result<u8>> + Send + use<> {
        let store = self.clone();
        async move { rotate(&store.inner.env).await }
    }

    /// Retires an older secret. Its ids do not verify any more: who has one begins a new session. Blocks until the change
    /// is stored.
    ///
    /// Nobody notices if no session has such an id any more. [`SecretInfo::created`] of the next secret tells since when
    /// this one has signed nothing. A session that is not used ends within its timeout: wait for the longest of these.
    /// A session that is used goes on under its id, until its container's
    /// [`max_lifetime`](crate::ContainerSettings::max_lifetime) ends it or it gets a new id: at a login, or by
    /// `SessionLayer::renew_after`. Without any of these, some visitors may have to begin anew.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the secret is unknown or is the current one; otherwise as for
    /// [`rotate_secret`](Self::rotate_secret).
    pub fn retire_secret(&self, name: u8) -> Result<()> {
        block_on(retire(&self.inner.env, name))
    }

    /// [`retire_secret`](Self::retire_secret) as a future. If it is dropped, the secret may be retired all the same.
    ///
    /// # Errors
    ///
    /// As for [`retire_secret`](Self::retire_secret).
    pub fn retire_secret_async(&self, name: u8) -> impl Future<Output = Result<()>> + Send + use<> {
        let store = self.clone();
        async move { retire(&store.inner.env, name).await }
    }
}

/// The ids under the secrets that the store keeps, or under the ones given, the newest first.
pub(super) fn client_ids(
    settings: &StoreSettings,
    given: &[[u8; 32]],
) -> Result<(SecretSource, ClientIds)> {
    let Some((newest, older)) = given.split_first() else {
        let (issuing, older) = split_secrets(settings)?;
        return Ok((SecretSource::Kept, ClientIds::new(issuing, older)));
    };
    let older = older.iter().map(|key| named(*key)).collect();
    let ids = ClientIds::new(named(*newest), older);
    Ok((SecretSource::Given, ids))
}

async fn secrets(env: &Env) -> Result<Vec<SecretInfo>> {
    env.process.check()?;
    let settings = env.storage.settings().await?;
    let secrets = settings.secrets.iter().map(|secret| SecretInfo {
        name: secret.0,
        is_issuing: secret.0 == settings.issuing,
        created: secret.2.map(Timestamp::to_datetime),
    });
    Ok(secrets.collect())
}

/// Adds a new secret, which signs from now on. Returns the byte that names it.
async fn rotate(env: &Env) -> Result<u8> {
    let now = env.clock.timestamp();
    change(env, |secrets, _| {
        let free = (0..=u8::MAX)
            .cycle()
            .skip(secrets.last().map_or(0, |s| usize::from(s.0) + 1))
            .take(256)
            .find(|name| secrets.iter().all(|s| s.0 != *name));
        let name =
            free.ok_or_else(|| Error::new(ErrorKind::Unsupported, "all 256 secrets are in use"))?;
        let secret = Secret::generate(name)?;
        secrets.push(SecretRecord(name, *secret.key(), Some(now)));
        Ok(name)
    })
    .await
}

/// Removes an older secret.
async fn retire(env: &Env, name: u8) -> Result<()> {
    change(env, |secrets, issuing| {
        let in_use = issuing == name;
        let known = secrets.iter().position(|s| s.0 == name);
        match known {
            Some(at) if !in_use => drop(secrets.remove(at)),
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "only an older secret that is known can be retired",
                ));
            }
        }
        Ok(())
    })
    .await
}

/// Changes the newest secrets. If somebody else changes them at the same time, this starts again from theirs.
async fn change<T>(
    env: &Env,
    mut change: impl FnMut(&mut Vec<SecretRecord>, u8) -> Result<T>,
) -> Result<T> {
    env.process.check()?;
    if env.known.secrets() == SecretSource::Given {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the secrets were given by the application; change them there",
        ));
    }
    let mut left = env.rules.attempts;
    loop {
        let settings = env.storage.settings().await?;
        let mut secrets = settings.secrets.clone();
        let result = change(&mut secrets, settings.issuing)?;
        let replacement = SettingsChange::ReplaceSecrets {
            expected: settings.secrets.clone(),
            new: secrets,
        };
        left = left.saturating_sub(1);
        match env.storage.configure(replacement).await {
            Ok(settings) => {
                env.show_settings(&settings)?;
                return Ok(result);
            }
            Err(error) if error.kind() == ErrorKind::Conflict && left > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

/// A given secret is named by its hash, so that its place in the list does not matter.
fn named(key: [u8; 32]) -> Secret {
    let hash = Sha256::digest(key);
    Secret::from_key(hash.first().copied().unwrap_or_default(), key)
}

#[cfg(test)]
impl Store {
    /// Adds a secret in the engine, past the store, as another process does.
    pub(crate) fn add_secret_elsewhere(&self, name: u8, key: [u8; 32]) {
        let storage = &self.inner.env.storage;
        let expected = storage.settings().wait().unwrap().secrets.clone();
        let mut new = expected.clone();
        new.push(SecretRecord(name, key, None));
        let change = SettingsChange::ReplaceSecrets { expected, new };
        storage.configure(change).wait().unwrap();
    }
}

#[cfg(test)]
mod tests;

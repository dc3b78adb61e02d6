//! The secrets of the client ids: kept in the store, or given by the application (C4.2).

use crate::client_id::{ClientIds, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{SecretRecord, SettingsChange};
use crate::transaction::Env;
use sha2::{Digest, Sha256};
use std::sync::{Mutex, PoisonError};

/// Where the secrets come from; the last of those kept is in use.
pub(super) enum Secrets {
    Kept(Mutex<Vec<SecretRecord>>),
    Given,
}

impl Secrets {
    /// The secrets that the store keeps, or the ones given, the newest first.
    pub(super) fn new(kept: Vec<SecretRecord>, given: &[[u8; 32]]) -> Result<(Self, ClientIds)> {
        let Some((newest, older)) = given.split_first() else {
            let (issuing, older) = split(&kept)?;
            return Ok((Self::Kept(Mutex::new(kept)), ClientIds::new(issuing, older)));
        };
        let older = older.iter().map(|key| named(*key)).collect();
        Ok((Self::Given, ClientIds::new(named(*newest), older)))
    }

    pub(super) fn rotate(&self, env: &Env) -> Result<u8> {
        self.change(env, |secrets| {
            let free = (0..=u8::MAX)
                .cycle()
                .skip(secrets.last().map_or(0, |s| usize::from(s.0) + 1))
                .take(256)
                .find(|name| secrets.iter().all(|s| s.0 != *name));
            let name = free
                .ok_or_else(|| Error::new(ErrorKind::Unsupported, "all 256 secrets are in use"))?;
            let secret = Secret::generate(name)?;
            secrets.push(SecretRecord(name, *secret.key()));
            Ok(name)
        })
    }

    pub(super) fn retire(&self, env: &Env, name: u8) -> Result<()> {
        self.change(env, |secrets| {
            let in_use = secrets.last().is_some_and(|s| s.0 == name);
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
    }

    fn change<T>(
        &self,
        env: &Env,
        change: impl FnOnce(&mut Vec<SecretRecord>) -> Result<T>,
    ) -> Result<T> {
        let Self::Kept(kept) = self else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the secrets were given by the application; change them there",
            ));
        };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut secrets = kept.clone();
        let result = change(&mut secrets)?;
        let (issuing, older) = split(&secrets)?;
        env.storage
            .configure(SettingsChange::PutSecrets(secrets.clone()))?;
        env.ids.replace(issuing, older);
        *kept = secrets;
        Ok(result)
    }
}

/// A given secret is named by its hash, so that its place in the list does not matter.
fn named(key: [u8; 32]) -> Secret {
    let hash = Sha256::digest(key);
    Secret::from_key(hash.first().copied().unwrap_or_default(), key)
}

fn split(kept: &[SecretRecord]) -> Result<(Secret, Vec<Secret>)> {
    let secret = |s: &SecretRecord| Secret::from_key(s.0, s.1);
    match kept.split_last() {
        Some((issuing, older)) => Ok((secret(issuing), older.iter().map(secret).collect())),
        None => Err(Error::new(ErrorKind::Corrupt, "the store lacks its secret")),
    }
}

//! The settings of the store that this process knows: its containers, and the secrets of its client ids. Another
//! process may change them, if the engine lets several processes use one store.

use crate::client_id::{ClientIds, Secret};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{SecretRecord, StoreSettings};
use crate::transaction::registry::Registry;
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The shortest time between two requests to the engine for new secrets. Ids that name unknown secrets cause such
/// requests.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// The source of the secrets of client ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// The store keeps them.
    Kept,
    /// The application set them.
    Given,
}

pub(crate) struct KnownSettings {
    version: AtomicU64,
    /// Held while newer settings are published, so that older settings never replace them.
    showing: Mutex<()>,
    secrets: SecretSource,
    /// How long a session lasts while no request has presented its id. A setting of this process, not of the store.
    unconfirmed: Option<Duration>,
    /// When the engine was last asked for an unknown secret.
    asked: Mutex<Option<Moment>>,
    on_change: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl KnownSettings {
    /// The known settings of a store that was opened with `settings`.
    pub(crate) fn new(
        settings: &StoreSettings,
        secrets: SecretSource,
        unconfirmed: Option<Duration>,
    ) -> Self {
        Self {
            version: AtomicU64::new(settings.version),
            showing: Mutex::default(),
            secrets,
            unconfirmed,
            asked: Mutex::default(),
            on_change: OnceLock::new(),
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn secrets(&self) -> SecretSource {
        self.secrets
    }

    /// Calls `on_change` after each change of the settings.
    pub(crate) fn notify(&self, on_change: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_change.set(Box::new(on_change));
    }

    /// Replaces the registry and the secrets by those of `settings`, unless newer ones are known.
    pub(super) fn show(
        &self,
        settings: &StoreSettings,
        registry: &ArcSwap<Registry>,
        ids: &ClientIds,
    ) -> Result<()> {
        let showing = self.showing.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.version <= self.version() {
            return Ok(());
        }
        let newest = Registry::of(settings, self.unconfirmed)?;
        if self.secrets == SecretSource::Kept {
            let (issuing, older) = split_secrets(settings)?;
            ids.replace(issuing, older);
        }
        registry.store(Arc::new(newest));
        self.version.store(settings.version, Ordering::Release);
        drop(showing);
        if let Some(on_change) = self.on_change.get() {
            on_change();
        }
        Ok(())
    }

    /// Whether the engine may be asked for an unknown secret now. If so, notes that it was asked.
    pub(super) fn may_ask(&self, now: Moment) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let may = asked.is_none_or(|asked| now.since(asked) >= ASKED_EVERY);
        if may {
            *asked = Some(now);
        }
        may
    }
}

/// The secret that signs new ids, and the other secrets, which only verify ids.
pub(crate) fn split_secrets(settings: &StoreSettings) -> Result<(Secret, Vec<Secret>)> {
    let secret = |s: &SecretRecord| Secret::from_key(s.0, s.1);
    let (issuing, others): (Vec<_>, Vec<_>) = settings
        .secrets
        .iter()
        .partition(|secret| secret.0 == settings.issuing);
    match issuing.first() {
        Some(issuing) => Ok((secret(issuing), others.into_iter().map(secret).collect())),
        None => Err(Error::new(ErrorKind::Corrupt, "the store lacks its secret")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    // C4.2, C10.3
    #[test]
    fn a_newer_secret_may_verify_before_it_signs() {
        let settings = |issuing| StoreSettings {
            identity: [0; 16],
            version: 1,
            registry: 1,
            containers: BTreeMap::new(),
            next_container: 1,
            secrets: (4..7).map(|n| SecretRecord(n, [n; 32], None)).collect(),
            issuing,
            is_unfinished: false,
        };
        for issuing in 4..7 {
            let (signs, others) = split_secrets(&settings(issuing)).unwrap();
            assert_eq!(signs.key(), &[issuing; 32]);
            let others = others.iter().map(|secret| secret.key()[0]);
            let expected = (4..7).filter(|n| *n != issuing);
            assert!(others.eq(expected));
        }
        let lacking = split_secrets(&settings(9)).map(|_| ()).unwrap_err();
        assert_eq!(lacking.kind(), ErrorKind::Corrupt);
    }
}

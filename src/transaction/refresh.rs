//! How an open store learns of settings that changed elsewhere.

use crate::error::Result;
use crate::storage::{Answer, StoreSettings};
use crate::transaction::env::Env;
use crate::transaction::known_settings::SecretSource;

impl Env {
    /// Loads the newest settings of the engine. Each transaction calls this before it begins.
    pub(crate) fn refresh_settings(&self) -> Answer<'_, Result<()>> {
        if self.storage.settings_version() == self.known.version() {
            return Answer::now(Ok(()));
        }
        Answer::later(self.reload_settings())
    }

    async fn reload_settings(&self) -> Result<()> {
        self.process.check()?;
        let settings = self.storage.settings().await?;
        self.show_settings(&settings)
    }

    /// Uses these settings from now on, unless newer ones are known.
    pub(crate) fn show_settings(&self, settings: &StoreSettings) -> Result<()> {
        self.known.show(settings, &self.registry, &self.ids)
    }

    /// An id names a secret that is not known: asks the engine for newer secrets, once a second at most. Returns
    /// whether there were any, so that the id is worth another look.
    pub(crate) async fn learn_secrets(&self) -> Result<bool> {
        if self.known.secrets() == SecretSource::Given || !self.known.may_ask(self.clock.moment()) {
            return Ok(false);
        }
        let known = self.known.version();
        self.reload_settings().await?;
        Ok(self.known.version() != known)
    }
}

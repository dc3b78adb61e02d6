//! What can be read of a damaged store, in a new one (C5.4).

use super::StoreBuilder;
use super::check::KEPT;
use crate::error::Result;
use crate::storage::redb::{OwnSecrets, salvage};
use crate::storage::{Damage, Found};
use std::path::Path;

/// What [`StoreBuilder::salvage`] copied, and what it could not.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Salvage {
    /// Sessions copied, each container's counted for itself.
    pub sessions: u64,
    /// Packages copied.
    pub packages: u64,
    /// How many losses there are: a session, a package, a record of the store's own, or a sentence that
    /// tells how many rows of a table cannot be reached.
    pub lost: u64,
    /// Pages in which one flipped bit was found and put right, so that nothing of them is lost.
    pub mended_pages: u64,
    /// Pages that stayed damaged; what else was in them is in the new store all the same.
    pub damaged_pages: u64,
    /// The first thousand losses and damaged pages: whose they are as far as that is known, and of a page
    /// the range of keys that it held.
    pub losses: Vec<Damage>,
    /// The store's identity could not be read: the new one has another, and so another default name of its
    /// cookie.
    pub new_identity: bool,
    /// The secrets that the store kept could not be read: ids verify only under those given to the builder.
    pub new_secrets: bool,
}

impl Salvage {
    /// Whether nothing was lost.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost == 0 && self.damaged_pages == 0
    }

    fn note(&mut self, found: Found) {
        let damage = match found {
            Found::Record(damage) => {
                self.lost += 1;
                damage
            }
            Found::Structure(damage) => {
                self.damaged_pages += 1;
                damage
            }
        };
        if self.losses.len() < KEPT {
            self.losses.push(damage);
        }
    }
}

impl StoreBuilder {
    /// Writes all that can be read of the damaged store at `from` into a new store at `to`, and tells what
    /// cannot: identity, secrets, containers with their settings, sessions, expired ones included, with
    /// their packages and owners, and what is kept of ended sessions. A package that is lost is taken off its
    /// session, which keeps the others; a session that is lost takes its packages along.
    ///
    /// A store that was not closed is salvaged with its journal, whose files lie beside it: what lies there
    /// counts as the newer. Where a part of the journal is lost, its file is named, and what the commits in
    /// that part changed is as it was before them.
    ///
    /// `from` is locked against stores and never written to. The new store gets its name when it is whole and
    /// on the disk. Only what the last commit reaches is copied: nothing that was
    /// destroyed comes back, unless the part of the journal that says so is lost. A healthy store is copied
    /// whole. Its progress goes to [`tracing`], every 100,000 rows.
    ///
    /// Where the identity or the secrets are lost, this fails unless a [`secret`](Self::secret) is given: an old
    /// one, or a new one under which no id in the hands of a visitor verifies. Of the other settings,
    /// [`cache_size`](Self::cache_size) counts.
    ///
    /// # Errors
    ///
    /// [`Locked`](crate::ErrorKind::Locked) if `from` is open; [`NotAStore`](crate::ErrorKind::NotAStore);
    /// [`TooNew`](crate::ErrorKind::TooNew); [`Corrupt`](crate::ErrorKind::Corrupt) if nothing can be reached,
    /// or what was said of secrets; [`Io`](crate::ErrorKind::Io), also if `to` exists.
    pub fn salvage(self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Salvage> {
        let secrets = if self.gives_secrets() {
            OwnSecrets::Dispensable
        } else {
            OwnSecrets::Needed
        };
        let mut report = Salvage::default();
        let found = &mut |found| report.note(found);
        let options = self.options();
        let salvaged = salvage(from.as_ref(), to.as_ref(), options, secrets, found)?;
        report.sessions = salvaged.sessions;
        report.packages = salvaged.packages;
        report.mended_pages = salvaged.mended;
        report.new_identity = salvaged.new_identity;
        report.new_secrets = salvaged.new_secrets;
        Ok(report)
    }
}

//! Copies the readable data of a damaged store into a new store (C5.4).

use super::StoreBuilder;
use super::check::KEPT;
use crate::error::Result;
use crate::storage::redb::salvage;
use crate::storage::redb::{Location, OwnSecrets, location};
use crate::storage::{Damage, Finding, RowProgress, RowProgressFn};
use std::ops::ControlFlow;
use std::path::Path;

/// The result of [`StoreBuilder::salvage`]: the copied data and the losses.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let (damaged, copy) = (folder.path().join("damaged.redb"), folder.path().join("sessions.redb"));
/// use cloakroom::Store;
///
/// # Store::open(&damaged)?.close()?;
/// let salvage = Store::builder().salvage(&damaged, &copy)?;
/// println!("{} sessions copied, {} losses", salvage.sessions, salvage.lost);
/// for loss in &salvage.losses {
///     eprintln!("{}", loss.error);
/// }
/// assert!(salvage.is_whole());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Salvage {
    /// Sessions copied, counted once per container.
    pub sessions: u64,
    /// Packages copied.
    pub packages: u64,
    /// The number of losses: a session, a package, a record of the store's own, or a line that gives the number of
    /// unreachable rows of a table.
    pub lost: u64,
    /// Pages in which one flipped bit was found and corrected. Nothing in them is lost.
    pub mended_pages: u64,
    /// Pages that are still damaged. Their readable rows are in the new store.
    pub damaged_pages: u64,
    /// The first thousand losses and damaged pages, with the session concerned, if known. For a page, it gives the
    /// range of keys.
    pub losses: Vec<Damage>,
    /// The store's identity could not be read. The new store has another one, and therefore another default name of
    /// its cookie.
    pub new_identity: bool,
    /// The secrets that the store kept could not be read. Ids verify only under the secrets given to the builder.
    pub new_secrets: bool,
}

impl Salvage {
    /// Whether nothing was lost.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost == 0 && self.damaged_pages == 0
    }

    fn note(&mut self, found: Finding) {
        let damage = match found {
            Finding::Record(damage) => {
                self.lost += 1;
                damage
            }
            Finding::Structure(damage) => {
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
    /// Copies everything that can be read from the damaged store at `from` into a new store at `to`, and reports the
    /// losses. It copies the identity, secrets, containers with their settings, sessions, expired ones included, with
    /// their packages and owners, and the tombstones of ended sessions. If a package is lost, its session keeps the
    /// others. If a session is lost, its packages are lost too.
    ///
    /// A store that was not closed is salvaged with its journal files, whose rows are newer. If a part of the journal
    /// is lost, the report names its file, and data that the commits in that part changed has its earlier state.
    ///
    /// `from` is locked against stores and never written to. The new store gets its name when it is complete and on
    /// the disk. Only data that the last commit reaches is copied, so destroyed data does not come back, unless the
    /// part of the journal that records its end is lost. A healthy store is copied completely. Progress is logged to
    /// [`tracing`], every 100,000 rows.
    ///
    /// If the identity or the secrets are lost, this fails unless a [`secret`](Self::secret) is given: an old one, or
    /// a new one, under which the ids that visitors have do not verify. Of the other settings, only
    /// [`cache_size`](Self::cache_size) has an effect.
    ///
    /// # Errors
    ///
    /// [`Locked`](crate::ErrorKind::Locked) if `from` is open; [`WrongKey`](crate::ErrorKind::WrongKey) if it is
    /// encrypted and its keys were not given, or others were; [`NotAStore`](crate::ErrorKind::NotAStore);
    /// [`TooNew`](crate::ErrorKind::TooNew); [`Corrupt`](crate::ErrorKind::Corrupt) if no data can be reached, or for
    /// lost secrets as described above; [`Io`](crate::ErrorKind::Io), also if `to` exists.
    pub fn salvage(self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Salvage> {
        self.salvage_with(from, to, |_| ControlFlow::Continue(()))
    }

    /// [`salvage`](Self::salvage), with progress. If `progress` breaks it off, there is nothing at `to`.
    ///
    /// # Errors
    ///
    /// As for [`salvage`](Self::salvage); [`Interrupted`](crate::ErrorKind::Interrupted) if `progress` breaks off.
    pub fn salvage_with(
        self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        mut progress: impl FnMut(RowProgress) -> ControlFlow<()> + Send,
    ) -> Result<Salvage> {
        let (from, to) = (location(from.as_ref())?, location(to.as_ref())?);
        self.salvage_at(&from, &to, &mut progress)
    }

    /// [`salvage`](Self::salvage) in a folder of the harness's own.
    ///
    /// # Errors
    ///
    /// As for [`salvage`](Self::salvage).
    #[cfg(feature = "torture")]
    #[doc(hidden)]
    pub fn salvage_in(
        self,
        folder: &std::sync::Arc<dyn crate::storage::redb::backend::folder::Folder>,
        from: &str,
        to: &str,
    ) -> Result<Salvage> {
        let [from, to] = [from, to].map(|name| Location::within(folder.clone(), name));
        self.salvage_at(&from, &to, &mut |_| ControlFlow::Continue(()))
    }

    fn salvage_at(
        self,
        from: &Location,
        to: &Location,
        progress: &mut RowProgressFn<'_>,
    ) -> Result<Salvage> {
        let secrets = if self.gives_secrets() {
            OwnSecrets::Dispensable
        } else {
            OwnSecrets::Needed
        };
        let mut report = Salvage::default();
        let found = &mut |found| report.note(found);
        let options = self.options();
        let cipher = self.cipher()?;
        let salvaged = salvage(from, to, options, (secrets, &cipher), found, progress)?;
        report.sessions = salvaged.sessions;
        report.packages = salvaged.packages;
        report.mended_pages = salvaged.mended;
        report.new_identity = salvaged.new_identity;
        report.new_secrets = salvaged.new_secrets;
        Ok(report)
    }
}

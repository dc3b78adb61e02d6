//! Bugs on purpose, so that the fault harness can show that it finds them. Without the feature `torture`
//! there are none, and no way to ask for any.

use super::failure::{Contained, Writing};
use super::open::begin_durable;
use super::snapshot::{Readers, RedbSnapshot};
use super::tables::Reader;
use super::{Shared, failure};
use crate::error::Result;
use crate::storage::ChangeSet;
use crate::storage::merge::Writes;
use redb::{Database, Durability};
use std::sync::{Arc, Weak};

/// A bug that the fault harness must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(unreachable_pub, reason = "public for the fault harness alone")]
pub enum Bug {
    /// What a transaction read is not validated at its commit.
    ReadsAreNotValidated,
    /// A commit is shown before it is synced.
    PublishedBeforeTheSync,
    /// Of a commit's packages, the last is not written.
    APackageIsForgotten,
    /// Durable commits of redb take one phase.
    OnePhase,
}

/// The bug of a store, if it has one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bugs(#[cfg(feature = "torture")] pub(crate) Option<Bug>);

impl Bugs {
    fn has(self, bug: Bug) -> bool {
        #[cfg(feature = "torture")]
        return self.0 == Some(bug);
        #[cfg(not(feature = "torture"))]
        {
            let Self() = self;
            let _ = bug;
            false
        }
    }

    /// Begins the transaction of a group.
    pub(super) fn begin(self, database: &Database) -> Result<Writing> {
        if self.has(Bug::OnePhase) {
            let txn = database.begin_write().map_err(failure::transaction)?;
            return Ok(Contained::new(txn));
        }
        begin_durable(database)
    }

    /// What is left of the observations before they are validated.
    pub(super) fn before_merging(self, set: &mut ChangeSet) {
        if self.has(Bug::ReadsAreNotValidated) {
            for client in &mut set.clients {
                client.exists = None;
                client
                    .seen
                    .iter_mut()
                    .for_each(|seen| seen.observed = false);
                client
                    .packages
                    .iter_mut()
                    .for_each(|package| package.observed = None);
            }
        }
    }

    /// What is left of the changes before they are written.
    pub(super) fn before_writing(self, writes: &mut Writes) {
        if self.has(Bug::APackageIsForgotten) && writes.packages.len() > 1 {
            writes.packages.pop();
        }
    }

    /// Commits what goes to the file.
    pub(super) fn commit(
        self,
        mut txn: Writing,
        database: &Database,
        shared: &Shared,
    ) -> Result<()> {
        if !self.has(Bug::PublishedBeforeTheSync) {
            return txn.commit().map_err(failure::commit);
        }
        let _ = txn.set_durability(Durability::None);
        txn.commit().map_err(failure::commit)?;
        if let Some(readers) = shared.published.load_full().and_then(|old| old.readers()) {
            let readers = Readers {
                file: Arc::new(Reader::open(database)?),
                memory: readers.memory.clone(),
            };
            let early = RedbSnapshot::new(readers, Weak::new());
            shared.published.store(Some(Arc::new(early)));
        }
        let synced = begin_durable(database)?;
        synced.commit().map_err(failure::commit)
    }
}

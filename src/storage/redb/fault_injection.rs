//! Bugs on purpose, so that the fault harness can show that it finds them. Without the feature `torture`
//! there are none, and no way to ask for any.

use crate::error::Result;
use crate::storage::merge::MergedWrites;
use crate::storage::redb::failure;
use crate::storage::redb::failure::{Contained, ContainedWrite};
use crate::storage::redb::meta::begin_durable;
use crate::storage::{ChangeSet, ObservedKeys};
use redb::Database;

/// A bug that the fault harness must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(unreachable_pub, reason = "public for the fault harness alone")]
pub enum InjectedFault {
    /// What a transaction read is not validated at its commit.
    ReadsAreNotValidated,
    /// What a transaction read is taken for what redb has, whatever has been brought there since.
    ReadsAreTakenForCurrent,
    /// A commit is shown before it is synced.
    PublishedBeforeTheSync,
    /// Of a commit's packages, the last is not written.
    APackageIsForgotten,
    /// Durable commits of redb take one phase.
    OnePhase,
}

/// The bug of a store, if it has one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FaultInjection(#[cfg(feature = "torture")] pub(crate) Option<InjectedFault>);

impl FaultInjection {
    fn has(self, bug: InjectedFault) -> bool {
        #[cfg(feature = "torture")]
        return self.0 == Some(bug);
        #[cfg(not(feature = "torture"))]
        {
            let Self() = self;
            let _ = bug;
            false
        }
    }

    /// Begins the transaction of a checkpoint.
    pub(crate) fn begin(self, database: &Database) -> Result<ContainedWrite> {
        if self.has(InjectedFault::OnePhase) {
            let txn = database.begin_write().map_err(failure::transaction)?;
            return Ok(Contained::new(txn));
        }
        begin_durable(database)
    }

    /// Whether what was read is taken for current however old it is.
    pub(crate) fn trusts_old_reads(self) -> bool {
        self.has(InjectedFault::ReadsAreTakenForCurrent)
    }

    /// Whether a commit is shown before it is durable.
    pub(crate) fn shows_early(self) -> bool {
        self.has(InjectedFault::PublishedBeforeTheSync)
    }

    /// What is left of the observations before they are validated.
    pub(crate) fn before_merging(self, set: &mut ChangeSet) {
        if self.has(InjectedFault::ReadsAreNotValidated) {
            for client in &mut set.clients {
                client.exists = None;
                client
                    .seen
                    .iter_mut()
                    .for_each(|seen| seen.observed = false);
                client
                    .packages
                    .iter_mut()
                    .for_each(|package| package.observed.keys = ObservedKeys::default());
            }
        }
    }

    /// What is left of the changes before they are written.
    pub(crate) fn before_writing(self, writes: &mut MergedWrites) {
        if self.has(InjectedFault::APackageIsForgotten) && writes.packages.len() > 1 {
            writes.packages.pop();
        }
    }
}

//! Deliberate faults, with which the fault harness proves that it finds such faults. They exist only with the feature
//! `torture`.

use crate::error::Result;
use crate::storage::MergedWrites;
use crate::storage::redb::failure;
use crate::storage::redb::failure::{Contained, ContainedWrite};
use crate::storage::redb::meta::begin_durable;
use crate::storage::{ChangeSet, ObservedKeys};
use redb::Database;

/// A bug that the fault harness must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(unreachable_pub, reason = "public for the fault harness alone")]
pub enum InjectedFault {
    /// The reads of a transaction are not validated at its commit.
    ReadsAreNotValidated,
    /// The rows that a transaction read are taken for redb's current rows, even if a checkpoint has written newer
    /// ones.
    ReadsAreTakenForCurrent,
    /// A commit is published before it is synced.
    PublishedBeforeTheSync,
    /// The last package of a commit is not written.
    APackageIsForgotten,
    /// redb's durable commits use one phase.
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

    /// Begins a transaction of a checkpoint.
    pub(crate) fn begin(self, database: &Database) -> Result<ContainedWrite> {
        if self.has(InjectedFault::OnePhase) {
            let txn = database.begin_write().map_err(failure::transaction)?;
            return Ok(Contained::new(txn));
        }
        begin_durable(database)
    }

    /// Whether rows that were read count as current, however old they are.
    pub(crate) fn trusts_old_reads(self) -> bool {
        self.has(InjectedFault::ReadsAreTakenForCurrent)
    }

    /// Whether a commit is published before it is durable.
    pub(crate) fn shows_early(self) -> bool {
        self.has(InjectedFault::PublishedBeforeTheSync)
    }

    /// Removes observations before they are validated.
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

    /// Removes changes before they are written.
    pub(crate) fn before_writing(self, writes: &mut MergedWrites) {
        if self.has(InjectedFault::APackageIsForgotten) && writes.packages.len() > 1 {
            writes.packages.pop();
        }
    }
}

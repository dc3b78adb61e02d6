//! Savepoints (C2.5): copies of the changes, in a stack. What was read since stays read.

use super::changes::Changes;
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A point in a transaction to [roll back](crate::Txn::rollback_to) to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Savepoint(u64);

/// The changes at some point; `None` where there were none.
type Then = Option<Arc<Changes>>;

#[derive(Default)]
pub(super) struct Savepoints(Vec<(u64, Then)>);

impl Savepoints {
    pub(super) fn set(&mut self, changes: Option<&Arc<Changes>>) -> Savepoint {
        // Unique in the process, so that one of another transaction is never taken for ours.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.0.push((number, changes.cloned()));
        Savepoint(number)
    }

    /// The changes as they were, and those of the savepoints set since, which are gone; this one
    /// stays.
    pub(super) fn back_to(&mut self, savepoint: &Savepoint) -> Result<(Then, Vec<Then>)> {
        let found = self.0.iter().position(|(n, _)| *n == savepoint.0);
        let Some(at) = found else {
            return Err(Error::new(
                ErrorKind::NoSuchSavepoint,
                "the savepoint was rolled past, or belongs to another transaction",
            ));
        };
        let passed = self.0.drain(at + 1..).map(|(_, changes)| changes).collect();
        let changes = self.0.last().and_then(|(_, changes)| changes.clone());
        Ok((changes, passed))
    }
}

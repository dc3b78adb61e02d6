//! Savepoints (C2.5): a stack of lengths of the log of changes. Reads are never undone.

use crate::error::{Error, ErrorKind, Result};
use crate::transaction::state::changes::{Undo, UndoLog};
use std::sync::atomic::{AtomicU64, Ordering};

/// A point in a transaction to [roll back](crate::Txn::rollback_to) to.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// let txn = store.begin()?;
/// let cart = txn.session(&id)?.pkg("cart");
/// cart.insert("tea", 2)?;
/// let before = txn.savepoint()?;
/// cart.insert("tea", 99)?;
/// txn.rollback_to(&before)?;
/// assert_eq!(cart.get("tea")?, Some(2));
/// txn.commit()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Savepoint(u64);

#[derive(Default)]
pub(crate) struct Savepoints {
    /// The log of changes since the first savepoint.
    pub(crate) log: UndoLog,
    /// The length of the log at each savepoint, by ascending number.
    set: Vec<(u64, usize)>,
}

impl Savepoints {
    pub(crate) fn set(&mut self) -> Savepoint {
        // Unique in the process, so that a savepoint of another transaction is recognized.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.log.is_kept = true;
        self.set.push((number, self.log.undo.len()));
        Savepoint(number)
    }

    /// The changes to undo, the oldest first. Removes the later savepoints and keeps this one.
    pub(crate) fn back_to(&mut self, savepoint: &Savepoint) -> Result<Vec<Undo>> {
        let found = self.set.binary_search_by_key(&savepoint.0, |(n, _)| *n);
        let there = found.ok().and_then(|at| Some((at, self.set.get(at)?.1)));
        let Some((at, len)) = there else {
            return Err(Error::new(
                ErrorKind::NoSuchSavepoint,
                "the savepoint was rolled past, or belongs to another transaction",
            ));
        };
        self.set.truncate(at + 1);
        Ok(self.log.undo.split_off(len))
    }
}

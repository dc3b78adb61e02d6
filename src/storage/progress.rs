//! How far the reading of a store has come.

use crate::error::{Error, ErrorKind, Result};
use std::ops::ControlFlow;

/// After how many rows progress is told.
const TOLD: u64 = 256;

/// How far a check or a salvage has come.
///
/// ```
/// use cloakroom::Store;
/// use std::ops::ControlFlow;
///
/// let store = Store::in_memory()?;
/// let check = store.check_with(|so_far| {
///     println!("{} of about {} rows", so_far.rows, so_far.of);
///     ControlFlow::Continue(())
/// })?;
/// assert!(check.is_complete);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowProgress {
    /// Rows that were read: sessions, packages, entries of owners, and tombstones of ended sessions.
    pub rows: u64,
    /// How many there are, about; 0 if that is not known.
    pub of: u64,
}

/// Is told how many rows were read, and may break off.
pub(crate) type RowProgressFn<'a> = dyn FnMut(RowProgress) -> ControlFlow<()> + Send + 'a;

/// Counts the rows that are read, and tells of them.
pub(crate) struct RowCounter<'a> {
    progress: &'a mut RowProgressFn<'a>,
    so_far: RowProgress,
    is_broken_off: bool,
}

impl<'a> RowCounter<'a> {
    pub(crate) fn new(progress: &'a mut RowProgressFn<'a>) -> Self {
        Self {
            progress,
            so_far: RowProgress::default(),
            is_broken_off: false,
        }
    }

    /// Now it is known about how many rows there are.
    ///
    /// # Errors
    ///
    /// `Interrupted` if the progress breaks off.
    pub(crate) fn of(&mut self, rows: u64) -> Result<()> {
        self.so_far.of = rows;
        self.tell()
    }

    /// A row was read.
    ///
    /// # Errors
    ///
    /// `Interrupted` if the progress breaks off.
    pub(crate) fn count(&mut self) -> Result<()> {
        self.so_far.rows += 1;
        match self.so_far.rows.is_multiple_of(TOLD) {
            true => self.tell(),
            false => Ok(()),
        }
    }

    fn tell(&mut self) -> Result<()> {
        self.is_broken_off |= (self.progress)(self.so_far).is_break();
        match self.is_broken_off {
            true => Err(broken_off()),
            false => Ok(()),
        }
    }

    /// Whether the caller has broken the work off.
    pub(crate) fn is_broken_off(&self) -> bool {
        self.is_broken_off
    }
}

/// The error of an operation that its caller breaks off.
pub(crate) fn broken_off() -> Error {
    Error::new(ErrorKind::Interrupted, "the caller broke the operation off")
}

//! Which process a store was opened in. One that was forked from it has all its memory, but only one of its
//! threads: what it did to the files nobody would answer, and the other process would overwrite (C7.5). A fork that does not come through the C library goes unnoticed.

use crate::error::{Error, ErrorKind, Result};

/// The process in which this was made.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    id: u32,
    guard: forkguard::Guard,
}

impl Default for Process {
    fn default() -> Self {
        Self::this()
    }
}

impl Process {
    pub(crate) fn this() -> Self {
        Self {
            id: std::process::id(),
            guard: forkguard::Guard::default(),
        }
    }

    /// The comparison of a counter, which a fork raises in the new process.
    pub(crate) fn is_this(&self) -> bool {
        !self.guard.clone().detected_fork()
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_this() {
            return Ok(());
        }
        let why = format!(
            "the store was opened in process {}, and this is {}, forked from it: daemonize before opening",
            self.id,
            std::process::id()
        );
        Err(Error::new(ErrorKind::OtherProcess, why))
    }
}

//! The process in which a store was opened. A forked process has a copy of its memory, but only one of its threads: no
//! thread would serve its commits, and both processes would write to the same files (C7.5). A fork that bypasses the C
//! library is not detected.

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

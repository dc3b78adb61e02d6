//! Which process a store was opened in. One that was forked from it has all its memory, but only one of its
//! threads: what it did to the files nobody would answer, and the other process would overwrite (C7.5).

use crate::error::{Error, ErrorKind, Result};

/// The process in which this was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn this() -> Self {
        Self(std::process::id())
    }

    /// A call to the system: once for each beginning and each end of a transaction is enough.
    pub(crate) fn is_this(self) -> bool {
        self.0 == std::process::id()
    }

    pub(crate) fn check(self) -> Result<()> {
        if self.is_this() {
            return Ok(());
        }
        let why = format!(
            "the store was opened in process {}, and this is {}, forked from it: daemonize before opening",
            self.0,
            std::process::id()
        );
        Err(Error::new(ErrorKind::OtherProcess, why))
    }
}

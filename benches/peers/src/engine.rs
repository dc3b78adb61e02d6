//! The interface of an engine to the benches: create a store of sessions, open it, write and read.

use crate::run::{Load, Run};
use anyhow::Result;
use std::path::PathBuf;

/// Changes one package of a session, by the session's number, and returns when that is on the disk.
pub(crate) type Writer<'a> = Box<dyn FnMut(usize, &str) -> Result<()> + Send + 'a>;

/// Loads a session as the latest commit left it, and shows what its two packages hold.
pub(crate) type Reader<'a> = Box<dyn FnMut(usize, &mut dyn FnMut(&[u8])) -> Result<()> + Send + 'a>;

/// Where an engine keeps its files, and how many sessions are in them.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    pub(crate) sessions: usize,
}

/// A kind of engine.
pub(crate) trait Peer: Sync {
    fn name(&self) -> &'static str;

    /// What it is and how it is set, in a few words.
    fn about(&self) -> &'static str;

    /// How its bytes are counted.
    fn counted(&self) -> &'static str {
        "wchar of /proc/self/io"
    }

    /// What has to be installed first, and how; `None` if it can run.
    fn missing(&self) -> Option<String> {
        None
    }

    /// Makes the sessions, in an empty folder.
    fn make(&self, site: &Site) -> Result<()>;

    /// Opens what is there.
    fn open(&self, site: &Site) -> Result<Box<dyn Engine>>;
}

/// An engine that is open.
pub(crate) trait Engine: Send + Sync {
    fn writer(&self) -> Result<Writer<'_>>;

    fn reader(&self) -> Result<Reader<'_>>;

    /// Bytes written to files since it was opened, where it counts them itself.
    fn written(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// The process that does the writing, if it is not this one.
    fn process(&self) -> Option<u32> {
        None
    }

    /// Runs a load by itself, where the writers cannot be threads of this process.
    fn commits(&self, _load: &Load) -> Result<Option<Run>> {
        Ok(None)
    }

    /// As `commits`, for reading.
    fn loads(&self, _load: &Load) -> Result<Option<Run>> {
        Ok(None)
    }

    /// Brings everything to its place on the disk. Tells the bytes written since it was opened, where
    /// it counts them itself.
    fn close(self: Box<Self>) -> Result<Option<u64>>;
}

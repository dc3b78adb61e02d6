//! The folder in which a store opens, creates and names its files: of the file system, or of the fault harness. It
//! does not know their contents.

#[cfg(any(test, not(unix)))]
mod elsewhere;
mod files;
mod location;
#[cfg(unix)]
mod unix;

#[cfg(any(test, feature = "torture"))]
#[allow(unreachable_pub, reason = "public for the fault harness alone")]
pub use files::Folder;
pub(crate) use files::is_no_regular_file;
#[allow(unreachable_pub, reason = "public for the fault harness alone")]
pub use files::{Access, NewFile};
pub(crate) use location::Location;

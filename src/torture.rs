//! What the fault harness reaches through. No part of the public interface: it changes without notice.

pub use crate::storage::redb::bugs::Bug;
pub use crate::storage::redb::folder::Folder;

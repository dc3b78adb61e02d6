//! The files below redb: the folder that they lie in, the disk, and the backends that redb reads and writes through.

pub(crate) mod disk;
pub(crate) mod file_io;
pub(crate) mod folder;
pub(crate) mod overlay;
pub(crate) mod page_bounds;
pub(crate) mod page_copies;
pub(crate) mod store_backend;
pub(crate) mod unreadable;
pub(crate) mod write_buffer;

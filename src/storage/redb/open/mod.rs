//! How a store is created, identified, locked, migrated and opened.

pub(crate) mod create;
pub(crate) mod identify;
pub(crate) mod locks;
pub(crate) mod migrate;
pub(crate) mod private;

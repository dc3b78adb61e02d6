//! How a store is created, identified, locked, migrated and opened.

pub(crate) mod compact;
pub(crate) mod create;
pub(crate) mod database;
pub(crate) mod enter;
pub(crate) mod identify;
pub(crate) mod identity;
pub(crate) mod locks;
pub(crate) mod migrate;
pub(crate) mod options;
pub(crate) mod private;
pub(crate) mod taken_over;

//! Reads redb's pages without redb: checks the stored data, and salvages the readable data of a damaged store.

pub(crate) mod inspect;
pub(crate) mod newer;
pub(crate) mod pages;
pub(crate) mod salvage;

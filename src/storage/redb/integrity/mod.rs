//! Reads redb's pages without redb: checks what is stored, and salvages what can be read of a damaged store.

pub(crate) mod inspect;
pub(crate) mod newer;
pub(crate) mod pages;
pub(crate) mod salvage;

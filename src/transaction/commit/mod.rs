//! How a transaction is packed, submitted and, if a commute is stale, computed again.

pub(crate) mod access;
mod carried;
mod differ;
pub(crate) mod pack;
mod packages;
pub(crate) mod recompute;
pub(crate) mod start;
pub(crate) mod submit;
mod told;

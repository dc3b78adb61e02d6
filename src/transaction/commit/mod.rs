//! How a transaction is packed, submitted and, if a commute is stale, computed again.

pub(crate) mod pack;
pub(crate) mod recompute;
pub(crate) mod submit;

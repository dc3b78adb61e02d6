//! The turns of sessions: a fair line for each session, in the memory of the process.

pub(crate) mod lines;
pub(crate) mod turn;

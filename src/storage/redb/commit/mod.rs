//! The commit path: the queue, the batches of group commit, and the threads that commit them.

pub(crate) mod batch;
pub(crate) mod committer;
pub(crate) mod ended;
pub(crate) mod errors;
pub(crate) mod job;
pub(crate) mod kept_back;
pub(crate) mod member;
pub(crate) mod queue;
mod taker;
pub(crate) mod touches;

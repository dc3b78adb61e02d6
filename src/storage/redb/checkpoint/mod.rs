//! Checkpoints write the rows of the journal to redb, on a thread of their own.

pub(crate) mod checkpointer;
pub(crate) mod configure;
pub(crate) mod moved_pages;
pub(crate) mod task;

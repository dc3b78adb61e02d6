//! The committer: takes the jobs that wait, makes each batch durable, has checkpoints made, and opens the files again
//! after a failure of the storage (C2.13).

mod backpressure;
mod core;
mod group_commit;
mod leader;
mod publish;
mod recovery;
mod state;
mod tasks;

pub(crate) use crate::storage::redb::commit::committer::core::{Committer, DatabaseLocation};
pub(crate) use crate::storage::redb::commit::committer::leader::CommitLeader;

//! The engine on redb: one file, one writer thread, group commit, shared snapshots. It knows bytes and versions. It
//! knows neither the meaning of values nor the expiry of sessions.

pub(crate) mod backend;
pub(crate) mod backup;
pub(crate) mod checkpoint;
pub(crate) mod commit;
mod commit_number;
pub(crate) mod engine;
mod failure;
pub(crate) mod fault_injection;
mod format;
pub(crate) mod integrity;
pub(crate) mod journal;
pub(crate) mod mark;
pub(crate) mod memtable;
mod meta;
mod names;
pub(crate) mod open;
mod own_tables;
mod reply;
mod sealing;
mod shared;
mod tables;

pub(crate) use crate::storage::admission::AdmissionBounds;
pub(crate) use crate::storage::redb::backend::folder::Location;
pub(crate) use crate::storage::redb::engine::Engine;
pub(crate) use crate::storage::redb::integrity::salvage::{OwnSecrets, salvage};
pub(crate) use crate::storage::redb::open::compact::compact;
pub(crate) use crate::storage::redb::open::identify::location;
pub(crate) use crate::storage::redb::open::options::OpenOptions;
pub(crate) use crate::storage::redb::shared::{
    EngineCounters, EngineRules, EngineShared, JournalRules,
};

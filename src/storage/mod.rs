//! The seam to the engines: the traits that an engine implements, the change sets that it commits, and the rows and
//! the merge that all engines share.

pub(crate) mod admission;
mod answer;
mod change_set;
#[cfg(any(test, feature = "torture"))]
pub(crate) mod composite;
mod container_id;
mod engine;
#[cfg(any(test, feature = "torture"))]
pub(crate) mod fake_remote;
mod foreign;
#[cfg(any(test, feature = "torture"))]
pub(crate) mod memory;
mod memory_size;
pub(crate) mod merge;
pub(crate) mod quota;
pub(crate) mod record;
pub(crate) mod redb;
mod row_writes;
mod settings;
mod version;

pub(crate) use answer::Answer;
pub(crate) use change_set::{
    Arrival, ChangeBase, ChangeSet, ChangeStep, ClientChange, Commute, KeyChange, Limits, Observed,
    ObservedKeys, PackageChange, RecordedTimes, Seen, SeenState, SessionEnd, SessionRef,
    StaleCommute, TombstonePolicy, Touch, TouchAt,
};
pub(crate) use container_id::{ContainerHome, ContainerId, ContainerRef};
pub use engine::Damage;
pub(crate) use engine::{
    Checked, CommitCallback, Counters, FileCounters, Finding, LocalEngine, Outcome, Resubmit,
    Salvaged, SessionPage, Snapshot, Storage, Submission, TouchOutcome, WaiterKind,
};
pub(crate) use foreign::ForeignRows;
pub(crate) use row_writes::{MergedWrites, PackageWrite, SessionWrite};
pub(crate) use settings::{
    ContainerSpec, SecretRecord, SettingsChange, StoreSettings, no_such_container,
};
pub(crate) use version::{Mark, Version};

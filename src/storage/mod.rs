//! The seam to the engines: the traits that an engine implements, the change sets that it commits, and the rows and
//! the merge that all engines share.

mod access;
pub(crate) mod admission;
#[cfg(any(test, feature = "torture", feature = "postgres"))]
mod admission_line;
mod answer;
mod backup;
#[cfg_attr(
    not(feature = "cookie-containers"),
    allow(dead_code, reason = "only a request brings rows along")
)]
pub(crate) mod carried;
mod change_set;
#[cfg(feature = "torture")]
mod chosen_engine;
pub(crate) mod composite;
mod container_id;
mod engine;
#[cfg(any(test, feature = "torture"))]
pub(crate) mod fake_remote;
mod findings;
mod foreign;
#[cfg_attr(
    not(any(test, feature = "torture")),
    allow(dead_code, reason = "the server for tests uses all of it")
)]
pub(crate) mod memory;
mod memory_size;
pub(crate) mod merge;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod progress;
pub(crate) mod quota;
pub(crate) mod recent_ends;
pub(crate) mod record;
pub(crate) mod redb;
mod row_writes;
mod settings;
mod version;

pub(crate) use access::{RecordedTimes, SessionRef, Touch, TouchAt};
pub(crate) use answer::Answer;
pub use backup::{BackupPhase, BackupProgress};
pub(crate) use backup::{
    BackupRow, BackupRows, BackupSummary, PreviousBackup, ProgressFn, StateFn, ToldFn, report,
};
#[cfg(feature = "export")]
pub use change_set::OnDuplicate;
#[cfg(not(feature = "export"))]
pub(crate) use change_set::OnDuplicate;
pub(crate) use change_set::{
    Arrival, ChangeBase, ChangeSet, ChangeStep, ClientChange, Commute, KeyChange, Limits, Observed,
    ObservedKeys, PackageChange, Seen, SeenState, SessionEnd, StaleCommute, TombstonePolicy,
};
#[cfg(all(feature = "postgres", feature = "torture"))]
pub(crate) use chosen_engine::ChosenServer;
#[cfg(feature = "torture")]
pub(crate) use chosen_engine::{ChosenEngine, chosen_engine};
pub(crate) use container_id::{ContainerHome, ContainerId, ContainerRef};
pub use engine::Damage;
#[cfg(feature = "encryption")]
pub(crate) use engine::ResealStep;
pub(crate) use engine::{
    Checked, CommitCallback, Counters, FileCounters, Finding, LocalEngine, NewestTimes, Outcome,
    Resubmit, SWEPT_TOGETHER, Salvaged, SessionPage, ShownTimes, Snapshot, StalePage, Storage,
    Submission, TouchOutcome, WaiterKind, of_first_clients,
};
pub(crate) use findings::{ClientFindings, MergeFindings};
pub(crate) use foreign::{ForeignCommit, ForeignHold, ForeignRows};
pub use progress::RowProgress;
pub(crate) use progress::{RowCounter, RowProgressFn, broken_off};
pub(crate) use row_writes::{MemoryWrites, MergedWrites, PackageWrite, SessionWrite};
pub(crate) use settings::{
    AliasSpec, ContainerSpec, SecretRecord, SettingsChange, StoreSettings, newest_secret,
    no_such_container,
};
pub(crate) use version::{Mark, Version};

//! The store: opens, wires and owns everything below it.

mod backup;
mod backup_mark;
mod builder;
mod builder_events;
mod check;
mod compact;
#[cfg(feature = "postgres")]
mod connect;
mod containers;
mod copy;
mod entry;
#[cfg(feature = "export")]
mod export;
#[cfg(feature = "export")]
mod export_lines;
mod file_settings;
mod handle;
#[cfg(feature = "export")]
mod import;
#[cfg(feature = "export")]
mod import_reader;
mod memory;
mod open;
#[cfg(feature = "postgres")]
mod postgres_settings;
#[cfg(feature = "encryption")]
mod reseal;
mod salvage;
mod secrets;
mod session_batch;
mod session_walk;
mod sessions;
mod statistics;
mod store;
mod sweeper;
mod transact;

pub use backup::{Backup, PreviousLink};
pub use backup_mark::BackupMark;
pub use builder::StoreBuilder;
pub use check::Check;
pub use compact::Compaction;
pub use copy::Copied;
pub use entry::{EntryKey, EntryPackage, EntryPart, SessionEntry};
#[cfg(feature = "export")]
pub use export::Exported;
pub use handle::SessionHandle;
#[cfg(feature = "export")]
pub use import::{ImportSettings, Imported};
#[cfg(feature = "postgres")]
pub use postgres_settings::PostgresSettings;
#[cfg(feature = "encryption")]
pub use reseal::Reseal;
pub use salvage::Salvage;
pub use secrets::SecretInfo;
pub use sessions::{OwnerSessions, SessionInfo};
pub use statistics::Statistics;
pub use store::Store;

#[cfg(test)]
mod background_tests;
#[cfg(test)]
#[cfg(feature = "torture")]
mod calls_tests;
#[cfg(test)]
mod containers_tests;
#[cfg(all(test, feature = "export", feature = "http"))]
mod import_tests;
#[cfg(test)]
#[cfg(feature = "torture")]
mod late_tests;
#[cfg(test)]
mod rerun_tests;
#[cfg(test)]
mod sessions_tests;

//! The store: opens, wires and owns everything below it.

mod builder;
mod builder_events;
mod check;
mod containers;
mod file_settings;
mod handle;
mod memory;
mod open;
#[cfg(feature = "encryption")]
mod reseal;
mod salvage;
mod secrets;
mod sessions;
mod statistics;
mod store;
mod sweeper;
mod transact;

pub use builder::StoreBuilder;
pub use check::Check;
pub use handle::SessionHandle;
#[cfg(feature = "encryption")]
pub use reseal::Reseal;
pub use salvage::Salvage;
pub use sessions::SessionInfo;
pub use statistics::Statistics;
pub use store::Store;

#[cfg(test)]
mod background_tests;
#[cfg(test)]
#[cfg(feature = "torture")]
mod calls_tests;
#[cfg(test)]
mod containers_tests;
#[cfg(test)]
#[cfg(feature = "torture")]
mod late_tests;
#[cfg(test)]
mod rerun_tests;
#[cfg(test)]
mod sessions_tests;

//! cloakroom's fault harness: it injects faults below a store and checks the result against the contract. Figures and
//! findings are in `docs/reliability.md`.

#![allow(missing_docs, reason = "nobody else builds on it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken assumption of the harness ends the run"
)]

#[cfg(feature = "postgres")]
pub mod applications;
pub mod backups;
pub mod child;
pub mod descriptors;
pub mod disk;
#[cfg(feature = "postgres")]
pub mod failover;
pub mod flips;
pub mod full;
pub mod fuzz;
pub mod history;
mod judge;
pub mod kill;
mod ledger;
pub mod load;
pub mod making;
pub mod model;
#[cfg(feature = "postgres")]
pub mod network;
#[cfg(feature = "postgres")]
pub mod outage;
pub mod owners;
mod process;
pub mod run;
pub mod serve;
#[cfg(feature = "postgres")]
pub mod several;
pub mod simulation;
pub mod soak;
mod space;
pub mod sweeping;
mod twin_packages;

//! C10: several processes on one server.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod accesses;
mod batches;
mod commands;
mod encryption;
mod held;
mod histories;
mod locks;
mod memory_parts;
mod moments;
mod opening;
mod outages;
mod place;
mod places;
mod races;
mod restores;
mod rules;
mod settings;
mod statements;
mod sweeps;
mod tls;

//! PostgreSQL for tests: servers in temporary folders, with standbys, a pooler and a bad network between. Knows nothing of
//! cloakroom.
//!
//! A test calls [`database`] and gets one of its own on the server that all tests of the process share. Without PostgreSQL
//! on this machine it gets `None`, and the standard error says so. With `CLOAKROOM_POSTGRES=required` it panics.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a server that does not start ends the test"
)]

mod database;
mod folder;
mod install;
#[cfg(target_os = "linux")]
mod link;
mod pair;
mod pooler;
mod ports;
mod proxy;
mod server;
mod tls;

pub use database::{Database, Role, database, shared};
pub use install::{is_available, is_pooler_available};
#[cfg(target_os = "linux")]
pub use link::{Disturbance, Link, are_namespaces_available, own_network};
pub use pair::{Mirroring, Pair, Watcher};
pub use pooler::Pooler;
pub use proxy::{Passage, Proxy};
pub use server::{Server, ServerBuilder, processor_time, processor_time_of_ended};

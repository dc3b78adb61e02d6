//! What several tests share, by theme.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test is a crate of its own, and uses some of it"
)]

pub(crate) mod clock;
pub(crate) mod damage;
pub(crate) mod engine;
pub(crate) mod files;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod runtime;
pub(crate) mod server;
pub(crate) mod store;
pub(crate) mod visitors;
pub(crate) mod wait;
pub(crate) mod writer;

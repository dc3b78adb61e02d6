//! What several tests share; what those of the store itself share, too.
#![allow(
    dead_code,
    reason = "each test is a crate of its own, and uses some of it"
)]

#[path = "../../../tests/support/clock.rs"]
pub(crate) mod clock;
#[path = "../../../tests/support/files.rs"]
pub(crate) mod files;
#[path = "../../../tests/support/log.rs"]
pub(crate) mod log;
#[path = "../../../tests/support/store.rs"]
pub(crate) mod store;
#[path = "../../../tests/support/visitors.rs"]
pub(crate) mod visitors;
#[path = "../../../tests/support/wait.rs"]
pub(crate) mod wait;

//! A second engine, for tests: a server in memory behind a network on which everything comes late and in any order. Its
//! servers last as long as the process. Proves that nothing above the seam assumes redb.

mod engine;
mod network;
mod server;
mod snapshot;
mod wire;

pub(crate) use engine::{FakeRemote, RemoteRules};
#[cfg(test)]
pub(crate) use wire::times_asked;

//! A second engine, for tests: a server in memory behind a network on which everything comes late and in any order. Its
//! servers last as long as the process. Proves that nothing above the seam assumes redb.

#[cfg(feature = "torture")]
mod choice;
mod engine;
mod line;
mod network;
mod server;
mod snapshot;
mod wire;

#[cfg(feature = "torture")]
pub(crate) use choice::chosen_seed;
pub(crate) use engine::{FakeRemote, RemoteRules};
#[cfg(test)]
pub(crate) use wire::times_asked;

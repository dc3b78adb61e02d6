//! Random transactions against an executable specification of the contract (C2, C3, C4.7, C4.8). It
//! predicts every value read and the outcome of every commit.
//!
//! Where the contract leaves freedom, the specification says which way it is taken:
//! - A session is looked at when a transaction first needs it, in the container concerned, or in all of
//!   them where there is none yet. Its existence is that of the snapshot, its access time the latest.
//! - A key that the transaction itself put or removed is its own and not read; a sum of its own on top of
//!   what is stored is read. Listing reads all of a package, own or not.
//! - Destroying or rotating what is not there, and founding a session elsewhere because of that, observes that
//!   it is not there. Destroying what has expired ends it.
//! - A transaction that changes a session conflicts if that ended in any container that it looked at,
//!   also by a sweep.

mod ops;
mod play;
mod recover;
mod spec;
mod together;

pub use ops::{Cookies, Op, Scene, op, scene, scene_on_disk};
pub use play::Play;
pub use recover::{Mismatch, Recovered, Verdict};
pub use spec::{At, ModelContainer, Policy};

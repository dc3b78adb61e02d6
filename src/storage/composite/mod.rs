//! A durable engine and the containers in memory as one engine (C1.7). Each container's part of a change set goes to its
//! engine. Neither engine knows the other.

mod driver;
mod engine;
mod gate;
mod memory;
mod memory_snapshot;
mod moving;
mod shared;
mod snapshot;
mod submit;
mod times;

pub(crate) use engine::Composite;
pub(crate) use memory::MemoryRules;

//! Two engines as one: a durable one, and one for the containers in memory (C1.7). Each container's part of a change set
//! goes to its engine. Neither engine knows of the other.

mod driver;
mod engine;
mod gate;
mod memory;
mod snapshot;

pub(crate) use engine::Composite;
pub(crate) use memory::MemoryRules;

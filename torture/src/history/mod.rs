//! Histories of concurrent transactions, recorded from real threads and held against strict
//! serializability (C2.7).

mod checker;
#[cfg(test)]
mod checker_tests;
mod graph;
mod model;
mod replay;
mod sources;

pub use checker::check;
pub use model::{Anomaly, Name, Op, Outcome, Tick, Transaction};

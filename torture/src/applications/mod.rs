//! Processes of an application that commit to one server while something is done to it, and what is there afterwards.

mod account;
mod application;
mod fleet;

pub(crate) use account::Totals;
pub use application::{Arguments, run};
pub(crate) use fleet::Applications;

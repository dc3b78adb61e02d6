//! Validates a change set against the newest rows, and computes the rows to write. It is pure: each engine calls it
//! within its own write transaction.

mod carried;
mod checks;
mod foreign;
mod import;
mod package;
mod resolve;
mod rows;
mod session;
#[cfg(test)]
mod tests;
mod writes;

pub(crate) use checks::{check_name, ended_on_the_way, found_expired, lost_package, too_many_keys};
pub(crate) use resolve::resolve;
pub(crate) use rows::{CurrentRows, MergeRefusal};

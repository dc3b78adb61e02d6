//! The rows of containers that live in the visitor's cookie (C8.6). No engine keeps them: a request brings them along, and
//! its response takes them back. It knows nothing of cookies and seals.

mod change;
mod rows;
mod snapshot;

pub(crate) use change::{CarriedChange, CarriedLimit, CarriedOutcome};
pub(crate) use rows::CarriedRows;
pub(crate) use snapshot::CarriedSnapshot;

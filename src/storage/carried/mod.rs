//! The rows of containers that live in the visitor's cookie (C8.6). No engine keeps them: they come with a request, and
//! its response returns them. Knows neither cookies nor seals.

mod change;
mod rows;
mod snapshot;

pub(crate) use change::{CarriedChange, CarriedLimit, CarriedOutcome};
pub(crate) use rows::CarriedRows;
pub(crate) use snapshot::CarriedSnapshot;

//! The contents of rows, and their encoding. Only this module knows bincode. It knows no tables.

mod codec;
mod container;
mod frame;
mod package;
mod session;
#[cfg(test)]
mod tests;

#[cfg(feature = "torture")]
pub(crate) use codec::seal_raw;
pub(crate) use codec::{
    PlainValue, RecordKind, millis, open_plain, seal_plain, verify, whole_millis,
};
pub(crate) use container::ContainerRecord;
pub(crate) use frame::{open_frame, seal_frame};
pub(crate) use package::{PackageRow, package_key};
pub(crate) use session::{AccessPart, MovedTo, SessionRow, client_of, session_key};

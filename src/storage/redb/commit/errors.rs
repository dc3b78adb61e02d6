//! The errors of commits that the writer did not serve.

use crate::error::{Error, ErrorKind};

pub(crate) fn gone() -> Error {
    Error::stopped()
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed")
}

pub(crate) fn full() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the disk is full: the store serves what there is, and commits once there is room",
    )
}

/// The rows of a job that was taken into a batch may be on the disk.
pub(crate) fn stopped_during_commit() -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "the store's writer stopped during the commit; it may or may not be kept",
    )
}

pub(crate) fn outcome_unknown(cause: Error) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "storage failed while the commit was made durable; it may or may not be kept",
    )
    .with_source(cause)
}

pub(crate) fn reopening() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the store is reopening its file after a failure",
    )
}

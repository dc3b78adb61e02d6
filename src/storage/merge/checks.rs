//! The errors of the merge, and the checks of a session's limits.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ContainerRef, Limits};
use std::time::Duration;

pub(super) fn conflict(what: &str) -> Error {
    Error::new(ErrorKind::Conflict, what)
}

/// The error of a request that arrived before its session ended and commits afterwards. Such a request must not send a
/// new id (C4.8). A later request may.
pub(crate) fn ended_on_the_way() -> Error {
    conflict("the session ended after the request that bears its id had come")
        .lasting(Duration::from_secs(1))
}

/// The error if another transaction has found the session expired meanwhile (C2.11, C3.2).
pub(crate) fn found_expired(container: &str) -> Error {
    conflict("the session has expired, and was found so meanwhile").in_container(container)
}

pub(crate) fn lost_package() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the session lists a package whose row is missing",
    )
}

pub(super) fn too_large(what: &str, size: usize, limit: usize, unit: &str) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("{what}: {size}{unit}, of {limit}{unit} at most"),
    )
}

pub(crate) fn too_many_keys(keys: usize, limits: &Limits) -> Error {
    too_large("the package has too many keys", keys, limits.keys, "")
}

/// Checks that the record of a package is within its limit (C5.3).
pub(super) fn check_size(
    limits: &Limits,
    place: &ContainerRef,
    package: &str,
    size: usize,
) -> Result<()> {
    if size > limits.package {
        let error = too_large("the package is too large", size, limits.package, " bytes");
        return Err(error.in_container(&*place.name).in_package(package));
    }
    Ok(())
}

/// Checks that a key or a package id is within its limit (C5.3).
pub(crate) fn check_name(what: &str, name: &str, limits: &Limits) -> Result<()> {
    if name.len() > limits.name {
        let what = format!("{what} is too long");
        return Err(too_large(&what, name.len(), limits.name, " bytes"));
    }
    Ok(())
}

//! Random bytes of the operating system.

use crate::error::{Error, ErrorKind, Result};

pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(ErrorKind::Io, "the system has no randomness").with_source(e))?;
    Ok(bytes)
}

/// A random number.
pub(crate) fn seed() -> Result<u64> {
    Ok(u64::from_be_bytes(random()?))
}

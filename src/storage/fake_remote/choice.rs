//! Which tests use this engine.

use crate::error::{Error, ErrorKind, Result};

/// The seed of this engine, if the environment asks for it: `CLOAKROOM_TEST_ENGINE=remote` or `remote:SEED`.
pub(crate) fn chosen_seed() -> Result<Option<u64>> {
    let Some(engine) = std::env::var_os("CLOAKROOM_TEST_ENGINE") else {
        return Ok(None);
    };
    let seed = match engine.to_str() {
        Some("remote") => Some(1),
        Some(engine) => engine
            .strip_prefix("remote:")
            .and_then(|seed| seed.parse().ok()),
        None => None,
    };
    match seed {
        Some(seed) => Ok(Some(seed)),
        None => Err(Error::new(
            ErrorKind::InvalidInput,
            "CLOAKROOM_TEST_ENGINE is to be `remote` or `remote:SEED`",
        )),
    }
}

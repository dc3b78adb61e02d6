//! On which engine the tests run, instead of the one on files.

use crate::error::{Error, ErrorKind, Result};

/// The engine that the environment asks for.
pub(crate) enum ChosenEngine {
    /// An engine whose every call comes late, with this seed.
    FakeRemote(u64),
    /// The engine on a PostgreSQL server.
    #[cfg(feature = "postgres")]
    Postgres(ChosenServer),
}

/// A PostgreSQL server for tests.
#[cfg(feature = "postgres")]
pub(crate) struct ChosenServer {
    pub(crate) url: String,
    /// Whether transactions keep the moment of their first look.
    pub(crate) keeps_first_look: bool,
}

/// The engine that the environment variable `CLOAKROOM_TEST_ENGINE` asks for: `remote`, `remote:SEED`, `postgres` or
/// `postgres:first-look`. The last two need the URL of a server in `CLOAKROOM_TEST_POSTGRES`.
pub(crate) fn chosen_engine() -> Result<Option<ChosenEngine>> {
    let Some(engine) = std::env::var_os("CLOAKROOM_TEST_ENGINE") else {
        return Ok(None);
    };
    let engine = engine.to_str().unwrap_or_default();
    #[cfg(feature = "postgres")]
    if let "postgres" | "postgres:first-look" = engine {
        let url = std::env::var("CLOAKROOM_TEST_POSTGRES");
        let missing = |_| refused("CLOAKROOM_TEST_POSTGRES is to be the URL of a server");
        return Ok(Some(ChosenEngine::Postgres(ChosenServer {
            url: url.map_err(missing)?,
            keeps_first_look: engine != "postgres",
        })));
    }
    let seed = match engine.strip_prefix("remote") {
        Some("") => Some(1),
        Some(seed) => seed.strip_prefix(':').and_then(|seed| seed.parse().ok()),
        None => None,
    };
    match seed {
        Some(seed) => Ok(Some(ChosenEngine::FakeRemote(seed))),
        None => Err(refused(
            "CLOAKROOM_TEST_ENGINE is to be `remote`, `remote:SEED`, `postgres` or `postgres:first-look`",
        )),
    }
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, why)
}

//! Which engine the tests run on.

/// Whether the environment asks for the engine whose every call comes late, instead of the one on files.
pub(crate) fn is_remote() -> bool {
    std::env::var_os("CLOAKROOM_TEST_ENGINE").is_some()
}

/// Whether the environment asks for the engine on a PostgreSQL server.
#[allow(dead_code, reason = "few tests ask")]
pub(crate) fn is_postgres() -> bool {
    std::env::var("CLOAKROOM_TEST_ENGINE").is_ok_and(|engine| engine.starts_with("postgres"))
}

/// Whether a transaction that reads a second session sees the store as of then, and conflicts there if what it has read of
/// the first one was changed meanwhile: the difference that `Store::connect` tells of.
#[allow(dead_code, reason = "not every test reads two sessions")]
pub(crate) fn looks_move() -> bool {
    std::env::var("CLOAKROOM_TEST_ENGINE").is_ok_and(|engine| engine == "postgres")
}

/// Ends a test that concerns files, or how the engine on files schedules its work, where there is another engine. Says
/// so.
macro_rules! needs_files {
    ($why:literal) => {
        if $crate::support::engine::is_remote() {
            eprintln!("SKIPPED on another engine than that on files: {}", $why);
            return;
        }
    };
}
pub(crate) use needs_files;

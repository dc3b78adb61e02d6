//! Which engine the tests run on.

/// Whether the environment asks for the engine whose every call comes late, instead of the one on files.
pub(crate) fn is_remote() -> bool {
    std::env::var_os("CLOAKROOM_TEST_ENGINE").is_some()
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

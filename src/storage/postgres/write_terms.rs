//! The conditions that a statement which writes a row names. Knows no server.

/// Under which conditions a row is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteTerms {
    /// While the settings have this epoch.
    pub(super) epoch: u64,
    /// Until this moment in the server's time.
    pub(super) until: i64,
}

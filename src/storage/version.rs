//! Commits and moments as an engine names them. Above the seam, nothing is known of their order.

/// What tells one commit from another. Above the seam, two versions are equal or not, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(pub(in crate::storage) u64);

#[cfg(feature = "torture")]
impl Version {
    /// For the record tests of the fuzzer.
    pub(crate) const ANY: Self = Self(1);
}

/// A moment in the history of an engine, such as the one at which a transaction began. Only the engine that made it
/// knows what its part says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(in crate::storage) durable: [u64; 2],
    /// The moment of the containers in memory beside that engine (C1.7).
    pub(in crate::storage) memory: u64,
}

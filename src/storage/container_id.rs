//! How change sets and rows name a container.

use std::sync::Arc;

/// The number of a container; no file uses one twice, so what an unregistered container left
/// behind is never seen by a later one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ContainerId(pub(crate) u32);

impl ContainerId {
    /// The container `""`, which always exists.
    pub(crate) const UNNAMED: Self = Self(0);
    const IN_MEMORY: u32 = 1 << 31;

    /// The number of a container that lives in memory (C1.7).
    pub(crate) fn in_memory(number: u32) -> Self {
        Self(number | Self::IN_MEMORY)
    }

    pub(crate) fn is_in_memory(self) -> bool {
        self.0 & Self::IN_MEMORY != 0
    }

    /// The number without the mark of its kind.
    pub(crate) fn number(self) -> u32 {
        self.0 & !Self::IN_MEMORY
    }
}

/// A container as a change set names it: by number, and by name for the errors.
#[derive(Clone, Debug)]
pub(crate) struct ContainerRef {
    pub(crate) id: ContainerId,
    pub(crate) name: Arc<str>,
}

//! How change sets and rows name a container.

use std::sync::Arc;

/// The number of a container. No file uses a number twice, so a container never sees the rows of an unregistered
/// container with the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ContainerId(pub(crate) u32);

impl ContainerId {
    /// The container `""`, which always exists, while its sessions are in the file.
    pub(crate) const UNNAMED: Self = Self(0);
    const IN_MEMORY: u32 = 1 << 31;
    const IN_COOKIE: u32 = 1 << 30;

    /// The id of a container with this number (C1.7).
    pub(crate) fn new(number: u32, home: ContainerHome) -> Self {
        Self(match home {
            ContainerHome::Durable => number,
            ContainerHome::Memory => number | Self::IN_MEMORY,
            ContainerHome::Cookie => number | Self::IN_COOKIE,
        })
    }

    pub(crate) fn home(self) -> ContainerHome {
        if self.is_in_memory() {
            ContainerHome::Memory
        } else if self.is_in_cookie() {
            ContainerHome::Cookie
        } else {
            ContainerHome::Durable
        }
    }

    pub(crate) fn is_in_memory(self) -> bool {
        self.0 & Self::IN_MEMORY != 0
    }

    /// Whether no engine keeps its rows (C8.6).
    pub(crate) fn is_in_cookie(self) -> bool {
        self.0 & Self::IN_COOKIE != 0
    }

    /// Whether it is the container `""`, wherever its sessions are.
    pub(crate) fn is_unnamed(self) -> bool {
        self.number() == Self::UNNAMED.0
    }

    /// The number without the mark of its kind.
    pub(crate) fn number(self) -> u32 {
        self.0 & !(Self::IN_MEMORY | Self::IN_COOKIE)
    }
}

/// Where the rows of a container live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerHome {
    /// In the store's file, or on its server.
    Durable,
    /// In the memory of this process.
    Memory,
    /// In the visitor's cookie.
    Cookie,
}

/// A container as a change set names it: by number, and by name for the errors.
#[derive(Clone, Debug)]
pub(crate) struct ContainerRef {
    pub(crate) id: ContainerId,
    pub(crate) name: Arc<str>,
}

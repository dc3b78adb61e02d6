//! How the tables name the points of their history.

use crate::storage::{ContainerId, Mark};

/// Counts the events of a store: its commits, and the looks that found a session expired. It leaves the engine in a
/// [`Mark`] only: the versions of rows are compared for equality only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Revision(pub(in crate::storage) u64);

/// Which part of a [`Mark`] tells a revision of these tables: a composite of two engines has one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TablesRole {
    /// Tables of a server.
    Server,
    /// Tables of the containers in memory beside another engine.
    BesideAnother,
}

impl TablesRole {
    pub(super) fn revision(self, mark: Mark) -> Revision {
        let [server, _] = mark.durable;
        Revision(match self {
            Self::Server => server,
            Self::BesideAnother => mark.memory,
        })
    }

    /// Whether tables of this role keep a container.
    pub(super) fn keeps(self, container: ContainerId) -> bool {
        container.is_in_memory() == (self == Self::BesideAnother)
    }
}

//! What redb keeps in a [`Mark`]: its commits and its looks are numbered.

use crate::storage::Mark;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RedbMark {
    /// The number of the newest commit.
    pub(crate) commit: u64,
    /// How many sessions had been found expired.
    pub(crate) looks: u64,
}

impl RedbMark {
    /// Later than all looks: for an access that no look may discard.
    pub(crate) const AFTER_ALL_LOOKS: Self = Self {
        commit: u64::MAX,
        looks: u64::MAX,
    };
}

impl From<Mark> for RedbMark {
    fn from(mark: Mark) -> Self {
        let [commit, looks] = mark.durable;
        Self { commit, looks }
    }
}

impl From<RedbMark> for Mark {
    fn from(mark: RedbMark) -> Self {
        Self {
            durable: [mark.commit, mark.looks],
            memory: 0,
        }
    }
}

//! How far the queue has come, and what its taker does: the thread that takes jobs from it.

use crate::error::Error;
use crate::storage::redb::commit::errors::{closed, gone};
use std::time::Instant;

/// How far the queue has come. It only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// It takes no more jobs; what is queued is still committed.
    Closing,
    /// It was closed, and nobody takes jobs any more.
    Closed,
    /// The taker has ended without being told to close.
    Gone,
}

impl Phase {
    /// The store is being closed.
    pub(super) fn closed(self) -> Self {
        match self {
            Self::Open | Self::Closing => Self::Closing,
            Self::Closed | Self::Gone => Self::Closed,
        }
    }

    /// Nobody takes jobs any more.
    pub(super) fn ended(self) -> Self {
        match self {
            Self::Open | Self::Gone => Self::Gone,
            Self::Closing | Self::Closed => Self::Closed,
        }
    }

    pub(super) fn is_closing(self) -> bool {
        matches!(self, Self::Closing | Self::Closed)
    }

    /// Why nothing is taken any more, where that is so.
    pub(super) fn refusal(self) -> Option<Error> {
        match self {
            Self::Open => None,
            Self::Closing | Self::Closed => Some(closed()),
            Self::Gone => Some(gone()),
        }
    }
}

/// What the taker is called for besides jobs. A later one includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    #[default]
    None,
    /// To do what is due.
    Upkeep,
    /// The databases may be broken.
    Suspect,
}

/// The thread that takes jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    /// It works, or has been woken.
    Awake,
    Asleep {
        /// When it wakes by itself.
        until: Option<Instant>,
        help: Help,
    },
}

/// Whether other threads may take jobs while the taker sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Help {
    Allowed,
    Refused,
}

impl Taker {
    pub(super) fn is_asleep(self) -> bool {
        matches!(self, Self::Asleep { .. })
    }

    pub(super) fn allows_help(self) -> bool {
        matches!(
            self,
            Self::Asleep {
                help: Help::Allowed,
                ..
            }
        )
    }

    /// Whether it is asleep beyond a time. One that is awake looks for itself when it is to wake.
    pub(super) fn sleeps_beyond(self, time: Instant) -> bool {
        match self {
            Self::Awake => false,
            Self::Asleep { until, .. } => until.is_none_or(|until| time < until),
        }
    }
}

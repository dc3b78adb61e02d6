//! The phase of the queue, and the state of its taker: the thread that takes jobs from it.

use crate::error::Error;
use crate::storage::redb::commit::errors::{closed, gone};
use std::time::Instant;

/// The phase of the queue. It only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// It takes no more jobs. Queued jobs are still committed.
    Closing,
    /// It was closed, and the taker has ended.
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

    /// The taker has ended.
    pub(super) fn ended(self) -> Self {
        match self {
            Self::Open | Self::Gone => Self::Gone,
            Self::Closing | Self::Closed => Self::Closed,
        }
    }

    pub(super) fn is_closing(self) -> bool {
        matches!(self, Self::Closing | Self::Closed)
    }

    /// The error for new jobs, if none are taken.
    pub(super) fn refusal(self) -> Option<Error> {
        match self {
            Self::Open => None,
            Self::Closing | Self::Closed => Some(closed()),
            Self::Gone => Some(gone()),
        }
    }
}

/// Why the taker is woken, besides for jobs. A later reason includes the earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    #[default]
    None,
    /// Upkeep is due.
    Upkeep,
    /// The database may be broken.
    Suspect,
}

/// The thread that takes jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    /// It works, or was woken.
    Awake,
    Asleep {
        /// When it wakes by itself.
        until: Option<Instant>,
        leaders: OtherLeaders,
    },
}

/// Whether other threads may lead while the taker sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherLeaders {
    Allowed,
    Refused,
}

impl Taker {
    pub(super) fn is_asleep(self) -> bool {
        matches!(self, Self::Asleep { .. })
    }

    pub(super) fn allows_leaders(self) -> bool {
        matches!(
            self,
            Self::Asleep {
                leaders: OtherLeaders::Allowed,
                ..
            }
        )
    }

    /// Whether it sleeps beyond a time. A taker that is awake computes its next deadline itself.
    pub(super) fn sleeps_beyond(self, time: Instant) -> bool {
        match self {
            Self::Awake => false,
            Self::Asleep { until, .. } => until.is_none_or(|until| time < until),
        }
    }
}

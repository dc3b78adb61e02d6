//! What can be asked for, with its words.

use serde::Serialize;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    Sweep,
    Check,
    Checkpoint,
    RotateSecret,
    Measure,
    EndAll,
    Backup,
    Export,
    Import,
}

impl Work {
    /// What the maintenance page has a button for. Programs can also end all sessions.
    pub(crate) const ALL: [Self; 5] = [
        Self::Measure,
        Self::Sweep,
        Self::Check,
        Self::Checkpoint,
        Self::RotateSecret,
    ];

    /// The work with this last part of an address. What sends or takes content has pages of its own.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter().chain([Self::EndAll]);
        all.find(|work| work.path() == path)
    }

    /// Whether it changes anything or burdens the store, so that it needs the right to.
    pub(crate) fn changes(self) -> bool {
        self != Self::Measure
    }

    /// Whether work that runs already does for somebody who asks for the same. It does not if its result is about the
    /// moment when it began: sessions that came since would not have ended.
    pub(super) fn can_be_joined(self) -> bool {
        matches!(self, Self::Sweep | Self::Check | Self::Measure)
    }

    pub(super) fn can_be_stopped(self) -> bool {
        matches!(
            self,
            Self::Sweep | Self::Check | Self::Measure | Self::Backup | Self::Export
        )
    }

    /// The last part of its address.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Check => "check",
            Self::Checkpoint => "checkpoint",
            Self::RotateSecret => "rotate-secret",
            Self::Measure => "measure",
            Self::EndAll => "end-all",
            Self::Backup => "backup",
            Self::Export => "export",
            Self::Import => "import",
        }
    }

    /// What it does, for its button.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Sweep => "Sweep",
            Self::Check => "Check",
            Self::Checkpoint => "Checkpoint",
            Self::RotateSecret => "Rotate the secret",
            Self::Measure => "Measure the sessions",
            Self::EndAll => "End all sessions",
            Self::Backup => "Backup",
            Self::Export => "Export",
            Self::Import => "Import",
        }
    }

    /// What it does and what it costs.
    pub(crate) fn effect(self) -> &'static str {
        match self {
            Self::Sweep => {
                "Removes the rows of sessions that have expired. They are not served in either case. The store sweeps by \
                 itself once per resolution."
            }
            Self::Check => {
                "Reads every record, and every page of a file, and reports damage. Changes nothing."
            }
            Self::Checkpoint => {
                "Writes the commits of the journal into the file. The store does so by itself; this brings it forward, \
                 before a copy of the disk for instance."
            }
            Self::RotateSecret => {
                "New ids are signed with a new secret. Ids that visitors have go on working, until the older secret is \
                 retired."
            }
            Self::Measure => {
                "Reads every session and tells how many there are, how old and how large, and how many are damaged. Changes \
                 nothing."
            }
            Self::EndAll => "Ends every session of every container.",
            Self::Backup => "Sends the state of the newest commit.",
            Self::Export => "Sends all sessions as lines of JSON.",
            Self::Import => "Reads sessions that an export holds.",
        }
    }
}

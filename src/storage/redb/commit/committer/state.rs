//! The committer's state of the store: open, or broken until the files are opened again.

use crate::storage::ForeignCommit;
use crate::storage::redb::checkpoint::configure::SettingsBefore;
use crate::storage::redb::checkpoint::task::{Checkpoint, StoreDatabase};
use crate::storage::redb::journal::{Journal, JournalRef};
use crate::storage::redb::memtable::read_view::ReadView;
use std::time::Instant;

/// The store as the committer has it.
pub(super) enum CommitterState {
    /// Commits are taken.
    Open {
        rows: Box<LiveRows>,
        database: DatabaseHolder,
    },
    /// A failure. Commits are refused until the files are open again.
    Broken(BrokenStore),
}

/// Who has the database.
pub(super) enum DatabaseHolder {
    Committer(StoreDatabase),
    Checkpointer,
}

/// The state that is left after a failure, and the work for the next opening of the files.
pub(super) struct BrokenStore {
    rows: BrokenRows,
    /// The row of a container whose change may be in the file although it was not confirmed. It is put back.
    before: Option<SettingsBefore>,
}

enum BrokenRows {
    /// Only redb failed. The memtables and the journal are complete.
    Live(Box<LiveRows>),
    /// The journal failed. Its rows must be read again. Contains the batch that was being written then, if there was
    /// one.
    Unread(Option<UnknownBatch>),
    /// There was no space to open the files for writing. The published snapshot can be read.
    NoSpace,
}

/// A batch whose outcome is unknown. Its parts in memory count if the journal holds its frame (C1.7).
pub(super) struct UnknownBatch {
    pub(super) frame: u64,
    pub(super) foreign: Vec<ForeignCommit>,
}

/// The rows that are not in redb yet.
pub(super) struct LiveRows {
    /// As of the newest commit.
    pub(super) view: ReadView,
    /// None for a store in memory.
    pub(super) journal: Option<(Journal, JournalRef)>,
    pub(super) active: ActiveMemtable,
    /// A checkpoint that did not succeed, and when to try it again.
    pub(super) unfinished: Option<(Checkpoint, Instant)>,
}

/// The facts that the committer knows about the active memtable.
pub(super) struct ActiveMemtable {
    /// Since when it has rows.
    pub(super) since: Option<Instant>,
    /// The newest commit when the memtable became active.
    pub(super) from: u64,
    /// The next commit would exceed its bounds.
    pub(super) is_full: bool,
}

impl ActiveMemtable {
    /// An empty one.
    pub(super) fn after(commit: u64) -> Self {
        Self {
            since: None,
            from: commit,
            is_full: false,
        }
    }
}

impl CommitterState {
    /// Before the journal is read for the first time.
    pub(super) fn unread() -> Self {
        Self::Broken(BrokenStore {
            rows: BrokenRows::Unread(None),
            before: None,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    pub(super) fn lacks_space(&self) -> bool {
        matches!(self, Self::Broken(broken) if matches!(broken.rows, BrokenRows::NoSpace))
    }

    pub(super) fn has_database(&self) -> bool {
        let database = match self {
            Self::Open { database, .. } => database,
            Self::Broken(_) => return false,
        };
        matches!(database, DatabaseHolder::Committer(_))
    }

    /// Whether the checkpointer has the database.
    pub(super) fn is_checked_out(&self) -> bool {
        self.is_open() && !self.has_database()
    }

    /// The rows, also after a failure of redb; none where the journal has to be read.
    pub(super) fn rows(&self) -> Option<&LiveRows> {
        match self {
            Self::Open { rows, .. } => Some(rows),
            Self::Broken(broken) => match &broken.rows {
                BrokenRows::Live(rows) => Some(rows),
                BrokenRows::Unread(_) | BrokenRows::NoSpace => None,
            },
        }
    }

    pub(super) fn rows_mut(&mut self) -> Option<&mut LiveRows> {
        match self {
            Self::Open { rows, .. } => Some(rows),
            Self::Broken(broken) => match &mut broken.rows {
                BrokenRows::Live(rows) => Some(rows),
                BrokenRows::Unread(_) | BrokenRows::NoSpace => None,
            },
        }
    }

    /// The rows of an open store.
    pub(super) fn open_rows(&self) -> Option<&LiveRows> {
        self.rows().filter(|_| self.is_open())
    }

    pub(super) fn open_rows_mut(&mut self) -> Option<&mut LiveRows> {
        match self {
            Self::Open { rows, .. } => Some(rows),
            Self::Broken(_) => None,
        }
    }

    pub(super) fn journal(&self) -> Option<&Journal> {
        let (journal, _) = self.rows()?.journal.as_ref()?;
        Some(journal)
    }

    pub(super) fn journal_mut(&mut self) -> Option<&mut Journal> {
        let (journal, _) = self.rows_mut()?.journal.as_mut()?;
        Some(journal)
    }

    /// Takes the database for the checkpointer; none if it is not here.
    pub(super) fn check_out(&mut self) -> Option<StoreDatabase> {
        let Self::Open { database, .. } = self else {
            return None;
        };
        match std::mem::replace(database, DatabaseHolder::Checkpointer) {
            DatabaseHolder::Committer(database) => Some(database),
            DatabaseHolder::Checkpointer => None,
        }
    }

    /// Takes the database back; gives it to the caller if the store has broken meanwhile.
    pub(super) fn check_in(&mut self, returned: StoreDatabase) -> Option<StoreDatabase> {
        match self {
            Self::Open { database, .. } => {
                *database = DatabaseHolder::Committer(returned);
                None
            }
            Self::Broken(_) => Some(returned),
        }
    }

    /// The store is open, with these rows.
    pub(super) fn open(&mut self, rows: Box<LiveRows>, database: StoreDatabase) {
        let database = DatabaseHolder::Committer(database);
        *self = Self::Open { rows, database };
    }

    /// redb has failed. Tells who has the database; nobody, if the store was broken before.
    pub(super) fn fail(&mut self) -> Option<DatabaseHolder> {
        match std::mem::replace(self, Self::unread()) {
            Self::Open { rows, database } => {
                *self = Self::Broken(BrokenStore {
                    rows: BrokenRows::Live(rows),
                    before: None,
                });
                Some(database)
            }
            broken @ Self::Broken(_) => {
                *self = broken;
                None
            }
        }
    }

    /// The journal of a broken store has failed, too.
    pub(super) fn fail_journal(&mut self, unknown: Option<UnknownBatch>) {
        let Self::Broken(broken) = self else {
            return;
        };
        match &mut broken.rows {
            BrokenRows::Live(_) => broken.rows = BrokenRows::Unread(unknown),
            BrokenRows::Unread(before) => *before = unknown.or(before.take()),
            BrokenRows::NoSpace => {}
        }
    }

    /// The files of a broken store cannot be opened for writing.
    pub(super) fn lack_space(&mut self) {
        if let Self::Broken(broken) = self {
            broken.rows = BrokenRows::NoSpace;
        }
    }

    /// The settings to put back.
    pub(super) fn before(&self) -> Option<&SettingsBefore> {
        match self {
            Self::Open { .. } => None,
            Self::Broken(broken) => broken.before.as_ref(),
        }
    }

    pub(super) fn set_before(&mut self, before: Option<SettingsBefore>) {
        if let Self::Broken(broken) = self {
            broken.before = before;
        }
    }

    /// Takes the rows of a broken store whose journal is in order.
    pub(super) fn take_rows(&mut self) -> Option<Box<LiveRows>> {
        let Self::Broken(broken) = self else {
            return None;
        };
        match std::mem::replace(&mut broken.rows, BrokenRows::NoSpace) {
            BrokenRows::Live(rows) => Some(rows),
            other => {
                broken.rows = other;
                None
            }
        }
    }

    /// Takes the record of the batch whose outcome is unknown.
    pub(super) fn take_unknown(&mut self) -> Option<UnknownBatch> {
        match self {
            Self::Broken(BrokenStore {
                rows: BrokenRows::Unread(unknown),
                ..
            }) => unknown.take(),
            _ => None,
        }
    }
}

impl LiveRows {
    /// How many bytes the journal's files have.
    pub(super) fn journal_len(&self) -> u64 {
        let journal = self.journal.as_ref();
        journal.map_or(0, |(journal, _)| journal.len())
    }
}

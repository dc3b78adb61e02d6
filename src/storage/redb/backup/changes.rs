//! Writes a backup of an open store: all of its rows, or those that differ from the state of a previous backup.

use super::block::{BackupId, BlockWriter};
use super::current::{Pace, StoreRows, read};
use super::merge::is_of;
use super::row_order::{compare, is_always_whole, sort};
use super::verify::count;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{BackupCounts, BackupHeader};
use crate::storage::redb::EngineShared;
use crate::storage::redb::failure;
use crate::storage::redb::memtable::row_key::RowTree;
use crate::storage::redb::memtable::snapshot::RedbSnapshot;
use crate::storage::redb::open::migrate;
use crate::storage::{
    BackupPhase, BackupProgress, BackupRow, BackupRows, BackupSummary, ContainerId, PreviousBackup,
    ProgressFn, StateFn, report,
};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic;

/// Progress is told after so many rows.
const TOLD: u64 = 256;

/// What a backup has.
enum BackupContent<'a> {
    All,
    /// These rows, and all of the tables that are always whole.
    Changed(Vec<BackupRow>),
    /// What differs from this state.
    Differing(StateFn<'a>),
}

/// Writes a backup as of a snapshot.
pub(crate) fn write_backup(
    (snapshot, shared): (&RedbSnapshot, &EngineShared),
    out: &mut dyn Write,
    previous: Option<PreviousBackup<'_>>,
    progress: &mut ProgressFn<'_>,
) -> Result<BackupSummary> {
    let mut header = BackupHeader {
        store: shared.settings.load().identity,
        format: migrate::CURRENT,
        commit: snapshot.number(),
        opening: shared.opening,
        reopened: shared.counters.reopened.load(atomic::Ordering::Relaxed),
        taken: shared.clock.timestamp().0,
        previous: None,
    };
    let mut content = BackupContent::All;
    if let Some(previous) = previous {
        if previous.header.store != header.store {
            let why = "the previous backup is of another store";
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
        let link = (previous.id, previous.header.commit);
        let changed = known_changes(snapshot, &previous.header, &header);
        let changed = changed.map(BackupContent::Changed);
        if let Some(known) = changed.or_else(|| previous.state.map(BackupContent::Differing)) {
            header.previous = Some(link);
            content = known;
        }
    }
    let taken = Timestamp(header.taken);
    let sessions = read(snapshot, |view| view.session_count())?;
    let mut run = BackupRun::begin(out, header, sessions, progress)?;
    let current = StoreRows::new(snapshot, &shared.io, taken)?;
    let mut pace = current.pace();
    match content {
        BackupContent::All => run.all(current)?,
        BackupContent::Changed(changed) => run.changed(changed, current, &mut pace)?,
        BackupContent::Differing(state) => {
            let known = current.known().clone();
            let earlier = state(&mut |_| run.told())?;
            run.differing((earlier, &known), current, &mut pace)?;
        }
    }
    run.finish()
}

/// The rows that were changed since the previous backup, if memory still has all of them.
fn known_changes(
    snapshot: &RedbSnapshot,
    previous: &BackupHeader,
    now: &BackupHeader,
) -> Option<Vec<BackupRow>> {
    if (previous.opening, previous.reopened) != (now.opening, now.reopened) {
        return None;
    }
    let changed = read(snapshot, |view| Ok(view.changed_since(previous.commit)));
    let rows = changed.ok()??.into_iter();
    Some(rows.map(|(key, value)| BackupRow { key, value }).collect())
}

pub(super) struct BackupRun<'a, 'w, 'p> {
    writer: BlockWriter<&'a mut (dyn Write + 'w)>,
    id: BackupId,
    header: BackupHeader,
    counts: BackupCounts,
    so_far: BackupProgress,
    rows: u64,
    /// Rows of the earlier state that it has passed.
    earlier: u64,
    progress: &'a mut ProgressFn<'p>,
}

impl<'a, 'w, 'p> BackupRun<'a, 'w, 'p> {
    /// Writes the header.
    pub(super) fn begin(
        out: &'a mut (dyn Write + 'w),
        header: BackupHeader,
        of_sessions: u64,
        progress: &'a mut ProgressFn<'p>,
    ) -> Result<Self> {
        let id: BackupId = failure::random()?;
        let mut run = Self {
            writer: BlockWriter::new(out, id, &header)?,
            id,
            header,
            counts: BackupCounts::default(),
            so_far: BackupProgress {
                of_sessions,
                ..BackupProgress::default()
            },
            rows: 0,
            earlier: 0,
            progress,
        };
        run.told()?;
        Ok(run)
    }

    /// Ends the backup.
    pub(super) fn finish(self) -> Result<BackupSummary> {
        let (_, bytes) = self.writer.finish(self.counts)?;
        Ok(BackupSummary {
            id: self.id,
            header: self.header,
            counts: self.counts,
            bytes,
        })
    }

    /// Tells how far it is.
    pub(super) fn told(&mut self) -> Result<()> {
        report(self.progress, self.so_far)
    }

    /// Has passed a row, written or not.
    fn pass(&mut self, key: &[u8]) -> Result<()> {
        self.rows += 1;
        self.so_far.sessions += u64::from(key.first() == Some(&(RowTree::Sessions as u8)));
        if self.rows.is_multiple_of(TOLD) {
            self.so_far.bytes = self.writer.written();
            report(self.progress, self.so_far)?;
        }
        Ok(())
    }

    fn put(&mut self, row: BackupRow) -> Result<()> {
        self.so_far.phase = BackupPhase::Writing;
        count(&mut self.counts, &row.key, row.value.as_deref());
        self.writer.put(row)
    }

    fn all(&mut self, current: StoreRows<'_>) -> Result<()> {
        for row in current {
            let row = row?;
            self.pass(&row.key)?;
            self.put(row)?;
        }
        Ok(())
    }

    /// The rows that were changed, and all of the tables that are always whole.
    fn changed(
        &mut self,
        mut changed: Vec<BackupRow>,
        current: StoreRows<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        let known = current.known().clone();
        changed.retain(|row| {
            let table = row.key.first().copied();
            !table.is_some_and(is_always_whole) && is_of(&known, &row.key)
        });
        sort(&mut changed);
        let mut changed = changed.into_iter().peekable();
        for row in current.without_sessions() {
            let row = row?;
            while let Some(before) =
                changed.next_if(|it| compare(&it.key, &row.key) == Ordering::Less)
            {
                self.put_at_pace(before, pace)?;
            }
            self.put_at_pace(row, pace)?;
        }
        changed.try_for_each(|row| self.put_at_pace(row, pace))
    }

    fn put_at_pace(&mut self, row: BackupRow, pace: &mut Pace<'_>) -> Result<()> {
        self.pass(&row.key)?;
        if self.rows.is_multiple_of(TOLD) {
            pace.rest();
        }
        self.put(row)
    }

    /// The rows that differ from those of an earlier state. Both are of these containers.
    pub(super) fn differing(
        &mut self,
        (earlier, known): (BackupRows<'_>, &BTreeSet<ContainerId>),
        current: impl Iterator<Item = Result<BackupRow>>,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        let is_compared = |row: &Result<BackupRow>| {
            let key = row.as_ref().ok().map(|row| &*row.key);
            key.is_none_or(|key| {
                !key.first().copied().is_some_and(is_always_whole) && is_of(known, key)
            })
        };
        let mut earlier = earlier.filter(is_compared).peekable();
        for row in current {
            let row = row?;
            self.pass(&row.key)?;
            let mut is_there = false;
            while let Some(old) = earlier.next_if(|old| is_up_to(old, &row.key)) {
                let old = old?;
                self.pass_earlier(pace)?;
                if compare(&old.key, &row.key) == Ordering::Less {
                    self.remove(old)?;
                } else {
                    is_there = old.value == row.value;
                }
            }
            if !is_there {
                self.put(row)?;
            }
        }
        earlier.try_for_each(|old| {
            self.pass_earlier(pace)?;
            self.remove(old?)
        })
    }

    /// Has passed a row of the earlier state. There can be many between two rows of the store.
    fn pass_earlier(&mut self, pace: &mut Pace<'_>) -> Result<()> {
        self.earlier += 1;
        if self.earlier.is_multiple_of(TOLD) {
            pace.rest();
            self.so_far.bytes = self.writer.written();
            report(self.progress, self.so_far)?;
        }
        Ok(())
    }

    fn remove(&mut self, row: BackupRow) -> Result<()> {
        self.put(BackupRow {
            key: row.key,
            value: None,
        })
    }
}

fn is_up_to(old: &Result<BackupRow>, key: &[u8]) -> bool {
    let old = old.as_ref().ok();
    old.is_none_or(|old| compare(&old.key, key) != Ordering::Greater)
}

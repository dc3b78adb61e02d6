//! The operations of a store on its file: the counts of writes and syncs, and whether a failed commit may have become
//! durable (C2.13).

use crate::storage::redb::backend::page_copies::PageCopies;
use crate::storage::redb::backend::unreadable::UnreadableParts;
use crate::storage::redb::format;
use crate::storage::redb::format::HEADER;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// The most bytes that are written between two syncs. If a checkpoint wrote everything at once, the journal's syncs
/// would wait for it, and commits with them.
pub(crate) const SYNCED_AT_ONCE: usize = 64 << 10;
/// The same while commits would otherwise wait for the checkpoint.
pub(crate) const SYNCED_UNDER_BACKPRESSURE: usize = 256 << 10;

/// Counters of a store's writes, and the state of the current commit.
#[derive(Debug, Default)]
pub(crate) struct FileIo {
    bytes: AtomicU64,
    syncs: AtomicU64,
    /// The commit slot that the header names as current.
    slot: AtomicU8,
    /// Whether a write that makes the commit durable may have reached the disk.
    may_be_durable: AtomicBool,
    /// Whether commits will soon have to wait for the checkpoint.
    backpressure: AtomicBool,
    /// Whether no commit waits for the journal any more.
    is_closing: AtomicBool,
    /// The number of the journal's last frame that is durable.
    frame: AtomicU64,
    unreadable: UnreadableParts,
    copies: Arc<PageCopies>,
}

impl FileIo {
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Begins a durable commit.
    pub(crate) fn begin_commit(&self) {
        self.may_be_durable.store(false, Ordering::Relaxed);
    }

    /// Whether a write that makes the commit durable may have reached the disk.
    pub(crate) fn may_be_durable(&self) -> bool {
        self.may_be_durable.load(Ordering::Relaxed)
    }

    /// Whether commits will soon have to wait for the checkpoint.
    pub(crate) fn has_backpressure(&self) -> bool {
        self.backpressure.load(Ordering::Relaxed)
    }

    pub(crate) fn begin_backpressure(&self) {
        self.backpressure.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end_backpressure(&self) {
        self.backpressure.store(false, Ordering::Relaxed);
    }

    /// Records that no commit waits for the journal any more.
    pub(crate) fn last(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// The most bytes to write before a sync.
    pub(crate) fn synced_at_once(&self) -> usize {
        if self.is_closing.load(Ordering::Relaxed) {
            usize::MAX
        } else if self.has_backpressure() {
            SYNCED_UNDER_BACKPRESSURE
        } else {
            SYNCED_AT_ONCE
        }
    }

    /// The parts of the file that cannot be read.
    pub(crate) fn unreadable(&self) -> &UnreadableParts {
        &self.unreadable
    }

    /// The copies of pages that everything depends on.
    pub(crate) fn copies(&self) -> &Arc<PageCopies> {
        &self.copies
    }

    /// Counts a write.
    pub(crate) fn count_write(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Records the journal's last durable frame.
    pub(crate) fn note_frame(&self, number: u64) {
        self.frame.store(number, Ordering::Release);
    }

    pub(crate) fn last_frame(&self) -> u64 {
        self.frame.load(Ordering::Acquire)
    }

    pub(crate) fn count_sync(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    /// In a two-phase commit, only a write that changes the current commit slot can make the commit durable.
    pub(crate) fn note_write(&self, offset: u64, data: &[u8]) {
        self.count_write(data.len());
        if offset >= HEADER as u64 {
            return;
        }
        // Opening writes the header, so the slot is known before the first commit.
        let flipped = match format::current(data) {
            Some(slot) if offset == 0 => self.slot.swap(slot, Ordering::Relaxed) != slot,
            _ => true,
        };
        if flipped {
            self.may_be_durable.store(true, Ordering::Relaxed);
        }
    }
}

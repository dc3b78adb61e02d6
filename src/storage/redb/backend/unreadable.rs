//! Parts of a file that cannot be read although the rest can, such as bad sectors. redb stops at the first read
//! error, so that one row would stop all callers. So redb gets bytes for such a part that are no page: the rows in it
//! are `Corrupt`, and no others (C5.4).

use crate::storage::redb::backend::disk::Disk;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// With more unreadable parts than this, the disk has failed.
const MOST: usize = 1000;
/// The time between two checks whether a part can be read again.
const LOOKED: Duration = Duration::from_secs(10);
/// The number of parts that a check reads.
const LOOKED_AT: usize = 16;

/// The unreadable parts that were found since the file was opened.
#[derive(Debug, Default)]
pub(crate) struct UnreadableParts {
    /// Not set while the file is being opened: the opening fails with the disk's error.
    is_tolerated: AtomicBool,
    count: AtomicUsize,
    parts: Mutex<KnownParts>,
    /// The last checkpoint met a damage, possibly outside the known parts.
    was_in_the_way: AtomicBool,
}

#[derive(Debug, Default)]
struct KnownParts {
    /// Lengths by offset.
    parts: BTreeMap<u64, usize>,
    disk: Option<Disk>,
    looked: Option<Instant>,
}

impl UnreadableParts {
    fn lock(&self) -> MutexGuard<'_, KnownParts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the opening of the file.
    pub(crate) fn begin(&self) {
        self.is_tolerated.store(false, Ordering::Release);
        self.count.store(0, Ordering::Release);
        *self.lock() = KnownParts::default();
    }

    /// Ends the opening: from now on, unreadable parts are tolerated.
    pub(crate) fn tolerate(&self) {
        self.is_tolerated.store(true, Ordering::Release);
    }

    /// Records an unreadable part. Returns whether the store can continue without it.
    pub(crate) fn note(&self, disk: &Disk, offset: u64, len: usize) -> bool {
        if !self.is_tolerated.load(Ordering::Acquire) {
            return false;
        }
        let mut parts = self.lock();
        if parts.parts.insert(offset, len).is_none() {
            tracing::error!(offset, len, "a part of the store's file cannot be read");
        }
        parts.disk.get_or_insert_with(|| disk.clone());
        self.count.store(parts.parts.len(), Ordering::Release);
        parts.parts.len() <= MOST
    }

    /// Forgets a part that is overwritten.
    pub(crate) fn forget(&self, offset: u64) {
        if self.count() > 0 {
            let mut parts = self.lock();
            parts.parts.remove(&offset);
            self.count.store(parts.parts.len(), Ordering::Release);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether a known unreadable part lies in a page. redb may have cached the bytes that it got instead.
    pub(crate) fn has(&self, start: u64, len: u64) -> bool {
        self.count() > 0 && {
            let parts = self.lock();
            let mut before = parts.parts.range(..start.saturating_add(len));
            before
                .next_back()
                .is_some_and(|(at, part)| at.saturating_add(*part as u64) > start)
        }
    }

    /// Records that the last checkpoint met a damage, or left rows out because of one.
    pub(crate) fn note_damage(&self) {
        self.was_in_the_way.store(true, Ordering::Release);
    }

    /// Records that the last checkpoint wrote all its rows.
    pub(crate) fn note_no_damage(&self) {
        self.was_in_the_way.store(false, Ordering::Release);
    }

    /// Whether a writer must check in advance which rows can be written.
    pub(crate) fn is_expected(&self) -> bool {
        self.count() > 0 || self.was_in_the_way.load(Ordering::Acquire)
    }

    /// Whether a part can be read again. The check may take long, so it runs rarely.
    pub(crate) fn is_readable_again(&self) -> bool {
        if self.count() == 0 {
            return false;
        }
        let is_early = |looked: Instant| looked.elapsed() < LOOKED;
        if self.lock().looked.is_some_and(is_early) {
            return false;
        }
        self.can_be_read_again()
    }

    /// The same, without a pause since the last check.
    pub(crate) fn can_be_read_again(&self) -> bool {
        let mut parts = self.lock();
        parts.looked = Some(Instant::now());
        let some: Vec<_> = parts
            .parts
            .iter()
            .map(|(at, len)| (*at, *len))
            .take(LOOKED_AT)
            .collect();
        let disk = parts.disk.clone();
        drop(parts);
        disk.is_some_and(|disk| {
            let can_be_read = |(at, len): &(u64, usize)| disk.read(*at, &mut vec![0; *len]).is_ok();
            some.iter().any(can_be_read)
        })
    }
}

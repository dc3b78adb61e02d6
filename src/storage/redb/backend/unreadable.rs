//! Parts of a file that cannot be read although the rest can: bad sectors of a disk. redb stops all its work
//! at the first error of a read, which would disturb everybody over a row that nobody else wants. So such a
//! part is given to redb as bytes that it takes for no page: what lies there is `Corrupt`, and nothing else
//! (C5.4).

use crate::storage::redb::backend::disk::Disk;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where there are more parts than this, the disk has failed.
const MOST: usize = 1000;
/// How long it is not looked again whether a part can be read by now.
const LOOKED: Duration = Duration::from_secs(10);
/// So many parts are looked at.
const LOOKED_AT: usize = 16;

/// The parts that were met since the file was opened.
#[derive(Debug, Default)]
pub(crate) struct UnreadableParts {
    /// Not while the file is being opened: who opens it is told what the disk says.
    is_tolerated: AtomicBool,
    count: AtomicUsize,
    parts: Mutex<KnownParts>,
    /// What was written last met a damage, which may be in no part that is known.
    was_in_the_way: AtomicBool,
}

#[derive(Debug, Default)]
struct KnownParts {
    /// By offset, their lengths.
    parts: BTreeMap<u64, usize>,
    disk: Option<Disk>,
    looked: Option<Instant>,
}

impl UnreadableParts {
    fn lock(&self) -> MutexGuard<'_, KnownParts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file is about to be opened.
    pub(crate) fn begin(&self) {
        self.is_tolerated.store(false, Ordering::Release);
        self.count.store(0, Ordering::Release);
        *self.lock() = KnownParts::default();
    }

    /// The file is open.
    pub(crate) fn tolerate(&self) {
        self.is_tolerated.store(true, Ordering::Release);
    }

    /// Notes a part that cannot be read; whether the rest can go on without it.
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

    /// What is written there can be read, as far as anybody knows.
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

    /// Whether a part of a page is known not to be readable; redb may have kept what it got in its place.
    pub(crate) fn has(&self, start: u64, len: u64) -> bool {
        self.count() > 0 && {
            let parts = self.lock();
            let mut before = parts.parts.range(..start.saturating_add(len));
            before
                .next_back()
                .is_some_and(|(at, part)| at.saturating_add(*part as u64) > start)
        }
    }

    /// What was written last met a damage, or left rows out because of one.
    pub(crate) fn note_damage(&self) {
        self.was_in_the_way.store(true, Ordering::Release);
    }

    /// All that was to be written last was written.
    pub(crate) fn note_no_damage(&self) {
        self.was_in_the_way.store(false, Ordering::Release);
    }

    /// Whether whoever writes is to look ahead.
    pub(crate) fn is_expected(&self) -> bool {
        self.count() > 0 || self.was_in_the_way.load(Ordering::Acquire)
    }

    /// Whether one of them can be read again. Whoever meets a damage looks, but seldom: it may take long.
    pub(crate) fn is_cured(&self) -> bool {
        if self.count() == 0 {
            return false;
        }
        let is_early = |looked: Instant| looked.elapsed() < LOOKED;
        if self.lock().looked.is_some_and(is_early) {
            return false;
        }
        self.can_be_read_again()
    }

    /// The same, however lately that was looked at.
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

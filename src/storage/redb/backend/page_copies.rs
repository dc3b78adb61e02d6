//! Copies in memory of the pages of a file that everything else depends on. If the disk cannot read such a page any
//! more, its copy is read instead, until a checkpoint has written the page elsewhere.

use crate::storage::redb::backend::disk::{Disk, forward_locks};
use crate::storage::redb::format::HEADER;
use redb::StorageBackend;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most bytes that are copied from the writes of redb after a commit.
const AFTER_COMMIT: usize = 256 << 10;
/// The most bytes of all copies, including the pages that are written during a checkpoint.
const MOST: usize = 5 << 20;

/// A page as it is in the file.
#[derive(Clone, Debug)]
pub(crate) struct PageCopy {
    /// The checksum that the page's parent records, if the copy was compared with it.
    pub(crate) checksum: Option<u128>,
    pub(crate) bytes: Arc<[u8]>,
}

/// Pages by their offset in the file.
pub(crate) type CopiedPages = BTreeMap<u64, PageCopy>;

/// The copies of one file.
#[derive(Debug, Default)]
pub(crate) struct PageCopies {
    pages: Mutex<CopiedPages>,
    /// The offsets of the pages that the disk could not read when they were last read.
    used: Mutex<BTreeSet<u64>>,
    /// Spares reads the lock.
    is_any_used: AtomicBool,
    /// Whether a disk reads from these copies. A database in memory has none.
    has_reader: AtomicBool,
    /// About how many bytes the copies have.
    bytes: AtomicUsize,
    after_commit: Mutex<AfterCommit>,
}

/// The pages written since the header was. After a commit, redb changes its bookkeeping once more, without making that
/// durable. The next commit begins with these pages, which no commit in the file leads to.
#[derive(Debug, Default)]
struct AfterCommit {
    offsets: BTreeSet<u64>,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PageCopies {
    pub(crate) fn pages(&self) -> CopiedPages {
        lock(&self.pages).clone()
    }

    /// Replaces the copies by those of a newer commit. No thread may write to the file meanwhile.
    pub(crate) fn replace(&self, mut pages: CopiedPages) {
        let mut copies = lock(&self.pages);
        for offset in &lock(&self.after_commit).offsets {
            if let Some(copy) = copies.remove(offset) {
                pages.insert(*offset, copy);
            }
        }
        lock(&self.used).retain(|offset| pages.contains_key(offset));
        let bytes = pages.values().map(|copy| copy.bytes.len()).sum();
        self.bytes.store(bytes, Ordering::Relaxed);
        *copies = pages;
    }

    /// Forgets the pages that a dropped database wrote after its last commit.
    pub(crate) fn begin(&self) {
        let mut copies = lock(&self.pages);
        let AfterCommit { offsets, .. } = std::mem::take(&mut *lock(&self.after_commit));
        copies.retain(|offset, _| !offsets.contains(offset));
    }

    /// Records what redb writes.
    pub(crate) fn note_write(&self, offset: u64, data: &[u8]) {
        if !self.has_reader.load(Ordering::Relaxed) {
            return;
        }
        self.forget(offset, data.len() as u64);
        let mut after = lock(&self.after_commit);
        if offset < HEADER as u64 {
            *after = AfterCommit::default();
        } else if after.bytes + data.len() <= AFTER_COMMIT
            && self.bytes.load(Ordering::Relaxed) + data.len() <= MOST
        {
            self.bytes.fetch_add(data.len(), Ordering::Relaxed);
            after.bytes += data.len();
            after.offsets.insert(offset);
            let bytes = Arc::from(data);
            let copy = PageCopy {
                checksum: None,
                bytes,
            };
            drop(after);
            lock(&self.pages).insert(offset, copy);
        }
    }

    /// Records that the file is cut.
    pub(crate) fn note_len(&self, len: u64) {
        self.forget(len, u64::MAX);
    }

    /// The offsets of the pages that could only be read from here when they were last read.
    pub(crate) fn used(&self) -> BTreeSet<u64> {
        lock(&self.used).clone()
    }

    /// The same, after each of them was read again: a disk that fails now and then has no bad page.
    pub(crate) fn still_used(&self, disk: &Disk) -> BTreeSet<u64> {
        for offset in self.used() {
            let len = lock(&self.pages).get(&offset).map(|copy| copy.bytes.len());
            // The disk uses these copies, so that they note the result of the read.
            let _ = len.map(|len| disk.read(offset, &mut vec![0; len]));
        }
        self.used()
    }

    /// Records that a page was read from the file.
    fn note_read(&self, offset: u64) {
        if self.is_any_used.load(Ordering::Acquire) {
            let mut used = lock(&self.used);
            used.remove(&offset);
            self.is_any_used.store(!used.is_empty(), Ordering::Release);
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> bool {
        let pages = lock(&self.pages);
        let copy = pages.get(&offset);
        let Some(copy) = copy.filter(|copy| copy.bytes.len() == out.len()) else {
            return false;
        };
        out.copy_from_slice(&copy.bytes);
        let is_new = {
            let mut used = lock(&self.used);
            self.is_any_used.store(true, Ordering::Release);
            used.insert(offset)
        };
        if is_new {
            tracing::error!(
                offset,
                len = out.len(),
                "a page of the store's file cannot be read; its copy in memory is used"
            );
        }
        true
    }

    /// Forgets the copies of a part that is overwritten.
    fn forget(&self, offset: u64, len: u64) {
        let mut pages = lock(&self.pages);
        let below = pages.range(..offset.saturating_add(len)).rev();
        // Pages do not overlap: at most one of them begins before the part.
        let met = below.map(|(at, copy)| (*at, copy.bytes.len() as u64));
        let met: Vec<_> = met
            .take_while(|(at, len)| at.saturating_add(*len) > offset)
            .collect();
        for (at, _) in met {
            pages.remove(&at);
            lock(&self.used).remove(&at);
        }
    }
}

/// A disk that reads a page from the copies if it cannot read the page from the file.
#[derive(Debug)]
pub(crate) struct CopiedDisk {
    inner: Disk,
    copies: Arc<PageCopies>,
}

impl CopiedDisk {
    pub(crate) fn over(inner: Disk, copies: Arc<PageCopies>) -> Disk {
        copies.has_reader.store(true, Ordering::Relaxed);
        Arc::new(Self { inner, copies })
    }
}

impl StorageBackend for CopiedDisk {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    /// A page that has a copy is read twice from the file before the copy is used.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let Err(error) = self.inner.read(offset, out) else {
            self.copies.note_read(offset);
            return Ok(());
        };
        let is_copied = lock(&self.copies.pages).contains_key(&offset);
        if is_copied && self.inner.read(offset, out).is_ok() {
            self.copies.note_read(offset);
            return Ok(());
        }
        if is_copied && self.copies.read(offset, out) {
            return Ok(());
        }
        Err(error)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    forward_locks!(inner);
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    /// A disk that reads nothing while it is told so.
    #[derive(Debug, Default)]
    struct Blind(InMemoryBackend, AtomicBool);

    impl StorageBackend for Blind {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            match self.1.load(Ordering::Relaxed) {
                true => Err(io::Error::other("bad sector")),
                false => self.0.read(offset, out),
            }
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
    }

    const PAGE: usize = 8;

    /// A disk of eight pages, each with a copy, that can be read no more.
    fn copied() -> (Disk, Arc<PageCopies>) {
        let (_, disk, copies) = blind();
        (disk, copies)
    }

    fn blind() -> (Arc<Blind>, Disk, Arc<PageCopies>) {
        let inner = Arc::<Blind>::default();
        inner.set_len(8 * PAGE as u64).unwrap();
        let copies = Arc::<PageCopies>::default();
        let disk = CopiedDisk::over(inner.clone(), copies.clone());
        let page = |n: u8| {
            let bytes = Arc::from([n; PAGE]);
            let checksum = None;
            (u64::from(n) * PAGE as u64, PageCopy { checksum, bytes })
        };
        copies.replace((0..8).map(page).collect());
        inner.1.store(true, Ordering::Relaxed);
        (inner, disk, copies)
    }

    fn read_pages(disk: &Disk) -> Vec<u64> {
        let can_be_read = |n: &u64| {
            let mut out = [99; PAGE];
            let read = disk.read(*n * PAGE as u64, &mut out);
            assert!(read.is_err() || out == [*n as u8; PAGE]);
            read.is_ok()
        };
        (0..8).filter(can_be_read).collect()
    }

    // C5.4
    #[test]
    fn a_copy_is_read_until_its_page_is_written_again() {
        let (disk, copies) = copied();
        assert_eq!(read_pages(&disk), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(copies.used().len(), 8);
        // A part of the second page, all of the third, and a part of the fourth.
        copies.note_write(PAGE as u64 + 4, &[7; 2 * PAGE]);
        assert_eq!(read_pages(&disk), [0, 4, 5, 6, 7]);
        copies.note_write(0, &[7; 1]);
        copies.note_len(6 * PAGE as u64 + 1);
        assert_eq!(read_pages(&disk), [4, 5]);
        assert_eq!(copies.used().len(), 2);
        let mut half = [0; PAGE / 2];
        assert!(disk.read(4 * PAGE as u64, &mut half).is_err());
    }

    #[test]
    fn a_page_that_can_be_read_again_needs_no_copy() {
        let (inner, disk, copies) = blind();
        assert_eq!(read_pages(&disk).len(), 8);
        assert_eq!(copies.still_used(&disk).len(), 8);
        inner.1.store(false, Ordering::Relaxed);
        disk.read(0, &mut [0; PAGE]).unwrap();
        assert_eq!(copies.used().len(), 7);
        assert!(copies.still_used(&disk).is_empty());
        inner.1.store(true, Ordering::Relaxed);
        assert_eq!(read_pages(&disk).len(), 8);
        assert_eq!(copies.used().len(), 8);
    }

    #[test]
    fn a_page_that_a_newer_commit_does_not_have_needs_no_copy() {
        let (disk, copies) = copied();
        assert_eq!(read_pages(&disk).len(), 8);
        let mut pages = copies.pages();
        pages.retain(|offset, _| *offset > 0);
        copies.replace(pages);
        assert_eq!(copies.used().len(), 7);
        assert_eq!(read_pages(&disk), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn what_is_written_after_a_commit_is_copied_until_the_next() {
        let (disk, copies) = copied();
        disk.set_len(2000).unwrap();
        let can_be_read = |offset| {
            let mut out = [0; PAGE];
            disk.read(offset, &mut out).is_ok_and(|()| out == [3; PAGE])
        };
        copies.note_write(0, &[0; HEADER]);
        copies.note_write(1000, &[3; PAGE]);
        assert!(can_be_read(1000));
        copies.replace(CopiedPages::new());
        assert!(can_be_read(1000));
        copies.note_write(0, &[0; HEADER]);
        copies.note_write(1008, &[3; PAGE]);
        copies.replace(CopiedPages::new());
        assert!(!can_be_read(1000) && can_be_read(1008));
        // The database is dropped, and its writes may be lost.
        copies.begin();
        assert!(!can_be_read(1008));
        copies.note_write(1000, &[3; AFTER_COMMIT - PAGE]);
        copies.note_write(1008 + AFTER_COMMIT as u64, &[3; 2 * PAGE]);
        assert!(!can_be_read(1008 + AFTER_COMMIT as u64));
    }
}

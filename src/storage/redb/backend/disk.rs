//! The file under redb: forwards locks, counts what is written, and knows whether a failed commit
//! may have become durable (C2.13). An overlay keeps writes in memory, so that a file can be
//! identified without changing a byte of it (C7.2). Of what is read, `reach` looks at page numbers.

use crate::storage::redb::backend::page_bounds::PageBounds;
use crate::storage::redb::backend::unreadable;
use crate::storage::redb::backend::unreadable::{PageRead, UnreadableParts};
use crate::storage::redb::backend::write_buffer::{BufferedParts, WriteBuffer, runs};
use crate::storage::redb::format;
use crate::storage::redb::format::{HEADER, NO_PAGE, PAGE};
use redb::{BackendError, StorageBackend};
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What a store wrote to its file, and how far the commit under way has come.
#[derive(Debug, Default)]
pub(crate) struct FileIo {
    bytes: AtomicU64,
    syncs: AtomicU64,
    slot: AtomicU8,
    decisive: AtomicBool,
    is_pressed: AtomicBool,
    is_last: AtomicBool,
    /// The number of the journal's last frame that is durable.
    frame: AtomicU64,
    unreadable: UnreadableParts,
}

impl FileIo {
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// To be called before a durable commit.
    pub(crate) fn begin_commit(&self) {
        self.decisive.store(false, Ordering::Relaxed);
    }

    /// Whether bytes that could make the commit durable may have reached the disk.
    pub(crate) fn may_be_durable(&self) -> bool {
        self.decisive.load(Ordering::Relaxed)
    }

    /// Whether commits are about to be held up until what is written is in the file.
    pub(crate) fn has_backpressure(&self) -> bool {
        self.is_pressed.load(Ordering::Relaxed)
    }

    pub(crate) fn set_backpressure(&self, is_pressed: bool) {
        self.is_pressed.store(is_pressed, Ordering::Relaxed);
    }

    /// No commit waits for a sync of the journal any more.
    pub(crate) fn last(&self) {
        self.is_last.store(true, Ordering::Relaxed);
    }

    /// How much is to be written at most before it is synced.
    fn synced_at_once(&self) -> usize {
        if self.is_last.load(Ordering::Relaxed) {
            usize::MAX
        } else if self.has_backpressure() {
            SYNCED_AT_ONCE_PRESSED
        } else {
            SYNCED_AT_ONCE
        }
    }

    /// The parts of the file that cannot be read.
    pub(crate) fn unreadable(&self) -> &UnreadableParts {
        &self.unreadable
    }

    /// Counts what is written beside redb.
    pub(crate) fn count_write(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The journal reaches this frame, durably.
    pub(crate) fn note_frame(&self, number: u64) {
        self.frame.store(number, Ordering::Release);
    }

    pub(crate) fn last_frame(&self) -> u64 {
        self.frame.load(Ordering::Acquire)
    }

    pub(crate) fn count_sync(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    /// In a two-phase commit, only a write that changes which of the two commits is the current one can make the
    /// commit durable.
    fn note_write(&self, offset: u64, data: &[u8]) {
        self.count_write(data.len());
        if offset >= HEADER as u64 {
            return;
        }
        // Opening writes the header, so the slot before the first commit is known.
        let flipped = match format::current(data) {
            Some(slot) if offset == 0 => self.slot.swap(slot, Ordering::Relaxed) != slot,
            _ => true,
        };
        if flipped {
            self.decisive.store(true, Ordering::Relaxed);
        }
    }
}

/// Where a database's bytes are kept; it can be opened again after a failure.
pub(crate) type Disk = Arc<dyn StorageBackend>;

/// The backend of an open store: its disk, counted.
#[derive(Debug)]
pub(crate) struct StoreBackend {
    inner: Disk,
    io: Arc<FileIo>,
    reach: PageBounds,
    write_buffer: WriteBuffer,
    /// What was kept back is lost, or may be: nothing is synced any more.
    is_spoilt: AtomicBool,
}

/// So much is written at most before it is synced. All that a checkpoint writes at once would keep the
/// syncs of the journal waiting, and those who commit with them.
const SYNCED_AT_ONCE: usize = 64 << 10;
/// The same when they would wait for the checkpoint.
const SYNCED_AT_ONCE_PRESSED: usize = 256 << 10;

impl StoreBackend {
    pub(crate) fn new(inner: Disk, io: Arc<FileIo>) -> Self {
        Self {
            inner,
            io,
            reach: PageBounds::default(),
            write_buffer: WriteBuffer::default(),
            is_spoilt: AtomicBool::new(false),
        }
    }

    /// Writes what was kept back. redb does not take every failure of a write for one of the file, but what
    /// fails here may be another write than the one that it asked for.
    fn write_out(&self, parts: BufferedParts) -> io::Result<()> {
        let written = self.try_write_out(parts);
        if written.is_err() {
            self.is_spoilt.store(true, Ordering::Release);
        }
        written
    }

    fn try_write_out(&self, parts: BufferedParts) -> io::Result<()> {
        let mut bytes = 0;
        for (offset, run) in runs(parts, SYNCED_AT_ONCE) {
            if bytes > 0 && bytes + run.len() > self.io.synced_at_once() {
                self.sync()?;
                bytes = 0;
            }
            self.inner.write(offset, &run)?;
            bytes += run.len();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync_data()?;
        self.io.count_sync();
        Ok(())
    }
}

impl StorageBackend for StoreBackend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    /// What a damaged page names beyond the end of the file, and what cannot be read although the rest can,
    /// reads as no page, which redb refuses for that page alone. As an error it would count as a failure of
    /// the disk: everyone would wait for the store to reopen itself, which does not cure it. Such bytes are
    /// never written back: redb copies rows from page to page, and finds none in them.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.write_buffer.holds(offset, out.len()) {
            self.write_out(self.write_buffer.take())?;
        }
        match unreadable::read(&self.inner, offset, out)? {
            PageRead::All => self.reach.after_read(offset, out, || self.inner.len()),
            PageRead::Beyond => {
                out.fill(NO_PAGE);
                Ok(())
            }
            PageRead::Unreadable if self.io.unreadable.note(&self.inner, offset, out.len()) => {
                out.fill(NO_PAGE);
                Ok(())
            }
            PageRead::Unreadable => Err(io::Error::other("a part of the file cannot be read")),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.reach.before_set_len(len);
        self.write_out(self.write_buffer.take())?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.write_out(self.write_buffer.take())?;
        if self.is_spoilt.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier write has failed"));
        }
        self.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.io.note_write(offset, data);
        self.io.unreadable.forget(offset);
        self.reach.before_write(offset, data);
        match self.write_buffer.keep(offset, data) {
            Some(before) => self.write_out(before),
            None => Ok(()),
        }
    }

    /// The lock outlives the database, so that nobody takes the file while it is being reopened
    /// (C7.1). Whoever owns the disk closes it.
    fn close(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// A file that is read but never written: changes stay in memory and go with it. It takes the
/// file's lock and leaves it held, for the real open that follows on the same disk.
#[derive(Debug)]
pub(crate) struct OverlayBackend {
    file: Disk,
    held: Mutex<Overlay>,
    reach: PageBounds,
}

#[derive(Debug)]
struct Overlay {
    len: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl OverlayBackend {
    pub(crate) fn new(file: Disk) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self {
            file,
            held: Mutex::new(Overlay {
                len,
                pages: BTreeMap::new(),
            }),
            reach: PageBounds::default(),
        })
    }

    /// A page as the file has it, zeros beyond its end.
    fn page_of_file(&self, index: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; PAGE as usize];
        let start = index * PAGE;
        let there = self.file.len()?.saturating_sub(start).min(PAGE);
        if let Some(part) = page.get_mut(..there as usize) {
            self.file.read(start, part)?;
        }
        Ok(page)
    }
}

/// The parts of `offset..offset + len` by page: page, offset in it, offset in the range, length.
fn by_page(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let end = offset + len as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (page, inner) = (at / PAGE, at % PAGE);
            let part = (PAGE - inner).min(end - at);
            let step = (page, inner as usize, (at - offset) as usize, part as usize);
            at += part;
            step
        })
    })
}

impl StorageBackend for OverlayBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.held.lock().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let len = held.len;
        if offset.saturating_add(out.len() as u64) > held.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, inner, at, part) in by_page(offset, out.len()) {
            let Some(to) = out.get_mut(at..at + part) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            match held
                .pages
                .get(&page)
                .and_then(|p| p.get(inner..inner + part))
            {
                Some(from) => to.copy_from_slice(from),
                None => {
                    let page = self.page_of_file(page)?;
                    to.copy_from_slice(page.get(inner..inner + part).unwrap_or_default());
                }
            }
        }
        self.reach.after_read(offset, out, || Ok(len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.reach.before_set_len(len);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if len < held.len {
            // What is cut off must read as zeros if the length grows again.
            let (last, kept) = (len / PAGE, (len % PAGE) as usize);
            let mut page = match held.pages.remove(&last) {
                Some(page) => page,
                None => self.page_of_file(last)?,
            };
            page.get_mut(kept..).unwrap_or_default().fill(0);
            held.pages.insert(last, page);
            for page in len.div_ceil(PAGE)..held.len.div_ceil(PAGE) {
                held.pages.insert(page, vec![0; PAGE as usize]);
            }
        }
        held.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.reach.before_write(offset, data);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, inner, at, part) in by_page(offset, data.len()) {
            let mut page = match held.pages.remove(&index) {
                Some(page) => page,
                None => self.page_of_file(index)?,
            };
            if let (Some(to), Some(from)) =
                (page.get_mut(inner..inner + part), data.get(at..at + part))
            {
                to.copy_from_slice(from);
            }
            held.pages.insert(index, page);
        }
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::{FileBackend, InMemoryBackend};
    use std::io::Write;

    // C5.4
    #[test]
    fn what_lies_beyond_the_end_reads_as_no_page() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 5000]).unwrap();
        let backend = StoreBackend::new(Arc::new(FileBackend::new(file).unwrap()), Arc::default());
        for offset in [4096, 1 << 20, 1 << 62] {
            let mut page = [9; 4096];
            backend.read(offset, &mut page).unwrap();
            assert_eq!(page, [NO_PAGE; 4096]);
        }
    }

    /// A disk that notes what is asked of it.
    #[derive(Debug, Default)]
    struct Noted(Mutex<Vec<(u64, usize)>>, InMemoryBackend, AtomicBool);

    /// A sync.
    const SYNC: (u64, usize) = (u64::MAX, 0);

    impl StorageBackend for Noted {
        fn len(&self) -> io::Result<u64> {
            self.1.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.1.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.1.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.lock().unwrap().push(SYNC);
            Ok(())
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            if self.2.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.lock().unwrap().push((offset, data.len()));
            self.1.write(offset, data)
        }
    }

    fn noted() -> (Arc<Noted>, StoreBackend) {
        let disk = Arc::<Noted>::default();
        disk.set_len(1 << 20).unwrap();
        let backend = StoreBackend::new(disk.clone(), Arc::default());
        (disk, backend)
    }

    impl Noted {
        fn asked(&self) -> Vec<(u64, usize)> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    // C2.2: what waits for the journal waits for no more than this.
    #[test]
    fn so_much_is_written_at_most_before_it_is_synced() {
        let (disk, backend) = noted();
        let pages = 2 * SYNCED_AT_ONCE as u64 / PAGE + 1;
        for page in 0..pages {
            backend.write(page * PAGE, &[7; PAGE as usize]).unwrap();
        }
        backend.sync_data().unwrap();
        let most = SYNCED_AT_ONCE;
        let asked = [
            (0, most),
            SYNC,
            (most as u64, most),
            SYNC,
            (2 * most as u64, PAGE as usize),
            SYNC,
        ];
        assert_eq!(disk.asked(), asked);
        for page in (0..pages).step_by(2) {
            backend.write(page * PAGE, &[7; PAGE as usize]).unwrap();
        }
        backend.sync_data().unwrap();
        assert_eq!(largest_of(&disk.asked()), SYNCED_AT_ONCE);
        backend.io.set_backpressure(true);
        for page in 0..4 * pages {
            backend.write(page * PAGE, &[7; PAGE as usize]).unwrap();
        }
        backend.sync_data().unwrap();
        assert_eq!(largest_of(&disk.asked()), SYNCED_AT_ONCE_PRESSED);
        backend.io.last();
        for page in 0..4 * pages {
            backend.write(page * PAGE, &[7; PAGE as usize]).unwrap();
        }
        backend.sync_data().unwrap();
        assert_eq!(largest_of(&disk.asked()), 4 * (pages * PAGE) as usize);
    }

    /// The most bytes between two syncs.
    fn largest_of(asked: &[(u64, usize)]) -> usize {
        let parts = asked.split(|asked| *asked == SYNC);
        let bytes = parts.map(|part| part.iter().map(|(_, len)| len).sum());
        bytes.max().unwrap()
    }

    #[test]
    fn what_redb_writes_between_two_syncs_is_written_in_the_order_of_the_file() {
        let (disk, backend) = noted();
        for page in [5, 1, 4, 9, 0] {
            backend
                .write(page * PAGE, &[page as u8; PAGE as usize])
                .unwrap();
        }
        assert_eq!(disk.asked(), []);
        backend.sync_data().unwrap();
        let page = PAGE as usize;
        let asked = [(0, 2 * page), (4 * PAGE, 2 * page), (9 * PAGE, page), SYNC];
        assert_eq!(disk.asked(), asked);
        for number in [0, 1, 4, 5, 9] {
            let mut out = [99; PAGE as usize];
            backend.read(number * PAGE, &mut out).unwrap();
            assert_eq!(out, [number as u8; PAGE as usize]);
        }
    }

    // C2.13: redb goes on after some failed writes, but what was kept back is gone.
    #[test]
    fn nothing_is_synced_after_what_was_kept_back_could_not_be_written() {
        let (disk, backend) = noted();
        backend.write(0, &[1; 8]).unwrap();
        disk.2.store(true, Ordering::Relaxed);
        let across = backend.write(4, &[2; 8]).unwrap_err();
        assert_eq!(across.kind(), io::ErrorKind::StorageFull);
        disk.2.store(false, Ordering::Relaxed);
        backend.write(4, &[2; 8]).unwrap();
        assert!(backend.sync_data().is_err());
        assert!(backend.sync_data().is_err());
        assert!(!disk.asked().contains(&SYNC));
    }

    #[test]
    fn the_last_write_counts_wherever_it_lies() {
        let (disk, backend) = noted();
        let mut expected = vec![0; 64];
        let mut state = 7_u32;
        for round in 1..=2000 {
            let mut roll = |below: u32| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) % below
            };
            let from = roll(60) as usize;
            let to = from + 1 + roll(4) as usize;
            expected[from..to].fill(round as u8);
            backend.write(from as u64, &expected[from..to]).unwrap();
            let mut out = vec![0; to - from + 2];
            let at = from.saturating_sub(1).min(62 - (to - from));
            match roll(8) {
                0 => backend.sync_data().unwrap(),
                1 => backend.set_len(1 << 20).unwrap(),
                2 => {
                    backend.read(at as u64, &mut out).unwrap();
                    assert_eq!(out, expected[at..at + out.len()]);
                }
                _ => {}
            }
        }
        backend.sync_data().unwrap();
        let mut out = vec![0; 64];
        disk.read(0, &mut out).unwrap();
        assert_eq!(out, expected);
    }

    #[test]
    fn a_rehearsal_reads_its_own_writes_and_leaves_the_file_alone() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        let inner = Arc::new(FileBackend::new(file.try_clone().unwrap()).unwrap());
        let overlay = OverlayBackend::new(inner.clone()).unwrap();
        overlay.write(4090, &[1; 20]).unwrap();
        overlay.set_len(20_000).unwrap();
        let mut out = [0; 24];
        overlay.read(4088, &mut out).unwrap();
        assert_eq!(out[..2], [7, 7]);
        assert_eq!(out[2..22], [1; 20]);
        let mut beyond = [9; 4];
        overlay.read(9998, &mut beyond).unwrap();
        assert_eq!(beyond, [7, 7, 0, 0]);
        overlay.set_len(4092).unwrap();
        overlay.set_len(8192).unwrap();
        assert!(overlay.read(8190, &mut out).is_err());
        let mut page = vec![0; 10_000];
        inner.read(0, &mut page).unwrap();
        assert_eq!(page, vec![7; 10_000]);
        assert_eq!(inner.len().unwrap(), 10_000);
    }
}

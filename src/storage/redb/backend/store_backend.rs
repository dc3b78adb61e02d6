//! The backend of an open store: its disk, with writes buffered, counted and synced in portions.

use crate::storage::redb::backend::disk::{Disk, PageRead, forward_locks, read_part};
use crate::storage::redb::backend::file_io::{FileIo, SYNCED_AT_ONCE};
use crate::storage::redb::backend::page_bounds::PageBounds;
use crate::storage::redb::backend::write_buffer::{BufferedParts, HeldPart, WriteBuffer, runs};
use crate::storage::redb::format::NO_PAGE;
use redb::StorageBackend;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The backend of an open store.
#[derive(Debug)]
pub(crate) struct StoreBackend {
    inner: Disk,
    io: Arc<FileIo>,
    bounds: PageBounds,
    write_buffer: WriteBuffer,
    /// Held while buffered parts are written to the disk. Any thread may do that: redb's readers empty its cache, too.
    writing: Mutex<()>,
    /// A buffered write is or may be lost, so that no sync may succeed any more.
    is_spoilt: AtomicBool,
}

impl StoreBackend {
    pub(crate) fn new(inner: Disk, io: Arc<FileIo>) -> Self {
        Self {
            inner,
            io,
            bounds: PageBounds::default(),
            write_buffer: WriteBuffer::default(),
            writing: Mutex::default(),
            is_spoilt: AtomicBool::new(false),
        }
    }

    /// Writes the buffer, after the write of another thread, if there is one: of two versions of a page, the later one
    /// must be written last. redb continues after some failed writes, but the failed write may be another one than redb
    /// asked for, so every failure is remembered.
    fn write_out(&self) -> io::Result<()> {
        let _turn = self.await_writer();
        let written = self.try_write_out(self.write_buffer.take());
        if written.is_err() {
            self.is_spoilt.store(true, Ordering::Release);
        }
        self.write_buffer.end_write();
        written
    }

    /// Waits until no other thread writes buffered parts, and keeps them from it.
    fn await_writer(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A range beyond the end of the file, to which a damaged page may lead, and a part that alone cannot be read,
    /// both read as `NO_PAGE`. redb refuses these bytes for that page only. An error would count as a failure of the
    /// disk: all callers would wait for the store to reopen, which does not help. The bytes are never written back:
    /// redb copies rows between pages, and finds none in them.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.write_buffer.holds(offset, out.len()) {
            HeldPart::None => {}
            HeldPart::Buffered => self.write_out()?,
            HeldPart::Leaving => drop(self.await_writer()),
        }
        match read_part(&self.inner, offset, out)? {
            PageRead::All => self.bounds.after_read(offset, out, || self.inner.len()),
            PageRead::Beyond => {
                out.fill(NO_PAGE);
                Ok(())
            }
            PageRead::Unreadable if self.io.unreadable().note(&self.inner, offset, out.len()) => {
                out.fill(NO_PAGE);
                Ok(())
            }
            PageRead::Unreadable => Err(io::Error::other("a part of the file cannot be read")),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.io.copies().note_len(len);
        self.bounds.before_set_len(len);
        self.write_out()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.write_out()?;
        if self.is_spoilt.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier write has failed"));
        }
        self.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.io.note_write(offset, data);
        self.io.copies().note_write(offset, data);
        self.io.unreadable().forget(offset);
        self.bounds.before_write(offset, data);
        while !self.write_buffer.keep(offset, data) {
            self.write_out()?;
        }
        Ok(())
    }

    /// The lock outlives the database, so that no other process takes the file while it is reopened (C7.1). The owner
    /// of the disk closes it.
    fn close(&self) -> io::Result<()> {
        Ok(())
    }

    forward_locks!(inner);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::redb::backend::file_io::SYNCED_UNDER_BACKPRESSURE;
    use crate::storage::redb::format::PAGE;
    use redb::backends::{FileBackend, InMemoryBackend};
    use std::io::Write;
    use std::sync::Mutex;

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

    /// A disk that notes the requests to it.
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
        backend.io.begin_backpressure();
        for page in 0..4 * pages {
            backend.write(page * PAGE, &[7; PAGE as usize]).unwrap();
        }
        backend.sync_data().unwrap();
        assert_eq!(largest_of(&disk.asked()), SYNCED_UNDER_BACKPRESSURE);
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

    // C2.13: redb goes on after some failed writes, but the buffered bytes are lost.
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

    /// A disk on which each write waits until it may go on.
    #[derive(Debug)]
    struct Slow(InMemoryBackend, Mutex<std::sync::mpsc::Receiver<()>>);

    impl StorageBackend for Slow {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.1.lock().unwrap().recv().unwrap();
            self.0.write(offset, data)
        }
    }

    // C2.13: redb's readers empty its cache, too, so pages are read and written while others are written out.
    #[test]
    fn a_page_that_is_being_written_is_read_as_it_will_be_and_written_in_order() {
        let (go, gate) = std::sync::mpsc::channel();
        let disk = Arc::new(Slow(InMemoryBackend::new(), Mutex::new(gate)));
        disk.set_len(1 << 20).unwrap();
        let backend = StoreBackend::new(disk.clone(), Arc::default());
        let page = PAGE as usize;
        backend.write(0, &[1; PAGE as usize]).unwrap();
        std::thread::scope(|scope| {
            let sync = scope.spawn(|| backend.sync_data());
            while backend.write_buffer.holds(0, page) != HeldPart::Leaving {
                std::thread::yield_now();
            }
            let read = scope.spawn(|| {
                let mut out = [9; PAGE as usize];
                backend.read(0, &mut out).unwrap();
                out
            });
            // A part that alone lies elsewhere waits for nobody.
            let mut out = [9; PAGE as usize];
            backend.read(4 * PAGE, &mut out).unwrap();
            assert_eq!(out, [0; PAGE as usize]);
            // A newer version of the page is written after the older one.
            backend.write(0, &[2; PAGE as usize]).unwrap();
            let later = scope.spawn(|| backend.sync_data());
            go.send(()).unwrap();
            go.send(()).unwrap();
            sync.join().unwrap().unwrap();
            later.join().unwrap().unwrap();
            let read = read.join().unwrap();
            assert!(read == [1; PAGE as usize] || read == [2; PAGE as usize]);
        });
        let mut out = [9; PAGE as usize];
        disk.read(0, &mut out).unwrap();
        assert_eq!(out, [2; PAGE as usize]);
    }
}

//! Checks that page numbers stay within the file. redb trusts the page numbers in a page, and allocates the size that
//! a number gives before it reads: one flipped bit can cost 4 GiB. In an intact file no page ends beyond the end of
//! the file, because redb extends the file before it uses new pages, and truncates only pages that no reachable
//! commit uses. So a number that leads beyond is damaged. It is replaced before redb sees it, and no page is larger
//! than the file.
//!
//! redb verifies the checksum of the numbers in the header.

use crate::storage::redb::format::{HEADER, PageNumbers};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

#[derive(Debug, Default)]
pub(crate) struct PageBounds {
    layout: RwLock<Option<PageNumbers>>,
    /// The length of the file when it was last queried.
    len: AtomicU64,
}

impl PageBounds {
    /// Checks the bytes that were read for redb. `len` gives the length of the file.
    pub(crate) fn after_read(
        &self,
        offset: u64,
        bytes: &mut [u8],
        len: impl Fn() -> io::Result<u64>,
    ) -> io::Result<()> {
        if offset == 0 {
            self.learn(bytes);
            return Ok(());
        }
        let Some(layout) = *self.layout.read().unwrap_or_else(PoisonError::into_inner) else {
            return Ok(());
        };
        layout.refuse(offset, bytes, |end| {
            if end <= self.len.load(Ordering::Relaxed) {
                return Ok(true);
            }
            let len = len()?;
            self.len.store(len, Ordering::Relaxed);
            Ok(end <= len)
        })
    }

    pub(crate) fn before_write(&self, offset: u64, bytes: &[u8]) {
        if offset == 0 {
            self.learn(bytes);
        }
    }

    pub(crate) fn before_set_len(&self, len: u64) {
        self.len.fetch_min(len, Ordering::Relaxed);
    }

    /// The header gives the layout of the pages. redb reads and writes it as a whole.
    fn learn(&self, header: &[u8]) {
        if header.len() >= HEADER {
            let layout = PageNumbers::read(header);
            *self.layout.write().unwrap_or_else(PoisonError::into_inner) = layout;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::storage::redb::backend::overlay::OverlayBackend;
    use crate::storage::redb::backend::store_backend::StoreBackend;
    use redb::backends::FileBackend;
    use redb::{
        BackendError, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    };
    use std::io::{self, Write};
    use std::ops::Bound;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const PAGE: usize = 4096;
    const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("rows");

    /// Notes the longest read that redb requests. redb has allocated as many bytes for it.
    #[derive(Debug)]
    struct Asked<B>(B, Arc<AtomicU64>);

    impl<B: StorageBackend> StorageBackend for Asked<B> {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.1.fetch_max(out.len() as u64, Ordering::Relaxed);
            self.0.read(offset, out)
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

        fn try_lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<bool, BackendError> {
            self.0.try_lock_range(from, to)
        }

        fn unlock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
            self.0.unlock_range(from, to)
        }

        fn query_lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<bool, BackendError> {
            self.0.query_lock_range(from, to)
        }
    }

    fn image() -> Vec<u8> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let backend = FileBackend::new(file.reopen().unwrap()).unwrap();
        let database = Database::builder().create_with_backend(backend).unwrap();
        let mut txn = database.begin_write().unwrap();
        txn.set_two_phase_commit(true);
        let mut rows = txn.open_table(ROWS).unwrap();
        for n in 0..3000 {
            rows.insert(n, [7; 100].as_slice()).unwrap();
        }
        // A page larger than the others.
        rows.insert(3000, vec![7; 100_000].as_slice()).unwrap();
        drop(rows);
        txn.commit().unwrap();
        database.close().unwrap();
        file.flush().unwrap();
        std::fs::read(file.path()).unwrap()
    }

    /// Where page numbers are: in branch pages, and the root of the table.
    fn numbers(image: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        for at in (PAGE..image.len()).step_by(PAGE) {
            let page = &image[at..at + PAGE];
            match page[0] {
                2 => {
                    let keys = usize::from(u16::from_le_bytes([page[2], page[3]]));
                    let first = at + 8 + 16 * (keys + 1);
                    found.extend([0, keys / 2, keys].map(|n| first + 8 * n));
                }
                1 => {
                    let is_root = |n: &usize| page[*n] == 3 && page[n + 9] == 1;
                    let name = page.windows(4).position(|part| part == b"rows");
                    let from = name.unwrap_or(PAGE);
                    found.extend(
                        (from..PAGE.saturating_sub(18))
                            .filter(is_root)
                            .map(|n| at + n + 10),
                    );
                }
                _ => {}
            }
        }
        found
    }

    /// Reads and writes what can be; the rows that were right, and the most that was asked for at once.
    fn used(backend: impl StorageBackend) -> (u64, u64) {
        let most = Arc::new(AtomicU64::new(0));
        let asked = Asked(backend, most.clone());
        let right = catch_unwind(AssertUnwindSafe(|| {
            let database = Database::builder().create_with_backend(asked).ok()?;
            let txn = database.begin_read().ok()?;
            let rows = txn.open_table(ROWS).ok()?;
            let right = (0..3001)
                .filter(|n| matches!(rows.get(n), Ok(Some(_))))
                .count() as u64;
            let some = rows.iter().ok()?.filter(Result::is_ok).count() as u64;
            std::mem::forget(database);
            Some(right.min(some))
        }));
        let most = most.load(Ordering::Relaxed);
        (right.ok().flatten().unwrap_or_default(), most)
    }

    // C5.4
    #[test]
    fn nothing_larger_than_the_file_is_asked_for() {
        let whole = image();
        let numbers = numbers(&whole);
        assert!(numbers.len() > 3, "{numbers:?}");
        let mut met = 0;
        for at in numbers {
            for bit in [0, 19, 20, 39, 59, 60, 61, 62, 63] {
                let mut image = whole.clone();
                image[at + bit / 8] ^= 1 << (bit % 8);
                let len = image.len() as u64;
                let disk = || {
                    let mut file = tempfile::tempfile().unwrap();
                    file.write_all(&image).unwrap();
                    Arc::new(FileBackend::new(file).unwrap())
                };
                let counted = used(StoreBackend::new(disk(), Arc::default()));
                let rehearsed = used(OverlayBackend::new(disk()).unwrap());
                for (right, most) in [counted, rehearsed] {
                    assert!(most <= len, "bit {bit} at {at}: {most} bytes of {len}");
                    met += u64::from(right < 3001);
                }
            }
        }
        assert!(met > 0);
    }
}

//! An overlay over a file: writes stay in memory, so that a store is identified without changing a byte of it (C7.2).

use crate::storage::redb::backend::disk::{Disk, forward_locks};
use crate::storage::redb::backend::page_bounds::PageBounds;
use crate::storage::redb::format::PAGE;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

/// A file with an overlay in memory. It is read but never written. It takes the file's lock and does not release it:
/// the opening that follows uses the same disk.
#[derive(Debug)]
pub(crate) struct OverlayBackend {
    file: Disk,
    held: Mutex<Overlay>,
    bounds: PageBounds,
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
            bounds: PageBounds::default(),
        })
    }

    /// A page of the file, with zeros beyond its end.
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

/// Splits `offset..offset + len` by pages: page, offset in the page, offset in the range, length.
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
        self.bounds.after_read(offset, out, || Ok(len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bounds.before_set_len(len);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if len < held.len {
            // The truncated part must read as zeros if the file grows again.
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
        self.bounds.before_write(offset, data);
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

    forward_locks!(file);
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::FileBackend;
    use std::io::Write;
    use std::sync::Arc;

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

//! Buffers redb's writes until the next sync, and gives them back in file order. redb writes the pages of a commit in
//! the order of its cache; neighbouring pages can go to the disk in one write.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most bytes that are buffered.
pub(crate) const MOST: usize = 32 << 20;

/// Bytes by their offset in the file.
pub(crate) type BufferedParts = BTreeMap<u64, Box<[u8]>>;

#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    parts: Mutex<BufferedParts>,
    /// The sum of their lengths.
    bytes: AtomicUsize,
}

/// The last part that overlaps `offset..offset + len`.
fn met(parts: &BufferedParts, offset: u64, len: usize) -> Option<(u64, usize)> {
    let (at, part) = parts
        .range(..offset.saturating_add(len as u64))
        .next_back()?;
    (*at + part.len() as u64 > offset).then_some((*at, part.len()))
}

impl WriteBuffer {
    fn lock(&self) -> MutexGuard<'_, BufferedParts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a part of a range is buffered.
    pub(crate) fn holds(&self, offset: u64, len: usize) -> bool {
        self.bytes.load(Ordering::Acquire) > 0 && met(&self.lock(), offset, len).is_some()
    }

    /// Buffers a write. If the buffer is full, or the write partly overlaps a buffered one, the earlier parts are
    /// returned, to be written now.
    pub(crate) fn keep(&self, offset: u64, data: &[u8]) -> Option<BufferedParts> {
        let mut parts = self.lock();
        let is_full = self.bytes.load(Ordering::Relaxed) + data.len() > MOST;
        let met = met(&parts, offset, data.len());
        let lies_across = met.is_some_and(|met| met != (offset, data.len()));
        let before = (is_full || lies_across).then(|| self.empty(&mut parts));
        let replaced = parts
            .insert(offset, data.into())
            .map_or(0, |part| part.len());
        self.bytes
            .fetch_add(data.len() - replaced, Ordering::Release);
        before
    }

    /// Takes all parts, to be written now.
    pub(crate) fn take(&self) -> BufferedParts {
        self.empty(&mut self.lock())
    }

    fn empty(&self, parts: &mut BufferedParts) -> BufferedParts {
        self.bytes.store(0, Ordering::Release);
        std::mem::take(parts)
    }
}

/// Parts in file order; neighbours are joined up to `most` bytes.
pub(crate) fn runs(parts: BufferedParts, most: usize) -> impl Iterator<Item = (u64, Vec<u8>)> {
    let mut parts = parts.into_iter().peekable();
    std::iter::from_fn(move || {
        let (offset, first) = parts.next()?;
        let mut run = first.into_vec();
        while let Some((_, next)) = parts.next_if(|(at, part)| {
            *at == offset + run.len() as u64 && run.len() + part.len() <= most
        }) {
            run.extend_from_slice(&next);
        }
        Some((offset, run))
    })
}

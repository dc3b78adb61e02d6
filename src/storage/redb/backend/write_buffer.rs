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
    held: Mutex<HeldParts>,
    /// The sum of the lengths of all parts.
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct HeldParts {
    buffered: BufferedParts,
    /// The lengths of the parts that are being written, by their offset. The disk may still have the old bytes there.
    leaving: BTreeMap<u64, usize>,
}

/// Where a range of the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeldPart {
    /// On the disk alone.
    None,
    /// A part of it is buffered.
    Buffered,
    /// A part of it is being written.
    Leaving,
}

/// The last part that overlaps `offset..offset + len`.
fn last_overlapping<T>(
    parts: &BTreeMap<u64, T>,
    len_of: impl Fn(&T) -> usize,
    offset: u64,
    len: usize,
) -> Option<(u64, usize)> {
    let (at, part) = parts
        .range(..offset.saturating_add(len as u64))
        .next_back()?;
    let part = len_of(part);
    (*at + part as u64 > offset).then_some((*at, part))
}

fn len_of(part: &[u8]) -> usize {
    part.len()
}

impl WriteBuffer {
    fn lock(&self) -> MutexGuard<'_, HeldParts> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a part of a range is buffered, or being written.
    pub(crate) fn holds(&self, offset: u64, len: usize) -> HeldPart {
        if self.bytes.load(Ordering::Acquire) == 0 {
            return HeldPart::None;
        }
        let held = self.lock();
        if last_overlapping(&held.buffered, |part| len_of(part), offset, len).is_some() {
            HeldPart::Buffered
        } else if last_overlapping(&held.leaving, |len| *len, offset, len).is_some() {
            HeldPart::Leaving
        } else {
            HeldPart::None
        }
    }

    /// Buffers a write. Does nothing and returns false if the earlier parts must be written first: if the buffer is full,
    /// or if the write partly overlaps a buffered one.
    pub(crate) fn keep(&self, offset: u64, data: &[u8]) -> bool {
        let mut held = self.lock();
        let is_full = self.bytes.load(Ordering::Relaxed) + data.len() > MOST;
        let last_overlapping =
            last_overlapping(&held.buffered, |part| len_of(part), offset, data.len());
        let lies_across = last_overlapping
            .is_some_and(|last_overlapping| last_overlapping != (offset, data.len()));
        let is_empty = held.buffered.is_empty() && held.leaving.is_empty();
        if (is_full && !is_empty) || lies_across {
            return false;
        }
        let replaced = held.buffered.insert(offset, data.into());
        let replaced = replaced.map_or(0, |part| part.len());
        self.bytes
            .fetch_add(data.len() - replaced, Ordering::Release);
        true
    }

    /// Takes all parts, to be written now. They count as held until [`end_write`](Self::end_write).
    pub(crate) fn take(&self) -> BufferedParts {
        let mut held = self.lock();
        let parts = std::mem::take(&mut held.buffered);
        let lens = parts.iter().map(|(at, part)| (*at, part.len()));
        held.leaving = lens.collect();
        parts
    }

    /// The parts that were taken are on the disk, or lost.
    pub(crate) fn end_write(&self) {
        let leaving = std::mem::take(&mut self.lock().leaving);
        self.bytes
            .fetch_sub(leaving.values().sum(), Ordering::Release);
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

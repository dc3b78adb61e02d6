//! The header of a file: its two commits, which of them is current, and the roots of that commit.

use super::bytes::u64_at;
use super::checksum::{BitRepair, CHECKSUM, checksum, repair_bit};
use super::layout::{Geometry, ORDER_AT, TableRoot, TreeRoot};
use super::node::{FixedWidths, NUMBER, Node};
use crate::error::{Error, ErrorKind, Result};
use std::io;

/// The first bytes of a redb file.
pub(crate) const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";
/// The length of the header.
pub(crate) const HEADER: usize = 320;
/// The offset of the header's flags.
const STATE_AT: usize = MAGIC.len();
/// The flag that selects the current commit, and the flag for a two-phase commit.
const PRIMARY: u8 = 1;
const TWO_PHASE: u8 = 4;
/// The offsets of the two commits, and the length of one. Its checksum comes last.
const SLOTS: [usize; 2] = [64, 192];
const SLOT: usize = 128;
/// The version of redb's file format, the first byte of a commit. redb has had 1 and 2 before.
const FORMAT: u8 = 3;
/// The offsets in a commit: whether it has a tree of tables and a tree of redb's own tables, and their roots.
const HAS_DATA_AT: usize = 1;
const HAS_SYSTEM_AT: usize = 2;
const DATA_AT: usize = 8;
const SYSTEM_AT: usize = DATA_AT + TreeRoot::LEN;

fn corrupt(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}

/// The current commit of a file's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatabaseHeader {
    pub(crate) data: Option<TreeRoot>,
    pub(crate) system: Option<TreeRoot>,
    pub(crate) geometry: Geometry,
}

impl DatabaseHeader {
    pub(crate) fn read(bytes: &[u8], mend_bits: BitRepair) -> Result<Self> {
        check_version(bytes)?;
        let damaged = || corrupt("the file's header is damaged");
        let state = bytes.get(STATE_AT).copied().ok_or_else(damaged)?;
        let mut slot = current_slot(bytes, state).ok_or_else(damaged)?.to_vec();
        if mend_bits == BitRepair::Bits && CommitSlot::read(&slot).is_none() {
            repair_bit(&mut slot, |slot| CommitSlot::read(slot).is_some());
        }
        let slot = CommitSlot::read(&slot).ok_or_else(damaged)?;
        Ok(Self {
            data: slot.data,
            system: slot.system,
            geometry: Geometry::read(bytes).ok_or_else(damaged)?,
        })
    }
}

/// One of the header's two commits.
#[derive(Clone, Copy)]
struct CommitSlot {
    data: Option<TreeRoot>,
    system: Option<TreeRoot>,
}

impl CommitSlot {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM>()?;
        if checksum(body) != u128::from_le_bytes(*sum) || body.first() != Some(&FORMAT) {
            return None;
        }
        let root = |flag: usize, at: usize| match body.get(flag)? {
            0 => Some(None),
            _ => TreeRoot::read(body.get(at..at + TreeRoot::LEN)?).map(Some),
        };
        Some(Self {
            data: root(HAS_DATA_AT, DATA_AT)?,
            system: root(HAS_SYSTEM_AT, SYSTEM_AT)?,
        })
    }
}

/// Whether a file is of the version of redb's format that is known here. redb takes a newer one for damage.
///
/// # Errors
///
/// `TooNew`, or `NotAStore` for an earlier one, which no store has ever had. A damaged header is no error here: both
/// commits bear another version, or one that does has the checksum for it, which no flipped bit brings about.
pub(crate) fn check_version(header: &[u8]) -> Result<()> {
    if !header.starts_with(&MAGIC) {
        return Ok(());
    }
    let others = SLOTS.map(|at| other_version(header.get(at..at + SLOT)?));
    let version = match others {
        [Some(first), Some(second)] => first.max(second),
        [Some(other), None] | [None, Some(other)] if other.is_sealed => other,
        _ => return Ok(()),
    };
    let OtherVersion { number, .. } = version;
    match number {
        0 => Ok(()),
        1..FORMAT => Err(Error::new(
            ErrorKind::NotAStore,
            format!("this is not a store: it is of version {number} of redb's file format"),
        )),
        _ => Err(Error::new(
            ErrorKind::TooNew,
            format!(
                "the file is of version {number} of redb's format; this version reads {FORMAT}"
            ),
        )),
    }
}

/// A version of redb's format that is not the known one, and whether the commit that bears it has the checksum for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct OtherVersion {
    number: u8,
    is_sealed: bool,
}

fn other_version(slot: &[u8]) -> Option<OtherVersion> {
    let (body, sum) = slot.split_last_chunk::<CHECKSUM>()?;
    let number = *body.first().filter(|version| **version != FORMAT)?;
    Some(OtherVersion {
        number,
        is_sealed: checksum(body) == u128::from_le_bytes(*sum),
    })
}

/// Finds damage of a header that redb does not notice. A store always commits in two phases, so the two-phase bit is
/// set and the current commit is valid. It is no damage if the other commit is newer: a crash between the phases
/// leaves it so, and after a clean close both hold the same rows.
pub(crate) fn check_header(bytes: &[u8]) -> Result<()> {
    let state = bytes.get(STATE_AT).copied().unwrap_or_default();
    if state & TWO_PHASE == 0 {
        return Err(corrupt(
            "the file's header is damaged: its commits have one phase",
        ));
    }
    if current_slot(bytes, state)
        .and_then(CommitSlot::read)
        .is_none()
    {
        return Err(corrupt("the file's header is damaged: the current commit"));
    }
    Ok(())
}

/// The slot of the current commit, if `header` is long enough.
pub(crate) fn current(header: &[u8]) -> Option<u8> {
    Some(header.get(STATE_AT)? & PRIMARY)
}

/// The bytes of the current commit.
fn current_slot(bytes: &[u8], state: u8) -> Option<&[u8]> {
    let [first, second] = SLOTS;
    let at = if state & PRIMARY == 0 { first } else { second };
    bytes.get(at..at + SLOT)
}

/// The layout of a file's pages, from its header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageNumbers {
    geometry: Geometry,
    /// The two root pages of the current commit. Those of the other commit may be reused.
    directories: [Option<(u64, u64)>; 2],
}

impl PageNumbers {
    pub(crate) fn read(header: &[u8]) -> Option<Self> {
        let geometry = Geometry::read(header)?;
        let state = header.get(STATE_AT).copied()?;
        let slot = current_slot(header, state).and_then(CommitSlot::read);
        let place = |root: Option<TreeRoot>| geometry.span(root?.page);
        Some(Self {
            geometry,
            directories: [
                place(slot.and_then(|slot| slot.data)),
                place(slot.and_then(|slot| slot.system)),
            ],
        })
    }

    /// Checks the page numbers in a page that redb reads. A number that `reaches` rejects is replaced by one of a
    /// size that redb knows to be impossible: redb then reports that page, and reads and allocates nothing.
    pub(crate) fn refuse(
        &self,
        start: u64,
        page: &mut [u8],
        mut reaches: impl FnMut(u64) -> io::Result<bool>,
    ) -> io::Result<()> {
        for at in self.numbers(start, page) {
            let Some((number, place)) = u64_at(page, at).zip(page.get_mut(at..at + NUMBER)) else {
                continue;
            };
            let Some((start, len)) = self.geometry.span(number) else {
                continue;
            };
            if !reaches(start.saturating_add(len))? {
                place.copy_from_slice(&(number | u64::MAX << ORDER_AT).to_le_bytes());
            }
        }
        Ok(())
    }

    /// The offsets of page numbers in a page.
    fn numbers(&self, start: u64, page: &[u8]) -> Vec<usize> {
        let span = Some((start, page.len() as u64));
        match Node::of(page, FixedWidths::default()) {
            Some(Node::Branch(branch)) => {
                let first = branch.numbers();
                (0..=branch.keys).map(|n| first + NUMBER * n).collect()
            }
            Some(Node::Leaf(leaf)) if self.directories.contains(&span) => {
                let root = |n| {
                    TableRoot::read(leaf.row(n)?.1)?.root?;
                    leaf.value_start(n)?.checked_add(TableRoot::ROOT + 1)
                };
                (0..leaf.pairs).filter_map(root).collect()
            }
            _ => Vec::new(),
        }
    }
}

//! Finds out in advance whether redb can change a row. One unusable page makes redb fail or panic, and with it the
//! whole transaction. It changes nothing.

use crate::error::Result;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::unreadable::UnreadableParts;
use crate::storage::redb::format::{
    BitRepair, FixedWidths, Node, PAGE, TableRoot, is_whole, search,
};
use crate::storage::redb::integrity::pages::blocked::PageKeys;
use crate::storage::redb::integrity::pages::{MAX_DEPTH, Pages, UNREADABLE, corrupt};
use std::collections::{BTreeMap, HashMap};

/// redb merges a page that is less full than this with a neighbour, when a row is removed from it.
const SMALL: usize = PAGE as usize / 3;
/// The most consecutive small pages that are passed.
const LOOKED_PAST: usize = 64;

/// The change to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowChange {
    Put,
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageSide {
    Before,
    After,
}

/// The neighbour of a page on the same level of the tree.
enum Neighbour {
    Nothing,
    /// It is not known.
    Damaged,
    Small,
    Large,
}

/// The path to a key: the branches, the leaf, and the keys of the leaf. Or the keys below the first unusable page.
type RowPath = std::result::Result<(Vec<BranchStep>, u64, PageKeys), PageKeys>;

/// A branch on the path to a row, and the index of the next child.
type BranchStep = (u64, usize);

/// The paths from the roots of a file's trees to their rows, as of its current commit.
pub(crate) struct RowPaths<'a> {
    pages: Pages,
    tables: BTreeMap<String, TableRoot>,
    unreadable: &'a UnreadableParts,
    /// Whether the checked pages are intact, by page number.
    known: HashMap<u64, bool>,
    /// The last checked leaf, and whether rows can be removed from it.
    last: Option<(u64, bool)>,
}

impl<'a> RowPaths<'a> {
    /// No thread may write to the file while this is used.
    pub(crate) fn new(disk: &Disk, unreadable: &'a UnreadableParts) -> Result<Self> {
        let mut pages = Pages::new(disk.clone(), BitRepair::Nothing)?;
        let mut is_damaged = false;
        let tables = pages.tables(|_, _| is_damaged = true)?;
        if is_damaged {
            return Err(corrupt("the list of tables is damaged"));
        }
        Ok(Self {
            pages,
            tables,
            unreadable,
            known: HashMap::new(),
            last: None,
        })
    }

    /// Whether all pages that redb needs for a change are intact: those on the path to the row, and for a removal
    /// also those that redb may merge with one of them, whatever else is removed in the same transaction.
    pub(crate) fn are_whole(&mut self, table: &str, key: &[u8], change: RowChange) -> Result<bool> {
        Ok(self.obstacle(table, key, change)?.is_none())
    }

    /// The range of keys around a row in which redb cannot make such a change, because one of these pages is damaged.
    pub(crate) fn obstacle(
        &mut self,
        table: &str,
        key: &[u8],
        change: RowChange,
    ) -> Result<Option<PageKeys>> {
        let table = self.tables.get(table).copied();
        let table = table.ok_or_else(|| corrupt("the file lacks a table of a store"))?;
        let Some(root) = table.root else {
            return Ok(None);
        };
        let top = (root.page, root.checksum);
        let (turns, leaf, keys) = match self.path_to(top, table.widths, key)? {
            Ok(way) => way,
            Err(below) => return Ok(Some(below)),
        };
        if change == RowChange::Put {
            return Ok(None);
        }
        if let Some((_, known)) = self.last.filter(|(last, _)| *last == leaf) {
            return Ok(Some(keys).filter(|_| !known));
        }
        let mut is_apart = true;
        for level in 1..=turns.len() {
            let above = turns.get(..level).unwrap_or_default();
            for side in [PageSide::Before, PageSide::After] {
                is_apart = is_apart && self.is_apart(above, table.widths, side)?;
            }
        }
        self.last = Some((leaf, is_apart));
        Ok(Some(keys).filter(|_| !is_apart))
    }

    fn path_to(&mut self, top: (u64, u128), widths: FixedWidths, key: &[u8]) -> Result<RowPath> {
        let mut turns = Vec::new();
        let mut keys = PageKeys::default();
        let mut at = top;
        while turns.len() < MAX_DEPTH {
            if !self.is_whole(at, widths)? {
                break;
            }
            let Some(page) = self.pages.cached(at.0)? else {
                break;
            };
            let branch = match Node::of(&page, widths) {
                Some(Node::Branch(branch)) => branch,
                Some(Node::Leaf(_)) => return Ok(Ok((turns, at.0, keys))),
                None => break,
            };
            let found = search(branch.keys, key, |n| branch.key(n));
            let Some(Ok(n) | Err(n)) = found else {
                break;
            };
            let Some(child) = branch.child(n) else {
                break;
            };
            let before = n.checked_sub(1).and_then(|n| branch.key(n));
            keys.after = before.map(<[u8]>::to_vec).or(keys.after);
            keys.up_to = branch.key(n).map(<[u8]>::to_vec).or(keys.up_to);
            turns.push((at.0, n));
            at = child;
        }
        Ok(Err(keys))
    }

    /// Whether redb cannot join the page at the end of this path with a damaged one on one side. It cannot if a page
    /// between them is not small, and does not become small: removals from it are asked about as well. Or the page
    /// that it would join is not small.
    fn is_apart(
        &mut self,
        turns: &[BranchStep],
        widths: FixedWidths,
        side: PageSide,
    ) -> Result<bool> {
        let mut turns = turns.to_vec();
        for _ in 0..LOOKED_PAST {
            match self.step(&mut turns, widths, side)? {
                Neighbour::Nothing | Neighbour::Large => return Ok(true),
                Neighbour::Damaged => return Ok(false),
                Neighbour::Small => {}
            }
        }
        Ok(false)
    }

    /// Moves to the neighbour of the page at the end of the path.
    fn step(
        &mut self,
        turns: &mut Vec<BranchStep>,
        widths: FixedWidths,
        side: PageSide,
    ) -> Result<Neighbour> {
        let depth = turns.len();
        // Up to the first branch with a child on that side, then down along its edge.
        let mut at = loop {
            let Some((page, n)) = turns.pop() else {
                return Ok(Neighbour::Nothing);
            };
            let n = match side {
                PageSide::Before => n.checked_sub(1),
                PageSide::After => n.checked_add(1),
            };
            if let Some(n) = n
                && let Some(child) = self.child(page, n, widths)?
            {
                turns.push((page, n));
                break child;
            }
        };
        while turns.len() < depth {
            if !self.is_whole(at, widths)? {
                return Ok(Neighbour::Damaged);
            }
            let last = self.last_child(at.0, widths)?;
            let n = match side {
                PageSide::Before => last,
                PageSide::After => 0,
            };
            let Some(child) = self.child(at.0, n, widths)? else {
                return Ok(Neighbour::Damaged);
            };
            turns.push((at.0, n));
            at = child;
        }
        if !self.is_whole(at, widths)? {
            return Ok(Neighbour::Damaged);
        }
        let page = self.pages.cached(at.0)?;
        let node = page.as_ref().and_then(|page| Node::of(page, widths));
        Ok(match node.and_then(|node| node.end()) {
            Some(end) if end >= SMALL => Neighbour::Large,
            Some(_) => Neighbour::Small,
            None => Neighbour::Damaged,
        })
    }

    fn child(&mut self, page: u64, n: usize, widths: FixedWidths) -> Result<Option<(u64, u128)>> {
        let page = self.pages.cached(page)?;
        Ok(
            match page.as_ref().and_then(|page| Node::of(page, widths)) {
                Some(Node::Branch(branch)) => branch.child(n),
                _ => None,
            },
        )
    }

    fn last_child(&mut self, page: u64, widths: FixedWidths) -> Result<usize> {
        let page = self.pages.cached(page)?;
        Ok(
            match page.as_ref().and_then(|page| Node::of(page, widths)) {
                Some(Node::Branch(branch)) => branch.keys,
                _ => 0,
            },
        )
    }

    fn is_whole(&mut self, (number, checksum): (u64, u128), widths: FixedWidths) -> Result<bool> {
        if let Some(known) = self.known.get(&number) {
            return Ok(*known);
        }
        let span = self.pages.header.geometry.span(number);
        let is_met = span.is_some_and(|(start, len)| self.unreadable.has(start, len));
        let whole = !is_met
            && match self.pages.page(number)? {
                Ok(page) => is_whole(&page, widths, checksum),
                Err(why) => {
                    if let Some((start, len)) = span.filter(|_| why == UNREADABLE) {
                        let disk = &self.pages.disk;
                        self.unreadable.note(disk, start, len as usize);
                    }
                    false
                }
            };
        self.known.insert(number, whole);
        Ok(whole)
    }
}

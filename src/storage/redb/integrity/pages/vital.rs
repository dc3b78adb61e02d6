//! Copies the pages of a file that everything else depends on: those of redb's bookkeeping and of the store's own
//! tables, and the upper pages of the other trees. So one of them that cannot be read any more disturbs nobody.

use crate::error::Result;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::page_copies::{CopiedPages, PageCopies, PageCopy};
use crate::storage::redb::format::{BitRepair, FixedWidths, Node, TableRoot, TreeRoot, is_whole};
use crate::storage::redb::integrity::pages::{MAX_DEPTH, Pages};
use crate::storage::redb::memtable::row_key::RowTree;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most bytes that are copied. They hold the bookkeeping of a file of some 16 GB.
const MOST: usize = 4 << 20;

/// A page's number, and the checksum that its parent records.
type PageRef = (u64, u128);

/// Copies the pages of the current commit. No thread may write to the file meanwhile. Pages that were copied before are
/// not read again.
pub(crate) fn copy_vital_pages(disk: &Disk, copies: &PageCopies) -> Result<()> {
    let mut copying = Copying {
        pages: Pages::new(disk.clone(), BitRepair::Nothing)?,
        known: copies.pages(),
        copied: CopiedPages::new(),
        bytes: 0,
    };
    copying.copy_all();
    copies.replace(copying.copied);
    Ok(())
}

/// A row of a tree, by which a page is reached.
pub(crate) type RowBelow = (RowTree, Vec<u8>, Vec<u8>);

/// One row below each of these pages that is in one of the trees of rows. Where it is written again, redb writes the
/// page elsewhere.
pub(crate) fn rows_below(
    disk: &Disk,
    copies: &PageCopies,
    offsets: &BTreeSet<u64>,
) -> Result<Vec<RowBelow>> {
    // A copied page lies below copied pages alone. So nothing else is read.
    let copied = copies.pages();
    let mut found = Vec::new();
    let mut pages = Pages::new(disk.clone(), BitRepair::Nothing)?;
    let tables = pages.tables(|_, _| {})?;
    let mut left = offsets.clone();
    for tree in RowTree::ALL {
        let Some(table) = tables.get(tree.name()) else {
            continue;
        };
        let mut level: Vec<PageRef> = table.root.iter().map(as_ref).collect();
        for _ in 0..MAX_DEPTH {
            let mut below = Vec::new();
            for at in level {
                let span = pages.header.geometry.span(at.0);
                let is_wanted = span.is_some_and(|(offset, _)| left.remove(&offset));
                if is_wanted && let Some((key, value)) = pages.first_row(at, table.widths, 0) {
                    found.push((tree, key, value));
                }
                let geometry = &pages.header.geometry;
                let is_copied = |(page, _): &PageRef| {
                    let span = geometry.span(*page);
                    span.is_some_and(|(offset, _)| copied.contains_key(&offset))
                };
                let children = pages.children(at, table.widths);
                below.extend(children.into_iter().filter(is_copied));
            }
            if left.is_empty() || below.is_empty() {
                break;
            }
            level = below;
        }
    }
    Ok(found)
}

fn as_ref(root: &TreeRoot) -> PageRef {
    (root.page, root.checksum)
}

fn children(page: &[u8], widths: FixedWidths) -> Vec<PageRef> {
    match Node::of(page, widths) {
        Some(Node::Branch(branch)) => (0..=branch.keys).filter_map(|n| branch.child(n)).collect(),
        _ => Vec::new(),
    }
}

impl Pages {
    fn intact(&self, (number, checksum): PageRef, widths: FixedWidths) -> Option<Vec<u8>> {
        let page = self.page(number).ok()?.ok()?;
        is_whole(&page, widths, checksum).then_some(page)
    }

    fn children(&self, at: PageRef, widths: FixedWidths) -> Vec<PageRef> {
        let page = self.intact(at, widths);
        page.map_or_else(Vec::new, |page| children(&page, widths))
    }

    /// The first row below a page whose own page is intact.
    fn first_row(
        &self,
        at: PageRef,
        widths: FixedWidths,
        depth: usize,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let page = self.intact(at, widths)?;
        match Node::of(&page, widths)? {
            Node::Leaf(leaf) => {
                let (key, value) = leaf.row(0)?;
                Some((key.to_vec(), value.to_vec()))
            }
            Node::Branch(branch) if depth < MAX_DEPTH => {
                let below = (0..=branch.keys).filter_map(|n| branch.child(n));
                let mut rows = below.map(|at| self.first_row(at, widths, depth + 1));
                rows.find_map(|row| row)
            }
            Node::Branch(_) => None,
        }
    }
}

struct Copying {
    pages: Pages,
    known: CopiedPages,
    copied: CopiedPages,
    bytes: usize,
}

impl Copying {
    /// First what every commit needs, then the other trees from their roots down, level by level.
    fn copy_all(&mut self) {
        let (system, data) = (self.pages.header.system, self.pages.header.data);
        for table in self.directory(system).into_values() {
            self.whole(table.root.as_ref(), table.widths);
        }
        let mut tables = self.directory(data);
        let rows: Vec<_> = RowTree::ALL
            .iter()
            .filter_map(|tree| tables.remove(tree.name().as_bytes()))
            .collect();
        for table in tables.into_values() {
            self.whole(table.root.as_ref(), table.widths);
        }
        let mut level: Vec<(PageRef, FixedWidths, usize)> = Vec::new();
        for table in rows {
            let Some(root) = table.root.as_ref().map(as_ref) else {
                continue;
            };
            let branches = self.branches(root, table.widths, 0).unwrap_or(0);
            level.push((root, table.widths, branches.max(1)));
        }
        while !level.is_empty() {
            let mut below = Vec::new();
            for (at, widths, levels) in level {
                let Some(page) = self.copy(at, widths) else {
                    continue;
                };
                if levels > 1 {
                    let of_page = children(&page, widths).into_iter();
                    below.extend(of_page.map(|at| (at, widths, levels - 1)));
                }
            }
            level = below;
        }
    }

    /// Copies a list of tables.
    fn directory(&mut self, root: Option<TreeRoot>) -> BTreeMap<Vec<u8>, TableRoot> {
        let mut tables = BTreeMap::new();
        let widths = FixedWidths::default();
        for page in self.whole(root.as_ref(), widths) {
            let Some(Node::Leaf(leaf)) = Node::of(&page, widths) else {
                continue;
            };
            for (name, definition) in (0..leaf.pairs).filter_map(|n| leaf.row(n)) {
                if let Some(table) = TableRoot::read(definition) {
                    tables.insert(name.to_vec(), table);
                }
            }
        }
        tables
    }

    /// Copies all pages of a tree.
    fn whole(&mut self, root: Option<&TreeRoot>, widths: FixedWidths) -> Vec<Arc<[u8]>> {
        let mut copied = Vec::new();
        let mut left: Vec<PageRef> = root.map(as_ref).into_iter().collect();
        while let Some(at) = left.pop() {
            if let Some(page) = self.copy(at, widths) {
                left.extend(children(&page, widths));
                copied.push(page);
            }
        }
        copied
    }

    /// How many levels of branches a tree has.
    fn branches(&self, at: PageRef, widths: FixedWidths, depth: usize) -> Option<usize> {
        let page = self.read(at, widths)?;
        match Node::of(&page, widths)? {
            Node::Leaf(_) => Some(0),
            Node::Branch(branch) if depth < MAX_DEPTH => {
                let below = (0..=branch.keys).filter_map(|n| branch.child(n));
                let mut levels = below.map(|at| self.branches(at, widths, depth + 1));
                levels.find_map(|levels| levels).map(|levels| levels + 1)
            }
            Node::Branch(_) => None,
        }
    }

    /// The page, if it is intact.
    fn read(&self, (number, checksum): PageRef, widths: FixedWidths) -> Option<Arc<[u8]>> {
        let (offset, _) = self.pages.header.geometry.span(number)?;
        let known = self.copied.get(&offset).or_else(|| self.known.get(&offset));
        let is_same = |known: &&PageCopy| match known.checksum {
            Some(known) => known == checksum,
            None => is_whole(&known.bytes, widths, checksum),
        };
        if let Some(known) = known.filter(is_same) {
            return Some(known.bytes.clone());
        }
        self.pages.intact((number, checksum), widths).map(Arc::from)
    }

    /// Copies a page, if it is intact and there is room for it.
    fn copy(&mut self, at: PageRef, widths: FixedWidths) -> Option<Arc<[u8]>> {
        let (offset, len) = self.pages.header.geometry.span(at.0)?;
        if self.copied.contains_key(&offset) || self.bytes as u64 + len > MOST as u64 {
            return None;
        }
        let bytes = self.read(at, widths)?;
        self.bytes += bytes.len();
        let copy = PageCopy {
            checksum: Some(at.1),
            bytes: bytes.clone(),
        };
        self.copied.insert(offset, copy);
        Some(bytes)
    }
}

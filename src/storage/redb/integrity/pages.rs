//! Reads the pages of a store file without redb. It verifies the checksum of every page, which redb does not do when
//! it reads, and finds rows where redb would fail or panic. It changes nothing, and always terminates: from a damaged
//! page it follows only links to intact pages. It does not know the meaning of rows.

pub(crate) mod blocked;
pub(crate) mod row_paths;
pub(crate) mod vital;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::backend::disk::{Disk, PageRead, read_part};
use crate::storage::redb::failure;
use crate::storage::redb::format::{
    BitRepair, DatabaseHeader, FixedWidths, HEADER, Node, TableRoot, TreeRoot, is_whole,
    repair_bit, search,
};
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

/// The greatest depth of a tree. Each level at least doubles the number of pages.
const MAX_DEPTH: usize = 64;
/// The largest page that is repaired by trying to flip each of its bits.
const MENDABLE: usize = 64 << 10;
/// The most bytes that are hashed for repairs, which takes a minute or two. A page of 4 KiB takes 128 MiB.
const TRIED: u64 = 512 << 30;
/// The most bytes of pages that are cached for look-ups.
const CACHE: usize = 4 << 20;
/// The reason for a page that the disk cannot read.
const UNREADABLE: &str = "the disk cannot read it";

/// A damaged page of a tree, and the keys that belong below it.
#[derive(Clone, Debug)]
pub(crate) struct BadPage {
    pub(crate) after: Option<Vec<u8>>,
    pub(crate) up_to: Option<Vec<u8>>,
    pub(crate) why: &'static str,
    /// A flipped bit was repaired, and the rows that follow are correct.
    pub(crate) mended: bool,
}

/// The items that a walk visits, in the order of the tree.
pub(crate) enum Visited<'a> {
    Row {
        key: &'a [u8],
        value: &'a [u8],
        /// Every page from the root to this row is intact, so a look-up finds the row.
        sound: bool,
    },
    Bad(BadPage),
}

/// A part of a range of keys.
pub(crate) enum Part {
    Row(Vec<u8>, Vec<u8>),
    /// The rows after the previous part up to this key cannot be read. `None`: up to the end.
    Gap(Option<Vec<u8>>),
}

/// The pages of one file as of one commit.
pub(crate) struct Pages {
    pub(crate) disk: Disk,
    header: DatabaseHeader,
    len: u64,
    repair: BitRepair,
    tried: u64,
    /// The bytes of the pages that were visited in walks.
    pub(crate) walked: u64,
    cache: BTreeMap<u64, Arc<[u8]>>,
    cached: usize,
}

fn corrupt(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}

/// Reads the first bytes of a file, which may be shorter.
pub(crate) fn header_of(disk: &Disk) -> Result<Vec<u8>> {
    let len = disk.len().map_err(failed)?.min(HEADER as u64);
    let mut bytes = vec![0; len as usize];
    disk.read(0, &mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn failed(error: io::Error) -> Error {
    failure::storage(redb::StorageError::Io(error))
}

impl Pages {
    /// The current commit, by the header of `disk`. No thread may write to it meanwhile.
    pub(crate) fn new(disk: Disk, repair: BitRepair) -> Result<Self> {
        let bytes = header_of(&disk)?;
        let len = disk.len().map_err(failed)?;
        let mut pages = Self {
            disk,
            header: DatabaseHeader::read(&bytes, repair)?,
            len,
            repair,
            tried: 0,
            walked: 0,
            cache: BTreeMap::new(),
            cached: 0,
        };
        if repair == BitRepair::Bits {
            pages.repair_regions()?;
        }
        Ok(pages)
    }

    /// No checksum covers the layout of the regions. But if one of its bits is wrong, the root page of the tree is
    /// not found.
    fn repair_regions(&mut self) -> Result<()> {
        let Some(root) = self.header.data else {
            return Ok(());
        };
        let read = self.header.geometry;
        for geometry in std::iter::once(read).chain(read.flipped()) {
            self.header.geometry = geometry;
            let page = self.page(root.page)?;
            if page.is_ok_and(|page| is_whole(&page, FixedWidths::default(), root.checksum)) {
                return Ok(());
            }
        }
        self.header.geometry = read;
        Ok(())
    }

    /// A second reader of the same pages, for look-ups during a walk.
    pub(crate) fn second_reader(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            header: self.header,
            len: self.len,
            repair: self.repair,
            tried: 0,
            walked: 0,
            cache: BTreeMap::new(),
            cached: 0,
        }
    }

    /// The tables of the store.
    pub(crate) fn tables(
        &mut self,
        bad: impl FnMut(&str, BadPage),
    ) -> Result<BTreeMap<String, TableRoot>> {
        self.directory(self.header.data, "tables", bad)
    }

    /// Checks the pages of redb's own tables, which list the used pages of the file.
    pub(crate) fn check_system(&mut self, mut bad: impl FnMut(&str, BadPage)) -> Result<()> {
        for (_, table) in self.directory(self.header.system, "system", &mut bad)? {
            self.walk(&table, |met| {
                if let Visited::Bad(page) = met {
                    bad("system", page);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn directory(
        &mut self,
        root: Option<TreeRoot>,
        name: &str,
        mut bad: impl FnMut(&str, BadPage),
    ) -> Result<BTreeMap<String, TableRoot>> {
        let mut tables = BTreeMap::new();
        let directory = TableRoot {
            root,
            length: 0,
            widths: FixedWidths::default(),
        };
        self.walk(&directory, |met| {
            match met {
                Visited::Row { key, value, .. } => {
                    if let (Ok(name), Some(table)) = (str::from_utf8(key), TableRoot::read(value)) {
                        tables.insert(name.to_owned(), table);
                    }
                }
                Visited::Bad(page) => bad(name, page),
            }
            Ok(())
        })?;
        Ok(tables)
    }

    /// Visits every row that can be reached, in the order of the tree.
    pub(crate) fn walk(
        &mut self,
        table: &TableRoot,
        mut visit: impl FnMut(Visited<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(root) = table.root else {
            return Ok(());
        };
        let top = ChildPage {
            page: root.page,
            checksum: root.checksum,
            after: None,
            up_to: None,
            sound: true,
        };
        self.descend(top, table.widths, 0, &mut visit)
    }

    fn descend(
        &mut self,
        at: ChildPage,
        widths: FixedWidths,
        depth: usize,
        visit: &mut dyn FnMut(Visited<'_>) -> Result<()>,
    ) -> Result<()> {
        let (page, state) = self.verified(&at, widths)?;
        self.walked += page.len() as u64;
        let sound = at.sound && state.is_ok();
        let mut mended = true;
        if let Err((why, fixed)) = state {
            mended = fixed;
            visit(Visited::Bad(BadPage {
                after: at.after.clone(),
                up_to: at.up_to.clone(),
                why,
                mended: fixed,
            }))?;
        }
        match Node::of(&page, widths) {
            Some(Node::Leaf(leaf)) => {
                for n in 0..leaf.pairs {
                    if let Some((key, value)) = leaf.row(n) {
                        visit(Visited::Row { key, value, sound })?;
                    }
                }
            }
            Some(Node::Branch(branch)) if depth < MAX_DEPTH => {
                for n in 0..=branch.keys {
                    let Some((page, checksum)) = branch.child(n) else {
                        continue;
                    };
                    let before = n.checked_sub(1).and_then(|n| branch.key(n));
                    let below = ChildPage {
                        page,
                        checksum,
                        after: before.map(<[u8]>::to_vec).or_else(|| at.after.clone()),
                        up_to: branch
                            .key(n)
                            .map(<[u8]>::to_vec)
                            .or_else(|| at.up_to.clone()),
                        sound,
                    };
                    // From a damaged page, only links to its own children are followed, never back.
                    if mended || self.verified(&below, widths)?.1.is_ok() {
                        self.descend(below, widths, depth + 1, visit)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The value that redb would find for `key`. redb does not verify pages during a look-up.
    pub(crate) fn get(&mut self, table: &TableRoot, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let damaged = || corrupt("the file's structure is damaged");
        let Some(root) = table.root else {
            return Ok(None);
        };
        let mut at = root.page;
        for _ in 0..MAX_DEPTH {
            let page = self.cached(at)?.ok_or_else(damaged)?;
            match Node::of(&page, table.widths) {
                Some(Node::Leaf(leaf)) => {
                    return match search(leaf.pairs, key, |n| leaf.key(n)).ok_or_else(damaged)? {
                        Ok(n) => {
                            let (_, value) = leaf.row(n).ok_or_else(damaged)?;
                            Ok(Some(value.to_vec()))
                        }
                        Err(_) => Ok(None),
                    };
                }
                Some(Node::Branch(branch)) => {
                    let found = search(branch.keys, key, |n| branch.key(n)).ok_or_else(damaged)?;
                    let (Ok(n) | Err(n)) = found;
                    at = branch.child(n).ok_or_else(damaged)?.0;
                }
                None => return Err(damaged()),
            }
        }
        Err(damaged())
    }

    /// The first rows of a range of keys as redb would find them, and the gaps between them, at most `most`.
    pub(crate) fn range(
        &mut self,
        table: &TableRoot,
        keys: (Bound<&[u8]>, &[u8]),
        most: usize,
    ) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        if let Some(root) = table.root {
            let top = (root.page, None);
            self.gather(top, table.widths, (keys, most), 0, &mut parts)?;
        }
        Ok(parts)
    }

    /// Collects the rows below a page, whose keys end at `up_to`.
    fn gather(
        &mut self,
        (page, up_to): (u64, Option<&[u8]>),
        widths: FixedWidths,
        (keys, most): ((Bound<&[u8]>, &[u8]), usize),
        depth: usize,
        parts: &mut Vec<Part>,
    ) -> Result<()> {
        let damaged = || corrupt("the file's structure is damaged");
        let gap = || Part::Gap(up_to.map(<[u8]>::to_vec));
        let (Bound::Included(from) | Bound::Excluded(from)) = keys.0 else {
            return Err(damaged());
        };
        let Some(page) = self.cached(page)? else {
            parts.push(gap());
            return Ok(());
        };
        match Node::of(&page, widths) {
            Some(Node::Leaf(leaf)) => {
                for n in 0..leaf.pairs {
                    let Some((key, value)) = leaf.row(n) else {
                        parts.push(gap());
                        break;
                    };
                    let is_before = key < from || (key == from && keys.0 == Bound::Excluded(from));
                    if key > keys.1 || parts.len() >= most {
                        break;
                    }
                    if !is_before {
                        parts.push(Part::Row(key.to_vec(), value.to_vec()));
                    }
                }
            }
            Some(Node::Branch(branch)) if depth < MAX_DEPTH => {
                for n in 0..=branch.keys {
                    let own = branch.key(n);
                    let is_over = own == Some(from) && keys.0 == Bound::Excluded(from);
                    if is_over || own.is_some_and(|own| own < from) {
                        continue;
                    }
                    let Some((below, _)) = branch.child(n) else {
                        parts.push(gap());
                        break;
                    };
                    let below = (below, own.or(up_to));
                    self.gather(below, widths, (keys, most), depth + 1, parts)?;
                    if parts.len() >= most || own.is_some_and(|own| own >= keys.1) {
                        break;
                    }
                }
            }
            _ => parts.push(gap()),
        }
        Ok(())
    }

    fn cached(&mut self, page: u64) -> Result<Option<Arc<[u8]>>> {
        if let Some(known) = self.cache.get(&page) {
            return Ok(Some(known.clone()));
        }
        let Ok(bytes) = self.page(page)? else {
            return Ok(None);
        };
        let bytes: Arc<[u8]> = bytes.into();
        if self.cached + bytes.len() > CACHE {
            self.cache.clear();
            self.cached = 0;
        }
        self.cached += bytes.len();
        self.cache.insert(page, bytes.clone());
        Ok(Some(bytes))
    }

    /// The bytes of a page, or the reason why they cannot be read.
    fn page(&self, number: u64) -> Result<Result<Vec<u8>, &'static str>> {
        const BEYOND: &str = "it lies beyond the end of the file";
        let Some((start, len)) = self.header.geometry.span(number) else {
            return Ok(Err(BEYOND));
        };
        if start.saturating_add(len) > self.len {
            return Ok(Err(BEYOND));
        }
        let mut bytes = vec![0; len as usize];
        Ok(
            match read_part(&self.disk, start, &mut bytes).map_err(failed)? {
                PageRead::All => Ok(bytes),
                PageRead::Beyond => Err(BEYOND),
                PageRead::Unreadable => Err(UNREADABLE),
            },
        )
    }

    /// Verifies a page against its checksum, and repairs it if possible. Returns why it is damaged otherwise, and
    /// whether it was repaired.
    #[expect(clippy::type_complexity, reason = "read in one place")]
    fn verified(
        &mut self,
        at: &ChildPage,
        widths: FixedWidths,
    ) -> Result<(Vec<u8>, Result<(), (&'static str, bool)>)> {
        let mut page = match self.page(at.page)? {
            Ok(page) => page,
            Err(why) => return Ok((Vec::new(), Err((why, false)))),
        };
        if is_whole(&page, widths, at.checksum) {
            return Ok((page, Ok(())));
        }
        let mut fixed = false;
        if self.repair == BitRepair::Bits && page.len() <= MENDABLE && self.tried < TRIED {
            self.tried += 8 * (page.len() as u64).pow(2);
            fixed = repair_bit(&mut page, |page| is_whole(page, widths, at.checksum));
        }
        Ok((page, Err(("its checksum does not match", fixed))))
    }
}

/// A page to visit.
struct ChildPage {
    page: u64,
    checksum: u128,
    after: Option<Vec<u8>>,
    up_to: Option<Vec<u8>>,
    sound: bool,
}

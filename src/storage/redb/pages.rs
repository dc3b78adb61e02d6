//! Reads the pages of a store file past redb (format 3 of its files): verifies the checksums that
//! redb keeps of every page and never looks at when reading, and finds rows where redb would give up
//! or panic. It changes nothing, and whatever it meets, it ends: a damaged page leads only to pages
//! that are what they should be. It knows no rows.

use super::failure;
use super::file::Disk;
use super::unreadable::{self, Got};
use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use twox_hash::XxHash3_128;

const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
pub(super) const HEADER: usize = 320;
const SLOTS: [usize; 2] = [64, 192];
const SLOT: usize = 128;
const CHECKSUM: usize = 16;
const FORMAT: u8 = 3;
const PAGE: u64 = 4096;
/// A page's size is a power of two; its exponent is the highest five bits of the page's number.
const ORDER_AT: u32 = 59;
const MAX_ORDER: u64 = 20;
/// No tree is deeper; each level at least doubles it.
const MAX_DEPTH: usize = 64;
/// Up to this size, a page with one flipped bit is mended by trying them all.
const MENDABLE: usize = 64 << 10;
/// How many bytes are hashed in trying, which takes a minute or two. A page of 4 KiB takes 128 MiB.
const TRIED: u64 = 512 << 30;
/// How many bytes of pages are kept for look-ups.
const CACHE: usize = 4 << 20;

const PRIMARY: u8 = 1;
const TWO_PHASE: u8 = 4;

/// Where a tree begins: its root page and that page's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    page: u64,
    checksum: u128,
    pub(super) length: u64,
}

impl Root {
    const LEN: usize = 32;

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            page: u64_at(bytes, 0)?,
            checksum: u128_at(bytes, 8)?,
            length: u64_at(bytes, 24)?,
        })
    }
}

/// How a table lays out its rows: the widths of keys and values, where they are fixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Widths {
    key: Option<usize>,
    value: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) root: Option<Root>,
    /// How many rows it says that it has.
    pub(super) length: u64,
    widths: Widths,
}

/// How a file is divided into regions, which is as it was made and covered by no checksum.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    region: u64,
    region_header: u64,
}

impl Geometry {
    fn read(header: &[u8]) -> Option<Self> {
        let pages = |at| u32_at(header, at).map(|n| n as u64 * PAGE);
        Some(Self {
            region_header: pages(16)?,
            region: pages(20)?,
        })
    }

    /// Where a page begins and how long it is; `None` if there can be no such page.
    fn span(self, number: u64) -> Option<(u64, u64)> {
        let order = number >> ORDER_AT;
        if order > MAX_ORDER {
            return None;
        }
        let index = number & (0xF_FFFF >> order);
        let region = (number >> 20) & 0xF_FFFF;
        let len = PAGE << order;
        let regional = self.region_header.saturating_add(index.saturating_mul(len));
        let base = region.saturating_mul(self.region_header.saturating_add(self.region));
        Some((PAGE.saturating_add(base).saturating_add(regional), len))
    }
}

/// What the file's header says of the commit that is current.
#[derive(Clone, Copy, Debug)]
struct Header {
    data: Option<Root>,
    system: Option<Root>,
    geometry: Geometry,
}

/// A damaged page of a tree, and the keys that belong below it.
#[derive(Clone, Debug)]
pub(super) struct BadPage {
    pub(super) after: Option<Vec<u8>>,
    pub(super) up_to: Option<Vec<u8>>,
    pub(super) why: &'static str,
    /// Its one flipped bit was found: what follows is what it was.
    pub(super) mended: bool,
}

/// What a walk meets, in the order of the tree.
pub(super) enum Met<'a> {
    Row {
        key: &'a [u8],
        value: &'a [u8],
        /// Every page from the root to here is what it should be, so a look-up finds the row.
        sound: bool,
    },
    Bad(BadPage),
}

/// Whether flipped bits are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    Bits,
    Nothing,
}

/// The pages of one file as of one commit.
pub(super) struct Pages {
    disk: Disk,
    header: Header,
    len: u64,
    mend: Mend,
    tried: u64,
    cache: BTreeMap<u64, Arc<[u8]>>,
    cached: usize,
}

fn corrupt(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u128_at(bytes: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let n = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    usize::try_from(n).ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

/// One of the header's two commits.
#[derive(Clone, Copy)]
struct Slot {
    data: Option<Root>,
    system: Option<Root>,
}

impl Slot {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM>()?;
        if XxHash3_128::oneshot(body) != u128::from_le_bytes(*sum) || body.first() != Some(&FORMAT)
        {
            return None;
        }
        let root = |flag: usize, at: usize| match body.get(flag)? {
            0 => Some(None),
            _ => Root::read(body.get(at..at + Root::LEN)?).map(Some),
        };
        Some(Self {
            data: root(1, 8)?,
            system: root(2, 8 + Root::LEN)?,
        })
    }
}

/// What redb does not notice of a damaged header: a store always commits in two phases, so the bit
/// that says so is set, and the current commit is there. That the other one is newer is no damage: so
/// a crash leaves it between the phases, and after an orderly end both hold the same rows.
pub(super) fn check_header(bytes: &[u8]) -> Result<()> {
    let state = bytes.get(MAGIC.len()).copied().unwrap_or_default();
    if state & TWO_PHASE == 0 {
        return Err(corrupt(
            "the file's header is damaged: its commits have one phase",
        ));
    }
    if current_slot(bytes, state).and_then(Slot::read).is_none() {
        return Err(corrupt("the file's header is damaged: the current commit"));
    }
    Ok(())
}

/// The bytes of the current commit.
fn current_slot(bytes: &[u8], state: u8) -> Option<&[u8]> {
    let [first, second] = SLOTS;
    let at = if state & PRIMARY == 0 { first } else { second };
    bytes.get(at..at + SLOT)
}

/// The first bytes of a file, which may be shorter.
pub(super) fn header_of(disk: &Disk) -> Result<Vec<u8>> {
    let len = disk.len().map_err(failed)?.min(HEADER as u64);
    let mut bytes = vec![0; len as usize];
    disk.read(0, &mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn failed(error: io::Error) -> Error {
    failure::storage(redb::StorageError::Io(error))
}

impl Pages {
    /// The commit that the header of `disk` names. To be called while nobody writes to it.
    pub(super) fn new(disk: Disk, mend: Mend) -> Result<Self> {
        let bytes = header_of(&disk)?;
        let len = disk.len().map_err(failed)?;
        let mut pages = Self {
            disk,
            header: Header::read(&bytes, mend)?,
            len,
            mend,
            tried: 0,
            cache: BTreeMap::new(),
            cached: 0,
        };
        if mend == Mend::Bits {
            pages.mend_regions()?;
        }
        Ok(pages)
    }

    /// No checksum covers how the file is divided into regions; but with one bit of it wrong, the first
    /// page of the tree is not found.
    fn mend_regions(&mut self) -> Result<()> {
        let Some(root) = self.header.data else {
            return Ok(());
        };
        let read = self.header.geometry;
        let flipped = (0..32).flat_map(|bit| {
            let bit = PAGE << bit;
            let (region, region_header) = (read.region ^ bit, read.region_header ^ bit);
            [
                Geometry { region, ..read },
                Geometry {
                    region_header,
                    ..read
                },
            ]
        });
        for geometry in std::iter::once(read).chain(flipped) {
            self.header.geometry = geometry;
            let page = self.page(root.page)?;
            if page.is_ok_and(|page| is_whole(&page, Widths::default(), root.checksum)) {
                return Ok(());
            }
        }
        self.header.geometry = read;
        Ok(())
    }

    /// The same pages again, to look things up in the middle of a walk.
    pub(super) fn twin(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            header: self.header,
            len: self.len,
            mend: self.mend,
            tried: 0,
            cache: BTreeMap::new(),
            cached: 0,
        }
    }

    /// The tables of the store.
    pub(super) fn tables(
        &mut self,
        bad: impl FnMut(&str, BadPage),
    ) -> Result<BTreeMap<String, Table>> {
        self.directory(self.header.data, "tables", bad)
    }

    /// The pages of redb's own tables: which of the file's pages are in use.
    pub(super) fn check_system(&mut self, mut bad: impl FnMut(&str, BadPage)) -> Result<()> {
        for (_, table) in self.directory(self.header.system, "system", &mut bad)? {
            self.walk(&table, |met| {
                if let Met::Bad(page) = met {
                    bad("system", page);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn directory(
        &mut self,
        root: Option<Root>,
        name: &str,
        mut bad: impl FnMut(&str, BadPage),
    ) -> Result<BTreeMap<String, Table>> {
        let mut tables = BTreeMap::new();
        let directory = Table {
            root,
            length: 0,
            widths: Widths::default(),
        };
        self.walk(&directory, |met| {
            match met {
                Met::Row { key, value, .. } => {
                    if let (Ok(name), Some(table)) = (str::from_utf8(key), Table::read(value)) {
                        tables.insert(name.to_owned(), table);
                    }
                }
                Met::Bad(page) => bad(name, page),
            }
            Ok(())
        })?;
        Ok(tables)
    }

    /// Visits every row that can be reached, in the order of the tree.
    pub(super) fn walk(
        &mut self,
        table: &Table,
        mut visit: impl FnMut(Met<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(root) = table.root else {
            return Ok(());
        };
        let top = Below {
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
        at: Below,
        widths: Widths,
        depth: usize,
        visit: &mut dyn FnMut(Met<'_>) -> Result<()>,
    ) -> Result<()> {
        let (page, state) = self.verified(&at, widths)?;
        let sound = at.sound && state.is_ok();
        let mut mended = true;
        if let Err((why, fixed)) = state {
            mended = fixed;
            visit(Met::Bad(BadPage {
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
                        visit(Met::Row { key, value, sound })?;
                    }
                }
            }
            Some(Node::Branch(branch)) if depth < MAX_DEPTH => {
                for n in 0..=branch.keys {
                    let Some((page, checksum)) = branch.child(n) else {
                        continue;
                    };
                    let before = n.checked_sub(1).and_then(|n| branch.key(n));
                    let below = Below {
                        page,
                        checksum,
                        after: before.map(<[u8]>::to_vec).or_else(|| at.after.clone()),
                        up_to: branch
                            .key(n)
                            .map(<[u8]>::to_vec)
                            .or_else(|| at.up_to.clone()),
                        sound,
                    };
                    // A damaged page leads only to what is certainly its own, and never back.
                    if mended || self.verified(&below, widths)?.1.is_ok() {
                        self.descend(below, widths, depth + 1, visit)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The value that redb would find at `key`, which it looks up without verifying a page.
    pub(super) fn get(&mut self, table: &Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
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

    /// The first rows of a range of keys, so many at most, as redb would find them.
    pub(super) fn range(
        &mut self,
        table: &Table,
        keys: (Bound<&[u8]>, &[u8]),
        most: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut rows = Vec::new();
        if let Some(root) = table.root {
            self.gather(root.page, table.widths, (keys, most), 0, &mut rows)?;
        }
        Ok(rows)
    }

    fn gather(
        &mut self,
        page: u64,
        widths: Widths,
        (keys, most): ((Bound<&[u8]>, &[u8]), usize),
        depth: usize,
        rows: &mut Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<()> {
        let damaged = || corrupt("the file's structure is damaged");
        let page = self.cached(page)?.ok_or_else(damaged)?;
        let (Bound::Included(from) | Bound::Excluded(from)) = keys.0 else {
            return Err(damaged());
        };
        match Node::of(&page, widths) {
            Some(Node::Leaf(leaf)) => {
                for n in 0..leaf.pairs {
                    let (key, value) = leaf.row(n).ok_or_else(damaged)?;
                    let is_before = key < from || (key == from && keys.0 == Bound::Excluded(from));
                    if key > keys.1 || rows.len() >= most {
                        break;
                    }
                    if !is_before {
                        rows.push((key.to_vec(), value.to_vec()));
                    }
                }
                Ok(())
            }
            Some(Node::Branch(branch)) if depth < MAX_DEPTH => {
                for n in 0..=branch.keys {
                    let up_to = branch.key(n);
                    if up_to.is_some_and(|up_to| up_to < from) {
                        continue;
                    }
                    let (below, _) = branch.child(n).ok_or_else(damaged)?;
                    self.gather(below, widths, (keys, most), depth + 1, rows)?;
                    if rows.len() >= most || up_to.is_some_and(|up_to| up_to >= keys.1) {
                        break;
                    }
                }
                Ok(())
            }
            _ => Err(damaged()),
        }
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

    /// A page's bytes, or why there are none.
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
            match unreadable::read(&self.disk, start, &mut bytes).map_err(failed)? {
                Got::All => Ok(bytes),
                Got::Beyond => Err(BEYOND),
                Got::Unreadable => Err("the disk cannot read it"),
            },
        )
    }

    /// A page held against its checksum, mended if that can be done; else why it is damaged, and
    /// whether it was mended.
    #[expect(clippy::type_complexity, reason = "read in one place")]
    fn verified(
        &mut self,
        at: &Below,
        widths: Widths,
    ) -> Result<(Vec<u8>, Result<(), (&'static str, bool)>)> {
        let mut page = match self.page(at.page)? {
            Ok(page) => page,
            Err(why) => return Ok((Vec::new(), Err((why, false)))),
        };
        if is_whole(&page, widths, at.checksum) {
            return Ok((page, Ok(())));
        }
        let mut fixed = false;
        if self.mend == Mend::Bits && page.len() <= MENDABLE && self.tried < TRIED {
            self.tried += 8 * (page.len() as u64).pow(2);
            fixed = mend(&mut page, |page| is_whole(page, widths, at.checksum));
        }
        Ok((page, Err(("its checksum does not match", fixed))))
    }
}

/// What a file's header tells of where its pages are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    geometry: Geometry,
    /// The two pages that list the tables of the current commit. Those of the other one may be in use
    /// for something else.
    directories: [Option<(u64, u64)>; 2],
}

impl Layout {
    pub(super) fn read(header: &[u8]) -> Option<Self> {
        let geometry = Geometry::read(header)?;
        let state = header.get(MAGIC.len()).copied()?;
        let slot = current_slot(header, state).and_then(Slot::read);
        let place = |root: Option<Root>| geometry.span(root?.page);
        Some(Self {
            geometry,
            directories: [
                place(slot.and_then(|slot| slot.data)),
                place(slot.and_then(|slot| slot.system)),
            ],
        })
    }

    /// Finds the numbers of other pages in a page that redb reads. Those that lead beyond what `reaches`
    /// accepts become numbers of a size that redb knows not to exist: it says so of that page, and reads
    /// and allocates nothing.
    pub(super) fn refuse(
        &self,
        start: u64,
        page: &mut [u8],
        mut reaches: impl FnMut(u64) -> io::Result<bool>,
    ) -> io::Result<()> {
        for at in self.numbers(start, page) {
            let Some((number, place)) = u64_at(page, at).zip(page.get_mut(at..at + 8)) else {
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

    /// Where the numbers of other pages are in a page.
    fn numbers(&self, start: u64, page: &[u8]) -> Vec<usize> {
        let span = Some((start, page.len() as u64));
        match Node::of(page, Widths::default()) {
            Some(Node::Branch(branch)) => {
                let first = branch.numbers();
                (0..=branch.keys).map(|n| first + 8 * n).collect()
            }
            Some(Node::Leaf(leaf)) if self.directories.contains(&span) => {
                let root = |n| {
                    Table::read(leaf.row(n)?.1)?.root?;
                    leaf.value_start(n)?.checked_add(Table::ROOT + 1)
                };
                (0..leaf.pairs).filter_map(root).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A page to visit.
struct Below {
    page: u64,
    checksum: u128,
    after: Option<Vec<u8>>,
    up_to: Option<Vec<u8>>,
    sound: bool,
}

impl Header {
    fn read(bytes: &[u8], mend_bits: Mend) -> Result<Self> {
        let damaged = || corrupt("the file's header is damaged");
        let state = bytes.get(MAGIC.len()).copied().ok_or_else(damaged)?;
        let mut slot = current_slot(bytes, state).ok_or_else(damaged)?.to_vec();
        if mend_bits == Mend::Bits && Slot::read(&slot).is_none() {
            mend(&mut slot, |slot| Slot::read(slot).is_some());
        }
        let slot = Slot::read(&slot).ok_or_else(damaged)?;
        Ok(Self {
            data: slot.data,
            system: slot.system,
            geometry: Geometry::read(bytes).ok_or_else(damaged)?,
        })
    }
}

impl Table {
    /// Where a definition says whether there is a root; the root follows.
    const ROOT: usize = 9;

    fn read(definition: &[u8]) -> Option<Self> {
        const NORMAL: u8 = 3;
        if definition.first() != Some(&NORMAL) {
            return None;
        }
        let root = match definition.get(Self::ROOT)? {
            0 => None,
            _ => Some(Root::read(definition.get(Self::ROOT + 1..)?)?),
        };
        let width = |flag: usize| match definition.get(flag)? {
            0 => Some(None),
            _ => u32_at(definition, flag + 1).map(Some),
        };
        Some(Self {
            root,
            length: u64_at(definition, 1)?,
            widths: Widths {
                key: width(10 + Root::LEN)?,
                value: width(15 + Root::LEN)?,
            },
        })
    }
}

enum Node<'a> {
    Leaf(Leaf<'a>),
    Branch(Branch<'a>),
}

impl<'a> Node<'a> {
    fn of(page: &'a [u8], widths: Widths) -> Option<Self> {
        let count = u16_at(page, 2)?;
        match page.first()? {
            1 => Some(Self::Leaf(Leaf {
                page,
                widths,
                pairs: count,
            })),
            2 => Some(Self::Branch(Branch {
                page,
                width: widths.key,
                keys: count,
            })),
            _ => None,
        }
    }

    /// How much of the page its checksum covers.
    fn end(&self) -> Option<usize> {
        match self {
            Self::Leaf(leaf) => leaf.value_end(leaf.pairs.checked_sub(1)?),
            Self::Branch(branch) => branch.key_end(branch.keys.checked_sub(1)?),
        }
    }
}

struct Leaf<'a> {
    page: &'a [u8],
    widths: Widths,
    pairs: usize,
}

impl<'a> Leaf<'a> {
    /// Where the ends of the values are listed, after those of the keys.
    fn value_ends(&self) -> usize {
        match self.widths.key {
            Some(_) => 4,
            None => 4 + 4 * self.pairs,
        }
    }

    fn start(&self) -> usize {
        match self.widths.value {
            Some(_) => self.value_ends(),
            None => self.value_ends() + 4 * self.pairs,
        }
    }

    fn key_end(&self, n: usize) -> Option<usize> {
        match self.widths.key {
            Some(width) => self.start().checked_add(width.checked_mul(n + 1)?),
            None => u32_at(self.page, 4 + 4 * n),
        }
    }

    fn value_end(&self, n: usize) -> Option<usize> {
        match self.widths.value {
            Some(width) => {
                let keys = self.key_end(self.pairs.checked_sub(1)?)?;
                keys.checked_add(width.checked_mul(n + 1)?)
            }
            None => u32_at(self.page, self.value_ends() + 4 * n),
        }
    }

    fn key(&self, n: usize) -> Option<&'a [u8]> {
        let start = match n.checked_sub(1) {
            None => self.start(),
            Some(before) => self.key_end(before)?,
        };
        self.page.get(start..self.key_end(n)?)
    }

    fn value_start(&self, n: usize) -> Option<usize> {
        match n.checked_sub(1) {
            None => self.key_end(self.pairs.checked_sub(1)?),
            Some(before) => self.value_end(before),
        }
    }

    fn row(&self, n: usize) -> Option<(&'a [u8], &'a [u8])> {
        let value = self.value_start(n)?..self.value_end(n)?;
        Some((self.key(n)?, self.page.get(value)?))
    }
}

struct Branch<'a> {
    page: &'a [u8],
    width: Option<usize>,
    keys: usize,
}

impl<'a> Branch<'a> {
    fn children_end(&self) -> usize {
        8 + (CHECKSUM + 8) * (self.keys + 1)
    }

    fn key_end(&self, n: usize) -> Option<usize> {
        match self.width {
            Some(width) => self.children_end().checked_add(width.checked_mul(n + 1)?),
            None => u32_at(self.page, self.children_end() + 4 * n),
        }
    }

    fn key(&self, n: usize) -> Option<&'a [u8]> {
        if n >= self.keys {
            return None;
        }
        let start = match (n.checked_sub(1), self.width) {
            (Some(before), _) => self.key_end(before)?,
            (None, Some(_)) => self.children_end(),
            (None, None) => self.children_end() + 4 * self.keys,
        };
        self.page.get(start..self.key_end(n)?)
    }

    /// Where the number of the first child is; those of the others follow.
    fn numbers(&self) -> usize {
        8 + CHECKSUM * (self.keys + 1)
    }

    fn child(&self, n: usize) -> Option<(u64, u128)> {
        if n > self.keys {
            return None;
        }
        let checksum = u128_at(self.page, 8 + CHECKSUM * n)?;
        Some((u64_at(self.page, self.numbers() + 8 * n)?, checksum))
    }
}

/// Looks for a key as redb does, so that it finds, and misses, the same in a damaged page. `None` if
/// redb could not read a key.
fn search<'a>(
    count: usize,
    wanted: &[u8],
    key: impl Fn(usize) -> Option<&'a [u8]>,
) -> Option<Result<usize, usize>> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        match wanted.cmp(key(middle)?) {
            std::cmp::Ordering::Less => high = middle,
            std::cmp::Ordering::Equal => return Some(Ok(middle)),
            std::cmp::Ordering::Greater => low = middle + 1,
        }
    }
    Some(Err(low))
}

fn is_whole(page: &[u8], widths: Widths, checksum: u128) -> bool {
    Node::of(page, widths)
        .and_then(|node| page.get(..node.end()?))
        .is_some_and(|covered| XxHash3_128::oneshot(covered) == checksum)
}

/// Looks for the one bit whose flip makes it whole. 128 bits of checksum leave no doubt.
fn mend(bytes: &mut [u8], is_whole: impl Fn(&[u8]) -> bool) -> bool {
    for at in 0..bytes.len() {
        for bit in 0..8 {
            flip(bytes, at, bit);
            if is_whole(bytes) {
                return true;
            }
            flip(bytes, at, bit);
        }
    }
    false
}

fn flip(bytes: &mut [u8], at: usize, bit: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

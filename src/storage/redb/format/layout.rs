//! The places of pages and trees: page numbers, the roots of trees, and the definitions of tables.

use super::bytes::{u32_at, u64_at, u128_at};
use super::checksum::CHECKSUM;
use super::node::{FixedWidths, NUMBER};

/// redb's smallest page, and the unit of its others.
pub(crate) const PAGE: u64 = 4096;
/// A page's size is a power of two; its exponent is the highest five bits of the page's number.
pub(crate) const ORDER_AT: u32 = 59;
const MAX_ORDER: u64 = 20;
/// Below the exponent: the number of the region, then that of the page in it, so many bits each.
const INDEX_BITS: u32 = 20;
const INDEX: u64 = (1 << INDEX_BITS) - 1;
/// Where the header says how many pages the head of a region has, and how many its other part.
const REGION_HEADER_AT: usize = 16;
const REGION_AT: usize = 20;

/// The root of a tree: its page and that page's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TreeRoot {
    pub(crate) page: u64,
    pub(crate) checksum: u128,
    pub(crate) length: u64,
}

impl TreeRoot {
    pub(crate) const LEN: usize = NUMBER + CHECKSUM + 8;

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            page: u64_at(bytes, 0)?,
            checksum: u128_at(bytes, NUMBER)?,
            length: u64_at(bytes, NUMBER + CHECKSUM)?,
        })
    }
}

/// A table's definition in the list of tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableRoot {
    pub(crate) root: Option<TreeRoot>,
    /// The number of rows, as recorded.
    pub(crate) length: u64,
    pub(crate) widths: FixedWidths,
}

impl TableRoot {
    /// The kind of a table that has one value for each key.
    const NORMAL: u8 = 3;
    const LENGTH: usize = 1;
    /// Where a definition says whether there is a root; the root follows.
    pub(crate) const ROOT: usize = 9;
    /// Where it says whether keys have a fixed width; the width follows, and the same of values.
    const WIDTHS: usize = Self::ROOT + 1 + TreeRoot::LEN;

    pub(crate) fn read(definition: &[u8]) -> Option<Self> {
        if definition.first() != Some(&Self::NORMAL) {
            return None;
        }
        let root = match definition.get(Self::ROOT)? {
            0 => None,
            _ => Some(TreeRoot::read(definition.get(Self::ROOT + 1..)?)?),
        };
        let width = |flag: usize| match definition.get(flag)? {
            0 => Some(None),
            _ => u32_at(definition, flag + 1).map(Some),
        };
        Some(Self {
            root,
            length: u64_at(definition, Self::LENGTH)?,
            widths: FixedWidths {
                key: width(Self::WIDTHS)?,
                value: width(Self::WIDTHS + 5)?,
            },
        })
    }
}

/// The layout of a file's regions. It never changes, and no checksum covers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    region: u64,
    region_header: u64,
}

impl Geometry {
    pub(crate) fn read(header: &[u8]) -> Option<Self> {
        let pages = |at| u32_at(header, at).map(|n| n as u64 * PAGE);
        Some(Self {
            region_header: pages(REGION_HEADER_AT)?,
            region: pages(REGION_AT)?,
        })
    }

    /// All layouts that differ from this one by one bit.
    pub(crate) fn flipped(self) -> impl Iterator<Item = Self> {
        (0..32).flat_map(move |bit| {
            let bit = PAGE << bit;
            let (region, region_header) = (self.region ^ bit, self.region_header ^ bit);
            [
                Self { region, ..self },
                Self {
                    region_header,
                    ..self
                },
            ]
        })
    }

    /// The offset and length of a page; `None` if no such page can exist.
    pub(crate) fn span(self, number: u64) -> Option<(u64, u64)> {
        let order = number >> ORDER_AT;
        if order > MAX_ORDER {
            return None;
        }
        let index = number & (INDEX >> order);
        let region = (number >> INDEX_BITS) & INDEX;
        let len = PAGE << order;
        let regional = self.region_header.saturating_add(index.saturating_mul(len));
        let base = region.saturating_mul(self.region_header.saturating_add(self.region));
        Some((PAGE.saturating_add(base).saturating_add(regional), len))
    }
}

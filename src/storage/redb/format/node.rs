//! A page of a tree: a leaf of rows, or a branch that leads to other pages.

use super::bytes::{u16_at, u32_at, u64_at, u128_at};
use super::checksum::{CHECKSUM, checksum};

/// The first byte of a page is its kind.
const LEAF: u8 = 1;
const BRANCH: u8 = 2;
/// Fills a page that cannot be read. redb refuses this byte as the kind of a page. As a number of rows, it leads out of
/// any page. Zeros would not do: where redb joins neighbours, it takes them for a leaf without rows, and the rows would
/// be lost.
pub(crate) const NO_PAGE: u8 = 0xFF;
/// The offset of the number of rows of a leaf, or of keys of a branch.
const COUNT_AT: usize = 2;
/// The offset of the ends of a leaf's keys.
const LEAF_HEADER: usize = 4;
/// The offset of the checksums of a branch's children.
const BRANCH_HEADER: usize = 8;
/// The length of a page number.
pub(crate) const NUMBER: usize = 8;
/// The length of the end of a key or value.
const END: usize = 4;

/// How a table lays out its rows: the widths of keys and values, where they are fixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FixedWidths {
    pub(crate) key: Option<usize>,
    pub(crate) value: Option<usize>,
}

pub(crate) enum Node<'a> {
    Leaf(Leaf<'a>),
    Branch(Branch<'a>),
}

impl<'a> Node<'a> {
    pub(crate) fn of(page: &'a [u8], widths: FixedWidths) -> Option<Self> {
        let count = u16_at(page, COUNT_AT)?;
        match *page.first()? {
            LEAF => Some(Self::Leaf(Leaf {
                page,
                widths,
                pairs: count,
            })),
            BRANCH => Some(Self::Branch(Branch {
                page,
                width: widths.key,
                keys: count,
            })),
            _ => None,
        }
    }

    /// The length of the part that the page's checksum covers.
    pub(crate) fn end(&self) -> Option<usize> {
        match self {
            Self::Leaf(leaf) => leaf.value_end(leaf.pairs.checked_sub(1)?),
            Self::Branch(branch) => branch.key_end(branch.keys.checked_sub(1)?),
        }
    }
}

/// Keys and values, each after the one before, the values after the keys. Where their width is not fixed, their ends
/// are listed first.
pub(crate) struct Leaf<'a> {
    page: &'a [u8],
    widths: FixedWidths,
    pub(crate) pairs: usize,
}

impl<'a> Leaf<'a> {
    /// The offset of the ends of the values, which follow those of the keys.
    fn value_ends(&self) -> usize {
        match self.widths.key {
            Some(_) => LEAF_HEADER,
            None => LEAF_HEADER + END * self.pairs,
        }
    }

    fn start(&self) -> usize {
        match self.widths.value {
            Some(_) => self.value_ends(),
            None => self.value_ends() + END * self.pairs,
        }
    }

    fn key_end(&self, n: usize) -> Option<usize> {
        match self.widths.key {
            Some(width) => self.start().checked_add(width.checked_mul(n + 1)?),
            None => u32_at(self.page, LEAF_HEADER + END * n),
        }
    }

    fn value_end(&self, n: usize) -> Option<usize> {
        match self.widths.value {
            Some(width) => {
                let keys = self.key_end(self.pairs.checked_sub(1)?)?;
                keys.checked_add(width.checked_mul(n + 1)?)
            }
            None => u32_at(self.page, self.value_ends() + END * n),
        }
    }

    pub(crate) fn key(&self, n: usize) -> Option<&'a [u8]> {
        let start = match n.checked_sub(1) {
            None => self.start(),
            Some(before) => self.key_end(before)?,
        };
        self.page.get(start..self.key_end(n)?)
    }

    pub(crate) fn value_start(&self, n: usize) -> Option<usize> {
        match n.checked_sub(1) {
            None => self.key_end(self.pairs.checked_sub(1)?),
            Some(before) => self.value_end(before),
        }
    }

    pub(crate) fn row(&self, n: usize) -> Option<(&'a [u8], &'a [u8])> {
        let value = self.value_start(n)?..self.value_end(n)?;
        Some((self.key(n)?, self.page.get(value)?))
    }
}

/// Checksums and numbers of the children, and a key between each two: the last one below the first of them.
pub(crate) struct Branch<'a> {
    page: &'a [u8],
    width: Option<usize>,
    pub(crate) keys: usize,
}

impl<'a> Branch<'a> {
    fn children_end(&self) -> usize {
        BRANCH_HEADER + (CHECKSUM + NUMBER) * (self.keys + 1)
    }

    fn key_end(&self, n: usize) -> Option<usize> {
        match self.width {
            Some(width) => self.children_end().checked_add(width.checked_mul(n + 1)?),
            None => u32_at(self.page, self.children_end() + END * n),
        }
    }

    pub(crate) fn key(&self, n: usize) -> Option<&'a [u8]> {
        if n >= self.keys {
            return None;
        }
        let start = match (n.checked_sub(1), self.width) {
            (Some(before), _) => self.key_end(before)?,
            (None, Some(_)) => self.children_end(),
            (None, None) => self.children_end() + END * self.keys,
        };
        self.page.get(start..self.key_end(n)?)
    }

    /// The offset of the first child's page number. The others follow.
    pub(crate) fn numbers(&self) -> usize {
        BRANCH_HEADER + CHECKSUM * (self.keys + 1)
    }

    pub(crate) fn child(&self, n: usize) -> Option<(u64, u128)> {
        if n > self.keys {
            return None;
        }
        let checksum = u128_at(self.page, BRANCH_HEADER + CHECKSUM * n)?;
        Some((u64_at(self.page, self.numbers() + NUMBER * n)?, checksum))
    }
}

/// Searches a key as redb does, so that it finds and misses the same keys in a damaged page. `None` if redb could not
/// read a key.
pub(crate) fn search<'a>(
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

/// Whether a page has the checksum that its parent records.
pub(crate) fn is_whole(page: &[u8], widths: FixedWidths, wanted: u128) -> bool {
    Node::of(page, widths)
        .and_then(|node| page.get(..node.end()?))
        .is_some_and(|covered| checksum(covered) == wanted)
}

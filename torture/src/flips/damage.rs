//! One damage to the image of a store.

use super::*;

/// What is done to an image.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    pub(super) killed: bool,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Flip { byte: usize, bit: u8 },
    Cut { len: usize },
    Zeros { at: usize, len: usize },
    Swap { one: usize, other: usize },
}

impl Damage {
    pub(super) fn random(base: &Base, rng: &mut Rng, number: u64) -> Self {
        let killed = rng.u8(..4) == 0;
        let len = if killed { &base.killed } else { &base.closed }.len();
        let page = |rng: &mut Rng, kind: Option<Page>| {
            let fitting: Vec<usize> = base
                .live
                .iter()
                .filter(|(at, k)| kind.is_none_or(|kind| kind == *k) && at + PAGE <= len)
                .map(|(at, _)| *at)
                .collect();
            fitting[rng.usize(..fitting.len())]
        };
        let flip = |rng: &mut Rng, byte| What::Flip {
            byte,
            bit: rng.u8(..8),
        };
        let what = match number % 12 {
            0 => {
                let byte = rng.usize(..HEADER);
                flip(rng, byte)
            }
            1 | 2 => {
                let byte = page(rng, Some(Page::Branch)) + rng.usize(..PAGE);
                flip(rng, byte)
            }
            // Where the counts and the first offsets are.
            3 => {
                let byte = page(rng, None) + rng.usize(..64);
                flip(rng, byte)
            }
            4 | 5 => {
                let byte = page(rng, Some(Page::Leaf)) + rng.usize(..PAGE);
                flip(rng, byte)
            }
            6 => {
                let kind = if rng.bool() {
                    Page::Directory
                } else {
                    Page::Own
                };
                let at = page(rng, Some(kind));
                let byte = at + rng.usize(..used(&base.closed[at..at + PAGE]));
                flip(rng, byte)
            }
            7..=9 => {
                let byte = rng.usize(..len);
                flip(rng, byte)
            }
            10 => What::Cut {
                len: match rng.u8(..3) {
                    0 => rng.usize(..len),
                    1 => rng.usize(..len / PAGE) * PAGE,
                    _ => len - rng.usize(1..3 * PAGE),
                },
            },
            _ if rng.bool() => {
                let at = page(rng, None) + rng.usize(..PAGE);
                let len = rng.usize(1..2 * PAGE).min(len - at);
                What::Zeros { at, len }
            }
            _ => What::Swap {
                one: page(rng, None),
                other: page(rng, None),
            },
        };
        Self { killed, what }
    }

    pub(super) fn image(&self, base: &Base) -> Vec<u8> {
        let mut image = if self.killed {
            &base.killed
        } else {
            &base.closed
        }
        .clone();
        match self.what {
            What::Flip { byte, bit } => image[byte] ^= 1 << bit,
            What::Cut { len } => image.truncate(len),
            What::Zeros { at, len } => image[at..at + len].fill(0),
            What::Swap { one, other } => {
                for n in 0..PAGE {
                    image.swap(one + n, other + n);
                }
            }
        }
        image
    }

    /// After a kill, a bit in the header tells whether the newest commit had been made known. That one
    /// alone cannot be held against anything.
    pub(super) fn is_undecidable(&self) -> bool {
        self.killed && matches!(self.what, What::Flip { byte: 9, bit: 0 })
    }

    pub(super) fn is_swap(&self) -> bool {
        matches!(self.what, What::Swap { .. })
    }
}

/// How much of a leaf is in use: most of the one that lists the tables is not.
fn used(leaf: &[u8]) -> usize {
    let pairs = usize::from(u16::from_le_bytes([leaf[2], leaf[3]]));
    let last = 4 + 4 * (2 * pairs - 1);
    let end = u32::from_le_bytes(leaf[last..last + 4].try_into().unwrap());
    end as usize
}

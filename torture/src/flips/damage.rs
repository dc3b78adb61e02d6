//! One damage to one of the files of a store.

use super::*;

/// The damage to a file.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    pub(super) killed: bool,
    /// What follows the store's name in the file's.
    pub(super) file: &'static str,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Flip { byte: usize, bit: u8 },
    Cut { len: usize },
    Zeros { at: usize, len: usize },
    Swap { one: usize, other: usize },
    Sectors { one: usize, other: usize },
}

impl Damage {
    pub(super) fn random(base: &Base, rng: &mut Rng, number: u64) -> Self {
        if number % 15 >= 12 {
            return Self::of_journal(base, rng);
        }
        let killed = rng.u8(..4) == 0;
        let (files, live) = if killed {
            (&base.killed, &base.live_killed)
        } else {
            (&base.closed, &base.live)
        };
        let image = &files[""];
        let len = image.len();
        let page = |rng: &mut Rng, kind: Option<Page>| {
            let fitting: Vec<usize> = live
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
        let what = match number % 15 {
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
                let byte = at + rng.usize(..used(&image[at..at + PAGE]));
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
        Self {
            killed,
            file: "",
            what,
        }
    }

    /// A damage to the journal of the killed one: mostly where something is written.
    fn of_journal(base: &Base, rng: &mut Rng) -> Self {
        let log = Log::of(base);
        let file = if rng.u8(..4) == 0 {
            log.spare
        } else {
            log.active
        };
        let len = base.killed[file].len();
        // The other file is as large as it was when it was last written.
        let written = log.frames.last().unwrap().end.min(len);
        let at = match rng.u8(..8) {
            0 => rng.usize(..len),
            1 => rng.usize(..FIRST_FRAME),
            // Where the headers are.
            2 => rng.usize(..100) + rng.usize(..2) * SECOND_HEADER,
            // At the end.
            3 => log.frames.last().unwrap().start + rng.usize(..600),
            _ => rng.usize(FIRST_FRAME..written),
        }
        .min(len - 1);
        let sector = |at: usize| at / SECTOR * SECTOR;
        let what = match rng.u8(..8) {
            0 => What::Cut { len: at },
            1 => What::Cut { len: sector(at) },
            2 => What::Zeros {
                at,
                len: rng.usize(1..4 * SECTOR).min(len - at),
            },
            3 => What::Zeros {
                at: sector(at),
                len: (SECTOR * rng.usize(1..8)).min(len - sector(at)),
            },
            4 => What::Sectors {
                one: sector(at),
                other: sector(rng.usize(..written)),
            },
            _ => What::Flip {
                byte: at,
                bit: rng.u8(..8),
            },
        };
        Self {
            killed: true,
            file,
            what,
        }
    }

    pub(super) fn image(&self, base: &Base) -> Files {
        let files = if self.killed {
            &base.killed
        } else {
            &base.closed
        };
        let mut files = files.clone();
        let image = files.get_mut(self.file).unwrap();
        match self.what {
            What::Flip { byte, bit } => image[byte] ^= 1 << bit,
            What::Cut { len } => image.truncate(len),
            What::Zeros { at, len } => image[at..at + len].fill(0),
            What::Swap { one, other } => swap(image, one, other, PAGE),
            What::Sectors { one, other } => swap(image, one, other, SECTOR),
        }
        files
    }

    /// After a kill, a bit in the header tells whether the newest commit had been made known. That one
    /// alone cannot be held against anything.
    pub(super) fn is_undecidable(&self) -> bool {
        self.killed && matches!(self.what, What::Flip { byte: 9, bit: 0 })
    }

    pub(super) fn is_swap(&self) -> bool {
        matches!(self.what, What::Swap { .. } | What::Sectors { .. })
    }
}

fn swap(image: &mut [u8], one: usize, other: usize, len: usize) {
    for n in 0..len {
        image.swap(one + n, other + n);
    }
}

/// How much of a leaf is in use: most of the one that lists the tables is not.
fn used(leaf: &[u8]) -> usize {
    let pairs = usize::from(u16::from_le_bytes([leaf[2], leaf[3]]));
    let last = 4 + 4 * (2 * pairs - 1);
    let end = u32::from_le_bytes(leaf[last..last + 4].try_into().unwrap());
    end as usize
}

//! The effect of a power loss on changes that were not synced: any of them survive, in any order, each torn at any
//! sector.

use super::file::{Change, apply};
use fastrand::Rng;

/// What a disk writes whole.
const SECTOR: usize = 512;

/// Some of these, in their order: none, all, a beginning, all but one, or each by the toss of a coin.
pub(super) fn some_of<'a, T>(all: &'a [T], chance: &mut Rng) -> Vec<&'a T> {
    let one = chance.usize(..all.len().max(1));
    let way = chance.u8(..6);
    let odds = chance.f64();
    let takes = |i: usize, chance: &mut Rng| match way {
        0 => false,
        1 => true,
        2 => i < one,
        3 => i != one,
        4 => i == one,
        _ => chance.f64() < odds,
    };
    all.iter()
        .enumerate()
        .filter(|(i, _)| takes(*i, chance))
        .map(|(_, change)| change)
        .collect()
}

/// The content that remains of `kept` if these changes were not synced.
pub(super) fn image(kept: &[u8], unsynced: &[Change], chance: &mut Rng) -> Vec<u8> {
    let mut image = kept.to_vec();
    let mut left = some_of(unsynced, chance);
    if chance.bool() {
        chance.shuffle(&mut left);
    }
    let tears = chance.bool();
    for change in left {
        match change {
            Change::Write { offset, data } if tears && chance.bool() => {
                for piece in torn(*offset, data, chance) {
                    apply(&mut image, &piece);
                }
            }
            change => apply(&mut image, change),
        }
    }
    image
}

/// Some of the sectors that a write touches.
fn torn(offset: u64, data: &[u8], chance: &mut Rng) -> Vec<Change> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let into = (offset as usize + at) % SECTOR;
        let end = data.len().min(at + SECTOR - into);
        pieces.push(Change::Write {
            offset: offset + at as u64,
            data: data[at..end].to_vec(),
        });
        at = end;
    }
    let kept = some_of(&pieces, chance).into_iter();
    kept.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_write_is_torn_at_sectors_and_nowhere_else() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let mut chance = Rng::with_seed(seed);
            let write = Change::Write {
                offset: 300,
                data: vec![1; 1500],
            };
            let image = image(&[0; 2048], &[write], &mut chance);
            let mut pattern = String::new();
            for sector in image.chunks(SECTOR) {
                let changed = sector.iter().filter(|byte| **byte == 1).count();
                pattern.push(if changed == 0 { '0' } else { '1' });
                assert!(changed == 0 || changed >= 212, "half a sector");
            }
            seen.insert(pattern);
        }
        assert!(seen.len() > 10, "{seen:?}");
    }
}

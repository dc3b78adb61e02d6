//! Verifies checksums, and finds a flipped bit. redb's checksum of a page or of a commit is XXH3 with 128 bits,
//! without a seed.

use twox_hash::XxHash3_128;

/// The length of a checksum.
pub(crate) const CHECKSUM: usize = 16;

pub(crate) fn checksum(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

/// Whether flipped bits are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BitRepair {
    Bits,
    Nothing,
}

/// Searches the one bit whose flip makes the checksum match. With 128 bits a false match is practically impossible.
pub(crate) fn repair_bit(bytes: &mut [u8], is_whole: impl Fn(&[u8]) -> bool) -> bool {
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

//! The numbers of commits. They grow within a process, and from one opening of the file to the next.

/// How many bits count the commits of one opening. Those above are the opening's epoch.
const BITS: u32 = 40;

/// The number that an opening begins with.
pub(crate) fn first_of(epoch: u64) -> u64 {
    epoch << BITS
}

/// The opening in which a commit was made.
pub(crate) fn epoch_of(number: u64) -> u64 {
    number >> BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    // C2.2: a version that a commit of an earlier opening wrote is never written again.
    #[test]
    fn the_commits_of_an_opening_have_numbers_of_their_own() {
        let trillion = 1_000_000_000_000;
        for epoch in [0, 1, 2, 16_000_000] {
            let first = first_of(epoch);
            assert_eq!(epoch_of(first), epoch);
            assert_eq!(epoch_of(first + trillion), epoch);
            assert!(first + trillion < first_of(epoch + 1));
        }
    }
}

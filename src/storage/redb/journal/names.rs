//! The names of journal files.

use crate::storage::redb::backend::folder::Location;
use std::ffi::{OsStr, OsString};
use std::hash::Hasher;
use twox_hash::XxHash3_64;

/// The longest store name that gets a suffix. A file system allows 255 bytes.
const LONGEST_NAME: usize = 200;
/// The number of name pairs for the journal of one store, in case other stores use the first ones.
pub(crate) const MOST_PAIRS: u16 = 2000;
/// Precedes the number in the name of a journal.
pub(crate) const INFIX: &str = ".journal-";
/// Follows it in the name of a journal that was set aside, before a second number.
const ASIDE: &str = ".aside-";
/// The most files that an earlier version set aside.
const EVER_ASIDE: usize = 1000;

/// Whether a file of this name may be taken for a journal of another store.
pub(crate) fn is_name_of_a_journal(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        // The lossy conversion keeps the end of the name.
        return is_name_of_a_journal(OsStr::new(&*name.to_string_lossy()));
    };
    let is_up_to = |most: usize, text: &str| {
        let number = text.parse().unwrap_or(0);
        (1..=most).contains(&number) && number.to_string() == text
    };
    name.rsplit_once(INFIX).is_some_and(|(_, rest)| {
        let (number, aside) = rest.split_once(ASIDE).unwrap_or((rest, "1"));
        is_up_to(2 * usize::from(MOST_PAIRS), number) && is_up_to(EVER_ASIDE, aside)
    })
}

/// The names of a pair of journal files. The next opening uses another pair, so that the previous files stay intact
/// until redb names the new ones.
pub(crate) fn names(store: &Location, pair: u16) -> [Location; 2] {
    [1, 2].map(|n| {
        let number = 2 * u32::from(pair) + n;
        let name = if store.name.len() <= LONGEST_NAME {
            let mut name = store.name.clone();
            name.push(format!("{INFIX}{number}"));
            name
        } else {
            let mut hasher = XxHash3_64::with_seed(0);
            hasher.write(store.name.as_encoded_bytes());
            OsString::from(format!(
                ".cloakroom-{:016x}{INFIX}{number}",
                hasher.finish()
            ))
        };
        store.beside(name)
    })
}

/// The names that a journal set aside may have.
pub(crate) fn all_set_aside_names(location: &Location) -> impl Iterator<Item = Location> {
    (1..=EVER_ASIDE).map(|n| {
        let mut name: OsString = location.name.clone();
        name.push(format!("{ASIDE}{n}"));
        location.beside(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // C7.4
    #[test]
    fn the_names_of_journals_are_known() {
        let is = |name: &str| is_name_of_a_journal(OsStr::new(name));
        for name in [
            "x.journal-1",
            "x.journal-3999",
            ".journal-1",
            "x.journal-1.journal-2",
            "x.journal-1.aside-16",
            "x.journal-4000",
            "x.journal-1.aside-1000",
        ] {
            assert!(is(name), "{name}");
        }
        for name in [
            "x",
            "x.journal",
            "x.journal-",
            "x.journal-1x",
            "x.journal-one",
            "journal-1",
            "x.journal-1.redb",
            "x.journal-1.aside-",
            "x.journal-1.aside-y",
            "audit.journal-20240101",
            "x.journal-0",
            "x.journal-4001",
            "x.journal-01",
            "x.journal-1.aside-1001",
        ] {
            assert!(!is(name), "{name}");
        }
    }
}

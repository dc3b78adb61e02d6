//! The stored values and the picked sessions: the same for all engines and in each run.

use std::sync::LazyLock;

pub(crate) const PACKAGES: [&str; 2] = ["cart", "profile"];
pub(crate) const KEY: &str = "data";
pub(crate) const VALUE_LEN: usize = 300;
/// How many sessions are in use where the load is hot.
const HOT: usize = 1000;

/// Numbers that look random and are the same in each run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// The number of a session.
    pub(crate) fn pick(&mut self, pick: Pick, sessions: usize) -> usize {
        let among = match pick {
            Pick::Uniform => sessions,
            Pick::Hot => sessions.min(HOT),
        };
        (self.roll() % among.max(1) as u64) as usize
    }
}

/// Which sessions are changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    Uniform,
    Hot,
}

impl Pick {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Hot => "hot",
        }
    }
}

/// Digits that no engine can compress much.
static DIGITS: LazyLock<String> = LazyLock::new(|| {
    let mut dice = Dice::new(0xd161);
    (0..4096).map(|_| format!("{:016x}", dice.roll())).collect()
});

/// A value of `VALUE_LEN` bytes that begins with a number.
pub(crate) fn value(number: u64) -> String {
    sized_value(number, VALUE_LEN)
}

/// A value of so many bytes that begins with a number.
pub(crate) fn sized_value(number: u64, len: usize) -> String {
    let mut value = format!("{number:016x}");
    let most = DIGITS.len() - len.saturating_sub(16).min(DIGITS.len() / 2);
    let mut at = (Dice::new(number).roll() % most as u64) as usize;
    while value.len() < len {
        let end = DIGITS.len().min(at + len - value.len());
        value.push_str(DIGITS.get(at..end).unwrap_or_default());
        at = 0;
    }
    value
}

/// The number that a value begins with, from its bytes or from a row's.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes.get(..16)?).ok()?;
    u64::from_str_radix(text, 16).ok()
}

/// The value that a session's package holds before anything is changed.
pub(crate) fn first_value(session: usize, package: &str) -> String {
    let seed = session as u64 ^ ((package.len() as u64) << 40);
    value(FIRST | Dice::new(seed).roll() >> 2)
}

/// Numbers from here on are those of values before anything is changed.
pub(crate) const FIRST: u64 = 1 << 62;

/// Four bytes of container and sixteen of client.
pub(crate) fn client(session: usize) -> [u8; 20] {
    let mut client = [0; 20];
    let mut dice = Dice::new(session as u64 ^ 0x5eed_0000_0000);
    let (_, random) = client.split_at_mut(4);
    for bytes in random.chunks_mut(8) {
        bytes.copy_from_slice(&dice.roll().to_le_bytes());
    }
    client
}

/// Where a plain engine keeps a package of a session; the session's own row has no package.
pub(crate) fn key(session: usize, package: &str) -> Vec<u8> {
    [client(session).as_slice(), package.as_bytes()].concat()
}

/// A package's row in a plain engine: 337 bytes with the key of a `cart`.
pub(crate) fn row(value: &str) -> Vec<u8> {
    let mut row = Vec::with_capacity(VALUE_LEN + KEY.len() + 9);
    row.extend_from_slice(value.as_bytes());
    row.extend_from_slice(KEY.as_bytes());
    row.extend_from_slice(&[7; 9]);
    row
}

/// One row to be written.
pub(crate) struct Change {
    pub(crate) key: Vec<u8>,
    pub(crate) row: Vec<u8>,
}

/// A session as a plain engine keeps it: its own row, and one for each package.
pub(crate) fn rows(session: usize) -> impl Iterator<Item = Change> {
    let own = Change {
        key: key(session, ""),
        row: vec![7; 90],
    };
    let packages = PACKAGES.into_iter().map(move |package| Change {
        key: key(session, package),
        row: row(&first_value(session, package)),
    });
    std::iter::once(own).chain(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_337_bytes() {
        let [package, _] = PACKAGES;
        assert_eq!(key(5, package).len() + row(&value(9)).len(), 337);
    }

    #[test]
    fn a_value_begins_with_its_number() {
        let value = value(0xfeed);
        assert_eq!(value.len(), VALUE_LEN);
        assert_eq!(number(value.as_bytes()), Some(0xfeed));
        assert_eq!(number(&row(&value)), Some(0xfeed));
        assert_eq!(sized_value(7, 100_000).len(), 100_000);
    }
}

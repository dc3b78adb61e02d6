//! The data of a session of the harness: two packages with equal content, so that half a commit is visible.

use cloakroom::{ClientId, Result, Session, Store};

const PACKAGES: [&str; 2] = ["guest.first", "guest.second"];

/// A session as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Absent,
    /// With the number that was written last.
    Whole(u64),
    /// Neither as before a commit nor as after it.
    Torn,
}

/// Of a size that varies, so that pages split and merge.
fn text(n: u64) -> String {
    let len = (n.wrapping_mul(2_654_435_761) % 2_000) as usize;
    format!("{n:>len$}")
}

/// Writes both packages.
pub(crate) fn write(session: &Session, n: u64) -> Result<()> {
    for package in PACKAGES {
        let package = session.pkg(package);
        package.insert("number", n)?;
        package.insert("text", text(n))?;
    }
    Ok(())
}

/// What the store has of a session.
pub(crate) fn find(store: &Store, id: &ClientId) -> Result<Found> {
    let txn = store.begin()?;
    let session = txn.session(id)?;
    if !session.exists()? {
        return Ok(Found::Absent);
    }
    let mut numbers = [None; 2];
    for (number, package) in numbers.iter_mut().zip(PACKAGES) {
        let package = session.pkg(package);
        *number = package.get::<u64>("number")?;
        let intact = package.get::<String>("text")? == number.map(text);
        if !intact || package.len()? != 2 {
            return Ok(Found::Torn);
        }
    }
    match numbers {
        [Some(first), Some(second)] if first == second => Ok(Found::Whole(first)),
        _ => Ok(Found::Torn),
    }
}

/// [`find`] by the text of an id.
pub(crate) fn find_text(store: &Store, id: &str) -> Result<Found> {
    match store.client_ids().verify(id) {
        Some(id) => find(store, &id),
        // Its secret is in the store, or nothing is.
        None => Ok(Found::Absent),
    }
}

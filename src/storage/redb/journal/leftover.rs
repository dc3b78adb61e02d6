//! Handles journals beside a store that redb does not name. Files of other stores, and files in use, are left alone
//! (C7.4).

use super::frame::JournalHeader;
use super::held::{HeldJournal, HeldJournals, name_exists};
use super::names::{MOST_PAIRS, all_set_aside_names, names};
use super::recovery::{header_of, read_rest};
use super::state::{ExpectedJournal, JournalRef};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure::{io_error, refused};
use std::io;
use std::path::Path;

/// The most files that are kept aside for each name of a journal. Beyond that, the oldest is removed.
const MOST_ASIDE: usize = 20;

/// The relation of a file to a store that does not name it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leftover {
    /// All its frames are in the store.
    Useless,
    /// It holds frames of another state of the store.
    Missed,
    /// It belongs to another store, or its header cannot be read.
    Foreign,
}

/// Returns an error if a journal that the store may use is locked by another process.
pub(crate) fn none_in_use(store: &Location, named: u16, holdings: &HeldJournals) -> Result<()> {
    each_pair(store, named, |_, files| {
        let mut any = false;
        for location in files {
            any |= holdings.has(&location) || HeldJournal::is_free(&location)?;
        }
        Ok(any)
    })
}

/// A file beside a store that has the name of its journal; an error if it is in use.
pub(crate) fn lies_beside(store: &Location) -> Result<Option<Location>> {
    let mut found = None;
    each_pair(store, 0, |_, files| {
        for location in files {
            if found.is_none() && HeldJournal::is_free(&location)? {
                found = Some(location);
            }
        }
        Ok(false)
    })?;
    Ok(found)
}

/// Visits the pairs of names up to the first unused one after `named`.
fn each_pair(
    store: &Location,
    named: u16,
    mut visit: impl FnMut(u16, [Location; 2]) -> Result<bool>,
) -> Result<()> {
    for pair in 0..MOST_PAIRS {
        let any = visit(pair, names(store, pair))?;
        if !any && pair > named {
            break;
        }
    }
    Ok(())
}

/// An unused pair of names, for a store that has been open. Existing files may belong to another store, so they are
/// not opened, and it does not matter whether they are in use.
pub(crate) fn next_free(store: &Location, named: &JournalRef) -> Result<u16> {
    for pair in (0..MOST_PAIRS).filter(|pair| *pair != named.pair) {
        let [first, second] = names(store, pair);
        if !name_exists(&first)? && !name_exists(&second)? {
            return Ok(pair);
        }
    }
    Err(none_free(&store.path))
}

fn none_free(path: &Path) -> Error {
    let why = format!(
        "journals of other stores bear all {} names that this store's may have; remove those whose store is gone",
        2 * MOST_PAIRS
    );
    refused(ErrorKind::Io, path, why)
}

/// Finds a pair of names for the files of an opening. Leftover files of this store make way: a file is removed if the
/// store holds all its frames, up to frame `last`, and otherwise renamed.
pub(crate) fn make_room(store: &Location, expected: &ExpectedJournal, last: u64) -> Result<u16> {
    let named = &expected.named;
    let mut free = None;
    let mut foreign = Vec::new();
    each_pair(store, named.pair, |pair, files| {
        if named.is_open && pair == named.pair {
            return Ok(true);
        }
        let mut is_free = pair != named.pair;
        let left = left_of(files, expected, last)?;
        for (location, left, held) in &left {
            match (left, held) {
                (Leftover::Useless, Some(held)) => held.remove()?,
                (Leftover::Missed, Some(held)) => set_aside(held, expected.store)?,
                _ => {
                    is_free = false;
                    foreign.push(location.path.clone());
                }
            }
        }
        if is_free {
            free.get_or_insert(pair);
        }
        Ok(!left.is_empty())
    })?;
    if let Some(first) = foreign.first() {
        let (journal, others) = (first.display(), foreign.len() - 1);
        tracing::warn!(
            %journal,
            others,
            "journals of other stores lie here, which are left as they are; remove those whose store is gone"
        );
    }
    free.ok_or_else(|| none_free(foreign.first().unwrap_or(&store.path)))
}

/// The files with a pair of names, locked if they are this store's. The two files of one opening are useful only
/// together.
fn left_of(
    files: [Location; 2],
    expected: &ExpectedJournal,
    last: u64,
) -> Result<Vec<(Location, Leftover, Option<HeldJournal>)>> {
    let mut all = Vec::new();
    let mut missed = Vec::new();
    for location in files {
        let Some(held) = HeldJournal::open_if_journal(&location)? else {
            continue;
        };
        let header = held.as_ref().and_then(|held| header_of(held).ok());
        let left = match (&held, &header) {
            (Some(held), Some(header)) if header.store == expected.store => {
                left(held, header, expected, last)?
            }
            _ => Leftover::Foreign,
        };
        let opening = header.map(|header| header.opening);
        if left == Leftover::Missed {
            missed.extend(opening);
        }
        all.push((location, left, held, opening));
    }
    let all = all.into_iter().map(|(location, left, held, opening)| {
        let is_missed = left != Leftover::Foreign && opening.is_some_and(|o| missed.contains(&o));
        let left = if is_missed { Leftover::Missed } else { left };
        (location, left, held)
    });
    Ok(all.collect())
}

/// The relation of a file of this store to its current state.
fn left(
    held: &HeldJournal,
    header: &JournalHeader,
    expected: &ExpectedJournal,
    last: u64,
) -> Result<Leftover> {
    let ExpectedJournal { named, extent, .. } = expected;
    let in_store = if header.opening == named.opening {
        // The store was closed with it.
        (!named.is_open).then_some(extent.covered)
    } else if header.opening == named.previous {
        Some(extent.copied)
    } else {
        // Created, but never named: its frames were copied from files that still exist.
        Some(header.copied.min(last))
    };
    Ok(match in_store {
        Some(in_store) if is_all_up_to(held, header, in_store)? => Leftover::Useless,
        _ => Leftover::Missed,
    })
}

/// Whether a file holds no frame after this one.
fn is_all_up_to(held: &HeldJournal, header: &JournalHeader, last: u64) -> Result<bool> {
    let read = read_rest(held, header)?;
    let mut frames = read.frames.iter().chain(&read.behind);
    Ok(frames.all(|frame| frame.number <= last))
}

/// The names that a journal set aside may get.
fn set_aside_names(location: &Location) -> impl Iterator<Item = Location> {
    all_set_aside_names(location).take(MOST_ASIDE)
}

/// Renames a held file to a name for files set aside.
fn set_aside(held: &HeldJournal, store: [u8; 16]) -> Result<()> {
    let location = held.location();
    if !held.is_at_its_name()? || rename_to_any(location, set_aside_names(location))? {
        return Ok(());
    }
    // All names are used: the oldest of this store's files is removed, and the others move up by one.
    let mut own = Vec::new();
    for aside in set_aside_names(location) {
        if let Some(Some(held)) = HeldJournal::open_if_journal(&aside)?
            && header_of(&held).is_ok_and(|header| header.store == store)
        {
            own.push((aside, held));
        }
    }
    if let Some((oldest, held)) = own.first() {
        let journal = oldest.path.display();
        tracing::warn!(%journal, "too many journals were set aside here; the oldest is removed");
        held.remove()?;
    }
    for names in own.windows(2) {
        if let [(to, _), (from, _)] = names {
            rename_to_any(from, [to.clone()])?;
        }
    }
    if rename_to_any(
        location,
        own.into_iter().map(|(aside, _)| aside).next_back(),
    )? {
        return Ok(());
    }
    let why = format!(
        "the journal cannot be set aside: {MOST_ASIDE} files bear the names for that; remove those that no store needs"
    );
    Err(refused(ErrorKind::Io, &location.path, why))
}

/// Renames a file to the first unused name; false if there is none.
fn rename_to_any(location: &Location, to: impl IntoIterator<Item = Location>) -> Result<bool> {
    for to in to {
        match location.folder.rename(&location.name, &to.name) {
            Ok(()) => {
                let (journal, name) = (location.path.display(), to.name.display());
                tracing::warn!(%journal, %name, "a journal that the store does not name was set aside");
                return Ok(true);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                let what = "the journal cannot be set aside";
                return Err(io_error(&location.path, what, e));
            }
        }
    }
    Ok(false)
}

//! Reads the journal of a store that was not closed, and explains the fault if a file is missing.

use super::file::start_of;
use super::frame::{Frame, JournalHeader, START, scan};
use super::held::{HeldJournal, HeldJournals};
use super::names::{INFIX, all_set_aside_names, names};
use super::state::{ExpectedJournal, JournalExtent, Recovered};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure::refused;
use bytes::Bytes;
use std::path::Path;

pub(crate) struct FramesRead {
    bytes: Bytes,
    /// The least length of the file when its header was written.
    len: u64,
    pub(crate) frames: Vec<Frame>,
    pub(crate) behind: Vec<Frame>,
}

/// Reads the header of a file.
pub(crate) fn header_of(held: &HeldJournal) -> Result<JournalHeader> {
    let header = JournalHeader::of(&start_of(held.disk(), START)?);
    header.map_err(|e| e.of_file(&held.location().path, ErrorKind::Corrupt))
}

/// Reads the frames of a file.
pub(crate) fn read_rest(held: &HeldJournal, header: &JournalHeader) -> Result<FramesRead> {
    let bytes = Bytes::from(start_of(held.disk(), u64::MAX)?);
    let scanned = scan(&bytes, header);
    if scanned.torn && scanned.behind.is_empty() {
        // Usually from a power loss. The group was not reported as durable.
        let journal = held.location().path.display();
        tracing::warn!(%journal, "the journal ends in a group that is not whole, which is cut off");
    }
    Ok(FramesRead {
        bytes,
        len: header.len,
        frames: scanned.frames,
        behind: scanned.behind,
    })
}

pub(crate) fn corrupt(location: &Location, why: impl std::fmt::Display) -> Error {
    refused(ErrorKind::Corrupt, &location.path, why.to_string())
}

/// Reads the frames that redb does not hold: from the held files, or from those with the journal's names, which are
/// held from then on.
pub(crate) fn read(
    store: &Location,
    expected: &ExpectedJournal,
    holdings: &mut HeldJournals,
) -> Result<Recovered> {
    let JournalExtent {
        covered, reached, ..
    } = expected.extent;
    let mut recovered = Recovered {
        frames: Vec::new(),
        last: covered,
    };
    if !expected.named.is_open {
        return Ok(recovered);
    }
    if holdings.of(expected.named.opening).count() != 2 {
        lock_named(store, expected, holdings)?;
    }
    let mut files = Vec::new();
    for held in holdings.of(expected.named.opening) {
        files.push((held.location().clone(), read_rest(held, &header_of(held)?)?));
    }
    for (location, read) in &files {
        let len = read.bytes.len() as u64;
        if len < read.len {
            return Err(corrupt(location, cut_short(len, read.len)));
        }
        if !read.behind.is_empty() {
            return Err(corrupt(location, "a part of the journal is damaged"));
        }
    }
    // The file that was begun later has a first frame with a higher number.
    files.sort_by_key(|(_, read)| read.frames.first().map(|frame| frame.number));
    for (location, read) in &files {
        for frame in read.frames.iter().filter(|frame| frame.number > covered) {
            if frame.number != recovered.last + 1 {
                return Err(corrupt(
                    location,
                    format!(
                        "the journal goes on with group {} after {}",
                        frame.number, recovered.last
                    ),
                ));
            }
            let rows = frame.rows(&read.bytes)?;
            recovered.frames.push((frame.number, rows));
            recovered.last = frame.number;
        }
    }
    if recovered.last < reached
        && let [(other, _), (location, _)] = &files[..]
    {
        let why = format!(
            "the journal ends with group {}, and went on to group {reached} when the store's file was \
             written: this file and {} are of an earlier moment, or were cut off",
            recovered.last,
            other.path.display()
        );
        return Err(corrupt(location, why));
    }
    Ok(recovered)
}

pub(crate) fn cut_short(len: u64, before: u64) -> String {
    format!("the journal was cut short: it has {len} bytes, and had {before}")
}

/// Locks the files that have the journal's names.
fn lock_named(
    store: &Location,
    expected: &ExpectedJournal,
    holdings: &mut HeldJournals,
) -> Result<()> {
    let opening = expected.named.opening;
    let mut found = Vec::new();
    let mut lacking = Vec::new();
    for location in names(store, expected.named.pair) {
        let Some(held) = HeldJournal::open(&location)? else {
            lacking.push((location, MissingJournal::Missing));
            continue;
        };
        let header = header_of(&held)?;
        if (header.store, header.opening) == (expected.store, opening) {
            found.push(held);
        } else {
            lacking.push((location, MissingJournal::Replaced));
        }
    }
    if let Some((location, how)) = lacking.first() {
        // Released, so that the advice in the error can be followed.
        drop(found);
        return Err(lacks(store, expected, location, *how, &lacking));
    }
    found
        .into_iter()
        .for_each(|held| holdings.add(opening, held));
    Ok(())
}

/// Whether two journal names have the same number.
fn is_same_half(one: &Location, other: &Location) -> bool {
    let number = |location: &Location| {
        let name = location.name.to_string_lossy();
        name.rsplit_once(INFIX).map(|(_, number)| number.to_owned())
    };
    number(one) == number(other)
}

/// Why a file of the journal was not found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MissingJournal {
    Missing,
    Replaced,
}

/// The error for a missing file, with hints to the place where it may be.
fn lacks(
    store: &Location,
    expected: &ExpectedJournal,
    first: &Location,
    how: MissingJournal,
    all: &[(Location, MissingJournal)],
) -> Error {
    let opened_as = expected.opened_as.as_deref();
    let opened_as = opened_as.filter(|path| *path != store.path.to_string_lossy());
    let mut why = match how {
        MissingJournal::Missing => {
            "this journal of the store is missing; it may hold commits that the store's file does not hold yet"
        }
        MissingJournal::Replaced => {
            "this journal belongs to another store or another state of it, and the one that belongs here is missing"
        }
    }
    .to_owned();
    let put_back = put_back(store, expected, all);
    if !put_back.is_empty() {
        why += &format!(". It is there under another name: {put_back}, and open the store again");
    } else if let Some(path) = opened_as {
        why += &format!(
            ". The store was last opened as {path} and not closed: its journal lies there, beside that name"
        );
        if is_same_file(store, Path::new(path)) {
            // Nothing is lost: the journal is beside the other name.
            why += ". The file bears that name as well; open it by that one";
            return Error::new(ErrorKind::InvalidInput, why)
                .of_file(&first.path, ErrorKind::InvalidInput);
        }
    }
    corrupt(first, why)
}

/// Whether a path also leads to the store's file.
fn is_same_file(store: &Location, path: &Path) -> bool {
    let identity = |location: &Location| location.folder.identity(&location.name).ok().flatten();
    let other = Location::of(path).ok().flatten();
    let other = other.and_then(|other| identity(&other));
    other.is_some() && other == identity(store)
}

/// The renames that restore files that were set aside, or that an earlier version created beside a link to the store.
fn put_back(
    store: &Location,
    expected: &ExpectedJournal,
    lacking: &[(Location, MissingJournal)],
) -> String {
    let belongs = |location: &Location| {
        let held = HeldJournal::open(location).ok().flatten()?;
        let header = header_of(&held).ok()?;
        let its = (header.store, header.opening);
        (its == (expected.store, expected.named.opening)).then_some(())
    };
    let link = store.link();
    let beside_link = link.map(|link| names(&link, expected.named.pair));
    let beside_link: Vec<_> = beside_link.into_iter().flatten().collect();
    let mut steps = Vec::new();
    for (location, how) in lacking {
        // The number of a file shows its place in the pair.
        let of_link = beside_link
            .iter()
            .filter(|other| is_same_half(other, location));
        let mut others = of_link.cloned().chain(all_set_aside_names(location));
        let Some(aside) = others.find(|other| belongs(other).is_some()) else {
            continue;
        };
        let (from, to) = (aside.path.display(), location.path.display());
        if *how == MissingJournal::Replaced {
            steps.push(format!("move {to} elsewhere"));
        }
        steps.push(format!("rename {from} to {to}"));
    }
    steps.join(", ")
}

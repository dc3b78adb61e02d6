//! What the journal of a store that was not closed holds beyond redb, and what to do with files beside a
//! store that redb does not name.

use super::file::start_of;
use super::frame::{Frame, Header, START, scan};
use super::{Extent, Named, names};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::file::Disk;
use crate::storage::redb::folder::Location;
use crate::storage::redb::open::io_error;
use bytes::Bytes;
use std::ffi::OsString;
use std::io;

/// The rows of a frame as they lie in it.
pub(in crate::storage::redb) type FrameRows = Vec<(Bytes, Option<Bytes>)>;

/// What was committed beyond what redb holds.
#[derive(Debug, Default)]
pub(in crate::storage::redb) struct Recovered {
    /// Frames by ascending number, without a gap.
    pub(in crate::storage::redb) frames: Vec<(u64, FrameRows)>,
    /// The number of the last frame there ever was.
    pub(in crate::storage::redb) last: u64,
}

/// So many files that were set aside may lie beside a store.
const MOST_ASIDE: usize = 1000;

struct Read {
    header: Header,
    bytes: Bytes,
    frames: Vec<Frame>,
    behind: Vec<Frame>,
}

/// Opens a file and reads its header; `None` where there is none.
fn open_file(location: &Location) -> Result<Option<(Disk, Result<Header>)>> {
    let disk = match location.folder.open(&location.name) {
        Ok(disk) => disk,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(&location.path, "the journal cannot be opened", e)),
    };
    let header = Header::of(&start_of(&disk, START)?);
    let header = header.map_err(|e| e.of_file(&location.path, ErrorKind::Corrupt));
    Ok(Some((disk, header)))
}

/// Reads a file; `None` where there is none.
fn read_file(location: &Location) -> Result<Option<Read>> {
    let Some((disk, header)) = open_file(location)? else {
        return Ok(None);
    };
    Ok(Some(read_rest(location, &disk, header?)?))
}

/// Reads the frames of a file.
fn read_rest(location: &Location, disk: &Disk, header: Header) -> Result<Read> {
    let bytes = Bytes::from(start_of(disk, u64::MAX)?);
    let scanned = scan(&bytes, &header);
    if scanned.torn && scanned.behind.is_empty() {
        // Of a power loss, as a rule; nobody was told that it is durable then.
        let journal = location.path.display();
        tracing::warn!(%journal, "the journal ends in a group that is not whole, which is cut off");
    }
    Ok(Read {
        header,
        bytes,
        frames: scanned.frames,
        behind: scanned.behind,
    })
}

pub(super) fn corrupt(location: &Location, why: impl std::fmt::Display) -> Error {
    let why = format!("{}: {why}", location.path.display());
    Error::new(ErrorKind::Corrupt, why)
}

/// Reads what the journal holds beyond redb.
pub(in crate::storage::redb) fn read(
    store: &Location,
    identity: [u8; 16],
    named: &Named,
    Extent { covered, reached }: Extent,
) -> Result<Recovered> {
    let mut recovered = Recovered {
        frames: Vec::new(),
        last: covered,
    };
    if !named.is_open {
        return Ok(recovered);
    }
    let mut files = Vec::new();
    for location in names(store, named.pair) {
        let missing = "this journal of the store is missing; it may hold commits that the store's file \
                       does not hold yet";
        let read = read_file(&location)?.ok_or_else(|| corrupt(&location, missing))?;
        if (read.header.store, read.header.opening) != (identity, named.opening) {
            let why = "this journal belongs to another store or another state of it, and the one that \
                       belongs here is missing";
            return Err(corrupt(&location, why));
        }
        let len = read.bytes.len() as u64;
        if len < read.header.len {
            return Err(corrupt(&location, cut_short(len, read.header.len)));
        }
        if !read.behind.is_empty() {
            return Err(corrupt(&location, "a part of the journal is damaged"));
        }
        files.push((location, read));
    }
    // The first frame of a file that was begun later has the higher number.
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

pub(super) fn cut_short(len: u64, before: u64) -> String {
    format!("the journal was cut short: it has {len} bytes, and had {before}")
}

/// Takes files that redb does not name out of the way of `pair`: those of which all is in the store, up to
/// frame `last`, are removed, others get another name.
pub(in crate::storage::redb) fn left_over(
    store: &Location,
    identity: [u8; 16],
    named: &Named,
    last: u64,
    pair: u8,
) -> Result<()> {
    for location in names(store, pair) {
        let Some((disk, header)) = open_file(&location)? else {
            continue;
        };
        let is_useless = match header {
            Ok(header) if header.store != identity => false,
            Ok(header) if header.opening == named.previous => true,
            Ok(header) if header.opening == named.opening && !named.is_open => true,
            Ok(header) => {
                // Made, but never named: what is in it was copied from what is still there.
                let in_store = header.copied.min(last);
                let read = read_rest(&location, &disk, header)?;
                let mut frames = read.frames.iter().chain(&read.behind);
                frames.all(|frame| frame.number <= in_store)
            }
            Err(_) => false,
        };
        if is_useless {
            remove_file(&location)?;
        } else {
            set_aside(&location)?;
        }
    }
    Ok(())
}

fn remove_file(location: &Location) -> Result<()> {
    match location.folder.remove(&location.name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(
            &location.path,
            "the old journal cannot be removed",
            e,
        )),
        _ => Ok(()),
    }
}

fn set_aside(location: &Location) -> Result<()> {
    let cannot = |e| io_error(&location.path, "the journal cannot be set aside", e);
    for n in 1..=MOST_ASIDE {
        let mut name: OsString = location.name.clone();
        name.push(format!(".aside-{n}"));
        match location.folder.rename(&location.name, &name) {
            Ok(()) => {
                let (journal, name) = (location.path.display(), name.display());
                tracing::warn!(%journal, %name, "a journal that does not belong to the store was set aside");
                return Ok(());
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(cannot(e)),
        }
    }
    Err(cannot(io::ErrorKind::AlreadyExists.into()))
}

/// Removes the files of a pair that is not needed any more.
pub(in crate::storage::redb) fn remove(store: &Location, pair: u8) -> Result<()> {
    names(store, pair).iter().try_for_each(remove_file)
}

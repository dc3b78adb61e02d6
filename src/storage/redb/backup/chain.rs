//! A chain of backups: a whole one and the incremental ones after it. Merged, they show the state of the last one.

use super::block::BackupId;
use super::disk_io::DiskReader;
use super::levels::{ChainRows, Levels};
use super::verify::{FileRows, open};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::BackupHeader;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure;
use crate::storage::redb::open::identify::location;
use crate::storage::{BackupRows, PreviousBackup, ToldFn};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

/// A backup that is named. Neither it nor its folder is open until it is read: a chain can have very many.
#[derive(Clone, Debug)]
pub(crate) enum NamedBackup {
    /// An absolute path.
    Path(PathBuf),
    /// In a folder of the fault harness's own.
    #[cfg(feature = "torture")]
    At(Location),
}

impl NamedBackup {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let absolute = std::path::absolute(path);
        let failed = |e: io::Error| failure::io_error(path, "the path names no file", e);
        Ok(Self::Path(absolute.map_err(failed)?))
    }

    pub(super) fn location(&self) -> Result<Location> {
        match self {
            Self::Path(path) => location(path),
            #[cfg(feature = "torture")]
            Self::At(location) => Ok(location.clone()),
        }
    }
}

/// The files of a chain, their links checked. None of them is open.
pub(super) struct Chain<'a> {
    files: Vec<(&'a NamedBackup, BackupId)>,
    last: BackupHeader,
    len: u64,
}

fn refused(location: &Location, why: &str) -> Error {
    failure::refused(ErrorKind::InvalidInput, &location.path, why)
}

impl<'a> Chain<'a> {
    /// Reads the headers.
    pub(super) fn open(named: &'a [NamedBackup]) -> Result<Self> {
        let mut files: Vec<(&NamedBackup, BackupId)> = Vec::new();
        let (mut ids, mut len) = (HashSet::new(), 0);
        let mut last: Option<BackupHeader> = None;
        for name in named {
            let location = name.location()?;
            let file = open(&location)?;
            let (id, header) = (file.reader().id, &file.reader().header);
            let before = files.last().map(|(_, id)| *id);
            check_link(header, before.zip(last.as_ref())).map_err(|why| match why {
                BrokenLink::Gap if ids.contains(&id) => refused(&location, "it is named twice"),
                why => refused(&location, why.text()),
            })?;
            len += file.len();
            last = Some(header.clone());
            ids.insert(id);
            files.push((name, id));
        }
        let none = || Error::new(ErrorKind::InvalidInput, "no backup is named");
        let last = last.ok_or_else(none)?;
        Ok(Self { files, last, len })
    }

    /// The header of the last backup.
    pub(super) fn last(&self) -> &BackupHeader {
        &self.last
    }

    /// The id of the last backup.
    pub(super) fn last_id(&self) -> BackupId {
        self.files.last().map_or([0; 16], |(_, id)| *id)
    }

    /// Bytes of all files.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The rows of the state that the chain shows. Very long chains are merged before, in the folder of the target. Tells
    /// how many bytes of backups it has read.
    pub(super) fn rows(&self, target: &Location, told: &mut ToldFn<'_>) -> Result<ChainRows> {
        let mut files = self.files.iter();
        let none = || Error::new(ErrorKind::InvalidInput, "no backup is named");
        let whole = open_again(files.next().ok_or_else(none)?)?;
        let mut levels = Levels::new(target, &self.last);
        for file in files {
            levels.push(open_again(file)?, told)?;
        }
        levels.after(whole)
    }
}

fn open_again((name, id): &(&NamedBackup, BackupId)) -> Result<FileRows<DiskReader>> {
    let location = name.location()?;
    let file = open(&location)?;
    if file.reader().id != *id {
        return Err(refused(
            &location,
            "another file took its place meanwhile; try again",
        ));
    }
    Ok(file)
}

/// Why a backup does not continue the one before it.
enum BrokenLink {
    NotWhole,
    Whole,
    OtherStore,
    Gap,
}

impl BrokenLink {
    fn text(&self) -> &'static str {
        match self {
            Self::NotWhole => {
                "it is an incremental backup: name the whole one before it first, and all between them"
            }
            Self::Whole => "it is a whole backup, which can only be the first one of a chain",
            Self::OtherStore => "it is a backup of another store than the one before it",
            Self::Gap => {
                "it does not continue the backup named before it: one between them is missing, or the order is another"
            }
        }
    }
}

fn check_link(
    header: &BackupHeader,
    before: Option<(BackupId, &BackupHeader)>,
) -> Result<(), BrokenLink> {
    match (before, header.previous) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(BrokenLink::NotWhole),
        (Some(_), None) => Err(BrokenLink::Whole),
        (Some((_, last)), Some(_)) if last.store != header.store => Err(BrokenLink::OtherStore),
        (Some((id, _)), Some((previous, _))) if previous != id => Err(BrokenLink::Gap),
        (Some(_), Some(_)) => Ok(()),
    }
}

/// The chain of backups that an incremental one is to continue, which is to be at the target. Only the last one is read,
/// unless the engine needs the state that they show.
pub(crate) fn previous<'a>(
    chain: &'a [NamedBackup],
    target: &'a Location,
) -> Result<PreviousBackup<'a>> {
    let none = || Error::new(ErrorKind::InvalidInput, "no previous backup is named");
    let last = open(&chain.last().ok_or_else(none)?.location()?)?;
    let reader = last.reader();
    Ok(PreviousBackup {
        id: reader.id,
        header: reader.header.clone(),
        state: Some(Box::new(move |told| {
            let chain = Chain::open(chain).map_err(|error| match error.kind() {
                ErrorKind::InvalidInput => error.and_says(
                    "the store does not remember what changed since, and compares it with the whole chain",
                ),
                _ => error,
            })?;
            Ok(Box::new(chain.rows(target, told)?) as BackupRows<'_>)
        })),
    })
}

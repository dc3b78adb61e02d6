//! Where the files of a store are.

#[cfg(not(unix))]
use super::elsewhere::FolderPath as SystemFolder;
use super::files::Folder;
#[cfg(unix)]
use super::unix::HeldFolder as SystemFolder;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A name in a folder. It is found again even if its path changes (C7.4).
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) name: OsString,
    /// Where it was when the path was resolved. For the errors.
    pub(crate) path: PathBuf,
    /// The path that was resolved, where that is a link to it.
    link: Option<PathBuf>,
}

impl Location {
    /// Where a path leads now, links followed; the file itself need not be there. `None` where it names no
    /// file.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        let resolved = match path.canonicalize() {
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {
                let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                    return Ok(None);
                };
                if names_a_folder(path) {
                    return Ok(None);
                }
                let folder = match folder {
                    folder if folder == Path::new("") => Path::new("."),
                    folder => folder,
                };
                folder.canonicalize()?.join(name)
            }
            resolved => resolved?,
        };
        let (Some(folder), Some(name)) = (resolved.parent(), resolved.file_name()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            folder: Arc::new(SystemFolder::open(folder)?),
            name: name.to_owned(),
            link: path.is_symlink().then(|| path.to_owned()),
            path: resolved,
        }))
    }

    /// The link by which it was found, if that is one: a name in its own folder.
    pub(crate) fn link(&self) -> Option<Self> {
        let link = std::path::absolute(self.link.as_ref()?).ok()?;
        let folder = link.parent()?.canonicalize().ok()?;
        let name = link.file_name()?.to_owned();
        Some(Self {
            folder: Arc::new(SystemFolder::open(&folder).ok()?),
            path: folder.join(&name),
            name,
            link: None,
        })
    }

    /// A file beside this one.
    pub(crate) fn beside(&self, name: OsString) -> Self {
        Self {
            folder: self.folder.clone(),
            path: self.path.with_file_name(&name),
            name,
            link: None,
        }
    }

    #[cfg(feature = "torture")]
    pub(crate) fn within(folder: Arc<dyn Folder>, name: &str) -> Self {
        Self {
            folder,
            name: name.into(),
            path: name.into(),
            link: None,
        }
    }
}

/// Whether a path ends with a separator, or in the folder itself: the system takes such a one for a file's no more once
/// the file is there.
fn names_a_folder(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    let last = bytes
        .rsplit(|byte| std::path::is_separator(char::from(*byte)))
        .next();
    matches!(last, Some(b"" | b"."))
}

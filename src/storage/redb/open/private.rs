//! Checks that only its owner can access a store's file. The file holds the data of all sessions, and the secret that
//! signs client ids: a reader of the file can forge ids.

use crate::error::{ErrorKind, Result};
use crate::storage::redb::backend::folder::{Access, Location};
use crate::storage::redb::failure::{io_error, refused};
use std::path::Path;

/// Describes how other users can access the file, and the command that prevents it; `None` if they cannot.
pub(crate) fn exposure(location: &Location) -> Result<Option<String>> {
    let Location {
        folder, name, path, ..
    } = location;
    let unknown = |e| io_error(path, "the permissions of the store cannot be read", e);
    let access = folder.access(name).map_err(unknown)?;
    Ok(describe(access, path))
}

/// Refuses a file that other users can access.
pub(crate) fn require(location: &Location) -> Result<()> {
    match exposure(location)? {
        Some(why) => Err(refused(ErrorKind::NotPrivate, &location.path, why)),
        None => Ok(()),
    }
}

fn describe(access: Access, path: &Path) -> Option<String> {
    let path = path.display();
    match access {
        Access::Own => None,
        Access::Foreign { owner, user } => Some(format!(
            "this file belongs to user {owner}, and not to user {user}, as which this process runs: that user can read \
             and change it. If that is not meant: chown {user} '{path}'"
        )),
        Access::Shared { mode } => Some(format!(
            "this file has the permissions {mode:03o}: others than its owner can read or change it, and with it the sessions and the secret \
             of their ids. If that is not meant: chmod 600 '{path}'"
        )),
    }
}

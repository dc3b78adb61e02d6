//! Who the file of a store belongs to. Opening it makes journal files beside it, which a kill leaves there. If they belong
//! to another user, the application cannot open the store any more.

use crate::failure::{Failure, Outcome};
use std::path::Path;

/// Refuses a store of another user, if the files that are made beside it cannot be given to that user. A file that is not
/// there is left to the opening.
#[cfg(unix)]
pub(crate) fn check(store: &Path) -> Outcome<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};

    let Ok(file) = std::fs::metadata(store) else {
        return Ok(());
    };
    // A file without a name, which is gone at once. If none can be made, neither can a journal: the opening tells it.
    let folder = store.canonicalize().ok();
    let folder = folder.as_deref().and_then(Path::parent);
    let Some(Ok(probe)) = folder.map(tempfile::tempfile_in) else {
        return Ok(());
    };
    let own = probe.metadata()?.uid();
    let (owner, group) = (file.uid(), file.gid());
    if own == owner || fchown(&probe, Some(owner), Some(group)).is_ok() {
        return Ok(());
    }
    let what = format!(
        "{} belongs to the user with the number {owner}, and this runs as {own}",
        store.display()
    );
    let advice = format!(
        "Run it as that user: sudo -u '#{owner}' cloakroom …. Files that another user makes beside a store can keep its \
         application from opening it; --any-user takes that upon you."
    );
    Err(Failure::unusable("other-user", what, &advice))
}

#[cfg(not(unix))]
pub(crate) fn check(_store: &Path) -> Outcome<()> {
    Ok(())
}

/// Gives a new store to the user whose the other one is, where the system lets this process.
#[cfg(unix)]
pub(crate) fn give_as(from: &Path, new: &Path) {
    use std::os::unix::fs::{MetadataExt as _, lchown};

    if let (Ok(file), Ok(made)) = (std::fs::metadata(from), std::fs::metadata(new))
        && file.uid() != made.uid()
    {
        // Otherwise it belongs to the user who made it, as any new file.
        let _ = lchown(new, Some(file.uid()), Some(file.gid()));
    }
}

#[cfg(not(unix))]
pub(crate) fn give_as(_from: &Path, _new: &Path) {}

//! The temporary folder of a server, which goes away with its servers whatever becomes of the process.

use crate::install::{command, user};
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Waits until its standard input ends: then this process was told to, or is dead. Ends what runs in the folder, and
/// removes it. Runs as the servers' user, so it can signal nothing else.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
for file in "$1"/*/postmaster.pid "$1"/*.pid; do
    [ -f "$file" ] || continue
    read -r id <"$file"
    kill -QUIT "$id" 2>/dev/null || continue
    waits=0
    while kill -0 "$id" 2>/dev/null && [ "$waits" -lt 50 ]; do
        sleep 0.1
        waits=$((waits + 1))
    done
    kill -KILL "$id" 2>/dev/null
done
rm -rf "$1"
"#;

/// A folder that is removed when it is dropped, or when this process dies.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    watchdog: Child,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("cloakroom-postgres-")
            .tempdir()
            .unwrap();
        if let Some(user) = user() {
            chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let watchdog = command("/bin/sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // From here on the watchdog removes it.
        let path = folder.keep();
        Self { path, watchdog }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that the servers' user owns and nobody else reads.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, content).unwrap();
        self.own(&path);
        path
    }

    /// Gives a file to the servers' user.
    pub(crate) fn own(&self, path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(user) = user() {
            chown(path, Some(user.uid), Some(user.gid)).unwrap();
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        drop(self.watchdog.wait());
    }
}

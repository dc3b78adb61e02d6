//! Where PostgreSQL and PgBouncer are installed, and the user that they run as.

use std::fs;
use std::io::{Write, stderr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The folder of Debian's packages, one folder a version below it.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The folder with `initdb`: that of `CLOAKROOM_POSTGRES_BIN`, that of the newest version, or one of `PATH`. None if
/// `CLOAKROOM_POSTGRES=none`: it may be installed where it cannot run.
pub(crate) fn programs() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        if std::env::var("CLOAKROOM_POSTGRES").as_deref() == Ok("none") {
            return None;
        }
        named().or_else(installed)
    });
    found.as_deref()
}

/// The folder that the environment names.
fn named() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("CLOAKROOM_POSTGRES_BIN")?);
    assert!(
        folder.join("initdb").exists() && folder.join("postgres").exists(),
        "CLOAKROOM_POSTGRES_BIN={}: there is no initdb or no postgres",
        folder.display()
    );
    Some(folder)
}

fn installed() -> Option<PathBuf> {
    newest_of_debian().or_else(|| in_path("initdb"))
}

fn newest_of_debian() -> Option<PathBuf> {
    let versions = fs::read_dir(DEBIAN).ok()?.flatten();
    versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
        .max_by_key(|bin| version_of(bin))
}

fn version_of(bin: &Path) -> u32 {
    let name = bin.parent().and_then(Path::file_name);
    let number = name.and_then(|name| name.to_str()?.parse().ok());
    number.unwrap_or(0)
}

/// The folder of `PATH` that has this program. Daemons may be in one that only root's `PATH` has.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut having = folders.filter(|folder| folder.join(program).exists());
    having.next()
}

/// Whether there is a PostgreSQL to start. If not, the standard error says so once.
///
/// # Panics
///
/// If there is none and `CLOAKROOM_POSTGRES=required`.
#[must_use]
pub fn is_available() -> bool {
    static SAID: OnceLock<()> = OnceLock::new();
    programs().is_some() || {
        missing("PostgreSQL", &SAID);
        false
    }
}

/// The same of PgBouncer.
///
/// # Panics
///
/// If there is none and `CLOAKROOM_POSTGRES=required`.
#[must_use]
pub fn is_pooler_available() -> bool {
    static SAID: OnceLock<()> = OnceLock::new();
    is_available()
        && (in_path("pgbouncer").is_some() || {
            missing("PgBouncer", &SAID);
            false
        })
}

fn missing(program: &str, said: &OnceLock<()>) {
    assert!(
        std::env::var("CLOAKROOM_POSTGRES").as_deref() != Ok("required"),
        "CLOAKROOM_POSTGRES=required, and there is no {program} here"
    );
    said.get_or_init(|| {
        // Not `eprintln!`, which the test runner keeps back of a test that passes.
        let line =
            format!("\nSKIPPED: there is no {program} here, so tests that need it test nothing\n");
        drop(stderr().write_all(line.as_bytes()));
    });
}

/// The user that a server runs as. PostgreSQL refuses root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `None`: the one of this process will do.
pub(crate) fn user() -> Option<User> {
    static FOUND: OnceLock<Option<User>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let found = ["postgres", "nobody"]
            .iter()
            .find_map(|name| entry(&users, name));
        Some(found.expect("root needs a user for PostgreSQL: postgres or nobody"))
    })
}

fn entry(users: &str, name: &str) -> Option<User> {
    let fields = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == name)?;
    Some(User {
        uid: fields.get(2)?.parse().ok()?,
        gid: fields.get(3)?.parse().ok()?,
    })
}

/// A command that runs as the servers' user, in a process group of its own, so that a Ctrl-C at the tests does not reach
/// it.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.process_group(0).current_dir("/").env("LC_ALL", "C");
    if let Some(User { uid, gid }) = user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// One of PostgreSQL's programs. A folder that the environment names may have the server alone: clients of other versions
/// serve it, too.
pub(crate) fn postgres(program: &str) -> Command {
    let folder = programs().expect("PostgreSQL is installed: is_available tells");
    let own = folder.join(program);
    if own.exists() {
        return command(own);
    }
    let other = installed().map(|folder| folder.join(program));
    command(other.filter(|path| path.exists()).unwrap_or(own))
}

/// Runs a command that must succeed. Gives its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&stdout).trim_end().to_owned();
    let noted = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}\n{said}\n{noted}");
    said
}

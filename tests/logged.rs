//! What opening a store logs: a person reads it, so it is true, and said once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ErrorKind, Store, StoreBuilder};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use support::log::Lines;
use tempfile::TempDir;
use tracing::{Level, Metadata};

/// The lines that opening a store writes, from INFO on; it is closed then.
fn logged(builder: StoreBuilder, path: &Path) -> Vec<String> {
    let is_told = |metadata: &Metadata<'_>| {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("cloakroom")
    };
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = lines.clone();
    let keep = move |level, line| kept.lock().unwrap().push(format!("{level} {line}"));
    let log = Lines::of(is_told, keep);
    let store = tracing::subscriber::with_default(log, || builder.open(path).unwrap());
    store.close().unwrap();
    let lines = lines.lock().unwrap();
    lines.clone()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

// C7.2
#[test]
fn a_new_store_logs_once_that_it_was_made() {
    let folder = folder();
    let path = folder.path().join("sessions.redb");
    let made = logged(Store::builder(), &path);
    let expected = format!("INFO a new store was made path={}", path.display());
    assert_eq!(made, [expected]);
    assert_eq!(logged(Store::builder(), &path), [""; 0]);
}

// C7.2
#[test]
fn a_migration_is_logged_once_from_where_to_where() {
    let folder = folder();
    let path = folder.path().join("sessions.redb");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1.redb");
    fs::copy(fixture, &path).unwrap();
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    #[cfg(unix)]
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(&path, permissions).unwrap();
    let lines = logged(Store::builder(), &path);
    assert_eq!(lines, ["INFO the store was migrated from=1 to=2"]);
    assert_eq!(logged(Store::builder(), &path), [""; 0]);
}

// C7: a reader of the file has the sessions in it.
#[test]
#[cfg(unix)]
fn a_file_that_others_can_get_at_is_warned_of_with_what_to_do_or_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().canonicalize().unwrap().join("sessions.redb");
    let strict = || Store::builder().require_private_files(true);
    strict().open(&path).unwrap().close().unwrap();
    for mode in [0o644, 0o640, 0o620, 0o602, 0o610] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let lines = logged(Store::builder(), &path);
        let [line] = &lines[..] else {
            panic!("{lines:?}");
        };
        let (mode, command) = (
            format!("{mode:o}"),
            format!("chmod 600 '{}'", path.display()),
        );
        assert!(line.starts_with("WARN"), "{line}");
        assert!(line.contains(&mode) && line.contains(&command), "{line}");
        let before = fs::read(&path).unwrap();
        let error = strict().open(&path).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotPrivate);
        let text = error.to_string();
        assert!(text.contains(&mode) && text.contains(&command), "{text}");
        assert!(fs::read(&path).unwrap() == before);
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(logged(strict(), &path), [""; 0]);
}

// C7: where this process may give a file away.
#[test]
#[cfg(unix)]
fn a_file_of_another_user_is_warned_of_or_refused() {
    let folder = folder();
    let path = folder.path().join("sessions.redb");
    Store::open(&path).unwrap().close().unwrap();
    if std::os::unix::fs::chown(&path, Some(12345), None).is_err() {
        return;
    }
    let lines = logged(Store::builder(), &path);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("WARN") && lines[0].contains("user 12345"));
    let strict = Store::builder().require_private_files(true);
    let error = strict.open(&path).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPrivate);
    assert!(error.to_string().contains("chown"), "{error}");
}

// C7: the process's umask does not matter.
#[test]
#[cfg(unix)]
fn the_files_that_a_store_makes_are_its_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let store = Store::open(folder.path().join("sessions.redb")).unwrap();
    let files = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
    let modes: Vec<_> = files
        .map(|file| file.metadata().unwrap().permissions().mode() & 0o777)
        .collect();
    assert_eq!(modes, [0o600; 3]);
    store.close().unwrap();
}

//! C7.2: which files are refused, and left as they are.

use super::{META, get, make, make_killed, open, place, refused};
use crate::support::files::{Image, image, names, restore};
use crate::support::store::file_builder;
use cloakroom::ErrorKind;
use redb::{Database, TableDefinition};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Writes into a store's file as a later version of this crate would.
fn age(path: &Path, killed: bool) {
    let database = Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let mut meta = txn.open_table(META).unwrap();
        let value = [b"cloakroom".as_slice(), &9_u32.to_le_bytes()].concat();
        meta.insert("format", &*value).unwrap();
    }
    txn.commit().unwrap();
    if killed {
        let image = fs::read(path).unwrap();
        drop(database);
        fs::write(path, image).unwrap();
    }
}

/// Refuses the file with this kind, names it, and leaves it and all beside it as they were, byte for byte.
fn assert_refused_untouched(path: &Path, kind: ErrorKind) {
    let before = image(path.parent().unwrap());
    for verify in [false, true] {
        let error = file_builder().verify_on_open(verify).open(path);
        let error = error.map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert!(
            image(path.parent().unwrap()) == before,
            "a file was changed"
        );
    }
}

// C7.2
#[test]
fn a_store_of_a_newer_format_is_refused_untouched() {
    let (_folder, path) = place();
    make(&path);
    age(&path, false);
    assert_refused_untouched(&path, ErrorKind::TooNew);
}

// C7.2
#[test]
fn a_killed_store_of_a_newer_format_is_refused_untouched() {
    let (_folder, path) = place();
    make_killed(&path);
    age(&path, true);
    assert_refused_untouched(&path, ErrorKind::TooNew);
}

// C7.2
#[test]
fn a_file_that_is_no_database_is_refused_untouched() {
    let (_folder, path) = place();
    let magic = b"redb\x1A\x0A\xA9\x0D\x0A";
    for content in [
        vec![0],
        vec![0; 1 << 20],
        b"sessions = 3\n".to_vec(),
        b"SQLite format 3\0".repeat(300),
        magic[..8].to_vec(),
    ] {
        fs::write(&path, content).unwrap();
        assert_refused_untouched(&path, ErrorKind::NotAStore);
    }
}

// C7.2: as `NamedTempFile` makes it.
#[test]
fn an_empty_file_that_nobody_holds_becomes_a_store() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let id = make(file.path());
    assert_eq!(get(&open(file.path()).unwrap(), &id), Some(1));
    let (folder, path) = place();
    fs::write(&path, "").unwrap();
    let id = make(&path);
    assert_eq!(get(&open(&path).unwrap(), &id), Some(1));
    assert_eq!(names(folder.path()), ["sessions.redb"]);
}

// C7.2
#[test]
#[cfg(unix)]
fn an_empty_file_that_a_link_leads_to_becomes_a_store() {
    let (folder, path) = place();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink(&file, &path).unwrap();
    let id = make(&path);
    assert_eq!(get(&open(&file).unwrap(), &id), Some(1));
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
}

// C7.2: as a database that another application is about to make, or by the lock of a whole file.
#[test]
fn an_empty_file_that_somebody_holds_is_locked() {
    use redb::StorageBackend;
    use redb::backends::FileBackend;
    let (_folder, path) = place();
    fs::write(&path, "").unwrap();
    let file = || File::options().read(true).write(true).open(&path).unwrap();
    let backend = FileBackend::new(file()).unwrap();
    let whole = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    assert!(backend.try_lock_range(whole.0, whole.1).unwrap());
    assert_refused_untouched(&path, ErrorKind::Locked);
    drop(backend);
    let held = file();
    held.lock().unwrap();
    if cfg!(target_os = "linux") {
        assert_refused_untouched(&path, ErrorKind::Locked);
    }
    drop(held);
    make(&path);
}

// C7.2: a store that was emptied, with its last commits in the journals beside it.
#[test]
fn an_empty_file_beside_journals_is_refused_untouched() {
    let (folder, path) = place();
    make_killed(&path);
    fs::write(&path, "").unwrap();
    assert_refused_untouched(&path, ErrorKind::NotAStore);
    let text = refused(&path).to_string();
    assert!(text.contains("sessions.redb.journal-"), "{text}");
    for name in names(folder.path())
        .iter()
        .filter(|name| name.contains("journal"))
    {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    make(&path);
}

// C7.2: by its other name, it would go on to be empty.
#[test]
#[cfg(unix)]
fn an_empty_file_with_two_names_is_refused_untouched() {
    let (folder, path) = place();
    fs::write(&path, "").unwrap();
    fs::hard_link(&path, folder.path().join("other")).unwrap();
    assert_refused_untouched(&path, ErrorKind::NotAStore);
}

// C7.2
#[test]
fn a_database_of_another_application_is_refused_untouched() {
    const OTHER: TableDefinition<u64, u64> = TableDefinition::new("other");
    const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("meta");
    let (_folder, path) = place();
    for killed in [false, true] {
        for table in [
            "none",
            "other",
            "meta of another type",
            "meta without format",
        ] {
            let _ = fs::remove_file(&path);
            let database = Database::create(&path).unwrap();
            let txn = database.begin_write().unwrap();
            match table {
                "none" => {}
                "other" => drop(txn.open_table(OTHER).unwrap().insert(1, 1).unwrap()),
                "meta of another type" => {
                    drop(
                        txn.open_table(NUMBERS)
                            .unwrap()
                            .insert("format", 1)
                            .unwrap(),
                    );
                }
                _ => {
                    let mut meta = txn.open_table(META).unwrap();
                    meta.insert("format", b"1".as_slice()).unwrap();
                }
            }
            txn.commit().unwrap();
            let image = fs::read(&path).unwrap();
            drop(database);
            if killed {
                fs::write(&path, image).unwrap();
            }
            assert_refused_untouched(&path, ErrorKind::NotAStore);
        }
    }
}

// C7.2
#[test]
fn a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path());
    assert_eq!(error.kind(), ErrorKind::NotAStore);
    assert!(names(folder.path()).is_empty());
}

// C7.2
#[test]
#[cfg(unix)]
fn what_is_no_regular_file_is_refused() {
    let (_folder, path) = place();
    let made = Command::new("mkfifo").arg(&path).status();
    if made.is_ok_and(|status| status.success()) {
        assert_eq!(refused(&path).kind(), ErrorKind::NotAStore);
    }
    let null = refused(Path::new("/dev/null"));
    assert_eq!(null.kind(), ErrorKind::NotAStore, "{null:?}");
}

/// Lengths all over a file, denser at its start, where its header is.
fn lengths(len: usize) -> impl Iterator<Item = usize> {
    let header = (0..400).step_by(13);
    let pages = (400..len).step_by(len / 60 + 1);
    let edges = (1..5).map(move |n| len - n * 4096);
    header.chain(pages).chain(edges).chain([len - 1])
}

// C7.2
#[test]
fn a_file_cut_short_is_refused_untouched() {
    let (folder, path) = place();
    for make in [make, make_killed] {
        restore(folder.path(), &Image::new());
        make(&path);
        let whole = image(folder.path());
        for len in lengths(whole["sessions.redb"].len()) {
            let mut cut = whole.clone();
            cut.get_mut("sessions.redb").unwrap().truncate(len);
            restore(folder.path(), &cut);
            match open(&path) {
                // redb cuts and grows its files itself, so a killed store may have any of those lengths. The part that
                // was cut off was free.
                Ok(store) => {
                    assert!(store.check().unwrap().is_clean(), "cut at {len}");
                }
                Err(error) => {
                    let kind = error.kind();
                    let kinds = [ErrorKind::Corrupt, ErrorKind::NotAStore];
                    assert!(kinds.contains(&kind), "cut at {len}: {error:?}");
                    assert!(error.to_string().contains(path.to_str().unwrap()));
                    assert!(image(folder.path()) == cut, "cut at {len}");
                }
            }
        }
    }
}

// C7.2
#[test]
fn a_file_that_cannot_be_opened_for_writing_is_refused() {
    // Permissions bind no root user, but nobody may write to a program that runs: this one.
    let running = std::env::current_exe().unwrap();
    let (_folder, path) = place();
    make(&path);
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    let bound = File::options().write(true).open(&path).is_err();
    let cases = [(&running, cfg!(target_os = "linux")), (&path, bound)];
    for (path, applies) in cases {
        if applies {
            let error = refused(path);
            assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
            assert!(error.to_string().contains(path.to_str().unwrap()));
        }
    }
}

// C7.2: a folder that may not be written to is covered where permissions bind the user; the other
// cases stand for it elsewhere.
#[test]
fn a_path_where_no_store_can_be_made_is_refused() {
    let (folder, file) = place();
    fs::write(&file, "a file").unwrap();
    let sealed = folder.path().join("sealed");
    fs::create_dir(&sealed).unwrap();
    let mut permissions = fs::metadata(&sealed).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&sealed, permissions).unwrap();
    let mut paths = vec![
        file.join("below a file"),
        folder.path().join("missing").join("sessions.redb"),
        folder.path().join("x".repeat(300)),
    ];
    if File::create(sealed.join("probe")).is_err() {
        paths.push(sealed.join("sessions.redb"));
    }
    let before = names(folder.path());
    for path in paths {
        let error = refused(&path);
        assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert!(error.io_error().is_some());
    }
    assert_eq!(refused(Path::new("")).kind(), ErrorKind::Io);
    assert_eq!(names(folder.path()), before);
    assert_eq!(fs::read(&file).unwrap(), b"a file");
}

// C7.3
#[test]
fn a_store_can_have_the_longest_name_that_the_system_allows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x".repeat(255));
    open(&path).unwrap().close().unwrap();
    assert_eq!(names(folder.path()).len(), 1);
}

// C7.2
#[test]
#[cfg(unix)]
fn a_link_that_leads_nowhere_is_refused_and_stays() {
    let (folder, path) = place();
    std::os::unix::fs::symlink(folder.path().join("nothing"), &path).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()));
    assert_eq!(names(folder.path()), ["sessions.redb"]);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
}

//! C7: who owns a file, which files are refused and left as they are, and what a killed store leaves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{Error, ErrorKind, Store};
use redb::{Database, ReadableDatabase, TableDefinition};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use support::files::{Image, image, names, restore};
use support::process;
use support::store::file_builder;
use support::visitors::put;
use tempfile::TempDir;

/// Set for a copy of this test binary that only opens the store there.
const CHILD: &str = "CLOAKROOM_TEST_OPEN";

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

fn open(path: &Path) -> Result<Store, Error> {
    file_builder().open(path)
}

fn refused(path: &Path) -> Error {
    open(path).map(drop).unwrap_err()
}

/// A folder of its own, and a path in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    (folder, path)
}

fn get(store: &Store, id: &str) -> Option<u64> {
    let id = store.client_ids().verify(id).unwrap();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("p").get("n").unwrap()
}

/// A store at `path`, closed in order; returns an id under which it holds the number 1.
fn make(path: &Path) -> String {
    let store = open(path).unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    store.close().unwrap();
    id.as_str().to_owned()
}

/// What is in the files after the process was killed in the middle of its work, and an id under which
/// they hold the number 2.
fn make_killed(path: &Path) -> String {
    let (folder, alive) = place();
    let store = open(&alive).unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    put(&store, &id, 2);
    // Nothing is under way, so this is what the kernel keeps of a process killed now.
    let left = image(folder.path());
    assert_eq!(left.len(), 3, "a store and its journal");
    restore(path.parent().unwrap(), &left);
    id.as_str().to_owned()
}

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

/// Another process that has the store open, or was refused.
struct Other {
    process: Child,
    /// Its output; without a reader it could not end.
    out: Lines<BufReader<ChildStdout>>,
    answer: String,
}

impl Other {
    fn open(path: &Path) -> Self {
        let mut process = process::child(CHILD, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap()).lines();
        let answer = out
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| Some(line.split_once("opened: ")?.1.to_owned()))
            .unwrap();
        Self {
            process,
            out,
            answer,
        }
    }

    /// SIGKILL: it gets no chance to do anything.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn close(mut self) {
        drop(self.process.stdin.take());
        self.out.by_ref().for_each(drop);
        assert!(self.process.wait().unwrap().success());
    }
}

/// Not a test, but what the other process runs: opens the store and keeps it until its input ends.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let store = open(Path::new(&path));
    println!("\nopened: {:?}", store.as_ref().err().map(Error::kind));
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().lines().next();
    if let Ok(store) = store {
        store.close().unwrap();
    }
}

// C7.1
#[test]
fn a_second_open_in_the_same_process_gives_locked() {
    let (_folder, path) = place();
    let store = open(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains(path.to_str().unwrap()));
    assert!(fs::read(&path).unwrap() == before);
    store.close().unwrap();
    open(&path).unwrap();
}

// C7.1
#[test]
fn dropping_the_last_handle_unlocks_the_file() {
    let (_folder, path) = place();
    let store = open(&path).unwrap();
    let clone = store.clone();
    drop(store);
    assert_eq!(refused(&path).kind(), ErrorKind::Locked);
    drop(clone);
    open(&path).unwrap();
}

// C7.1
#[test]
fn closing_unlocks_the_file_although_handles_are_left() {
    let (_folder, path) = place();
    let store = open(&path).unwrap();
    let clone = store.clone();
    let txn = store.begin().unwrap();
    store.close().unwrap();
    open(&path).unwrap();
    assert_eq!(clone.begin().unwrap_err().kind(), ErrorKind::Closed);
    drop(txn);
}

// C7.1
#[test]
fn a_second_open_in_another_process_gives_locked() {
    let (_folder, path) = place();
    let store = open(&path).unwrap();
    let other = Other::open(&path);
    assert_eq!(other.answer, "Some(Locked)");
    other.close();
    store.close().unwrap();

    let other = Other::open(&path);
    assert_eq!(other.answer, "None");
    assert_eq!(refused(&path).kind(), ErrorKind::Locked);
    other.close();
    open(&path).unwrap();
}

// C7.1, C7.3
#[test]
fn the_lock_of_a_killed_process_is_gone_with_it() {
    let (_folder, path) = place();
    let other = Other::open(&path);
    assert_eq!(other.answer, "None");
    other.kill();
    open(&path).unwrap();
}

// C7.1: by another name it is the same file.
#[test]
#[cfg(unix)]
fn a_link_to_a_store_is_the_store() {
    let (folder, path) = place();
    let id = make(&path);
    let [soft, hard] = ["soft", "hard"].map(|name| folder.path().join(name));
    std::os::unix::fs::symlink(&path, &soft).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    let store = open(&path).unwrap();
    assert_eq!(refused(&soft).kind(), ErrorKind::Locked);
    assert_eq!(refused(&hard).kind(), ErrorKind::Locked);
    store.close().unwrap();
    assert_eq!(get(&open(&soft).unwrap(), &id), Some(1));
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

// C7.2: as those have it who make their files by `NamedTempFile`.
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

// C7.2: it was a store, which somebody emptied, and what was committed last lies beside it.
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
                // redb cuts and grows its files itself, so a killed one may have any of those lengths.
                // What was cut off there was free.
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

// C7.3
#[test]
fn a_killed_store_opens_with_everything_acknowledged() {
    let (_folder, path) = place();
    let id = make_killed(&path);
    let store = open(&path).unwrap();
    assert_eq!(get(&store, &id), Some(2));
    assert!(store.check().unwrap().is_clean());
    let id = store.client_ids().verify(&id).unwrap();
    put(&store, &id, 3);
    store.close().unwrap();
    assert_eq!(get(&open(&path).unwrap(), id.as_str()), Some(3));
}

// C7.3
#[test]
fn what_a_killed_maker_left_is_in_nobodys_way() {
    let (folder, path) = place();
    // As it stands while a store is made: nothing, or half a store, under a name that is not its own.
    let half = {
        let (_folder, whole) = place();
        make(&whole);
        fs::read(&whole).unwrap()[..5000].to_vec()
    };
    for (name, content) in [
        (".sessions.redb.a1b2c3.new", Vec::new()),
        (".cloakroom-a1b2c3.new", half),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let before = names(folder.path());
    let id = make(&path);
    assert_eq!(get(&open(&path).unwrap(), &id), Some(1));
    let after = names(folder.path());
    assert_eq!(after.len(), before.len() + 1, "{after:?}");
}

// C7.3
#[test]
fn a_crowd_that_makes_one_store_gets_one_store() {
    for round in 0..16 {
        let (folder, path) = place();
        if round % 2 == 1 {
            fs::write(&path, "").unwrap();
        }
        let crowd = 8;
        let (start, done) = (Barrier::new(crowd), Barrier::new(crowd));
        let answers: Vec<Option<ErrorKind>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..crowd)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let store = open(&path);
                        // Nobody lets go before all were answered.
                        done.wait();
                        store.map(drop).err().map(|e| e.kind())
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let won = answers.iter().filter(|answer| answer.is_none()).count();
        let locked = answers.iter().filter(|a| **a == Some(ErrorKind::Locked));
        assert_eq!((won, locked.count()), (1, crowd - 1), "{answers:?}");
        assert_eq!(names(folder.path()), ["sessions.redb"]);
        open(&path).unwrap();
    }
}

// C7.3
#[test]
fn processes_that_make_one_store_get_one_store() {
    let (folder, path) = place();
    let others: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| Other::open(&path))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut answers: Vec<_> = others.iter().map(|other| other.answer.as_str()).collect();
    answers.sort_unstable();
    assert_eq!(
        answers,
        ["None", "Some(Locked)", "Some(Locked)", "Some(Locked)"]
    );
    others.into_iter().for_each(Other::close);
    assert_eq!(names(folder.path()), ["sessions.redb"]);
    open(&path).unwrap();
}

// C7.3: killed at any moment of its making, there is a store or there is none.
#[test]
fn a_maker_that_is_killed_leaves_a_store_or_none() {
    for round in 0..8 {
        let (_folder, path) = place();
        if round % 2 == 1 {
            fs::write(&path, "").unwrap();
        }
        let mut process = process::child(CHILD, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // As soon as anything of it can be seen.
        let is_seen = || match names(path.parent().unwrap()).as_slice() {
            [] => false,
            [_] if round % 2 == 1 => fs::metadata(&path).unwrap().len() > 0,
            _ => true,
        };
        while !is_seen() {
            std::thread::yield_now();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let id = make(&path);
        assert_eq!(get(&open(&path).unwrap(), &id), Some(1));
    }
}

// C7.2: the row that `age` writes is the one that counts.
#[test]
fn a_store_of_this_format_says_so() {
    let (_folder, path) = place();
    make(&path);
    let database = Database::open(&path).unwrap();
    let txn = database.begin_read().unwrap();
    let meta = txn.open_table(META).unwrap();
    let format = meta.get("format").unwrap().unwrap();
    assert_eq!(format.value(), b"cloakroom\x02\0\0\0");
}

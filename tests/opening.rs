//! The message for a person when a store cannot be opened: one line with the path, the problem, the reason and the
//! remedy, each once (C7.1, C7.2). And how long an opening waits for a lock.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{Error, ErrorKind, Store};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Waker};
use std::time::Duration;
use support::log::Lines;
use support::process;
use tempfile::TempDir;
use tracing::{Level, Metadata, Subscriber};

/// Set for a copy of this test binary that only opens the store there.
const CHILD: &str = "CLOAKROOM_TEST_OPENING";

/// A folder whose path has no links in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

fn refused(path: &Path) -> Error {
    Store::open(path).map(drop).unwrap_err()
}

/// Asserts that the error is the path and this line, and has no source that would be printed beside it.
#[track_caller]
fn assert_says(path: &Path, kind: ErrorKind, line: &str) {
    let error = refused(path);
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(error.to_string(), format!("{}: {line}", path.display()));
    assert!(std::error::Error::source(&error).is_none(), "{error:?}");
}

/// Not a test, but what another process runs: opens the store and keeps it until its input ends.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let store = Store::open(Path::new(&path)).unwrap();
    println!("\nopened");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().lines().next();
    store.close().unwrap();
}

/// Another process that has the store open.
fn other(path: &Path) -> Child {
    let mut process = process::child(CHILD, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(out.any(|line| line.unwrap().contains("opened")));
    // Without a reader it could not end.
    std::thread::spawn(move || out.for_each(drop));
    process
}

#[test]
#[cfg(target_os = "linux")]
fn what_is_no_place_for_a_store_is_told_with_the_systems_reason_once() {
    let (_folder, place) = place();
    let missing = "the store's folder cannot be opened: No such file or directory (os error 2)";
    assert_says(&place.join("no/store"), ErrorKind::Io, missing);
    fs::write(place.join("file"), "text").unwrap();
    let below = "the store's folder cannot be opened: Not a directory (os error 20)";
    assert_says(&place.join("file/store"), ErrorKind::Io, below);
    let long = "the store cannot be opened: File name too long (os error 36)";
    assert_says(&place.join("x".repeat(300)), ErrorKind::Io, long);
    std::os::unix::fs::symlink(place.join("gone"), place.join("link")).unwrap();
    let nowhere = "this link leads to no file: No such file or directory (os error 2)";
    assert_says(&place.join("link"), ErrorKind::Io, nowhere);
    // Nobody may write to a program that runs: this one. And not even root makes files there.
    let running = std::env::current_exe().unwrap().canonicalize().unwrap();
    let busy = "the store cannot be opened: Text file busy (os error 26)";
    assert_says(&running, ErrorKind::Io, busy);
    let sealed = refused(Path::new("/sys/sessions.redb")).to_string();
    assert!(sealed.starts_with("/sys/sessions.redb: the store cannot be made: "));
    assert!(!sealed.contains(".new"), "{sealed}");
    assert_eq!(
        refused(Path::new("")).to_string(),
        "\"\": the path names no file"
    );
    // Also where nothing is yet: a store made there would not be found under that path again.
    for end in ["/", "/.", "//"] {
        let path = format!("{}{end}", place.join("new").display());
        assert_says(Path::new(&path), ErrorKind::Io, "the path names no file");
        let salvaged = Store::builder().salvage(place.join("file"), &path);
        assert!(salvaged.is_err());
    }
    assert!(!place.join("new").exists());
    let behind = "the store cannot be opened: Not a directory (os error 20)";
    assert_says(&place.join("file/"), ErrorKind::Io, behind);
}

#[test]
#[cfg(unix)]
fn what_is_no_store_is_told_by_what_it_is() {
    let (_folder, place) = place();
    let is = |name: &str, what: &str| {
        let line = format!("this is not a store: {what}");
        assert_says(&place.join(name), ErrorKind::NotAStore, &line);
    };
    fs::create_dir(place.join("folder")).unwrap();
    is("folder", "it is a folder");
    for (name, content) in [("text", b"sessions = 3".to_vec()), ("zeros", vec![0; 9000])] {
        fs::write(place.join(name), content).unwrap();
        is(name, "it is a file of another kind");
    }
    fs::write(place.join("empty"), "").unwrap();
    fs::hard_link(place.join("empty"), place.join("again")).unwrap();
    is("empty", "it is empty, and has several names");
    let made = Command::new("mkfifo").arg(place.join("fifo")).status();
    if made.is_ok_and(|status| status.success()) {
        is("fifo", "it is no regular file");
    }
    drop(redb::Database::create(place.join("other")).unwrap());
    is("other", "it is a redb file of another application");
}

// C7.2: its permissions, where they bind the user.
#[test]
#[cfg(unix)]
fn a_file_without_permission_is_told_so() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, place) = place();
    let path = place.join("store");
    Store::open(&path).unwrap().close().unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    if fs::File::options().write(true).open(&path).is_err() {
        let line = "the store cannot be opened: Permission denied (os error 13)";
        assert_says(&path, ErrorKind::Io, line);
    }
}

// C7.2: the same of the folder, in which the journal is made.
#[test]
#[cfg(unix)]
fn a_folder_without_permission_is_told_so() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, place) = place();
    let place = place.join("sealed");
    fs::create_dir(&place).unwrap();
    let path = place.join("store");
    Store::open(&path).unwrap().close().unwrap();
    let set = |mode| fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
    set(0o500);
    let is_bound = fs::File::create(place.join("probe")).is_err();
    let refused = is_bound.then(|| refused(&path).to_string());
    set(0o700);
    if let Some(line) = refused {
        let journal = place.join("store.journal-1");
        let why = "the journal cannot be made: Permission denied (os error 13)";
        assert_eq!(line, format!("{}: {why}", journal.display()));
    }
    Store::open(&path).unwrap().close().unwrap();
}

// C7.2
#[test]
fn a_missing_journal_is_told_by_its_own_path_alone() {
    let (_folder, place) = place();
    let (path, copy) = (place.join("store"), place.join("copy"));
    let store = Store::open(&path).unwrap();
    fs::copy(&path, &copy).unwrap();
    let error = refused(&copy).to_string();
    let journal = place.join("copy.journal-3");
    let line = format!(
        "{}: this journal of the store is missing",
        journal.display()
    );
    assert!(error.starts_with(&line), "{error}");
    assert!(!error.contains(&format!("{}: ", copy.display())), "{error}");
    store.close().unwrap();
}

// C7.1
#[test]
#[cfg(target_os = "linux")]
fn a_locked_store_is_told_with_the_process_that_has_it() {
    let (_folder, place) = place();
    let path = place.join("store");
    let store = Store::open(&path).unwrap();
    let own = "the store is open already, by this process itself";
    assert_says(&path, ErrorKind::Locked, own);
    let salvaged = Store::builder().salvage(&path, place.join("to"));
    let salvaged = salvaged.unwrap_err().to_string();
    assert_eq!(salvaged, format!("{}: {own}", path.display()));
    store.close().unwrap();
    let mut process = other(&path);
    let number = process.id();
    let line = format!("the store is open already, by process {number} (");
    let error = refused(&path).to_string();
    assert!(
        error.starts_with(&format!("{}: {line}", path.display())),
        "{error}"
    );
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

const LONG: Duration = Duration::from_secs(600);

/// Sends that it is told of waiting.
///
/// A thread without a subscriber that meets an event for the first time, while another one sets its own, can switch the
/// event off for both. So there is a subscriber for all threads.
fn waits(waits: Sender<()>) -> impl Subscriber + Send + Sync + 'static {
    static EVERYWHERE: Once = Once::new();
    EVERYWHERE.call_once(|| {
        tracing::subscriber::set_global_default(Lines::of(|_| true, |_, _| {})).unwrap();
    });
    let is_wait = |metadata: &Metadata<'_>| {
        *metadata.level() == Level::INFO && metadata.target().ends_with("locks")
    };
    Lines::of(is_wait, move |_, _| waits.send(()).unwrap())
}

// C7.1
#[test]
fn a_store_that_is_opened_waits_until_another_lets_go_of_it() {
    let (_folder, place) = place();
    let path = place.join("store");
    let store = Store::open(&path).unwrap();
    let id = store.client_ids().issue();
    store
        .transact(|txn| txn.session(&id)?.pkg("p").insert("n", 1))
        .unwrap();
    let (waits, waiting) = channel();
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            let open = || Store::builder().wait_for_lock(LONG).open(&path);
            tracing::subscriber::with_default(self::waits(waits), open).unwrap()
        });
        waiting.recv_timeout(LONG).unwrap();
        store.close().unwrap();
        let store = next.join().unwrap();
        let id = store.client_ids().verify(id.as_str()).unwrap();
        let txn = store.begin().unwrap();
        let n: Option<u64> = txn.session(&id).unwrap().pkg("p").get("n").unwrap();
        assert_eq!(n, Some(1));
    });
    // Told once, however often it looked.
    assert!(waiting.try_recv().is_err());
}

// C7.1, C7.4: the store's file was removed, and its journals are still there, and in use.
#[test]
#[cfg(unix)]
fn it_is_waited_for_the_journals_too() {
    let (_folder, place) = place();
    let path = place.join("store");
    let store = Store::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(refused(&path).kind(), ErrorKind::Locked);
    let (waits, waiting) = channel();
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            let open = || Store::builder().wait_for_lock(LONG).open(&path);
            tracing::subscriber::with_default(self::waits(waits), open).unwrap()
        });
        waiting.recv_timeout(LONG).unwrap();
        drop(store);
        next.join().unwrap().close().unwrap();
    });
}

// C7.1
#[test]
fn it_is_waited_no_longer_than_that() {
    let (_folder, place) = place();
    let path = place.join("store");
    let _store = Store::open(&path).unwrap();
    let (waits, waiting) = channel();
    let short = Store::builder().wait_for_lock(Duration::from_millis(20));
    let refused = tracing::subscriber::with_default(self::waits(waits), || short.open(&path));
    assert_eq!(refused.map(drop).unwrap_err().kind(), ErrorKind::Locked);
    assert!(waiting.try_recv().is_ok());
}

/// Begins to open a store that is open already, on a thread that must not wait for it.
fn begin_to_open(path: &Path) -> Pin<Box<dyn Future<Output = Result<Store, Error>>>> {
    let builder = Store::builder().wait_for_lock(LONG);
    let mut opening = Box::pin(builder.open_async(path));
    let mut context = Context::from_waker(Waker::noop());
    assert!(opening.as_mut().poll(&mut context).is_pending());
    opening
}

// C7.1
#[test]
fn opening_asynchronously_waits_on_a_thread_of_its_own() {
    let (_folder, place) = place();
    let path = place.join("store");
    let first = Store::open(&path).unwrap();
    let opening = begin_to_open(&path);
    first.close().unwrap();
    let store = pollster::block_on(opening).unwrap();
    let refused = pollster::block_on(Store::open_async(&path)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Locked);
    store.close().unwrap();
}

// C7.1
#[test]
fn a_store_whose_opening_nobody_awaits_is_closed_again() {
    let (_folder, place) = place();
    let path = place.join("store");
    let first = Store::open(&path).unwrap();
    drop(begin_to_open(&path));
    first.close().unwrap();
    let later = Store::builder().wait_for_lock(LONG).open(&path).unwrap();
    later.close().unwrap();
}

#[test]
fn no_store_is_created_where_none_is_to_be() {
    let (_folder, place) = place();
    let open = |name: &str| {
        let builder = Store::builder().create_missing(false);
        builder.open(place.join(name)).map(drop)
    };
    let missing = open("missing").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
    let system = missing.io_error().unwrap().kind();
    assert_eq!(system, std::io::ErrorKind::NotFound);
    fs::write(place.join("empty"), "").unwrap();
    assert_eq!(open("empty").unwrap_err().kind(), ErrorKind::NotAStore);
    let names = || fs::read_dir(&place).unwrap().count();
    assert_eq!(
        (names(), fs::read(place.join("empty")).unwrap().len()),
        (1, 0)
    );

    Store::open(place.join("store")).unwrap().close().unwrap();
    open("store").unwrap();
}

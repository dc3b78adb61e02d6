//! A disk that is really full: no acknowledged commit is lost, reads continue, and the store continues by itself once
//! there is space (C2.13).

use crate::making::unfinished;
use crate::space::{Space, again_without_the_signal};
use crate::twin_packages::{self, Found};
use clap::{Args, ValueEnum};
use cloakroom::{ClientId, Error, ErrorKind, Store};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Fills a disk under a store, and frees space again.
#[derive(Args)]
pub struct Arguments {
    /// How to fill the disk. Default: a small file system where mounting is permitted.
    #[arg(long)]
    by: Option<By>,
    /// Threads that commit.
    #[arg(long, default_value_t = 4)]
    writers: usize,
    #[arg(long, hide = true)]
    without_signal: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// A small file system of its own; only root can mount it.
    Mount,
    /// A limit on the size of files.
    Limit,
}

/// Back-off is bounded; a store that is not there again after so long never will be.
const PATIENCE: Duration = Duration::from_secs(60);
/// Commits that fail before the disk counts as full.
const FULL: usize = 20;
/// Commits that succeed before there counts as being room again.
const ROOM: usize = 200;

/// Runs it once.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    if arguments.by != Some(By::Limit) {
        match Space::mounted() {
            Ok(space) => return scenario(&space, arguments.writers),
            Err(error) if arguments.by.is_none() => {
                eprintln!("mounting is not permitted ({error}): a limit on files instead");
            }
            Err(error) => {
                eprintln!("mounting is not permitted: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if arguments.without_signal {
        return scenario(&Space::limited(), arguments.writers);
    }
    let writers = arguments.writers.to_string();
    again_without_the_signal(&[
        "full",
        "--by",
        "limit",
        "--without-signal",
        "--writers",
        &writers,
    ])
}

fn scenario(space: &Space, writers: usize) -> ExitCode {
    nothing_can_be_made(space);

    let path = space.path().join("sessions.redb");
    let store = Store::open(&path).unwrap();
    let mut book = Book::default();
    fill(&store, writers, &mut book);
    let served = reads_are_served(&store, &book);

    space.free();
    let begun = Instant::now();
    while book.acknowledged_after_room < ROOM {
        assert!(begun.elapsed() < PATIENCE, "the store does not go on");
        let written = write(&store);
        book.acknowledged_after_room += usize::from(written.1.is_ok());
        if written.1.is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        book.note(written);
    }
    let went_on = begun.elapsed();
    let wrong = book.hold_against(&store);
    let reopened = store.statistics().unwrap().reopened();
    store.close().unwrap();
    let store = Store::open(&path).unwrap();
    let wrong = wrong + book.hold_against(&store) + store.check().unwrap().damaged;
    println!(
        "acknowledged {}, refused {}, unknown {}, reads served while full after {served:.1?}, \
         {ROOM} commits within {went_on:.1?} of room, reopened {reopened}, wrong {wrong}",
        book.acknowledged.len(),
        book.refused.len(),
        book.unknown.len()
    );
    ExitCode::from(u8::from(wrong > 0))
}

/// Making and opening a store without any room: an error, and nothing half made (C7.3).
fn nothing_can_be_made(space: &Space) {
    let new = space.path().join("new.redb");
    let existing = space.path().join("existing.redb");
    let store = Store::open(&existing).unwrap();
    let written = write(&store);
    written.1.unwrap();
    store.close().unwrap();

    space.exhaust();
    let refused = Store::open(&new).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Io, "{refused:?}");
    assert!(!new.exists());
    assert_eq!(unfinished(space.path()), 0);
    // This one is opened for reading. Where even a write in place fails, it cannot be opened at all, but is left
    // unharmed.
    match Store::open(&existing) {
        Ok(store) => {
            assert!(store.statistics().unwrap().is_read_only());
            let found = twin_packages::find_text(&store, written.0.as_str());
            assert_eq!(found.unwrap(), Found::Whole(SIZE_OF_ALL));
            store.close().unwrap();
        }
        Err(refused) => assert_eq!(refused.kind(), ErrorKind::Io, "{refused:?}"),
    }
    space.relax();

    Store::open(&new).unwrap().close().unwrap();
    let store = Store::open(&existing).unwrap();
    assert!(store.check().unwrap().is_clean());
    assert_eq!(
        twin_packages::find_text(&store, written.0.as_str()).unwrap(),
        Found::Whole(SIZE_OF_ALL)
    );
    store.close().unwrap();
    for path in [&new, &existing] {
        std::fs::remove_file(path as &Path).unwrap();
    }
}

/// All sessions are of one size, so that only the number of them fills the disk.
const SIZE_OF_ALL: u64 = 1;

type Written = (ClientId, Result<(), Error>);

fn write(store: &Store) -> Written {
    let id = store.client_ids().issue();
    let prepare = || {
        let txn = store.begin()?;
        twin_packages::write(&txn.session(&id)?, SIZE_OF_ALL)?;
        Ok::<_, Error>(txn)
    };
    let ended = loop {
        match prepare() {
            Ok(txn) => break txn.commit(),
            // The store reopened itself since the transaction began; only what reads learns of it.
            Err(error) if error.kind() == ErrorKind::SnapshotTooOld => {}
            Err(error) => break Err(error),
        }
    };
    (id, ended)
}

/// What came of the commits.
#[derive(Default)]
struct Book {
    acknowledged: Vec<ClientId>,
    refused: Vec<ClientId>,
    unknown: Vec<ClientId>,
    acknowledged_after_room: usize,
}

impl Book {
    fn note(&mut self, (id, ended): Written) {
        match ended.map_err(|error| (error.kind(), error)) {
            Ok(()) => self.acknowledged.push(id),
            Err((ErrorKind::NotWritten | ErrorKind::Unavailable, _)) => self.refused.push(id),
            Err((ErrorKind::OutcomeUnknown, _)) => self.unknown.push(id),
            Err((_, error)) => panic!("a commit on a full disk ended with {error:?}"),
        }
    }

    /// The number of sessions that are not as expected. No read may be refused any more.
    fn hold_against(&self, store: &Store) -> u64 {
        let found = |id: &&ClientId| twin_packages::find(store, id).unwrap();
        let lost = self
            .acknowledged
            .iter()
            .filter(|id| found(id) != Found::Whole(SIZE_OF_ALL));
        let phantom = self.refused.iter().filter(|id| found(id) != Found::Absent);
        let torn = self.unknown.iter().filter(|id| found(id) == Found::Torn);
        (lost.count() + phantom.count() + torn.count()) as u64
    }
}

/// Commits from all threads until nothing is acknowledged any more.
fn fill(store: &Store, writers: usize, book: &mut Book) {
    let begun = Instant::now();
    let books = thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|_| scope.spawn(|| fill_alone(store, begun)))
            .collect();
        let books = threads.into_iter().map(|thread| thread.join().unwrap());
        books.collect::<Vec<_>>()
    });
    for written in books.into_iter().flatten() {
        book.note(written);
    }
    assert!(!book.acknowledged.is_empty());
}

fn fill_alone(store: &Store, begun: Instant) -> Vec<Written> {
    let mut written = Vec::new();
    let mut failed = 0;
    while failed < FULL {
        assert!(begun.elapsed() < PATIENCE, "the disk does not become full");
        let one = write(store);
        if one.1.is_ok() {
            failed = 0;
        } else {
            failed += 1;
            thread::sleep(Duration::from_millis(5));
        }
        written.push(one);
    }
    written
}

/// While the disk is full, every session is read; how long until the store, having reopened itself,
/// served them all.
fn reads_are_served(store: &Store, book: &Book) -> Duration {
    let begun = Instant::now();
    for id in &book.acknowledged {
        loop {
            match twin_packages::find(store, id) {
                Ok(found) => {
                    assert_eq!(found, Found::Whole(SIZE_OF_ALL));
                    break;
                }
                Err(error) => {
                    let passing = [ErrorKind::Unavailable, ErrorKind::SnapshotTooOld];
                    assert!(passing.contains(&error.kind()), "{error:?}");
                    assert!(
                        begun.elapsed() < PATIENCE,
                        "nothing is served while the disk is full: {error:?}"
                    );
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
    begun.elapsed()
}

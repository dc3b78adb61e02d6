//! A process without free file descriptors: an open store continues to work; opening one fails with a clear error and
//! leaves nothing incomplete.

use crate::making::unfinished;
use crate::twin_packages::{self, Found};
use clap::Args;
use cloakroom::{ErrorKind, Store};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

/// Uses up all file descriptors, and frees them one by one.
#[derive(Args)]
pub struct Arguments {
    /// Commits of the open store meanwhile.
    #[arg(long, default_value_t = 200)]
    commits: u64,
}

/// So many are given back at most; opening needs fewer.
const GIVEN_BACK: usize = 8;

/// Runs it once.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(64);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("sessions.redb")).unwrap();
    let existing = folder.path().join("existing.redb");
    Store::open(&existing).unwrap().close().unwrap();

    let mut taken = take_all();
    commit(&store, arguments.commits);
    let mut refused = 0;
    for left in 0..=GIVEN_BACK {
        let new = folder.path().join(format!("new-{left}.redb"));
        for path in [&existing, &new] {
            refused += u64::from(!opens_or_says_so(path));
        }
        commit(&store, 1);
        taken.pop();
    }
    assert!(refused > 0, "there were descriptors enough");
    drop(taken);

    for left in 0..=GIVEN_BACK {
        let path = folder.path().join(format!("new-{left}.redb"));
        let made = Store::open(path).unwrap();
        assert!(made.check().unwrap().is_clean());
        made.close().unwrap();
    }
    let left = unfinished(folder.path());
    let reopened = store.statistics().unwrap().reopened();
    println!(
        "commits {}, openings refused {refused}, unfinished files left {left}, reopened {reopened}",
        arguments.commits
    );
    ExitCode::from(u8::from(left + reopened > 0))
}

fn take_all() -> Vec<File> {
    let mut taken = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(error) => {
                let none_left = rustix::io::Errno::MFILE.raw_os_error();
                assert_eq!(error.raw_os_error(), Some(none_left), "{error}");
                return taken;
            }
        }
    }
}

fn commit(store: &Store, times: u64) {
    for n in 0..times {
        let id = store.client_ids().issue();
        let txn = store.begin().unwrap();
        twin_packages::write(&txn.session(&id).unwrap(), n).unwrap();
        txn.commit().unwrap();
        assert_eq!(twin_packages::find(store, &id).unwrap(), Found::Whole(n));
    }
}

/// Whether it opened. If not, the reason is the system's.
fn opens_or_says_so(path: &Path) -> bool {
    match Store::open(path) {
        Ok(store) => {
            store.close().unwrap();
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
            let named = error.to_string().contains(path.to_str().unwrap());
            assert!(named, "{error}");
            let reason = format!("{error:?}");
            assert!(reason.contains("Too many open files"), "{reason}");
            false
        }
    }
}

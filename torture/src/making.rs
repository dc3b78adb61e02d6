//! Ends the creation or the migration of a store by a signal at a random moment. There is a complete store or none
//! (C7.3), and a migrated one has its data (C7.2).

use crate::process::Process;
use clap::Args;
use cloakroom::Store;
use indicatif::ProgressBar;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Ends processes that create a store.
#[derive(Args)]
pub struct Arguments {
    /// How many.
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// The seed of the moments. Default: random.
    #[arg(long)]
    seed: Option<u64>,
    /// Opens a store of format 1 instead, which migrates it.
    #[arg(long)]
    migrating: bool,
}

const OLD: &[u8] = include_bytes!("../../tests/fixtures/format-1.redb");

/// A folder in which there is a store of format 1, if it is to be migrated.
fn folder(migrating: bool) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    if migrating {
        std::fs::write(&path, OLD).unwrap();
    }
    (folder, path)
}

/// Runs the rounds.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let takes = time_of_making(arguments.migrating);
    // The content of the store before anything is added to it.
    let content = rows(&folder(arguments.migrating).1).unwrap();
    assert_eq!(content.0 > 0, arguments.migrating);
    let progress = ProgressBar::new(arguments.rounds);
    let (mut whole, mut left, mut broken) = (0, 0, 0);
    for _ in 0..arguments.rounds {
        let (folder, path) = folder(arguments.migrating);
        let process = start(&path);
        let most = takes.as_micros() as u64 * 5 / 4;
        thread::sleep(Duration::from_micros(chance.u64(..most)));
        let terminated = chance.bool();
        process.signal(if terminated {
            Signal::TERM
        } else {
            Signal::KILL
        });
        drop(process.end());
        whole += u64::from(path.exists());
        left += unfinished(folder.path());
        broken += u64::from(!opens(&path, content));
        progress.inc(1);
    }
    progress.finish_and_clear();
    println!(
        "rounds {}, whole {whole}, none {}, unfinished files left {left}, broken {broken}, seed {seed}",
        arguments.rounds,
        arguments.rounds - whole
    );
    // Elsewhere a store that is being made has a temporary name.
    let untidy = cfg!(target_os = "linux") && left > 0;
    ExitCode::from(u8::from(broken > 0 || untidy))
}

fn start(path: &Path) -> Process {
    Process::start(["child", "--idle", "--store", path.to_str().unwrap()])
}

/// From the start of a process to an open store, the slowest of three.
fn time_of_making(migrating: bool) -> Duration {
    let mut takes = Duration::ZERO;
    for _ in 0..3 {
        let (_folder, path) = folder(migrating);
        let begun = Instant::now();
        let process = start(&path);
        assert_eq!(process.hear().as_deref(), Some("ready"));
        takes = takes.max(begun.elapsed());
        drop(process.end());
    }
    takes
}

/// Files under the temporary name of a store that is being made.
pub(crate) fn unfinished(folder: &Path) -> u64 {
    let names = folder.read_dir().unwrap().map(|e| e.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with(".cloakroom-"))
        .count() as u64
}

/// How many sessions and packages there are in a store, which may be new.
fn rows(path: &Path) -> cloakroom::Result<(u64, u64)> {
    let check = Store::open(path)?.check()?;
    Ok((check.sessions, check.packages))
}

/// Whether the next opening finds a working store with this content, after a kill at any point.
fn opens(path: &Path, content: (u64, u64)) -> bool {
    let works = || {
        let store = Store::open(path)?;
        let check = store.check()?;
        let clean = check.is_clean() && (check.sessions, check.packages) == content;
        let id = store.client_ids().issue();
        let txn = store.begin()?;
        txn.session(&id)?.pkg("p").insert("k", 1)?;
        txn.commit()?;
        store.close().map(|()| clean)
    };
    works().unwrap_or_else(|error| {
        println!("broken: {error}");
        false
    })
}

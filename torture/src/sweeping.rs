//! A sweep that a signal ends in the middle: no live session is lost, no expired one comes back, and a later sweep
//! finishes the work (C3.2, C3.7).

use crate::process::Process;
use crate::twin_packages::{self, Found};
use clap::Args;
use cloakroom::{Clock, Store, Txn};
use indicatif::ProgressBar;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Ends processes that sweep a store.
#[derive(Args)]
pub struct Arguments {
    /// How many.
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// The seed of the moments. Default: random.
    #[arg(long)]
    seed: Option<u64>,
    /// Sessions that have expired when the sweep begins, and as many that have not.
    #[arg(long, default_value_t = 3_000)]
    sessions: u64,
}

/// Sweeps a store once. It is two hours after its expired sessions were last used.
#[derive(Args)]
pub struct Sweep {
    #[arg(long)]
    store: PathBuf,
}

const FOUNDED: &str = "2026-01-01T00:00:00Z";
const LATER: Duration = Duration::from_secs(2 * 3600);

fn open(path: &Path, clock: Clock) -> Store {
    let builder = Store::builder().clock(clock).implicit_sweeps(false);
    builder.open(path).unwrap()
}

fn open_later(path: &Path) -> Store {
    let clock = Clock::manual(FOUNDED.parse().unwrap());
    clock.advance(LATER);
    open(path, clock)
}

/// Runs the hidden subcommand.
#[must_use]
pub fn sweep(arguments: Sweep) -> ExitCode {
    let store = open_later(&arguments.store);
    println!("ready");
    store.container("").unwrap().sweep().unwrap();
    println!("swept");
    store.close().unwrap();
    ExitCode::SUCCESS
}

/// A store as it is before the sweep.
struct Origin {
    path: PathBuf,
    live: Vec<String>,
    expired: Vec<String>,
}

impl Origin {
    fn make(path: PathBuf, sessions: u64) -> Self {
        let clock = Clock::manual(FOUNDED.parse().unwrap());
        let store = open(&path, clock.clone());
        let fill = || -> Vec<String> {
            let ids: Vec<_> = (0..sessions).map(|_| store.client_ids().issue()).collect();
            for some in ids.chunks(500) {
                let write = |txn: &Txn| {
                    some.iter()
                        .try_for_each(|id| twin_packages::write(&txn.session(id)?, 7))
                };
                store.transact(write).unwrap();
            }
            ids.iter().map(|id| id.as_str().to_owned()).collect()
        };
        let expired = fill();
        clock.advance(LATER);
        let live = fill();
        store.close().unwrap();
        Self {
            path,
            live,
            expired,
        }
    }

    /// How many sessions are not as they must be, and how many the sweep had removed.
    fn examine(&self, path: &Path) -> (u64, u64) {
        let store = open_later(path);
        let check = store.check().unwrap();
        let unnamed = store.container("").unwrap();
        let before = unnamed.statistics().unwrap();
        let mut wrong = check.damaged + self.misplaced(&store);
        let swept = unnamed.sweep().unwrap();
        let after = unnamed.statistics().unwrap();
        let live = self.live.len() as u64;
        for as_expected in [
            before.live == live && after.live == live,
            swept.removed == before.expired && after.expired == 0,
        ] {
            wrong += u64::from(!as_expected);
        }
        wrong += self.misplaced(&store);
        store.close().unwrap();
        (wrong, self.expired.len() as u64 - before.expired)
    }

    fn misplaced(&self, store: &Store) -> u64 {
        let found = |id: &String| twin_packages::find_text(store, id).unwrap();
        let lost = self.live.iter().filter(|id| found(id) != Found::Whole(7));
        let served = self.expired.iter().filter(|id| found(id) != Found::Absent);
        lost.count() as u64 + served.count() as u64
    }
}

/// Runs the rounds.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::make(folder.path().join("origin.redb"), arguments.sessions);
    let copy = folder.path().join("sessions.redb");
    fs::copy(&origin.path, &copy).unwrap();
    let takes = time_of_a_sweep(&copy);

    let progress = ProgressBar::new(arguments.rounds);
    let (mut wrong, mut in_between) = (0, 0);
    for _ in 0..arguments.rounds {
        fs::copy(&origin.path, &copy).unwrap();
        let process = start(&copy);
        assert_eq!(process.hear().as_deref(), Some("ready"));
        thread::sleep(Duration::from_micros(
            chance.u64(..takes.as_micros() as u64),
        ));
        let terminated = chance.bool();
        process.signal(if terminated {
            Signal::TERM
        } else {
            Signal::KILL
        });
        drop(process.end());
        let (misplaced, removed) = origin.examine(&copy);
        wrong += misplaced;
        in_between += u64::from((1..arguments.sessions).contains(&removed));
        progress.inc(1);
    }
    progress.finish_and_clear();
    println!(
        "rounds {}, ended halfway {in_between}, wrong {wrong}, seed {seed}",
        arguments.rounds
    );
    ExitCode::from(u8::from(wrong > 0))
}

fn start(path: &Path) -> Process {
    Process::start(["sweep", "--store", path.to_str().unwrap()])
}

fn time_of_a_sweep(path: &Path) -> Duration {
    let process = start(path);
    assert_eq!(process.hear().as_deref(), Some("ready"));
    let begun = Instant::now();
    assert_eq!(process.hear().as_deref(), Some("swept"));
    let takes = begun.elapsed();
    assert!(process.end().0.success());
    takes
}

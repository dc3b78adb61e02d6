//! The making of a store, ended by a signal at any moment of it: there is a store or there is none
//! (C7.3). The only migration there is yet, of an empty database to format 1, is a part of it.

use crate::process::Process;
use clap::Args;
use cloakroom::Store;
use indicatif::ProgressBar;
use rustix::process::Signal;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Ends processes that make a store.
#[derive(Args)]
pub struct Arguments {
    /// How many.
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// Decides the moments; chosen at random if it is not given.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the rounds.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let takes = time_of_making();
    let progress = ProgressBar::new(arguments.rounds);
    let (mut whole, mut left, mut broken) = (0, 0, 0);
    for _ in 0..arguments.rounds {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.redb");
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
        broken += u64::from(!opens(&path));
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
fn time_of_making() -> Duration {
    let mut takes = Duration::ZERO;
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let process = start(&folder.path().join("sessions.redb"));
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

/// Whatever is there or not there, the next one to come has a store that works.
fn opens(path: &Path) -> bool {
    let works = || {
        let store = Store::open(path)?;
        let clean = store.check()?.is_clean();
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

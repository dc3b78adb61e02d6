//! Kills a process that commits as fast as it can, at random moments. All rounds use the same store (C2.2, C2.4,
//! C7.3).

use crate::ledger::{Findings, Ledger};
use crate::process::Process;
use clap::Args;
use cloakroom::{ContainerSettings, Store};
use indicatif::ProgressBar;
use rustix::process::Signal;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Kills a process that commits, and compares the acknowledgements with the store.
#[derive(Args)]
pub struct Arguments {
    /// How many times.
    #[arg(long, default_value_t = 300)]
    rounds: u64,
    /// The seed of the moments. Default: random.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads that commit.
    #[arg(long, default_value_t = 6)]
    writers: usize,
}

/// Runs the rounds.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let mut ledger = {
        let store = Store::open(&path).unwrap();
        // Every second an access is due to be written, and a sweep.
        let settings = ContainerSettings::new().resolution(Duration::from_secs(1));
        let unnamed = store.container("").unwrap();
        unnamed.configure(settings).unwrap();
        Ledger::found(&store, arguments.writers).unwrap()
    };
    let progress = ProgressBar::new(arguments.rounds);
    let mut reopened = Vec::new();
    for _ in 0..arguments.rounds {
        commit_and_die(&path, &mut ledger, &mut chance);
        if chance.u32(..3) == 0 {
            die_while_opening(&path, &mut chance);
        }
        let begun = Instant::now();
        let store = Store::open(&path).unwrap();
        reopened.push(begun.elapsed());
        let check = store.check().unwrap();
        assert!(check.is_clean(), "{check:?}, seed {seed}");
        ledger.settle(&store).unwrap();
        store.close().unwrap();
        progress.inc(1);
        if ledger.findings != Findings::default() {
            break;
        }
    }
    let rounds = progress.position();
    progress.finish_and_clear();
    report(rounds, seed, &ledger, &mut reopened)
}

fn report(rounds: u64, seed: u64, ledger: &Ledger, reopened: &mut [Duration]) -> ExitCode {
    reopened.sort_unstable();
    if let (Some(median), Some(max)) = (reopened.get(reopened.len() / 2), reopened.last()) {
        println!("reopened in {median:.1?} (median), {max:.1?} (at most)");
    }
    let Findings {
        lost,
        torn,
        phantom,
    } = ledger.findings;
    println!(
        "rounds {rounds}, commits {}, lost {lost}, torn {torn}, phantom {phantom}, seed {seed}",
        ledger.commits
    );
    ExitCode::from(u8::from(ledger.findings != Findings::default()))
}

fn commit_and_die(path: &Path, ledger: &mut Ledger, chance: &mut fastrand::Rng) {
    let mut process = Process::start([
        "child",
        "--store",
        path.to_str().unwrap(),
        "--seed",
        &chance.u64(..).to_string(),
    ]);
    process.tell(&ledger.plan());
    // Some never get as far as opening the store.
    let most = if chance.u32(..4) == 0 {
        10_000
    } else {
        150_000
    };
    thread::sleep(Duration::from_micros(chance.u64(..most)));
    let terminated = chance.u32(..4) == 0;
    process.signal(if terminated {
        Signal::TERM
    } else {
        Signal::KILL
    });
    let (status, lines) = process.end();
    // Once the store is open the signal closes it, and earlier it ends the process.
    if terminated && lines.iter().any(|line| line == "ready") {
        assert_eq!(status.code(), Some(0), "{:?}", lines.last());
    }
    for line in lines {
        ledger.hear(&line);
    }
}

/// The process that repairs the file is killed, too.
fn die_while_opening(path: &Path, chance: &mut fastrand::Rng) {
    let process = Process::start(["child", "--idle", "--store", path.to_str().unwrap()]);
    thread::sleep(Duration::from_micros(chance.u64(..12_000)));
    process.signal(Signal::KILL);
    drop(process.end());
}

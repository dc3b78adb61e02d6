//! Processes that compete for one file: one gets it, the others get an error at once (C7.1).

use crate::making::unfinished;
use crate::process::Process;
use clap::Args;
use cloakroom::{ErrorKind, Store};
use indicatif::ProgressBar;
use rustix::process::Signal;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Lets processes race for a store.
#[derive(Args)]
pub struct Arguments {
    /// How often.
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    /// Processes that race to create one store.
    #[arg(long, default_value_t = 8)]
    processes: usize,
}

/// Nobody waits for a lock; this allows for a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Runs the rounds.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let progress = ProgressBar::new(arguments.rounds);
    let mut wrong = Vec::new();
    let mut slowest = Duration::ZERO;
    for _ in 0..arguments.rounds {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.redb");
        let owner = race(&path, arguments.processes, &mut wrong);
        slowest = slowest.max(refused_at_once(&path, &mut wrong));
        if let Some(owner) = owner {
            owner.signal(Signal::KILL);
            drop(owner.end());
        }
        if let Err(error) = Store::open(&path).and_then(Store::close) {
            wrong.push(format!("after its owner was killed: {error}"));
        }
        if unfinished(folder.path()) > 0 {
            wrong.push("who lost the race left a file".to_owned());
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    for wrong in &wrong {
        println!("WRONG: {wrong}");
    }
    println!(
        "rounds {}, refused within {slowest:.1?}, wrong {}",
        arguments.rounds,
        wrong.len()
    );
    ExitCode::from(u8::from(!wrong.is_empty()))
}

/// Many make the same store at once: one has it, and it is given back.
fn race(path: &Path, processes: usize, wrong: &mut Vec<String>) -> Option<Process> {
    let start = || Process::start(["child", "--idle", "--store", path.to_str().unwrap()]);
    let racers: Vec<Process> = (0..processes).map(|_| start()).collect();
    let mut owners = Vec::new();
    for racer in racers {
        match racer.hear().as_deref() {
            Some("ready") => owners.push(racer),
            Some(said) if said.starts_with("refused Locked ") => {}
            said => wrong.push(format!("a racer said {said:?}")),
        }
    }
    if owners.len() != 1 {
        wrong.push(format!("{} own the store at once", owners.len()));
    }
    owners.pop()
}

fn refused_at_once(path: &Path, wrong: &mut Vec<String>) -> Duration {
    let begun = Instant::now();
    let refused = Store::open(path).map(|_| ()).map_err(|e| e.kind());
    let took = begun.elapsed();
    if refused != Err(ErrorKind::Locked) {
        wrong.push(format!("a second owner got {refused:?}"));
    }
    if took > AT_ONCE {
        wrong.push(format!("it took {took:?} to be refused"));
    }
    took
}

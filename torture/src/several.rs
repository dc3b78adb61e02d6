//! Several processes on one server, each of which commits as fast as it can; some are killed (C2.2, C2.4, C10.3).

use crate::ledger::{Findings, Ledger};
use crate::process::Process;
use clap::Args;
use cloakroom::Store;
use cloakroom_postgres_server::{Database, database, is_available};
use rustix::process::Signal;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Runs several processes on one server, kills some, and compares the acknowledgements with the sessions.
#[derive(Args)]
pub struct Arguments {
    /// How many times.
    #[arg(long, default_value_t = 30)]
    rounds: u64,
    /// How many at once.
    #[arg(long, default_value_t = 3)]
    processes: usize,
    /// Threads that commit in each.
    #[arg(long, default_value_t = 2)]
    writers: usize,
    /// The seed of the moments. Default: random.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the rounds.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    if !is_available() {
        return ExitCode::FAILURE;
    }
    let Some(database) = database() else {
        return ExitCode::FAILURE;
    };
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let store = open(&database);
    let writers = arguments.processes * arguments.writers;
    let mut ledger = Ledger::found(&store, writers).unwrap();
    drop(store);
    let mut rounds = 0;
    while rounds < arguments.rounds && ledger.findings == Findings::default() {
        commit_and_die(&database, &mut ledger, &arguments, &mut chance);
        let store = open(&database);
        ledger.settle(&store).unwrap();
        rounds += 1;
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

fn open(database: &Database) -> Store {
    pollster::block_on(Store::connect(&database.url())).unwrap()
}

/// One process is killed, and the others carry on for a while before they are told to end.
fn commit_and_die(
    database: &Database,
    ledger: &mut Ledger,
    arguments: &Arguments,
    chance: &mut fastrand::Rng,
) {
    let running: Vec<_> = (0..arguments.processes)
        .map(|n| {
            let first = n * arguments.writers;
            let mut process = Process::start([
                "child",
                "--store",
                &database.url(),
                "--seed",
                &chance.u64(..).to_string(),
                "--first",
                &first.to_string(),
            ]);
            process.tell(&ledger.plan_of(first..first + arguments.writers));
            process
        })
        .collect();
    thread::sleep(Duration::from_millis(chance.u64(..600)));
    running[chance.usize(..running.len())].signal(Signal::KILL);
    thread::sleep(Duration::from_millis(chance.u64(..300)));
    for process in &running {
        process.signal(Signal::TERM);
    }
    for process in running {
        let (_, lines) = process.end();
        for line in lines {
            ledger.hear(&line);
        }
    }
    until_all_are_gone(database);
}

/// The server carries out what a killed process sent it.
fn until_all_are_gone(database: &Database) {
    let question = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()",
        database.name()
    );
    while database.sql(&question) != "0" {
        thread::sleep(Duration::from_millis(10));
    }
}

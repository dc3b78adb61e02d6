//! Kills a primary under load; a watcher promotes its standby, and the applications carry on (C10.2).

use crate::applications::{Applications, Totals};
use clap::Args;
use cloakroom_postgres_server::{Mirroring, Pair, Passage, Watcher, is_available};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Kills a primary under load, lets its standby be promoted, and compares the acknowledgements with what is there.
#[derive(Args, Clone, Copy)]
pub struct Arguments {
    /// How many pairs of servers.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// Processes of the application.
    #[arg(long, default_value_t = 3)]
    processes: usize,
    /// Threads that commit in each.
    #[arg(long, default_value_t = 6)]
    writers: usize,
    /// Seconds of load before the primary is killed.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds without any primary, before the standby is promoted.
    #[arg(long, default_value_t = 0.0)]
    without: f64,
    /// The control that must lose: the standby is asynchronous, and stalled.
    #[arg(long)]
    asynchronous: bool,
}

/// Within this time after a promotion each process must commit again.
const AGAIN: Duration = Duration::from_secs(60);
/// So many commits must follow in each.
const COMMITS: u64 = 50;

/// Runs the rounds.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    if !is_available() {
        return ExitCode::FAILURE;
    }
    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        let totals = round(arguments);
        println!("round {number}: {totals}");
        if !arguments.asynchronous {
            totals.broken.iter().for_each(|what| println!("{what}"));
        }
        rounds.push(totals);
    }
    let sum = |of: fn(&Totals) -> u64| rounds.iter().map(of).sum::<u64>();
    let lost = sum(|round| round.lost);
    let broken = sum(|round| round.broken.len() as u64);
    println!(
        "rounds {}, processes {}, acknowledged {}, unknown {}, lost {lost}, broken {broken}, without a commit {}, one process {}",
        arguments.rounds,
        arguments.processes,
        sum(|round| round.acknowledged),
        sum(|round| round.unknown),
        median_and_most(rounds.iter().map(|round| round.gap)),
        median_and_most(rounds.iter().map(|round| round.gap_of_one)),
    );
    let as_expected = if arguments.asynchronous {
        lost > 0
    } else {
        lost + broken == 0
    };
    ExitCode::from(u8::from(!as_expected))
}

fn median_and_most(times: impl Iterator<Item = Duration>) -> String {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let most = times.last().copied().unwrap_or_default();
    format!(
        "{:.2} s (median), {:.2} s (most)",
        median.as_secs_f64(),
        most.as_secs_f64()
    )
}

fn round(arguments: Arguments) -> Totals {
    let mirroring = if arguments.asynchronous {
        Mirroring::Asynchronous
    } else {
        Mirroring::Synchronous
    };
    let pair = Arc::new(Pair::start(mirroring));
    let url = pair.url("postgres");
    let mut applications = Applications::start(&url, arguments.processes, arguments.writers);
    assert!(applications.go_on(1, AGAIN), "no commit");
    let half = Duration::from_secs_f64(arguments.seconds / 2.0);
    thread::sleep(half);
    if arguments.asynchronous {
        pair.link().answers(Passage::Swallowed);
    }
    thread::sleep(half);
    pair.primary().kill();
    pair.link().close();
    thread::sleep(Duration::from_secs_f64(arguments.without));
    Watcher::start(&pair).promoted();
    assert!(
        applications.go_on(COMMITS, AGAIN),
        "a process does not commit after the promotion"
    );
    applications.end()
}

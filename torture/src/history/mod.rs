//! Histories of concurrent transactions, recorded from real threads and held against strict
//! serializability (C2.7).

mod attempt;
mod checker;
#[cfg(test)]
mod checker_tests;
mod graph;
mod model;
mod record;
mod replay;
mod sources;
mod world;

pub use checker::check;
pub use model::{Anomaly, Name, Op, Outcome, Tick, Transaction};
pub use record::{Recorded, record, record_together};

use cloakroom::{Store, StoreBuilder};
use indicatif::ProgressBar;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Records random histories for a while, and checks each.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// For how long.
    #[arg(long, default_value_t = 1.0)]
    pub minutes: f64,
    /// Where to begin; the next history has the next seed. At random if it is not given.
    #[arg(long)]
    pub seed: Option<u64>,
}

/// What a number of histories came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Histories recorded and checked.
    pub histories: u64,
    /// Transactions in them, each attempt for itself.
    pub transactions: usize,
    /// Those that were refused.
    pub conflicts: usize,
    /// Rules broken.
    pub anomalies: usize,
}

impl Totals {
    /// Records and checks the history of one seed. Returns its anomalies.
    pub fn add(&mut self, seed: u64, builder: StoreBuilder) -> Vec<Anomaly> {
        self.judge(record(seed, builder))
    }

    /// Checks a history. Returns its anomalies.
    pub fn judge(&mut self, recorded: Recorded) -> Vec<Anomaly> {
        let mut anomalies = recorded.errors;
        anomalies.extend(check(&recorded.transactions));
        let conflict = |t: &&Transaction| t.outcome == Outcome::Conflict;
        self.histories += 1;
        self.transactions += recorded.transactions.len();
        self.conflicts += recorded.transactions.iter().filter(conflict).count();
        self.anomalies += anomalies.len();
        anomalies
    }
}

/// The subcommand `history`.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    run_on(arguments.minutes, seed, Store::builder)
}

/// Records histories on stores of the given making, until the time is over.
#[must_use]
pub fn run_on(minutes: f64, seed: u64, builder: impl Fn() -> StoreBuilder) -> ExitCode {
    let limit = Duration::from_secs_f64(minutes * 60.0);
    let start = Instant::now();
    let bar = ProgressBar::new(limit.as_secs());
    let mut totals = Totals::default();
    while start.elapsed() < limit {
        let this = seed.wrapping_add(totals.histories);
        for anomaly in totals.add(this, builder()) {
            let Anomaly { name, story } = anomaly;
            bar.suspend(|| println!("seed {this}: {name}: {story}"));
        }
        bar.set_position(start.elapsed().as_secs());
    }
    bar.finish_and_clear();
    let Totals {
        histories,
        transactions,
        conflicts,
        anomalies,
    } = totals;
    println!(
        "histories {histories}, transactions {transactions}, conflicts {conflicts}, \
         anomalies {anomalies}, seed {seed}"
    );
    if anomalies > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

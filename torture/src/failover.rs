//! Kills a primary under load; a watcher promotes its standby, and the applications carry on (C10.2).

use crate::load::{Load, Told, Verdict};
use clap::Args;
use cloakroom::Store;
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
    /// Threads that commit.
    #[arg(long, default_value_t = 16)]
    writers: usize,
    /// Seconds of load before the primary is killed.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// The control that must lose: the standby is asynchronous, and stalled.
    #[arg(long)]
    asynchronous: bool,
}

/// Within this time after a promotion the application must commit again.
const AGAIN: Duration = Duration::from_secs(30);
/// So many commits must follow.
const COMMITS: u64 = 200;

/// Runs the rounds.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    if !is_available() {
        return ExitCode::FAILURE;
    }
    let mut lost = 0;
    let mut broken = 0;
    let (mut commits, mut unknown) = (0, 0);
    let mut gaps = Vec::new();
    for number in 1..=arguments.rounds {
        let (told, verdict) = round(arguments);
        println!(
            "round {number}: acknowledged {}, unknown {}, lost {}, phantom {}, broken {}, {:.2} s without a commit, longest call {:.2} s, {:?}",
            told.acknowledged(),
            told.unknown(),
            verdict.lost,
            verdict.phantom,
            verdict.broken.len(),
            told.longest_gap().as_secs_f64(),
            told.longest_call().as_secs_f64(),
            told.failures(),
        );
        if !arguments.asynchronous {
            verdict.broken.iter().for_each(|what| println!("{what}"));
        }
        commits += told.acknowledged();
        unknown += told.unknown();
        lost += verdict.lost;
        broken += verdict.phantom + verdict.broken.len() as u64;
        gaps.push(told.longest_gap());
    }
    let shortest = gaps.iter().min().copied().unwrap_or_default();
    let longest = gaps.iter().max().copied().unwrap_or_default();
    println!(
        "rounds {}, acknowledged {commits}, unknown {unknown}, lost {lost}, broken {broken}, without a commit {:.2} to {:.2} s",
        arguments.rounds,
        shortest.as_secs_f64(),
        longest.as_secs_f64()
    );
    let as_expected = if arguments.asynchronous {
        lost > 0
    } else {
        lost + broken == 0
    };
    ExitCode::from(u8::from(!as_expected))
}

fn round(arguments: Arguments) -> (Told, Verdict) {
    let mirroring = if arguments.asynchronous {
        Mirroring::Asynchronous
    } else {
        Mirroring::Synchronous
    };
    let pair = Arc::new(Pair::start(mirroring));
    let url = pair.url("postgres");
    let store = pollster::block_on(Store::connect(&url)).unwrap();
    let load = Load::start(std::slice::from_ref(&store), arguments.writers);
    let half = Duration::from_secs_f64(arguments.seconds / 2.0);
    thread::sleep(half);
    if arguments.asynchronous {
        pair.link().answers(Passage::Swallowed);
    }
    thread::sleep(half);
    let watcher = Watcher::start(&pair);
    pair.primary().kill();
    pair.link().close();
    watcher.promoted();
    assert!(
        load.goes_on(COMMITS, AGAIN),
        "no commit after the promotion"
    );
    let told = load.end();
    drop(store);
    let store = pollster::block_on(Store::connect(&url)).unwrap();
    let verdict = told.verify(&store).unwrap();
    (told, verdict)
}

//! The long run of the simulation.

use crate::simulation::{self, Tally};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long, and from which seed.
#[derive(Args)]
#[group(id = "simulation")]
pub struct Arguments {
    /// How long it runs.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The largest number of stores that live and crash. Each has its own seed: the given one, then its successors.
    #[arg(long, default_value_t = u64::MAX)]
    stores: u64,
    /// The first seed. The same seed repeats the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Lets stores live and crash until the time is over. The last line of the output sums up; it fails where
/// anything was lost, torn or there without having been committed.
pub fn run(arguments: &Arguments) -> ExitCode {
    quiet();
    let seed = arguments.seed;
    let length = Duration::from_secs_f64(arguments.minutes * 60.0);
    let began = Instant::now();
    let bar = ProgressBar::new(length.as_secs().max(1));
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {msg}");
    bar.set_style(style.expect("the template is right"));
    let (next, all) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    let work = || {
        while began.elapsed() < length {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= arguments.stores {
                break;
            }
            let found = simulation::lives(seed.wrapping_add(number), None);
            if !found.is_clean() {
                bar.suspend(|| {
                    println!("--stores 1 --seed {}: {found}", seed.wrapping_add(number))
                });
            }
            let mut all = all.lock().expect("nothing panics here");
            *all += found;
            bar.set_message(all.to_string());
            bar.set_position(began.elapsed().as_secs());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let all = all.into_inner().expect("nothing panics there");
    println!("{all}, seed {seed}");
    if all.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Silences the panics that are made on purpose, and those that they cause inside the store. Panics of the checks are
/// printed.
fn quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map_or("", |location| location.file());
        if !file.contains("torture/src/disk") && !file.contains("/redb-") {
            usual(panic);
        }
    }));
}

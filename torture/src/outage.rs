//! Processes that commit to a server that runs already, while somebody else breaks it (C10.2).

use crate::applications::Applications;
use clap::Args;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Commits to a server from several processes for a while, and compares the acknowledgements with what is there. Break the
/// server meanwhile.
#[derive(Args)]
pub struct Arguments {
    /// The address: `postgres://…`, with all servers that may be the primary.
    #[arg(long)]
    store: String,
    /// Processes of the application.
    #[arg(long, default_value_t = 3)]
    processes: usize,
    /// Threads that commit in each.
    #[arg(long, default_value_t = 6)]
    writers: usize,
    /// Seconds of load.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
}

/// Within this time after the load each process must still commit.
const AGAIN: Duration = Duration::from_secs(60);

/// Runs the processes.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let Arguments {
        store,
        processes,
        writers,
        seconds,
    } = arguments;
    let mut applications = Applications::start(store, *processes, *writers);
    thread::sleep(Duration::from_secs_f64(*seconds));
    let goes_on = applications.go_on(20, AGAIN);
    let totals = applications.end();
    totals.broken.iter().for_each(|what| println!("{what}"));
    println!("processes {processes}, {totals}");
    if !goes_on {
        println!("a process does not commit any more");
    }
    ExitCode::from(u8::from(
        !goes_on || totals.lost > 0 || !totals.broken.is_empty(),
    ))
}

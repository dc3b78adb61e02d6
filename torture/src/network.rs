//! Processes of the application in a network of their own, and a link to the server's that loses, slows and resets packets
//! (C10.2).

use crate::applications::{Applications, Totals};
use clap::Args;
use cloakroom_postgres_server::{
    Disturbance, Link, Server, are_namespaces_available, is_available, own_network,
};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Disturbs the network between several processes and their server, and compares the acknowledgements with what is there. Needs
/// root, and a system that lets it make networks.
#[derive(Args, Clone, Copy)]
pub struct Arguments {
    /// How often each disturbance comes.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// Processes of the application.
    #[arg(long, default_value_t = 3)]
    processes: usize,
    /// Threads that commit in each.
    #[arg(long, default_value_t = 6)]
    writers: usize,
    /// Seconds of a disturbance. Longer than the deadline, 5 s, so that calls fail.
    #[arg(long, default_value_t = 7.0)]
    seconds: f64,
    /// In the server's network already.
    #[arg(long, hide = true)]
    inside: bool,
}

const DISTURBANCES: [Disturbance; 7] = [
    Disturbance::Loss(0.1),
    Disturbance::Slow(200),
    Disturbance::RequestsReset,
    Disturbance::AnswersReset,
    Disturbance::RequestsLost,
    Disturbance::AnswersLost,
    Disturbance::Down,
];
/// Within this time after a disturbance each process must commit again.
const AGAIN: Duration = Duration::from_secs(60);
/// A call that takes longer hangs. It waits for the deadline three times at most: it reads, commits, and looks the commit up.
const HANGS: Duration = Duration::from_secs(60);
/// What a call may say while there is no network.
const HONEST: [&str; 5] = [
    "Unavailable",
    "OutcomeUnknown",
    "NotWritten",
    "Conflict",
    "SnapshotTooOld",
];

/// Runs the rounds.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    if !is_available() || !are_namespaces_available() {
        return ExitCode::FAILURE;
    }
    if arguments.inside {
        return judged(&disturbed(arguments));
    }
    let status = own_network(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .status()
        .unwrap();
    ExitCode::from(u8::from(!status.success()))
}

fn disturbed(arguments: Arguments) -> Totals {
    let link = Link::make();
    let server = Server::builder().listen(link.address()).start();
    let theirs = SocketAddr::new(link.address(), server.address().port());
    let theirs = server.url_at(theirs, "postgres");
    let mut applications = Applications::start_by(
        &server.url(),
        &theirs,
        arguments.processes,
        arguments.writers,
        || link.command(std::env::current_exe().unwrap()),
    );
    assert!(applications.go_on(20, AGAIN), "no commit");
    for number in 1..=arguments.rounds {
        for disturbance in DISTURBANCES {
            link.disturb(disturbance);
            thread::sleep(Duration::from_secs_f64(arguments.seconds));
            link.clear();
            let since = Instant::now();
            assert!(
                applications.go_on(20, AGAIN),
                "a process does not commit after {disturbance:?}"
            );
            println!(
                "round {number}: {disturbance:?}, 20 commits of each process after {:.2} s",
                since.elapsed().as_secs_f64()
            );
        }
    }
    applications.end()
}

fn judged(totals: &Totals) -> ExitCode {
    totals.broken.iter().for_each(|what| println!("{what}"));
    let mut faults = totals.broken.len();
    let dishonest = totals.failures.keys();
    for kind in dishonest.filter(|kind| !HONEST.contains(&kind.as_str())) {
        println!("a call said {kind}");
        faults += 1;
    }
    if totals.longest_call.time > HANGS {
        println!("a call hung for {:?}", totals.longest_call);
        faults += 1;
    }
    if !totals.failures.contains_key("Unavailable") {
        println!("nothing was disturbed");
        faults += 1;
    }
    println!("{totals}");
    println!("lost {}, faults {faults}", totals.lost);
    ExitCode::from(u8::from(totals.lost > 0 || faults > 0))
}

//! Benchmarks of cloakroom beside other engines and session stores, in one run.

mod beside;
mod checkpoint;
mod durable_commits;
mod engine;
mod engines;
mod http;
mod io;
mod payload;
mod pictures;
mod postgres;
mod prepared;
mod reads;
mod report;
mod restart;
mod run;
mod scale;
mod settings;
mod sweep;
mod wrk;

use anyhow::Result;
use clap::{Parser, Subcommand};
use settings::Settings;

#[derive(Parser)]
#[command(about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
#[command(rename_all = "snake_case")]
enum What {
    /// Commits per second of 1, 16 and 64 writers.
    DurableCommits(Settings),
    /// Bytes written per commit.
    Bytes(Settings),
    /// Loads of two packages by one thread and by two.
    Reads(Settings),
    /// How long opening takes after a kill amid commits.
    Restart(Settings),
    /// What writers feel of a checkpoint.
    Checkpoint(Settings),
    /// Removing a tenth of the sessions.
    Sweep(Settings),
    /// Requests per second of a handler of axum or actix-web, under wrk.
    Http(Settings),
    /// Sessions in PostgreSQL, beside the store of tower-sessions.
    Postgres(postgres::Options),
    /// What things cost at 1,000 to 10,000,000 sessions.
    Scale(scale::Scale),
    /// Draws docs/pictures of what was measured.
    Pictures,
    /// What `restart` kills.
    #[command(hide = true)]
    Victim(restart::Victim),
}

fn main() -> Result<()> {
    match Arguments::parse().what {
        What::DurableCommits(settings) => durable_commits::main(&settings),
        What::Bytes(settings) => durable_commits::bytes(&settings),
        What::Reads(settings) => reads::main(&settings),
        What::Restart(settings) => restart::main(&settings),
        What::Checkpoint(settings) => checkpoint::main(&settings),
        What::Sweep(settings) => sweep::main(&settings),
        What::Http(settings) => http::main(&settings),
        What::Postgres(options) => postgres::main(&options),
        What::Scale(settings) => scale::main(&settings),
        What::Pictures => pictures::main(),
        What::Victim(victim) => restart::victim(&victim),
    }
}

//! cloakroom beside what else one could keep sessions in, all in one run.

mod durable_commits;
mod engine;
mod engines;
mod house;
mod io;
mod payload;
mod reads;
mod report;
mod run;
mod settings;

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
}

fn main() -> Result<()> {
    match Arguments::parse().what {
        What::DurableCommits(settings) => durable_commits::main(&settings),
        What::Bytes(settings) => durable_commits::bytes(&settings),
        What::Reads(settings) => reads::main(&settings),
    }
}

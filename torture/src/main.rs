//! `cargo run --release -p cloakroom-torture -- --help`

use clap::{Parser, Subcommand};
use cloakroom_torture::{history, run};
use std::process::ExitCode;

/// Breaks what a store stands on, and holds what is left against the contract. Without a command: the
/// simulation of crashes and failing disks.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    simulation: run::Arguments,
}

#[derive(Subcommand)]
enum Command {
    /// Concurrent transactions, held against strict serializability.
    History(history::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => run::run(&arguments.simulation),
        Some(Command::History(arguments)) => history::run(&arguments),
    }
}

//! `cargo run --release -p cloakroom-torture -- --help`

use clap::{Parser, Subcommand};
use cloakroom_torture::{child, history, kill, run};
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
    History(history::Arguments),
    Kill(kill::Arguments),
    #[command(hide = true)]
    Child(child::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => run::run(&arguments.simulation),
        Some(command) => match command {
            Command::History(arguments) => history::run(&arguments),
            Command::Kill(arguments) => kill::run(arguments),
            Command::Child(arguments) => child::run(arguments),
        },
    }
}

//! `cargo run --release -p cloakroom-torture -- --help`

use clap::{Parser, Subcommand};
use cloakroom_torture::{child, history, kill, run, serve, soak};
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
    Soak(soak::Arguments),
    #[command(hide = true)]
    Child(child::Arguments),
    #[command(hide = true)]
    Serve(serve::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => run::run(&arguments.simulation),
        Some(command) => match command {
            Command::History(arguments) => history::run(&arguments),
            Command::Kill(arguments) => kill::run(arguments),
            Command::Soak(arguments) => soak::run(arguments),
            Command::Child(arguments) => child::run(arguments),
            Command::Serve(arguments) => serve::run(arguments),
        },
    }
}

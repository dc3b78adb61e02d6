//! `cargo run --release -p cloakroom-torture -- --help`

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Breaks what a store stands on, and holds what is left against the contract.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => ExitCode::SUCCESS,
        Some(command) => match command {},
    }
}

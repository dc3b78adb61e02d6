//! `cargo run --release -p cloakroom-torture -- --help`

use clap::{Parser, Subcommand};
#[cfg(feature = "postgres")]
use cloakroom_torture::{applications, failover, network, outage, several};
use cloakroom_torture::{
    backups, child, descriptors, flips, full, history, kill, making, owners, run, serve, soak,
    sweeping,
};
use std::process::ExitCode;

/// Injects faults below a store and checks the result against the contract. Without a command: the simulation of
/// crashes and failing disks.
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
    Backups(backups::Arguments),
    #[cfg(feature = "postgres")]
    Failover(failover::Arguments),
    Flips(flips::Arguments),
    Full(full::Arguments),
    Descriptors(descriptors::Arguments),
    History(history::Arguments),
    Kill(kill::Arguments),
    Making(making::Arguments),
    #[cfg(feature = "postgres")]
    Network(network::Arguments),
    #[cfg(feature = "postgres")]
    Outage(outage::Arguments),
    Owners(owners::Arguments),
    #[cfg(feature = "postgres")]
    Several(several::Arguments),
    Soak(soak::Arguments),
    Sweeping(sweeping::Arguments),
    #[cfg(feature = "postgres")]
    #[command(hide = true)]
    Application(applications::Arguments),
    #[command(hide = true)]
    BackUp(backups::BackUp),
    #[command(hide = true)]
    Child(child::Arguments),
    #[command(hide = true)]
    Serve(serve::Arguments),
    #[command(hide = true)]
    Sweep(sweeping::Sweep),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => run::run(&arguments.simulation),
        Some(command) => match command {
            #[cfg(feature = "postgres")]
            Command::Application(arguments) => applications::run(&arguments),
            Command::Backups(arguments) => backups::run(arguments),
            Command::BackUp(arguments) => backups::back_up(arguments),
            #[cfg(feature = "postgres")]
            Command::Failover(arguments) => failover::run(arguments),
            Command::Flips(arguments) => flips::run(arguments),
            Command::Full(arguments) => full::run(arguments),
            Command::Descriptors(arguments) => descriptors::run(arguments),
            Command::History(arguments) => history::run(&arguments),
            Command::Kill(arguments) => kill::run(arguments),
            Command::Making(arguments) => making::run(arguments),
            #[cfg(feature = "postgres")]
            Command::Network(arguments) => network::run(arguments),
            #[cfg(feature = "postgres")]
            Command::Outage(arguments) => outage::run(&arguments),
            Command::Owners(arguments) => owners::run(arguments),
            #[cfg(feature = "postgres")]
            Command::Several(arguments) => several::run(arguments),
            Command::Soak(arguments) => soak::run(arguments),
            Command::Sweeping(arguments) => sweeping::run(arguments),
            Command::Child(arguments) => child::run(arguments),
            Command::Serve(arguments) => serve::run(arguments),
            Command::Sweep(arguments) => sweeping::sweep(arguments),
        },
    }
}

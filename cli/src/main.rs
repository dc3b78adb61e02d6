//! The command line of cloakroom: looks into a store, tends it and moves it. It uses the crate's public interface alone.

mod args;
mod backend;
mod commands;
mod failure;
mod foreign;
mod interrupt;
mod json;
mod opening;
mod output;
mod owner;
mod progress;
mod prompt;
mod server;
mod stoppable;
mod text;

use args::Arguments;
use clap::Parser as _;
use clap::error::ErrorKind;
use failure::{Failure, Outcome};
use std::panic;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_help = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            if !is_help && asks_for_json() {
                let text = server::without_passwords(&error.render().to_string());
                let text = text.trim().trim_start_matches("error: ");
                let failure = Failure::usage(text, "`cloakroom help` describes the commands.");
                return finish(Err(failure), true);
            }
            // Nobody may be there to read it.
            let _ = print(&error);
            return ExitCode::from(if is_help { 0 } else { failure::USAGE });
        }
    };
    // A defect is told in a line, not in a backtrace. The crate catches panics of its own parts itself.
    panic::set_hook(Box::new(|_| {}));
    let is_json = arguments.global.json;
    let run = || commands::run(arguments);
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(run));
    finish(outcome.unwrap_or_else(|_| Err(Failure::defect())), is_json)
}

/// Prints a wrong argument with its colours, unless there is a password in it.
fn print(error: &clap::Error) -> std::io::Result<()> {
    let text = error.render().to_string();
    let shown = server::without_passwords(&text);
    match shown == text {
        true => error.print(),
        false => output::error_line(shown.trim_end()),
    }
}

/// Whether `--json` is among the arguments, which are wrong otherwise.
fn asks_for_json() -> bool {
    let mut arguments = std::env::args_os().take_while(|argument| argument != "--");
    arguments.any(|argument| argument == "--json")
}

fn finish(outcome: Outcome, is_json: impl Into<output::Form>) -> ExitCode {
    match outcome {
        Ok(found) => ExitCode::from(found.code()),
        Err(failure) => {
            failure.print(is_json.into());
            ExitCode::from(failure.code())
        }
    }
}

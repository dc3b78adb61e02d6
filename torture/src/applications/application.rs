//! One process: it commits until its standard input ends, and then looks at what is there.

use super::account::Account;
use crate::load::Load;
use clap::Args;
use cloakroom::{Error, Store};
use std::io::{Read, Write, stdin, stdout};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Commits to a server until its standard input ends. Then says as JSON what it was told, and what is there of it.
#[derive(Args)]
pub struct Arguments {
    /// The address of the server.
    #[arg(long)]
    store: String,
    /// The id of the session that all processes change.
    #[arg(long)]
    common: String,
    /// Threads that commit.
    #[arg(long)]
    writers: usize,
}

/// How often the process says how many commits were acknowledged.
const WORD: Duration = Duration::from_millis(50);

/// Runs the hidden subcommand.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match commit_and_look(arguments) {
        Ok(account) => {
            say(&serde_json::to_string(&account).unwrap());
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("failed {error}"));
            ExitCode::FAILURE
        }
    }
}

fn commit_and_look(arguments: &Arguments) -> Result<Account, Error> {
    let store = pollster::block_on(Store::connect(&arguments.store))?;
    let common = store.client_ids().verify(&arguments.common).unwrap();
    let load = Load::with_common(std::slice::from_ref(&store), arguments.writers, common);
    say("ready");
    let (ending, ended) = mpsc::channel();
    thread::spawn(move || {
        stdin().read_to_end(&mut Vec::new()).unwrap();
        ending.send(()).unwrap();
    });
    while ended.recv_timeout(WORD) == Err(RecvTimeoutError::Timeout) {
        say(&format!("acknowledged {}", load.acknowledged()));
    }
    let told = load.end();
    drop(store);
    let store = pollster::block_on(Store::connect(&arguments.store))?;
    let verdict = told.verify(&store)?;
    Ok(Account::new(&told, verdict))
}

fn say(line: &str) {
    let mut out = stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

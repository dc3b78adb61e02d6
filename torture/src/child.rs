//! The process that is killed. It commits as fast as it can, and prints each attempt and each acknowledgement. It does
//! not know its reader.

use crate::twin_packages;
use clap::Args;
use cloakroom::{ClientId, Error, ErrorKind, Store, Transaction};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::thread;
use tokio::signal::unix::{SignalKind, signal};

/// Opens a store and works on it until it is ended. Its standard input says what is there: a line
/// `hall ID`, and for each writer `own ID NUMBER` followed by `guest ID NUMBER` for its sessions.
#[derive(Args)]
pub struct Arguments {
    /// The path of a file, or the address of a server.
    #[arg(long)]
    store: String,
    /// The place of its first writer among those of all processes.
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Opens the store and holds it until its standard input ends.
    #[arg(long)]
    idle: bool,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// The package of the counters in the session that all writers share.
pub(crate) const COUNTERS: &str = "counters";
/// The package that only aborted transactions write to.
pub(crate) const NEVER: &str = "never";
/// A writer with more sessions than this lets some go.
const MOST_GUESTS: usize = 100;

/// Says a line in one write, so that a kill never leaves two lines mixed.
fn say(line: &str) {
    drop(
        io::stdout()
            .lock()
            .write_all(format!("{line}\n").as_bytes()),
    );
}

/// Runs the hidden subcommand.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let waiting = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut terminate = {
        let _inside = waiting.enter();
        signal(SignalKind::terminate()).unwrap()
    };
    let store = match open(&arguments.store) {
        Ok(store) => store,
        Err(error) => {
            say(&format!("refused {:?} {error}", error.kind()));
            return ExitCode::FAILURE;
        }
    };
    say("ready");
    let mut plan = String::new();
    io::stdin().read_to_string(&mut plan).unwrap();
    if arguments.idle {
        return ended(store);
    }
    let writers = writers(&store, &plan, &arguments);
    let threads: Vec<_> = writers
        .into_iter()
        .map(|writer| thread::spawn(move || writer.work()))
        .collect();
    waiting.block_on(terminate.recv());
    let code = ended(store);
    for thread in threads {
        thread.join().unwrap();
    }
    code
}

fn ended(store: Store) -> ExitCode {
    match store.close() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bad close {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A file, or a database of PostgreSQL.
fn open(place: &str) -> Result<Store, Error> {
    #[cfg(feature = "postgres")]
    if place.starts_with("postgres://") {
        return pollster::block_on(Store::connect(place));
    }
    Store::open(place)
}

fn writers(store: &Store, plan: &str, arguments: &Arguments) -> Vec<Writer> {
    let Arguments { first, seed, .. } = *arguments;
    let mut hall = None;
    let mut writers: Vec<Writer> = Vec::new();
    for line in plan.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let id = |text: &str| store.client_ids().verify(text).unwrap();
        match words[..] {
            ["hall", text] => hall = Some(id(text)),
            ["own", own, number] => writers.push(Writer {
                store: store.clone(),
                place: first + writers.len(),
                hall: hall.clone().unwrap(),
                own: id(own),
                number: number.parse().unwrap(),
                guests: VecDeque::new(),
                chance: fastrand::Rng::with_seed(seed.wrapping_add((first + writers.len()) as u64)),
            }),
            ["guest", guest, number] => {
                let guest = (id(guest), number.parse().unwrap());
                writers.last_mut().unwrap().guests.push_back(guest);
            }
            _ => panic!("not understood: {line}"),
        }
    }
    writers
}

/// One thread, the only one that changes its sessions.
struct Writer {
    store: Store,
    place: usize,
    hall: ClientId,
    own: ClientId,
    number: u64,
    guests: VecDeque<(ClientId, u64)>,
    chance: fastrand::Rng,
}

impl Writer {
    /// Until the store is closed, or the process gone.
    fn work(mut self) {
        loop {
            let done = match self.chance.u32(..100) {
                0..60 => self.change(),
                60..75 if self.guests.len() < MOST_GUESTS => self.receive(),
                75..83 if !self.guests.is_empty() => self.dismiss(),
                83..91 if !self.guests.is_empty() => self.rotate(),
                91.. => self.abort(),
                _ => self.change(),
            };
            match done {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(error) => {
                    say(&format!("bad {:?} {error}", error.kind()));
                    return;
                }
            }
        }
    }

    fn announce(&self, what: &str) {
        say(&format!("try {} {} {what}", self.place, self.number));
    }

    /// Commits, and says how that ended.
    fn commit(&self, txn: Transaction) -> Result<(), Error> {
        let ended = txn.commit();
        match &ended {
            Ok(()) => say(&format!("done {}", self.place)),
            // All other errors promise that nothing was written.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {}
            Err(_) => say(&format!("refused {}", self.place)),
        }
        ended
    }

    /// Two packages of its own session, and two counters of the session of all.
    fn change(&mut self) -> Result<(), Error> {
        let txn = self.store.begin()?;
        self.number += 1;
        twin_packages::write(&txn.session(&self.own)?, self.number)?;
        let counters = txn.session(&self.hall)?.pkg(COUNTERS);
        counters.add("all", 1)?;
        counters.add(&self.place.to_string(), 1)?;
        self.announce("change");
        self.commit(txn)
    }

    fn receive(&mut self) -> Result<(), Error> {
        let id = self.store.client_ids().issue();
        let txn = self.store.begin()?;
        twin_packages::write(&txn.session(&id)?, self.number)?;
        self.announce(&format!("receive {}", id.as_str()));
        self.commit(txn)?;
        self.guests.push_back((id, self.number));
        Ok(())
    }

    fn dismiss(&mut self) -> Result<(), Error> {
        let txn = self.store.begin()?;
        let (id, _) = self.guests.pop_front().unwrap();
        txn.session(&id)?.destroy()?;
        self.announce(&format!("dismiss {}", id.as_str()));
        self.commit(txn)
    }

    fn rotate(&mut self) -> Result<(), Error> {
        let txn = self.store.begin()?;
        let (old, number) = self.guests.pop_front().unwrap();
        let new = txn.session(&old)?.rotate()?;
        self.announce(&format!("rotate {} {}", old.as_str(), new.as_str()));
        self.commit(txn)?;
        self.guests.push_back((new, number));
        Ok(())
    }

    /// A transaction over all kinds of sessions that ends without a commit, in one of three ways.
    fn abort(&mut self) -> Result<(), Error> {
        let id = self.store.client_ids().issue();
        let txn = self.store.begin()?;
        twin_packages::write(&txn.session(&id)?, self.number)?;
        txn.session(&self.own)?.pkg(NEVER).insert("key", true)?;
        txn.session(&self.hall)?.pkg(COUNTERS).add("all", 1_000)?;
        self.announce(&format!("abort {}", id.as_str()));
        match self.chance.u32(..3) {
            0 => txn.abort(),
            1 => drop(txn),
            _ => {
                txn.doom();
                let doomed = txn.commit().unwrap_err();
                assert_eq!(doomed.kind(), ErrorKind::Doomed);
            }
        }
        Ok(())
    }
}

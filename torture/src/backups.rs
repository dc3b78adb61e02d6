//! A process that takes backups under load is killed at random moments. Its backups are whole or not there, chains go on
//! over the kills, and the store has all that it acknowledged (C9.1).

use crate::process::Process;
use crate::twin_packages::{self, Found};
use clap::Args;
use cloakroom::{Backup, Store, Txn};
use indicatif::ProgressBar;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Kills a process that takes backups while it commits.
#[derive(Args)]
pub struct Arguments {
    /// How many times.
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// The seed of the moments. Default: random.
    #[arg(long)]
    seed: Option<u64>,
}

/// Commits and takes backups until it is killed. Its standard input has a line `writer ID NUMBER` for each session that
/// it writes to, and `chain NAME` for each backup of the chain that it goes on with.
#[derive(Args)]
pub struct BackUp {
    #[arg(long)]
    store: PathBuf,
    /// The folder of the backups.
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    round: u64,
}

const WRITERS: usize = 3;
/// Sessions that only make the store larger, so that many kills come in the middle of a backup.
const OTHERS: u64 = 400;
/// A chain that is longer is followed by a new one.
const LONGEST: usize = 6;
/// The longest time from the opening to the kill, in microseconds.
const MOST: u64 = 250_000;

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
pub fn back_up(arguments: BackUp) -> ExitCode {
    let BackUp {
        store,
        folder,
        round,
    } = arguments;
    // So small that checkpoints come while backups are taken.
    let store = Store::builder().journal_size(1 << 20).open(store).unwrap();
    say("ready");
    let mut plan = String::new();
    io::stdin().read_to_string(&mut plan).unwrap();
    let (mut chain, mut writers) = (Vec::new(), 0);
    for line in plan.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["writer", id, number] => {
                let (place, id, number) = (writers, id.to_owned(), number.parse().unwrap());
                let store = store.clone();
                thread::spawn(move || write(&store, place, &id, number));
                writers += 1;
            }
            ["chain", name] => chain.push(folder.join(name)),
            _ => panic!("not understood: {line}"),
        }
    }
    for number in 0_u64.. {
        if chain.len() > LONGEST {
            chain.clear();
        }
        let name = format!("{round}-{number}.backup");
        let path = folder.join(&name);
        // What was acknowledged before this line must be in it.
        say(&format!("begin {} {name}", chain.len()));
        match chain.is_empty() {
            true => store.backup(&path, |_| Continue(())).unwrap(),
            false => store.backup_since(&chain, &path, |_| Continue(())).unwrap(),
        };
        say(&format!("taken {name}"));
        chain.push(path);
    }
    ExitCode::SUCCESS
}

/// Commits as fast as it can, and says each attempt and each acknowledgement.
fn write(store: &Store, place: usize, id: &str, mut number: u64) {
    let id = store.client_ids().verify(id).unwrap();
    loop {
        number += 1;
        say(&format!("try {place} {number}"));
        let change = |txn: &Txn| twin_packages::write(&txn.session(&id)?, number);
        store.transact(change).unwrap();
        say(&format!("done {place} {number}"));
    }
}

/// One session, its numbers as far as the process told.
#[derive(Clone, Debug)]
struct Writer {
    id: String,
    tried: u64,
    acknowledged: u64,
}

/// A backup that the process began.
#[derive(Clone, Debug)]
struct Begun {
    name: String,
    /// What each writer had acknowledged before.
    floor: Vec<u64>,
    is_taken: bool,
}

struct Run {
    place: PathBuf,
    writers: Vec<Writer>,
    /// The newest chain, and what its last backup must have.
    chain: Vec<Begun>,
    /// By what a kill left: backups that were whole though the process did not tell, and none.
    left: BTreeMap<&'static str, u64>,
    backups: u64,
}

/// Runs the rounds.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::new(folder.path());
    let progress = ProgressBar::new(arguments.rounds);
    for round in 0..arguments.rounds {
        let lines = run.back_up_and_die(round, &mut chance);
        let trial = format!("round {round}, seed {seed}");
        lines.iter().for_each(|line| run.hear(line));
        run.judge_backups(&trial);
        run.judge_store(&trial);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let left = |what: &str| run.left.get(what).copied().unwrap_or_default();
    println!(
        "rounds {}, backups {}, killed within one {}, which was whole {}, seed {seed}",
        arguments.rounds,
        run.backups,
        left("absent") + left("whole"),
        left("whole"),
    );
    ExitCode::SUCCESS
}

impl Run {
    fn new(place: &Path) -> Self {
        fs::create_dir(place.join("backups")).unwrap();
        let store = Store::open(place.join("store")).unwrap();
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            let id = store.client_ids().issue();
            let write = |txn: &Txn| twin_packages::write(&txn.session(&id)?, 0);
            store.transact(write).unwrap();
            writers.push(Writer {
                id: id.as_str().to_owned(),
                tried: 0,
                acknowledged: 0,
            });
        }
        let fill = |txn: &Txn| {
            (0..OTHERS).try_for_each(|n| {
                let id = store.client_ids().issue();
                twin_packages::write(&txn.session(&id)?, n)
            })
        };
        store.transact(fill).unwrap();
        store.close().unwrap();
        Self {
            place: place.to_owned(),
            writers,
            chain: Vec::new(),
            left: BTreeMap::new(),
            backups: 0,
        }
    }

    fn backup(&self, name: &str) -> PathBuf {
        self.place.join("backups").join(name)
    }

    fn back_up_and_die(&self, round: u64, chance: &mut fastrand::Rng) -> Vec<String> {
        let mut plan = String::new();
        for Writer { id, tried, .. } in &self.writers {
            writeln!(plan, "writer {id} {tried}").unwrap();
        }
        for Begun { name, .. } in &self.chain {
            writeln!(plan, "chain {name}").unwrap();
        }
        let mut process = Process::start([
            "back-up",
            "--store",
            self.place.join("store").to_str().unwrap(),
            "--folder",
            self.place.join("backups").to_str().unwrap(),
            "--round",
            &round.to_string(),
        ]);
        process.tell(&plan);
        assert_eq!(process.hear().as_deref(), Some("ready"));
        thread::sleep(Duration::from_micros(chance.u64(..MOST)));
        process.signal(Signal::KILL);
        process.end().1
    }

    fn hear(&mut self, line: &str) {
        let number = |text: &str| text.parse::<usize>().unwrap();
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["try", place, tried] => self.writers[number(place)].tried = tried.parse().unwrap(),
            ["done", place, done] => {
                self.writers[number(place)].acknowledged = done.parse().unwrap();
            }
            ["begin", length, name] => {
                self.chain.truncate(number(length));
                let floor = self.writers.iter().map(|writer| writer.acknowledged);
                self.chain.push(Begun {
                    name: name.to_owned(),
                    floor: floor.collect(),
                    is_taken: false,
                });
            }
            ["taken", name] => {
                let last = self.chain.last_mut().unwrap();
                assert_eq!(last.name, name);
                last.is_taken = true;
                self.backups += 1;
            }
            _ => panic!("the process said: {line}"),
        }
    }

    /// Each backup is whole or not there, and the chain shows what it must.
    fn judge_backups(&mut self, trial: &str) {
        if let Some(last) = self.chain.last().filter(|last| !last.is_taken).cloned() {
            let is_there = self.backup(&last.name).exists();
            let what = if is_there { "whole" } else { "absent" };
            *self.left.entry(what).or_default() += 1;
            if !is_there {
                self.chain.pop();
            }
        }
        for begun in &mut self.chain {
            begun.is_taken = true;
        }
        let files: BTreeSet<String> = fs::read_dir(self.place.join("backups"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        for name in files {
            let path = self.backup(&name);
            if name.ends_with(".backup") {
                Backup::verify(&path).unwrap_or_else(|error| panic!("{trial}: {name}: {error:?}"));
            } else {
                // What a kill leaves where files cannot be made without a name. It never has a backup's.
                assert!(name.starts_with(".cloakroom-"), "{trial}: {name}");
            }
            if self.chain.iter().all(|begun| begun.name != name) {
                fs::remove_file(path).unwrap();
            }
        }
        let Some(last) = self.chain.last() else {
            return;
        };
        let restored = self.place.join("restored");
        let chain = self.chain.iter().map(|begun| self.backup(&begun.name));
        Store::restore(chain, &restored, |_| Continue(())).unwrap();
        self.judge(&restored, &last.floor, trial);
        fs::remove_file(restored).unwrap();
    }

    /// The store that was backed up has all that was acknowledged.
    fn judge_store(&mut self, trial: &str) {
        let floor: Vec<_> = self.writers.iter().map(|it| it.acknowledged).collect();
        let found = self.judge(&self.place.join("store"), &floor, trial);
        for (writer, found) in self.writers.iter_mut().zip(found) {
            // The next process goes on from there.
            (writer.acknowledged, writer.tried) = (found, found);
        }
    }

    /// What the writers' sessions of a store say: no less than this, and nothing that was never tried.
    fn judge(&self, path: &Path, floor: &[u64], trial: &str) -> Vec<u64> {
        let store = Store::open(path).unwrap();
        let check = store.check().unwrap();
        assert!(check.is_clean(), "{trial}: {check:?}");
        assert_eq!(check.sessions, OTHERS + WRITERS as u64, "{trial}");
        let found = self.writers.iter().zip(floor).map(|(writer, floor)| {
            match twin_packages::find_text(&store, &writer.id).unwrap() {
                Found::Whole(n) if (*floor..=writer.tried).contains(&n) => n,
                other => panic!("{trial}: {other:?} in {path:?}, {floor} at least, {writer:?}"),
            }
        });
        let found = found.collect();
        store.close().unwrap();
        found
    }
}

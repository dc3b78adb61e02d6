//! A server under load for minutes: do its memory and file level off, and is every acknowledged write there at the
//! end? `wrk` makes the load, over the loopback only.

use crate::judge::{self, Answers};
use crate::process::Process;
use crate::serve::{self, ACCOUNT, VISIT};
use clap::Args;
use cloakroom::Txn;
use indicatif::ProgressBar;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Loads a server for minutes, and checks that memory and file level off.
#[derive(Args)]
pub struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Sessions that live through it.
    #[arg(long, default_value_t = 10_000)]
    sessions: u64,
    /// Connections that load it.
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// Without the transaction that is held open from beginning to end.
    #[arg(long)]
    no_stalled_reader: bool,
    /// Where the samples are written to.
    #[arg(long, default_value = "target/torture/soak.json")]
    out: PathBuf,
}

const THREADS: u64 = 2;
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const ROWS: usize = 12;

/// What the server says of itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Figures {
    accounts: u64,
    visitors: u64,
    expired: u64,
    file: u64,
    commits: u64,
    conflicts: u64,
    reopened: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Sample {
    seconds: u64,
    /// Bytes that the process has in memory.
    resident: u64,
    #[serde(flatten)]
    figures: Figures,
}

/// Runs the soak.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    if Command::new("wrk").arg("--version").output().is_err() {
        eprintln!("there is no wrk: apt-get install wrk");
        return ExitCode::FAILURE;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("sessions.redb");
    let ids = folder.path().join("ids");
    found(&store, &ids, arguments.sessions);

    let mut serve = vec!["serve", "--store", store.to_str().unwrap()];
    if !arguments.no_stalled_reader {
        serve.extend(["--stall", ids.to_str().unwrap()]);
    }
    let server = Process::start(serve);
    let said = server.hear().unwrap();
    let address = said.strip_prefix("listening ").unwrap().to_owned();
    let report = folder.path().join("report");
    let mut load = Load(wrk(&arguments, &address, folder.path(), &ids, &report));
    let samples = sample(&mut load, &server, &address, arguments.minutes);
    server.signal(Signal::TERM);
    let (ended, said) = server.end();

    let answers = Answers::parse(&fs::read_to_string(report).unwrap()).unwrap();
    let mut wrong = judge::verify(
        &counters(&store, &ids),
        &answers.acknowledged,
        arguments.connections,
    );
    if !ended.success() {
        wrong.push(format!("the server ended with {ended}"));
    }
    let stalled: Vec<&str> = said
        .iter()
        .filter_map(|s| s.strip_prefix("stalled "))
        .collect();
    if !arguments.no_stalled_reader && !stalled.iter().any(|s| s.starts_with("SnapshotTooOld")) {
        wrong.push(format!("the stalled reader ended with {stalled:?}"));
    }
    wrong.extend(trouble(&answers, &samples));
    print(&answers, &samples, &stalled);
    save(&arguments.out, &samples);
    for wrong in &wrong {
        println!("WRONG: {wrong}");
    }
    ExitCode::from(u8::from(!wrong.is_empty()))
}

/// Makes the store and its long-lived sessions; writes their ids down.
fn found(path: &Path, ids: &Path, sessions: u64) {
    let store = serve::open(path).unwrap();
    let mut text = String::new();
    let issued: Vec<_> = (0..sessions)
        .map(|number| (number, store.client_ids().issue()))
        .collect();
    for some in issued.chunks(500) {
        let insert = |txn: &Txn| {
            for (number, id) in some {
                let account = txn.session(id)?.pkg(ACCOUNT);
                account.insert("number", number)?;
                account.insert("about", "y".repeat(300))?;
            }
            Ok::<_, cloakroom::Error>(())
        };
        store.transact(insert).unwrap();
    }
    for (_, id) in &issued {
        text.push_str(id.as_str());
        text.push('\n');
    }
    fs::write(ids, text).unwrap();
    store.close().unwrap();
}

/// Ends with its owner.
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn wrk(arguments: &Arguments, address: &str, folder: &Path, ids: &Path, report: &Path) -> Child {
    let script = folder.join("soak.lua");
    fs::write(&script, include_str!("soak.lua")).unwrap();
    Command::new("wrk")
        .arg(format!("--threads={THREADS}"))
        .arg(format!("--connections={}", arguments.connections))
        .arg(format!("--duration={}m", arguments.minutes))
        .args(["--timeout=10s", "--latency", "--script"])
        .args([&script, Path::new(&format!("http://{address}"))])
        .arg("--")
        .args([ids, report, Path::new(&THREADS.to_string())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Looks at the server every few seconds until the load has ended.
fn sample(load: &mut Load, server: &Process, address: &str, minutes: u64) -> Vec<Sample> {
    let progress = ProgressBar::new(minutes * 60);
    let begun = Instant::now();
    let mut samples = Vec::new();
    let mut next = SAMPLE_EVERY;
    let ended = loop {
        if let Some(ended) = load.0.try_wait().unwrap() {
            break ended;
        }
        if begun.elapsed() >= next {
            next += SAMPLE_EVERY;
            let sample = Sample {
                seconds: begun.elapsed().as_secs(),
                resident: resident(server.id()),
                figures: serde_json::from_str(&get(address, "/figures")).unwrap(),
            };
            progress.set_position(sample.seconds);
            samples.push(sample);
        }
        thread::sleep(Duration::from_millis(50));
    };
    progress.finish_and_clear();
    assert!(ended.success(), "wrk ended with {ended}");
    samples
}

/// Bytes of a process that are in memory.
fn resident(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kilobytes.trim().parse::<u64>().unwrap() * 1024
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The counter of each session, in the store as it is found afterwards.
fn counters(path: &Path, ids: &Path) -> BTreeMap<u64, u64> {
    let store = serve::open(path).unwrap();
    let check = store.check().unwrap();
    assert!(check.is_clean(), "{check:?}");
    let txn = store.begin().unwrap();
    let mut counters = BTreeMap::new();
    for id in fs::read_to_string(ids).unwrap().lines() {
        let id = store.client_ids().verify(id).unwrap();
        let account = txn.session(&id).unwrap().pkg(ACCOUNT);
        let number: Option<u64> = account.get("number").unwrap();
        let count: Option<u64> = account.get("count").unwrap();
        if let Some(number) = number {
            counters.insert(number, count.unwrap_or(0));
        }
    }
    counters
}

/// Errors, and what has not levelled off.
fn trouble(answers: &Answers, samples: &[Sample]) -> Vec<String> {
    let mut wrong = Vec::new();
    if answers.sockets > 0 {
        wrong.push(format!("{} connections failed", answers.sockets));
    }
    for (status, times) in &answers.refused {
        wrong.push(format!("{times} answers of {status}"));
    }
    if samples.iter().any(|sample| sample.figures.reopened > 0) {
        wrong.push("the store had to reopen itself".to_owned());
    }
    let memory: Vec<u64> = samples.iter().map(|sample| sample.resident).collect();
    let file: Vec<u64> = samples.iter().map(|sample| sample.figures.file).collect();
    for (name, values) in [("memory", memory), ("file", file)] {
        if let Err((before, after)) = judge::levels_off(&values) {
            wrong.push(format!(
                "{name} does not level off: at most {before} bytes in the first half, {after} later"
            ));
        }
    }
    wrong
}

fn print(answers: &Answers, samples: &[Sample], stalled: &[&str]) {
    println!("| s | memory, MB | file, MB | sessions | {VISIT}s | expired, unswept | commits |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    let step = samples.len().div_ceil(ROWS).max(1);
    let last = samples.len().saturating_sub(1);
    for (at, sample) in samples.iter().enumerate() {
        if at % step != 0 && at != last {
            continue;
        }
        let figures = &sample.figures;
        println!(
            "| {} | {:.1} | {:.1} | {} | {} | {} | {} |",
            sample.seconds,
            sample.resident as f64 / 1e6,
            figures.file as f64 / 1e6,
            figures.accounts,
            figures.visitors,
            figures.expired,
            figures.commits
        );
    }
    println!(
        "requests {}, p99 {:.1} ms, acknowledged writes {}, refused {:?}, failed connections {}, \
         stalled reader {stalled:?}",
        answers.requests,
        answers.p99 as f64 / 1e3,
        answers.acknowledged.values().sum::<u64>(),
        answers.refused,
        answers.sockets
    );
    println!(
        "levelling off: the maximum of the second half is at most 10 % above that of the first"
    );
}

fn save(out: &Path, samples: &[Sample]) {
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(out, serde_json::to_string_pretty(samples).unwrap()).unwrap();
}

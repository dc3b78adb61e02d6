//! Kills a process during commits, measures the time until its store is open again, and checks that every
//! acknowledged commit is there.

use crate::engine::{Engine, Peer, Site};
use crate::engines;
use crate::payload::{Dice, FIRST, PACKAGES, first_value, number, value};
use crate::prepared::{PreparedEngine, PreparedEngines, progress};
use crate::report::{Metric, OPEN, Report};
use crate::run::Span;
use crate::settings::Settings;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

const WRITERS: usize = 16;
const COMMITS: Metric = ("commits_before", "commits");
const FIRST_LOAD: Metric = ("first_load_ms", "ms");

/// The process that is killed.
#[derive(Args)]
pub(crate) struct Victim {
    #[arg(long)]
    engine: String,
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    sessions: usize,
    /// Values are numbered from here.
    #[arg(long)]
    first: u64,
}

pub(crate) fn main(settings: &Settings) -> Result<()> {
    let mut report = Report::new("restart");
    let engines = PreparedEngines::of(settings, &mut report)?;
    let (time, most) = match settings.span() {
        Span::For(time) => (time, usize::MAX),
        Span::Operations(count) => (Duration::MAX, count),
    };
    let case = format!("open-after-kill/uniform/{}/w{WRITERS}", settings.sessions());
    let bar = progress((settings.rounds() * engines.prepared.len()) as u64);
    let mut ledgers: HashMap<&str, Ledger> = HashMap::new();
    for round in 0..settings.rounds() {
        for peer in &engines.prepared {
            let name = peer.name();
            bar.set_message(format!("{case} {name}"));
            bar.tick();
            let ledger = ledgers.entry(name).or_default();
            let first = (round as u64 + 1) << 32;
            let commits = kill(peer, first, (time, most), ledger)
                .with_context(|| format!("killing {name}"))?;
            let (engine, open) = peer.open()?;
            let start = Instant::now();
            look(&*engine, 0)?;
            report.add(&case, name, OPEN, open.as_secs_f64() * 1e3);
            let load = open + start.elapsed();
            report.add(&case, name, FIRST_LOAD, load.as_secs_f64() * 1e3);
            report.add(&case, name, COMMITS, commits as f64);
            verify(&*engine, peer, ledger).with_context(|| format!("after killing {name}"))?;
            engine.close()?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    engines.introduce(&mut report);
    report.note("redis and zodb: the start of their process is part of opening");
    report.note("every value that was acknowledged before the kill was there, or a later one");
    report.finish(OPEN)
}

/// The last value of each session that was acknowledged.
type Ledger = HashMap<usize, u64>;

/// Runs the victim and kills it with SIGKILL; counts the commits that it acknowledged.
fn kill(
    peer: &PreparedEngine,
    first: u64,
    until: (Duration, usize),
    ledger: &mut Ledger,
) -> Result<usize> {
    let complaints = peer.site.folder.join("victim.log");
    let mut child = Command::new(std::env::current_exe()?)
        .args(["victim", "--engine", peer.name()])
        .arg("--folder")
        .arg(&peer.site.folder)
        .args(["--sessions", &peer.site.sessions.to_string()])
        .args(["--first", &first.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&complaints)?)
        .spawn()?;
    let outcome = note(&mut child, peer, until, ledger);
    child.kill()?;
    child.wait()?;
    outcome.with_context(|| std::fs::read_to_string(complaints).unwrap_or_default())
}

fn note(
    child: &mut Child,
    peer: &PreparedEngine,
    (time, most): (Duration, usize),
    ledger: &mut Ledger,
) -> Result<usize> {
    let mut said = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    ensure!(line.trim() == "ready", "the victim said {line:?}");
    let start = Instant::now();
    let mut commits = 0;
    while start.elapsed() < time && commits < most {
        commits += usize::from(acknowledged(&mut said, &mut line, ledger)?);
    }
    kill_server(&peer.site)?;
    child.kill()?;
    // What it still said before it died was acknowledged, too; half a line was not.
    while acknowledged(&mut said, &mut line, ledger)? {
        commits += 1;
    }
    Ok(commits)
}

fn acknowledged(
    said: &mut BufReader<ChildStdout>,
    line: &mut String,
    ledger: &mut Ledger,
) -> Result<bool> {
    line.clear();
    said.read_line(line)?;
    let Some(whole) = line.strip_suffix('\n') else {
        return Ok(false);
    };
    let (session, value) = whole.split_once(' ').context("half a line")?;
    ledger.insert(session.parse()?, value.parse()?);
    Ok(true)
}

/// A server dies with the process that it serves.
fn kill_server(site: &Site) -> Result<()> {
    let Ok(id) = std::fs::read_to_string(engines::server_pid(site)) else {
        return Ok(());
    };
    let status = Command::new("kill").args(["-9", id.trim()]).status()?;
    ensure!(status.success(), "the server could not be killed");
    // Its port and its files are free once it is gone, or a zombie.
    let stat = format!("/proc/{}/stat", id.trim());
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        ensure!(Instant::now() < deadline, "the server does not die");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn look(engine: &dyn Engine, session: usize) -> Result<u64> {
    let mut found = Vec::new();
    engine.reader()?(session, &mut |bytes| found.push(number(bytes)))?;
    found
        .first()
        .copied()
        .flatten()
        .context("not a value of ours")
}

/// Each writer numbers its values upwards, and each session has one writer.
fn verify(engine: &dyn Engine, peer: &PreparedEngine, ledger: &Ledger) -> Result<()> {
    let mut read = engine.reader()?;
    for session in 0..peer.site.sessions {
        let mut found = Vec::new();
        read(session, &mut |bytes| found.push(number(bytes)))?;
        let Some(Some(found)) = found.first() else {
            bail!("session {session} holds no value of ours");
        };
        let least = ledger.get(&session).copied();
        match least {
            Some(least) => ensure!(
                *found >= least && *found < FIRST,
                "session {session} holds {found:x}, and {least:x} was acknowledged"
            ),
            None => {
                let first = number(first_value(session, PACKAGES[0]).as_bytes());
                ensure!(
                    Some(*found) == first || *found < FIRST,
                    "session {session} holds {found:x}, which nobody wrote"
                );
            }
        }
    }
    Ok(())
}

/// Commits until it is killed, and says what it committed.
pub(crate) fn victim(victim: &Victim) -> Result<()> {
    let peers = engines::named(std::slice::from_ref(&victim.engine))?;
    let peer: &dyn Peer = *peers.first().context("no engine")?;
    let site = Site {
        folder: victim.folder.clone(),
        sessions: victim.sessions,
    };
    let engine = peer.open(&site)?;
    let out = Mutex::new(std::io::stdout());
    let say = |line: String| -> Result<()> {
        let mut out = out
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // In one write, so that a line is there or is not.
        out.write_all(line.as_bytes())?;
        Ok(out.flush()?)
    };
    say("ready\n".to_owned())?;
    thread::scope(|scope| {
        let running: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (engine, say) = (&engine, &say);
                scope.spawn(move || -> Result<()> {
                    let mut commit = engine.writer()?;
                    let mut dice = Dice::new(victim.first ^ writer as u64);
                    let share = victim.sessions / WRITERS;
                    for count in victim.first.. {
                        let pick = dice.roll() as usize % share.max(1);
                        let session = pick * WRITERS + writer;
                        if session >= victim.sessions {
                            continue;
                        }
                        commit(session, &value(count))?;
                        say(format!("{session} {count}\n"))?;
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in running {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        Ok(())
    })
}

//! Commits beside a backup: how long they take before one, during whole ones, and while one is taken each second.

#[allow(dead_code, reason = "what the other benches use")]
mod support;

use cloakroom::{ClientId, Store};
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::{Dice, Effort, Outcome, Report, fill, open, ratio, scratch, still_clock};

/// Threads that commit.
const WRITERS: usize = 2;
/// A visitor's request, beside its commit, takes so long.
const THINKING: Duration = Duration::from_millis(2);

/// What the writers meet.
const PHASES: [&str; 3] = ["no-backup", "whole-backups", "one-a-second"];

fn main() -> Outcome {
    let effort = Effort::from_args();
    let mut report = Report::new("backup", effort);
    for _ in 0..report.rounds() {
        round(effort, &mut report)?;
    }
    let p99 = |phase| report.median(phase, "cloakroom", "commit_p99");
    let [none, whole, often] = PHASES.map(p99);
    report.at_most("p99 beside a whole backup, times", ratio(whole, none), 3.0);
    report.at_most("p99 beside one a second, times", ratio(often, none), 3.0);
    report.finish()
}

fn round(effort: Effort, report: &mut Report) -> Outcome {
    let folder = scratch()?;
    let store = open(&folder.path().join("store"), &still_clock()?)?;
    let clients = fill(&store, effort.scaled(100_000))?;
    store.checkpoint()?;
    let lasts = Duration::from_millis(effort.scaled(10_000) as u64);
    let phase = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let times = PHASES.map(|_| Mutex::new(Vec::new()));
    let done = thread::scope(|scope| {
        for seed in 0..WRITERS {
            let (store, clients, times) = (&store, &clients, &times);
            let (phase, is_over) = (&phase, &is_over);
            scope.spawn(move || {
                let mut dice = Dice::new(seed as u64);
                while !is_over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let committed = commit(store, clients, &mut dice);
                    let took = begun.elapsed();
                    let times = times.get(phase.load(Ordering::Relaxed));
                    if let (Some(times), Ok(())) = (times, committed) {
                        times.lock().unwrap_or_else(|e| e.into_inner()).push(took);
                    }
                    thread::sleep(THINKING);
                }
            });
        }
        let done = phases(&store, folder.path(), lasts, &phase);
        is_over.store(true, Ordering::Relaxed);
        done
    });
    for (metric, value) in done? {
        report.add(PHASES[1], "cloakroom", metric, value);
    }
    for (name, times) in PHASES.into_iter().zip(times) {
        let mut times = times.into_inner().unwrap_or_else(|e| e.into_inner());
        times.sort_unstable();
        for (metric, part) in [
            ("commit_p50", 0.5),
            ("commit_p99", 0.99),
            ("commit_p999", 0.999),
        ] {
            let at = (times.len() as f64 * part) as usize;
            if let Some(time) = times.get(at.min(times.len().saturating_sub(1))) {
                report.add(name, "cloakroom", (metric, "ms"), time.as_secs_f64() * 1e3);
            }
        }
    }
    store.close()?;
    Ok(())
}

type Measures = Vec<((&'static str, &'static str), f64)>;

/// Takes backups meanwhile.
fn phases(store: &Store, folder: &Path, lasts: Duration, phase: &AtomicUsize) -> Outcome<Measures> {
    thread::sleep(lasts);
    phase.store(1, Ordering::Relaxed);
    let (begun, mut taken, mut bytes) = (Instant::now(), 0, 0);
    while begun.elapsed() < lasts || taken == 0 {
        let path = folder.join(format!("whole-{taken}"));
        bytes = store.backup(&path, |_| Continue(()))?.bytes;
        std::fs::remove_file(&path)?;
        taken += 1;
    }
    let each = begun.elapsed().as_secs_f64() / f64::from(taken);
    phase.store(usize::MAX, Ordering::Relaxed);
    let first = folder.join("chain-0");
    store.backup(&first, |_| Continue(()))?;
    let mut chain: Vec<PathBuf> = vec![first];
    phase.store(2, Ordering::Relaxed);
    let begun = Instant::now();
    while begun.elapsed() < lasts {
        let path = folder.join(format!("chain-{}", chain.len()));
        store.backup_since(&chain, &path, |_| Continue(()))?;
        chain.push(path);
        thread::sleep(Duration::from_secs(1).min(lasts / 4));
    }
    phase.store(usize::MAX, Ordering::Relaxed);
    Ok(vec![
        (("seconds_each", "s"), each),
        (("megabytes", "MB"), bytes as f64 / 1e6),
    ])
}

fn commit(store: &Store, clients: &[ClientId], dice: &mut Dice) -> Outcome {
    let id = dice.pick(clients)?;
    let value = dice.value();
    let txn = store.begin()?;
    txn.session(id)?.pkg("app").insert("value", value)?;
    txn.commit()?;
    Ok(())
}

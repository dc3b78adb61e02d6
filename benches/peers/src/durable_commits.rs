//! Durable commits of one changed package by 1, 16 and 64 writers: rate, latency and bytes.
//!
//! The clock stops when the engine is closed, so that deferred work counts.

use crate::io;
use crate::payload::Pick;
use crate::prepared::{PreparedEngine, PreparedEngines, progress};
use crate::report::{BYTES, CALLS, DEVICE, FILE, P50, P99, RATE, RATE_OPEN, Report};
use crate::run::{self, Load, Run};
use crate::settings::Settings;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

pub(crate) fn main(settings: &Settings) -> Result<()> {
    let mut report = Report::new("durable_commits");
    let engines = PreparedEngines::of(settings, &mut report)?;
    each(settings, &engines, |peer, case, load| {
        let cost = cost(peer, load)?;
        let mut add = |metric, value| report.add(case, peer.name(), metric, value);
        add(
            RATE,
            cost.run.operations as f64 / cost.sustained.as_secs_f64(),
        );
        add(RATE_OPEN, cost.run.per_second());
        add(P50, cost.run.p50_us);
        add(P99, cost.run.p99_us);
        add(BYTES, cost.per_commit(cost.bytes));
        Ok(())
    })?;
    engines.introduce(&mut report);
    report.note("commits_per_second: until everything is in its place, closing included");
    report.finish(RATE)
}

/// The same loads, for their bytes.
pub(crate) fn bytes(settings: &Settings) -> Result<()> {
    let mut report = Report::new("bytes");
    let engines = PreparedEngines::of(settings, &mut report)?;
    each(settings, &engines, |peer, case, load| {
        let cost = cost(peer, load)?;
        let mut add = |metric, value| report.add(case, peer.name(), metric, value);
        add(BYTES, cost.per_commit(cost.bytes));
        add(CALLS, cost.per_commit(cost.calls));
        if let Some(device) = cost.device {
            add(DEVICE, cost.per_commit(device));
        }
        add(FILE, io::on_disk(&peer.site.folder)? as f64);
        Ok(())
    })?;
    engines.introduce(&mut report);
    report.note(
        "wchar: given to write calls, by /proc/PID/io; device: what reached the disk, which is",
    );
    report.note(
        "only the engine's where nobody else writes, and holds the file system's own journal",
    );
    report.finish(BYTES)
}

/// All cases on all engines, which take turns.
fn each(
    settings: &Settings,
    engines: &PreparedEngines,
    mut measure: impl FnMut(&PreparedEngine, &str, &Load) -> Result<()>,
) -> Result<()> {
    let picks = [Pick::Uniform, Pick::Hot];
    let cases: Vec<_> = picks
        .iter()
        .flat_map(|pick| settings.writers().into_iter().map(|n| (*pick, n)))
        .collect();
    let steps = settings.rounds() * cases.len() * engines.prepared.len();
    let bar = progress(steps as u64);
    for round in 0..settings.rounds() {
        for (number, (pick, threads)) in cases.iter().enumerate() {
            let load = Load {
                pick: *pick,
                threads: *threads,
                span: settings.span(),
                seed: (round * cases.len() + number) as u64 + 1,
                sessions: settings.sessions(),
            };
            let case = format!("commit/{}/{}/w{threads}", pick.name(), settings.sessions());
            for peer in &engines.prepared {
                bar.set_message(format!("{case} {}", peer.name()));
                bar.tick();
                measure(peer, &case, &load)
                    .with_context(|| format!("{case} on {}", peer.name()))?;
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// What a number of commits took.
pub(crate) struct Cost {
    pub(crate) run: Run,
    /// The run, and bringing everything to its place.
    pub(crate) sustained: Duration,
    /// As the engine counts them, else as the system does.
    pub(crate) bytes: u64,
    calls: u64,
    device: Option<u64>,
}

impl Cost {
    pub(crate) fn per_commit(&self, bytes: u64) -> f64 {
        bytes as f64 / self.run.operations as f64
    }
}

/// Opens an engine, lets it commit, closes it.
pub(crate) fn cost(peer: &PreparedEngine, load: &Load) -> Result<Cost> {
    let folder = &peer.site.folder;
    let (engine, _) = peer.open()?;
    // By reading, so that nothing is put off when the clock starts.
    run::loads(&*engine, &load.warm_up())?;
    let process = engine.process();
    let counted = engine.written()?;
    let (calls, device) = (io::written(process)?, io::device_written(folder)?);
    let run = run::commits(&*engine, load)?;
    let closing = Instant::now();
    // Of another process nothing can be known once it is gone.
    let last = process.map(|_| io::written(process)).transpose()?;
    let counted_last = engine.close()?;
    let sustained = run.time + closing.elapsed();
    let calls = last.map_or_else(|| io::written(None), Ok)? - calls;
    let device = device.zip(io::device_written(folder)?);
    Ok(Cost {
        run,
        sustained,
        bytes: counted.zip(counted_last).map_or(calls, |(a, b)| b - a),
        calls,
        device: device.map(|(before, after)| after - before),
    })
}

//! `bench`: durable commits on a disk.

use crate::args::Global;
use crate::failure::{Failure, Found, Outcome};
use crate::interrupt::Interrupt;
use crate::output::{Align, Table, json};
use crate::progress::Progress;
use cloakroom::{Result, Store};
use serde_json::json;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// With how many threads.
const THREADS: [usize; 3] = [1, 8, 32];

struct Figure {
    threads: usize,
    commits: u64,
    per_second: f64,
    median: Duration,
    p99: Duration,
}

pub(crate) fn run(
    global: &Global,
    folder: &Path,
    time: Duration,
    interrupt: &Interrupt,
) -> Outcome {
    let interrupt = interrupt.asks();
    let failed =
        |error| Failure::file(format!("{} cannot be written to", folder.display()), &error);
    // It is removed with all that is in it.
    let place = tempfile::Builder::new()
        .prefix(".cloakroom-bench-")
        .tempdir_in(folder)
        .map_err(failed)?;
    let store = Store::open(place.path().join("bench.redb"))?;
    let progress = Progress::of(THREADS.len() as u64, "durable commits");
    let mut figures = Vec::new();
    for (at, threads) in THREADS.into_iter().enumerate() {
        progress.at(at as u64);
        figures.push(measure(
            &store,
            threads,
            time / THREADS.len() as u32,
            interrupt,
        )?);
    }
    drop(progress);
    store.close()?;
    place.close().map_err(failed)?;
    if interrupt.has_come() {
        let advice = "Nothing is left of it.";
        return Err(Failure::interrupted(
            "the measurement was broken off",
            advice,
        ));
    }
    print(global, &figures)
}

fn measure(
    store: &Store,
    threads: usize,
    time: Duration,
    interrupt: &Interrupt,
) -> Outcome<Figure> {
    let begun = Instant::now();
    let spans = thread::scope(|scope| {
        let workers = (0..threads).map(|_| scope.spawn(|| commits(store, time, interrupt)));
        let workers: Vec<_> = workers.collect();
        let spans = workers.into_iter().map(|worker| worker.join());
        spans
            .map(|spans| spans.unwrap_or_else(|_| Ok(Vec::new())))
            .collect::<Result<Vec<_>>>()
    });
    let elapsed = begun.elapsed();
    let mut spans: Vec<_> = spans?.into_iter().flatten().collect();
    spans.sort_unstable();
    let at = |share: usize| {
        spans
            .get(spans.len().saturating_sub(1) * share / 100)
            .copied()
    };
    Ok(Figure {
        threads,
        commits: spans.len() as u64,
        per_second: spans.len() as f64 / elapsed.as_secs_f64(),
        median: at(50).unwrap_or_default(),
        p99: at(99).unwrap_or_default(),
    })
}

/// How long each commit took, in a session of its own.
fn commits(store: &Store, time: Duration, interrupt: &Interrupt) -> Result<Vec<Duration>> {
    let id = store.client_ids().issue();
    let begun = Instant::now();
    let mut spans = Vec::new();
    while begun.elapsed() < time && !interrupt.has_come() {
        let at = Instant::now();
        store.transact(|txn| txn.session(&id)?.pkg("bench").add("n", 1))?;
        spans.push(at.elapsed());
    }
    Ok(spans)
}

fn print(global: &Global, figures: &[Figure]) -> Outcome {
    if global.json {
        let figures = figures.iter().map(|it| {
            json!({
                "threads": it.threads, "commits": it.commits, "commits_per_second": it.per_second.round(),
                "median_us": it.median.as_micros() as u64, "p99_us": it.p99.as_micros() as u64,
            })
        });
        json(&figures.collect::<Vec<_>>())?;
        return Ok(Found::Nothing);
    }
    let right = |head| (head, Align::Right);
    let mut table = Table::new(&[
        right("THREADS"),
        right("COMMITS/S"),
        right("MEDIAN"),
        right("99 %"),
    ]);
    for figure in figures {
        let millis = |span: Duration| format!("{:.2} ms", span.as_secs_f64() * 1000.0);
        table.row([
            figure.threads.to_string(),
            format!("{:.0}", figure.per_second),
            millis(figure.median),
            millis(figure.p99),
        ]);
    }
    table.print()?;
    Ok(Found::Nothing)
}

//! What the benches share: how long to run, medians, the table, the JSON file, and the same sessions
//! in a store of ours and in plain redb.

pub(crate) mod raw;

use cloakroom::{ClientId, Clock, Store};
use serde_json::json;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

pub(crate) const PACKAGES: [&str; 2] = ["cart", "profile"];
pub(crate) const KEY: &str = "data";
pub(crate) const VALUE_LEN: usize = 300;

/// How much to do: all (`cargo bench`), a part (`-- --quick`), or a handful, where `cargo test` only
/// wants to see that it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    Full,
    Quick,
    Smoke,
}

impl Effort {
    pub(crate) fn from_args() -> Self {
        let has = |flag| std::env::args().any(|arg| arg == flag);
        if has("--test") || !has("--bench") {
            Self::Smoke
        } else if has("--quick") {
            Self::Quick
        } else {
            Self::Full
        }
    }

    /// `full`, a tenth of it, or next to nothing.
    pub(crate) fn scaled(self, full: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => (full / 10).max(1),
            Self::Smoke => (full / 1000).clamp(1, 100),
        }
    }

    /// Sessions are what a case is named after, so only a smoke run has fewer.
    pub(crate) fn sessions(self, full: usize) -> usize {
        match self {
            Self::Full | Self::Quick => full,
            Self::Smoke => full.min(200),
        }
    }

    fn rounds(self) -> usize {
        match self {
            Self::Full => 3,
            Self::Quick | Self::Smoke => 1,
        }
    }
}

struct Row {
    case: String,
    engine: String,
    metric: String,
    unit: String,
    values: Vec<f64>,
}

/// Collects values, round by round, and shows their medians.
pub(crate) struct Report {
    name: &'static str,
    effort: Effort,
    rows: Vec<Row>,
    targets: Vec<String>,
}

impl Report {
    pub(crate) fn new(name: &'static str, effort: Effort) -> Self {
        Self {
            name,
            effort,
            rows: Vec::new(),
            targets: Vec::new(),
        }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.effort.rounds()
    }

    /// One round's value of a metric; its unit stands behind it, as in `("syncs_per_commit", "syncs")`.
    pub(crate) fn add(&mut self, case: &str, engine: &str, metric: (&str, &str), value: f64) {
        let known = self
            .rows
            .iter_mut()
            .find(|r| r.case == case && r.engine == engine && r.metric == metric.0);
        match known {
            Some(row) => row.values.push(value),
            None => self.rows.push(Row {
                case: case.to_owned(),
                engine: engine.to_owned(),
                metric: metric.0.to_owned(),
                unit: metric.1.to_owned(),
                values: vec![value],
            }),
        }
    }

    pub(crate) fn median(&self, case: &str, engine: &str, metric: &str) -> Option<f64> {
        let same = |r: &&Row| r.case == case && r.engine == engine && r.metric == metric;
        self.rows.iter().find(same).map(|row| median(&row.values))
    }

    /// Puts a figure beside what it should be at least.
    pub(crate) fn at_least(&mut self, what: &str, value: Option<f64>, target: f64) {
        self.target(what, value, target, "at least", |v| v >= target);
    }

    /// Puts a figure beside what it should be at most.
    pub(crate) fn at_most(&mut self, what: &str, value: Option<f64>, target: f64) {
        self.target(what, value, target, "at most", |v| v <= target);
    }

    fn target(
        &mut self,
        what: &str,
        value: Option<f64>,
        target: f64,
        bound: &str,
        met: impl Fn(f64) -> bool,
    ) {
        let value = value.unwrap_or(f64::NAN);
        let verdict = if met(value) { "reached" } else { "MISSED" };
        let (value, target) = (number(value), number(target));
        self.targets.push(format!(
            "{what:<58} {value:>12}   {bound} {target}: {verdict}"
        ));
    }

    /// Prints the table and, unless this is a smoke run, writes `target/bench/NAME.json`.
    pub(crate) fn finish(self) -> Outcome {
        print!("{}", self.table()?);
        if self.effort == Effort::Smoke {
            println!("(a smoke run: the figures mean nothing and are not kept)");
            return Ok(());
        }
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "case": row.case,
                    "engine": row.engine,
                    "metric": row.metric,
                    "unit": row.unit,
                    "value": median(&row.values),
                })
            })
            .collect();
        let path = bench_dir()?.join(format!("{}.json", self.name));
        std::fs::write(&path, serde_json::to_string_pretty(&rows)? + "\n")?;
        println!("written to {}", path.display());
        Ok(())
    }

    fn table(&self) -> Result<String, std::fmt::Error> {
        let mut out = format!("\n{}: medians of {}\n\n", self.name, self.effort.rounds());
        for row in &self.rows {
            let value = number(median(&row.values));
            let (case, engine) = (&row.case, &row.engine);
            let (metric, unit) = (&row.metric, &row.unit);
            writeln!(
                out,
                "{case:<38} {engine:<18} {metric:<24} {value:>14} {unit}"
            )?;
        }
        out.push('\n');
        if self.effort != Effort::Smoke {
            for target in &self.targets {
                writeln!(out, "{target}")?;
            }
        }
        Ok(out)
    }
}

/// `a / b`, where both were measured.
pub(crate) fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? / b?)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Enough digits to compare, and no more.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => grouped(value),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `target/bench`, which is on the disk that the build is on.
pub(crate) fn bench_dir() -> Outcome<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    let dir = target.join("bench");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A folder for the files of one run, gone with it.
pub(crate) fn scratch() -> Outcome<tempfile::TempDir> {
    Ok(tempfile::tempdir_in(bench_dir()?)?)
}

/// Numbers that look random and are the same in each run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Outcome<&'a T> {
        let at = self.roll() % from.len().max(1) as u64;
        Ok(from.get(at as usize).ok_or("nothing to pick from")?)
    }

    /// A value of `VALUE_LEN` bytes that was not there before.
    pub(crate) fn value(&mut self) -> String {
        format!("{:0width$x}", self.roll(), width = VALUE_LEN)
    }
}

/// A clock that stands still, so that no access time is due unless it is moved.
pub(crate) fn still_clock() -> Outcome<Clock> {
    Ok(Clock::manual("2026-01-01T00:00:00Z".parse()?))
}

/// A store of ours in `path`, in which nothing happens by itself.
pub(crate) fn open(path: &Path, clock: &Clock) -> Outcome<Store> {
    let builder = Store::builder().clock(clock.clone());
    // What comes by itself would fall into one case or another.
    let builder = builder.checkpoint_interval(Duration::from_secs(3600));
    Ok(builder.implicit_sweeps(false).open(path)?)
}

/// Makes `count` sessions of two packages, 1,000 a commit.
pub(crate) fn fill(store: &Store, count: usize) -> Outcome<Vec<ClientId>> {
    let mut dice = Dice::new(1);
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let txn = store.begin()?;
        for _ in 0..(count - clients.len()).min(1000) {
            let id = store.client_ids().issue();
            let session = txn.session(&id)?;
            for package in PACKAGES {
                session.pkg(package).insert(KEY, dice.value())?;
            }
            clients.push(id);
        }
        txn.commit()?;
    }
    Ok(clients)
}

/// Runs `work` on `threads` threads at once, each with its number, and takes the time from the
/// start of the first to the end of the last.
pub(crate) fn timed(threads: usize, work: impl Fn(usize) -> Outcome + Sync) -> Outcome<Duration> {
    let ready = Barrier::new(threads);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|number| {
                let (ready, work) = (&ready, &work);
                scope.spawn(move || {
                    ready.wait();
                    let start = Instant::now();
                    work(number).map_err(|e| e.to_string())?;
                    Ok::<_, String>((start, Instant::now()))
                })
            })
            .collect();
        let mut spans = Vec::with_capacity(threads);
        for thread in running {
            let span = thread
                .join()
                .map_err(|_| "a thread of the bench panicked")?;
            spans.push(span?);
        }
        let start = spans.iter().map(|(start, _)| *start).min();
        let end = spans.iter().map(|(_, end)| *end).max();
        let (start, end) = start.zip(end).ok_or("no threads to time")?;
        Ok(end - start)
    })
}

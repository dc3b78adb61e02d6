//! Collects values round by round; shows their medians as tables and writes them as JSON.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A metric and its unit.
pub(crate) type Metric = (&'static str, &'static str);

pub(crate) const RATE: Metric = ("commits_per_second", "1/s");
/// The same, where the clock stops before the engine has brought everything to its place.
pub(crate) const RATE_OPEN: Metric = ("commits_per_second_open", "1/s");
pub(crate) const BYTES: Metric = ("bytes_per_commit", "B");
/// By the system's count of write calls, for all engines alike.
pub(crate) const CALLS: Metric = ("wchar_per_commit", "B");
/// By the system's count of what reached the disk, from whomever.
pub(crate) const DEVICE: Metric = ("device_bytes_per_commit", "B");
pub(crate) const P50: Metric = ("p50_us", "us");
pub(crate) const P99: Metric = ("p99_us", "us");
pub(crate) const LOADS: Metric = ("loads_per_second", "1/s");
pub(crate) const OPEN: Metric = ("open_ms", "ms");
pub(crate) const REQUESTS: Metric = ("requests_per_second", "1/s");
pub(crate) const FILE: Metric = ("file_bytes", "B");

/// The engine that all others are measured against.
const LIMIT: &str = "log";

struct Row {
    case: String,
    engine: String,
    metric: Metric,
    values: Vec<f64>,
}

pub(crate) struct Report {
    name: &'static str,
    rows: Vec<Row>,
    notes: Vec<String>,
    limit: &'static str,
}

impl Report {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            rows: Vec::new(),
            notes: Vec::new(),
            limit: LIMIT,
        }
    }

    /// Another engine to measure against.
    pub(crate) fn against(self, limit: &'static str) -> Self {
        Self { limit, ..self }
    }

    /// One round's value.
    pub(crate) fn add(&mut self, case: &str, engine: &str, metric: Metric, value: f64) {
        let known = self
            .rows
            .iter_mut()
            .find(|r| r.case == case && r.engine == engine && r.metric == metric);
        match known {
            Some(row) => row.values.push(value),
            None => self.rows.push(Row {
                case: case.to_owned(),
                engine: engine.to_owned(),
                metric,
                values: vec![value],
            }),
        }
    }

    /// A line under the tables.
    pub(crate) fn note(&mut self, line: impl Into<String>) {
        self.notes.push(line.into());
    }

    fn median(&self, case: &str, engine: &str, metric: Metric) -> Option<f64> {
        let same = |r: &&Row| r.case == case && r.engine == engine && r.metric == metric;
        self.rows.iter().find(same).map(|row| median(&row.values))
    }

    /// Prints one table a case and writes `target/bench/peers-NAME.json`. The ratios to the limit are
    /// those of `main`: medians of the ratios of the rounds.
    pub(crate) fn finish(mut self, main: Metric) -> Result<()> {
        self.add_ratios(main);
        print!("{}", self.tables()?);
        let path = bench_dir()?.join(format!("peers-{}.json", self.name));
        let rows: Vec<_> = self.rows.iter().map(as_json).collect();
        std::fs::write(&path, serde_json::to_string_pretty(&rows)? + "\n")?;
        println!("written to {}", path.display());
        Ok(())
    }

    fn add_ratios(&mut self, main: Metric) {
        let ratios: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.metric == main)
            .filter_map(|row| {
                let same =
                    |r: &&Row| r.case == row.case && r.engine == self.limit && r.metric == main;
                let limit = &self.rows.iter().find(same)?.values;
                // Those of a round ran right after one another.
                let rounds = row.values.iter().zip(limit);
                let ratios: Vec<_> = rounds.map(|(value, limit)| value / limit).collect();
                Some((row.case.clone(), row.engine.clone(), ratios))
            })
            .collect();
        let metric = match self.limit {
            LIMIT => ("ratio_to_log", "x"),
            "sqlite" => ("ratio_to_sqlite", "x"),
            "tower-sessions-postgres" => ("ratio_to_tower_sessions", "x"),
            _ => ("ratio_to_bare", "x"),
        };
        for (case, engine, ratios) in ratios {
            for ratio in ratios {
                self.add(&case, &engine, metric, ratio);
            }
        }
    }

    fn tables(&self) -> Result<String> {
        let rounds = self.rows.iter().map(|r| r.values.len()).max().unwrap_or(0);
        let mut out = format!("\n{}: medians of {rounds}\n", self.name);
        for case in distinct(self.rows.iter().map(|r| r.case.as_str())) {
            let rows = || self.rows.iter().filter(|r| r.case == case);
            let metrics = distinct(rows().map(|r| r.metric));
            write!(out, "\n{case:<24}")?;
            for (name, _) in &metrics {
                write!(out, " {name:>width$}", width = width(name))?;
            }
            out.push('\n');
            for engine in distinct(rows().map(|r| r.engine.as_str())) {
                write!(out, "{engine:<24}")?;
                for metric in &metrics {
                    let value = self.median(case, engine, *metric);
                    let text = value.map_or("-".to_owned(), number);
                    write!(out, " {text:>width$}", width = width(metric.0))?;
                }
                out.push('\n');
            }
        }
        out.push('\n');
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        Ok(out)
    }
}

fn width(name: &str) -> usize {
    name.len().max(12)
}

fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

fn as_json(row: &Row) -> Value {
    let (metric, unit) = row.metric;
    json!({
        "case": row.case,
        "engine": row.engine,
        "metric": metric,
        "unit": unit,
        "value": median(&row.values),
    })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Enough digits to compare, and no more.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => grouped(value),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
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

/// The top of the repository, as it was when this was built.
pub(crate) fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).context("no repository around")?;
    Ok(root.to_owned())
}

/// `target/bench`, which is on the disk that the build is on.
pub(crate) fn bench_dir() -> Result<PathBuf> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => root()?.join("target"),
    };
    let dir = target.join("bench");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

//! Writers that commit all the time, while another operation runs for a part of it.

use crate::payload::Dice;
use crate::report::{Metric, P99, Report};
use crate::run::percentile;
use anyhow::{Result, anyhow};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const P99_ALONE: Metric = ("p99_alone_us", "us");
const FACTOR: Metric = ("p99_factor", "x");
const LONGEST: Metric = ("longest_commit_ms", "ms");

/// What the writers felt of it.
pub(crate) struct Beside {
    /// How long it went on.
    pub(crate) time: Duration,
    /// Commits before it began, in tenths of a microsecond.
    alone: Vec<u32>,
    /// Those that any part of it fell into.
    during: Vec<u32>,
}

impl Beside {
    pub(crate) fn commits_alone(&self) -> usize {
        self.alone.len()
    }

    pub(crate) fn report(&mut self, report: &mut Report, case: &str, engine: &str) {
        let (during, alone) = (
            percentile(&mut self.during, 99),
            percentile(&mut self.alone, 99),
        );
        report.add(case, engine, P99, during);
        report.add(case, engine, P99_ALONE, alone);
        report.add(case, engine, FACTOR, during / alone);
        let longest = self.during.iter().max().copied().unwrap_or_default();
        report.add(case, engine, LONGEST, f64::from(longest) / 1e4);
    }
}

/// Lets the writers be alone for a while, then does `work`.
pub(crate) fn beside<C: FnMut(&mut Dice) -> Result<()> + Send>(
    writers: Vec<C>,
    alone: Duration,
    work: impl FnOnce() -> Result<()>,
) -> Result<Beside> {
    let done = AtomicBool::new(false);
    let done = &done;
    thread::scope(|scope| {
        let writers: Vec<_> = writers
            .into_iter()
            .zip(9..)
            .map(|(mut commit, seed)| {
                scope.spawn(move || -> Result<Vec<(Instant, Instant)>> {
                    let mut dice = Dice::new(seed);
                    let mut commits = Vec::with_capacity(1 << 16);
                    while !done.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        commit(&mut dice)?;
                        commits.push((start, Instant::now()));
                    }
                    Ok(commits)
                })
            })
            .collect();
        thread::sleep(alone);
        let start = Instant::now();
        let result = work();
        let end = Instant::now();
        done.store(true, Ordering::Relaxed);
        let (mut alone, mut during) = (Vec::new(), Vec::new());
        for writer in writers {
            let commits = writer
                .join()
                .map_err(|_| anyhow!("the writer panicked"))??;
            for (from, to) in commits {
                let tenths = u32::try_from((to - from).as_nanos() / 100).unwrap_or(u32::MAX);
                if to < start {
                    alone.push(tenths);
                } else if from < end {
                    during.push(tenths);
                }
            }
        }
        result?;
        Ok(Beside {
            time: end - start,
            alone,
            during,
        })
    })
}

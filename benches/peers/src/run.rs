//! Runs writers or readers for some time, and measures it.

use crate::engine::{Engine, Reader, Writer};
use crate::payload::{Dice, Pick, value};
use anyhow::{Context, Result, anyhow};
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// What to do, and how long.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) pick: Pick,
    pub(crate) threads: usize,
    pub(crate) span: Span,
    pub(crate) seed: u64,
    pub(crate) sessions: usize,
}

#[derive(Clone, Copy)]
pub(crate) enum Span {
    For(Duration),
    /// As many operations, by all threads together.
    Operations(usize),
}

impl Load {
    /// The same for a short time and on two threads, before the clock runs.
    pub(crate) fn warm_up(self) -> Self {
        let span = match self.span {
            Span::For(time) => Span::For(time.mul_f64(0.1)),
            Span::Operations(count) => Span::Operations(count.div_ceil(10)),
        };
        let seed = self.seed ^ 0xffff_0000;
        let threads = self.threads.min(2);
        Self {
            span,
            seed,
            threads,
            ..self
        }
    }
}

/// What came of it.
pub(crate) struct Run {
    pub(crate) operations: u64,
    pub(crate) time: Duration,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Run {
    pub(crate) fn per_second(&self) -> f64 {
        self.operations as f64 / self.time.as_secs_f64()
    }
}

/// Commits, each of one changed package.
pub(crate) fn commits(engine: &dyn Engine, load: &Load) -> Result<Run> {
    if let Some(run) = engine.commits(load)? {
        return Ok(run);
    }
    let writers: Vec<_> = (0..load.threads)
        .map(|_| engine.writer())
        .collect::<Result<_>>()?;
    let steps = writers.into_iter().map(|mut commit: Writer<'_>| {
        move |session: usize, dice: &mut Dice| commit(session, &value(dice.roll()))
    });
    run(load, steps.collect())
}

/// Loads of a session with two packages.
pub(crate) fn loads(engine: &dyn Engine, load: &Load) -> Result<Run> {
    if let Some(run) = engine.loads(load)? {
        return Ok(run);
    }
    let readers: Vec<_> = (0..load.threads)
        .map(|_| engine.reader())
        .collect::<Result<_>>()?;
    let steps = readers.into_iter().map(|mut read: Reader<'_>| {
        move |session: usize, _: &mut Dice| {
            let mut seen = 0;
            read(session, &mut |value| {
                black_box(value);
                seen += 1;
            })?;
            match seen {
                2 => Ok(()),
                seen => Err(anyhow!("a session with {seen} packages")),
            }
        }
    });
    run(load, steps.collect())
}

/// Each of `steps` on a thread of its own; from the start of the first to the end of the last.
fn run<S>(load: &Load, steps: Vec<S>) -> Result<Run>
where
    S: FnMut(usize, &mut Dice) -> Result<()> + Send,
{
    let ready = Barrier::new(steps.len());
    let share = load.threads.max(1);
    let done: Vec<Done> = thread::scope(|scope| {
        let running: Vec<_> = steps
            .into_iter()
            .enumerate()
            .map(|(number, step)| {
                let ready = &ready;
                scope.spawn(move || one_thread(load, number, share, step, ready))
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
            .collect::<Result<_>>()
    })?;
    let start = done.iter().map(|d| d.start).min().context("no threads")?;
    let end = done.iter().map(|d| d.end).max().context("no threads")?;
    let mut micros: Vec<u32> = done.into_iter().flat_map(|d| d.tenths).collect();
    let operations = micros.len() as u64;
    Ok(Run {
        operations,
        time: end - start,
        p50_us: percentile(&mut micros, 50),
        p99_us: percentile(&mut micros, 99),
    })
}

struct Done {
    start: Instant,
    end: Instant,
    /// How long each took, in tenths of a microsecond.
    tenths: Vec<u32>,
}

fn one_thread(
    load: &Load,
    number: usize,
    share: usize,
    mut step: impl FnMut(usize, &mut Dice) -> Result<()>,
    ready: &Barrier,
) -> Result<Done> {
    let mut dice = Dice::new(load.seed * 1000 + number as u64);
    let (deadline, most) = match load.span {
        Span::For(time) => (time, usize::MAX),
        Span::Operations(count) => (Duration::MAX, count.div_ceil(share)),
    };
    let mut tenths = Vec::with_capacity(1 << 16);
    ready.wait();
    let start = Instant::now();
    let mut end = start;
    while end - start < deadline && tenths.len() < most {
        let session = dice.pick(load.pick, load.sessions);
        step(session, &mut dice)?;
        let now = Instant::now();
        let took = (now - end).as_nanos() / 100;
        tenths.push(u32::try_from(took).unwrap_or(u32::MAX));
        end = now;
    }
    Ok(Done { start, end, tenths })
}

/// In microseconds.
pub(crate) fn percentile(tenths: &mut [u32], percent: usize) -> f64 {
    if tenths.is_empty() {
        return f64::NAN;
    }
    let at = (tenths.len() * percent / 100).min(tenths.len() - 1);
    let (_, value, _) = tenths.select_nth_unstable(at);
    f64::from(*value) / 10.0
}

//! Some clients that do a work for some time.

use super::side::Side;
use super::{OPERATIONS, Work};
use crate::payload::Dice;
use crate::report::{Metric, P50, P99};
use crate::run::percentile;
use anyhow::{Context, Result};
use cloakroom_postgres_server::{Server, processor_time};
use std::time::{Duration, Instant};

/// Of the process of the application.
pub(super) const OWN_PROCESSOR: Metric = ("application_cpu_us", "us");
pub(super) const SERVER_PROCESSOR: Metric = ("server_cpu_us", "us");
/// So many changes are prepared at once before their commits are measured.
const PREPARED: usize = 4096;

pub(super) type Measured = Vec<(Metric, f64)>;

#[derive(Clone, Copy)]
pub(super) struct Measure {
    pub(super) work: Work,
    pub(super) clients: usize,
    pub(super) time: Duration,
    pub(super) seed: u64,
}

/// The operations of some clients.
#[derive(Default)]
struct Done {
    /// How long each took, in tenths of a microsecond.
    tenths: Vec<u32>,
    time: Duration,
    used: UsedProcessor,
}

/// The processor time that was used.
#[derive(Clone, Copy, Default)]
pub(super) struct UsedProcessor {
    own: Duration,
    server: Duration,
}

impl UsedProcessor {
    /// By now.
    pub(super) fn of(server: &Server) -> Result<Self> {
        let own = processor_time(std::process::id());
        Ok(Self {
            own: own.context("no /proc/self/stat")?,
            server: server.processor_time(),
        })
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            own: self.own.saturating_sub(before.own),
            server: self.server.saturating_sub(before.server),
        }
    }

    pub(super) fn metrics(self, operations: f64) -> [(Metric, f64); 2] {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / operations;
        [
            (OWN_PROCESSOR, each(self.own)),
            (SERVER_PROCESSOR, each(self.server)),
        ]
    }
}

impl Measure {
    /// Warms up, then measures.
    pub(super) async fn run(self, side: &Side, server: &Server) -> Result<Measured> {
        self.phases(side, server, self.time.mul_f64(0.1)).await?;
        let mut done = self.phases(side, server, self.time).await?;
        let operations = done.tenths.len() as f64;
        let mut measured = vec![
            (OPERATIONS, operations / done.time.as_secs_f64()),
            (P50, percentile(&mut done.tenths, 50)),
            (P99, percentile(&mut done.tenths, 99)),
        ];
        measured.extend(done.used.metrics(operations));
        Ok(measured)
    }

    /// Runs until the measured phases have taken so much time together.
    async fn phases(self, side: &Side, server: &Server, time: Duration) -> Result<Done> {
        let mut all = Done::default();
        let mut phase = 0;
        while all.time < time {
            let left = time.saturating_sub(all.time);
            let seed = self.seed * 1_000_000 + phase;
            let done = match self.work {
                Work::Commit => self.commits(side, server, seed).await?,
                _ => self.transactions(side, server, (seed, left)).await?,
            };
            all.tenths.extend(done.tenths);
            all.time += done.time;
            all.used.own += done.used.own;
            all.used.server += done.used.server;
            phase += 1;
        }
        Ok(all)
    }

    /// Whole transactions.
    async fn transactions(
        self,
        side: &Side,
        server: &Server,
        (seed, time): (u64, Duration),
    ) -> Result<Done> {
        let (begun, before) = (Instant::now(), UsedProcessor::of(server)?);
        let deadline = begun + time;
        let running: Vec<_> = (0..self.clients as u64)
            .map(|client| {
                let side = side.clone();
                let mut dice = Dice::new(seed * 1000 + client);
                tokio::spawn(async move {
                    let mut tenths = Vec::new();
                    let mut begun = Instant::now();
                    while begun < deadline {
                        let prepared = side.prepare(self.work, &mut dice).await?;
                        match prepared.finish(self.work).await {
                            // Two clients have met in one session. Ours tells, and the work is done again.
                            Err(error) if is_conflict(&error) => {}
                            Err(error) => return Err(error),
                            Ok(()) => begun = note(&mut tenths, begun),
                        }
                    }
                    Ok::<_, anyhow::Error>(tenths)
                })
            })
            .collect();
        let mut tenths = Vec::new();
        for client in running {
            tenths.extend(client.await??);
        }
        Ok(Done {
            tenths,
            time: begun.elapsed(),
            used: UsedProcessor::of(server)?.since(before),
        })
    }

    /// The commits of transactions that are prepared before.
    async fn commits(self, side: &Side, server: &Server, seed: u64) -> Result<Done> {
        let mut prepared = Vec::new();
        for client in 0..self.clients as u64 {
            let side = side.clone();
            let mut dice = Dice::new(seed * 1000 + client);
            prepared.push(tokio::spawn(async move {
                let mut changes = Vec::new();
                for _ in 0..PREPARED / self.clients {
                    changes.push(side.prepare(self.work, &mut dice).await?);
                }
                Ok::<_, anyhow::Error>(changes)
            }));
        }
        let mut ready = Vec::new();
        for client in prepared {
            ready.push(client.await??);
        }
        let (begun, before) = (Instant::now(), UsedProcessor::of(server)?);
        let running: Vec<_> = ready
            .into_iter()
            .map(|changes| {
                tokio::spawn(async move {
                    let mut tenths = Vec::with_capacity(changes.len());
                    let mut begun = Instant::now();
                    for change in changes {
                        change.finish(self.work).await?;
                        begun = note(&mut tenths, begun);
                    }
                    Ok::<_, anyhow::Error>(tenths)
                })
            })
            .collect();
        let mut tenths = Vec::new();
        for client in running {
            tenths.extend(client.await??);
        }
        Ok(Done {
            tenths,
            time: begun.elapsed(),
            used: UsedProcessor::of(server)?.since(before),
        })
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<cloakroom::Error>();
    error.is_some_and(cloakroom::Error::is_conflict)
}

/// Notes how long an operation took that ends now.
fn note(tenths: &mut Vec<u32>, begun: Instant) -> Instant {
    let now = Instant::now();
    let took = (now - begun).as_nanos() / 100;
    tenths.push(u32::try_from(took).unwrap_or(u32::MAX));
    now
}

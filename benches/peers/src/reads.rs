//! Loads of a session and its two packages, all in cache.

use crate::payload::Pick;
use crate::prepared::{PreparedEngines, progress};
use crate::report::{LOADS, P50, P99, Report};
use crate::run::{self, Load};
use crate::settings::Settings;
use anyhow::{Context, Result};

const READERS: [usize; 2] = [1, 2];

pub(crate) fn main(settings: &Settings) -> Result<()> {
    let mut report = Report::new("reads");
    let engines = PreparedEngines::of(settings, &mut report)?;
    let steps = settings.rounds() * READERS.len() * engines.prepared.len();
    let bar = progress(steps as u64);
    for round in 0..settings.rounds() {
        for threads in READERS {
            let load = Load {
                pick: Pick::Uniform,
                threads,
                span: settings.span(),
                seed: round as u64 + 1,
                sessions: settings.sessions(),
            };
            let case = format!("load-two/uniform/{}/w{threads}", settings.sessions());
            for peer in &engines.prepared {
                let name = peer.name();
                bar.set_message(format!("{case} {name}"));
                bar.tick();
                let (engine, _) = peer.open()?;
                run::loads(&*engine, &load.warm_up())?;
                let run =
                    run::loads(&*engine, &load).with_context(|| format!("{case} on {name}"))?;
                engine.close()?;
                report.add(&case, name, LOADS, run.per_second());
                report.add(&case, name, P50, run.p50_us);
                report.add(&case, name, P99, run.p99_us);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    engines.introduce(&mut report);
    report.note("the log answers from an index in memory, as it was when it was opened");
    report.finish(LOADS)
}

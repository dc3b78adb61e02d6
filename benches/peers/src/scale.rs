//! The cost of operations as the store grows.

use crate::durable_commits::cost;
use crate::engine::Site;
use crate::engines;
use crate::engines::cloakroom::{open_store, still_clock};
use crate::io;
use crate::payload::Pick;
use crate::prepared::{PreparedEngines, progress};
use crate::report::{BYTES, FILE, Metric, OPEN, Report};
use crate::run::{self, Load};
use crate::settings::Settings;
use anyhow::{Result, ensure};
use clap::Args;
use std::time::Instant;

/// Sessions that a sweep looks at in one step.
const STEP: f64 = 10_000.0;
const COMMIT: Metric = ("commit_us", "us");
const LOAD: Metric = ("load_us", "us");
const SWEEP: Metric = ("sweep_step_ms", "ms");

#[derive(Args)]
pub(crate) struct Scale {
    #[command(flatten)]
    settings: Settings,
    /// Up to how many sessions: 1,000, 100,000, 1,000,000, 10,000,000.
    #[arg(long, default_value_t = 1_000_000)]
    to: usize,
}

pub(crate) fn main(scale: &Scale) -> Result<()> {
    let mut report = Report::new("scale");
    let settings = &scale.settings;
    let names = match &*settings.engines {
        [] => vec!["cloakroom".to_owned()],
        named => named.to_vec(),
    };
    let peers = engines::named(&names)?;
    for sessions in [1_000, 100_000, 1_000_000, 10_000_000] {
        if sessions > scale.to {
            break;
        }
        let engines = PreparedEngines::make(&peers, sessions, &mut report)?;
        let bar = progress((settings.rounds() * engines.prepared.len()) as u64);
        for round in 0..settings.rounds() {
            for peer in &engines.prepared {
                let name = peer.name();
                bar.set_message(format!("{sessions} sessions: {name}"));
                bar.tick();
                let case = format!("scale/uniform/{sessions}/w1");
                let load = |threads| Load {
                    pick: Pick::Uniform,
                    threads,
                    span: settings.span(),
                    seed: round as u64 + 1,
                    sessions,
                };
                let (engine, open) = peer.open()?;
                report.add(&case, name, OPEN, open.as_secs_f64() * 1e3);
                run::loads(&*engine, &load(1).warm_up())?;
                let loads = run::loads(&*engine, &load(1))?;
                engine.close()?;
                report.add(&case, name, LOAD, 1e6 / loads.per_second());
                for threads in [1, 64] {
                    let case = format!("scale/uniform/{sessions}/w{threads}");
                    let cost = cost(peer, &load(threads))?;
                    let each = cost.sustained.as_secs_f64() / cost.run.operations as f64;
                    report.add(&case, name, COMMIT, each * 1e6);
                    report.add(&case, name, BYTES, cost.per_commit(cost.bytes));
                }
                if name == "cloakroom" {
                    report.add(&case, name, SWEEP, sweep_step(&peer.site)?);
                }
                let file = io::on_disk(&peer.site.folder)?;
                report.add(&case, name, FILE, file as f64);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
    }
    report.note(
        "commit_us: time of the run, closing included, by commits; load_us likewise, two packages",
    );
    report.note(
        "sweep_step_ms: of 10,000 sessions with nothing stale; file_bytes: after the last close",
    );
    report.finish(COMMIT)
}

/// The time of a sweep that finds nothing, for as many sessions as it takes in a step.
fn sweep_step(site: &Site) -> Result<f64> {
    let store = open_store(site, &still_clock()?)?;
    let container = store.container("")?;
    container.sweep()?;
    let start = Instant::now();
    let swept = container.sweep()?;
    let time = start.elapsed().as_secs_f64();
    ensure!(swept.removed == 0, "a session went that had not expired");
    store.close()?;
    Ok(time * 1e3 * STEP / swept.scanned as f64)
}

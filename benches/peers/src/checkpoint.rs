//! The effect of a checkpoint of cloakroom on concurrent commits.

use crate::beside::beside;
use crate::engine::Site;
use crate::engines;
use crate::engines::cloakroom::{clients, still_clock};
use crate::payload::{Dice, KEY, PACKAGES, Pick, value};
use crate::prepared::{PreparedEngines, progress};
use crate::report::{Metric, Report};
use crate::run::Span;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use cloakroom::Store;
use std::time::Duration;

const WRITERS: [usize; 2] = [1, 64];
const SECONDS: Metric = ("seconds_per_checkpoint", "s");
const COMMITS: Metric = ("commits_before", "commits");
/// So that no other checkpoint is made than the one that is measured.
const ROOM: usize = 8 << 30;

pub(crate) fn main(settings: &Settings) -> Result<()> {
    let mut report = Report::new("checkpoint");
    let sessions = settings.sessions();
    let Span::For(alone) = settings.span() else {
        bail!("commits go on for a time, not for a number of operations");
    };
    let engines = PreparedEngines::make(
        &engines::named(&["cloakroom".to_owned()])?,
        sessions,
        &mut report,
    )?;
    let bar = progress((settings.rounds() * WRITERS.len() * engines.prepared.len()) as u64);
    for _ in 0..settings.rounds() {
        for writers in WRITERS {
            let case = format!("checkpoint/uniform/{sessions}/w{writers}");
            for peer in &engines.prepared {
                bar.set_message(case.clone());
                bar.tick();
                measure(&peer.site, &case, (writers, alone), &mut report)?;
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    report.note(
        "one checkpoint of all that was committed before it, and what the writers felt of it:",
    );
    report.note(
        "p99_us, longest_commit_ms: of commits that any part of it fell into; p99_alone_us: before",
    );
    report.finish(SECONDS)
}

fn measure(
    site: &Site,
    case: &str,
    (writers, alone): (usize, Duration),
    report: &mut Report,
) -> Result<()> {
    let store = Store::builder()
        .clock(still_clock()?)
        .implicit_sweeps(false)
        .journal_size(ROOM as u64)
        .unmerged_memory(ROOM)
        .checkpoint_interval(Duration::from_secs(86_400))
        .open(site.folder.join("sessions.redb"))?;
    let clients = clients(site, &store)?;
    let [package, _] = PACKAGES;
    let (store, clients) = (&store, &clients);
    let writers = (0..writers).map(|_| {
        move |dice: &mut Dice| -> Result<()> {
            let number = dice.pick(Pick::Uniform, clients.len());
            let client = clients.get(number).context("no such session")?;
            let txn = store.begin()?;
            let package = txn.session(client)?.pkg(package);
            package.insert(KEY, value(dice.roll()))?;
            Ok(txn.commit()?)
        }
    });
    let mut felt = beside(writers.collect(), alone, || Ok(store.checkpoint()?))?;
    report.add(case, "cloakroom", SECONDS, felt.time.as_secs_f64());
    report.add(case, "cloakroom", COMMITS, felt.commits_alone() as f64);
    felt.report(report, case, "cloakroom");
    Ok(store.clone().close()?)
}

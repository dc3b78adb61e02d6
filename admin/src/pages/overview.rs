//! How the store does.

use super::Answer;
use crate::admin::App;
use crate::census::{Counted, Known};
use crate::entry::Visit;
use crate::failure::Failure;
use crate::forms::{bytes, number};
use crate::health::{Finding, Signs};
use crate::plot::Plot;
use crate::sampler::{Rates, Sample};
use cloakroom::Statistics;
use serde::Serialize;

/// The counters that the page shows, and their names in JSON.
#[derive(Serialize)]
pub(super) struct Figures {
    commits: u64,
    groups: u64,
    conflicts: u64,
    reruns: u64,
    touches: u64,
    bytes_written: u64,
    syncs: u64,
    checkpoints: u64,
    journal_bytes: u64,
    file_bytes: u64,
    waiting_commits: usize,
    waiting_bytes: usize,
    commits_held_back: usize,
    held_snapshots: usize,
    waiting_hooks: usize,
    waiting_events: usize,
    unreadable_parts: usize,
    is_read_only: bool,
    /// What these figures say of files is zero then.
    is_on_a_server: bool,
}

impl Figures {
    pub(super) fn of(statistics: &Statistics) -> Self {
        Self {
            commits: statistics.commits(),
            groups: statistics.groups(),
            conflicts: statistics.conflicts(),
            reruns: statistics.reruns(),
            touches: statistics.touches(),
            bytes_written: statistics.bytes_written(),
            syncs: statistics.syncs(),
            checkpoints: statistics.checkpoints(),
            journal_bytes: statistics.journal_len(),
            file_bytes: statistics.file_len(),
            waiting_commits: statistics.waiting_commits(),
            waiting_bytes: statistics.waiting_bytes(),
            commits_held_back: statistics.commits_held_back(),
            held_snapshots: statistics.held_snapshots(),
            waiting_hooks: statistics.waiting_hooks(),
            waiting_events: statistics.waiting_events(),
            unreadable_parts: statistics.unreadable_parts(),
            is_read_only: statistics.is_read_only(),
            is_on_a_server: statistics.is_on_a_server(),
        }
    }
}

#[derive(Serialize)]
struct Page {
    /// The store's identity as 32 hexadecimal digits.
    identity: String,
    figures: Figures,
    /// Nothing, if they have not been counted yet.
    sessions: Option<Counted>,
    /// The number of sessions and its age, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_shown: Option<(String, String)>,
    health: Vec<Finding>,
    /// What happened between each sample of the last hour and the next.
    rates: Vec<Rates>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plots: Option<Vec<PlotView>>,
}

#[derive(Serialize)]
struct PlotView {
    /// The name under which its newest value comes live.
    name: &'static str,
    title: &'static str,
    now: String,
    most: String,
    svg: String,
}

pub(super) async fn show(visit: Visit) -> Result<axum::response::Response, Failure> {
    let known = visit.app.census.known_soon(&visit.app.store).await;
    let page = page(&visit.app, &known, visit.format)?;
    visit.show("overview.html", "Overview", &page) as Answer
}

fn page(app: &App, known: &Known, format: crate::render::Format) -> Result<Page, Failure> {
    let rates = app.samples.rates();
    let sample = Sample::now(&app.store)?;
    let is_html = format == crate::render::Format::Html;
    Ok(Page {
        identity: crate::csrf::hex(&app.store.identity()),
        figures: Figures::of(sample.statistics()),
        sessions: known.counted,
        sessions_shown: is_html.then(|| (known.sessions(), known.remark(chrono::Utc::now()))),
        health: Signs::of(app, &sample, rates.last(), known).findings(),
        plots: is_html.then(|| {
            let mut plots = plots(&rates);
            if sample.statistics().is_on_a_server() {
                plots.retain(|plot| !OF_FILES.contains(&plot.name));
            }
            plots
        }),
        rates,
    })
}

/// The plots that say nothing of a store in a server.
const OF_FILES: [&str; 4] = [
    "bytes_per_second",
    "syncs_per_second",
    "journal_bytes",
    "file_bytes",
];

fn plots(rates: &[Rates]) -> Vec<PlotView> {
    type Figure = (
        &'static str,
        &'static str,
        fn(&Rates) -> f64,
        fn(f64) -> String,
    );
    const FIGURES: [Figure; 9] = [
        (
            "commits_per_second",
            "Commits a second",
            |it| it.commits_per_second,
            rate,
        ),
        (
            "conflicts_per_second",
            "Conflicts a second",
            |it| it.conflicts_per_second,
            rate,
        ),
        (
            "reruns_per_second",
            "Re-runs a second",
            |it| it.reruns_per_second,
            rate,
        ),
        (
            "commit_p50",
            "Half of the commits take",
            |it| it.commit_p50_seconds.unwrap_or(0.0),
            time,
        ),
        (
            "commit_p99",
            "99 of 100 commits take",
            |it| it.commit_p99_seconds.unwrap_or(0.0),
            time,
        ),
        (
            "bytes_per_second",
            "Written a second",
            |it| it.bytes_per_second,
            size,
        ),
        (
            "syncs_per_second",
            "Syncs a second",
            |it| it.syncs_per_second,
            rate,
        ),
        (
            "journal_bytes",
            "Journal",
            |it| it.journal_bytes as f64,
            size,
        ),
        ("file_bytes", "File", |it| it.file_bytes as f64, size),
    ];
    let views = FIGURES.iter().map(|(name, title, figure, format)| {
        let values: Vec<f64> = rates.iter().map(figure).collect();
        let most = values.iter().copied().fold(0.0, f64::max);
        let plot = Plot {
            title,
            values: &values,
            format: *format,
        };
        PlotView {
            name,
            title,
            now: format(values.last().copied().unwrap_or(0.0)),
            most: format(most),
            svg: plot.svg(),
        }
    });
    views.collect()
}

/// A rate for people: whole numbers, or one digit where that is all there is.
pub(super) fn rate(value: f64) -> String {
    match value {
        few if few < 10.0 => format!("{few:.1}"),
        many => number(many as u64),
    }
}

pub(super) fn size(value: f64) -> String {
    bytes(value as u64)
}

/// A time in seconds for people.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        none if none <= 0.0 => "–".to_owned(),
        short if short < 0.001 => format!("{:.0} µs", short * 1e6),
        short if short < 1.0 => format!("{:.1} ms", short * 1e3),
        long => format!("{long:.2} s"),
    }
}

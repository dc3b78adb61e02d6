//! The figures of the overview as they change (server-sent events, WHATWG HTML).

use super::overview::{rate, size, time};
use crate::admin::App;
use crate::census::Known;
use crate::entry::Visit;
use crate::forms::number;
use crate::health::{Finding, Signs};
use crate::sampler::Sample;
use axum::http::{HeaderValue, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse as _, Response, Sse};
use futures_core::Stream;
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

const EVERY: Duration = Duration::from_secs(2);
/// A stream ends after this, and the browser connects again. So a right that was taken away ends soon, and a server that
/// is asked to stop does not wait for a page that is open.
const LONGEST: Duration = Duration::from_secs(20);

/// Figures for the elements of the page that name them.
#[derive(Serialize)]
struct Live {
    sessions: String,
    sessions_counted: String,
    commits: String,
    commits_per_second: String,
    conflicts: String,
    conflicts_per_second: String,
    reruns_per_second: String,
    bytes_per_second: String,
    syncs_per_second: String,
    commit_p50: String,
    commit_p99: String,
    journal_bytes: String,
    file_bytes: String,
    waiting_commits: String,
    held_snapshots: String,
    health: Vec<Finding>,
}

struct Figures {
    app: Arc<App>,
    ticks: Interval,
    end: Instant,
    last: Option<Sample>,
}

pub(super) async fn stream(visit: Visit) -> Response {
    let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let last = Sample::now(&visit.app.store).ok();
    let figures = Sse::new(Figures {
        app: visit.app,
        ticks,
        end: Instant::now() + LONGEST,
        last,
    });
    let mut response = figures.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Stream for Figures {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let tick = ready!(self.ticks.poll_tick(context));
            // A store that was closed or cannot be read has no figures.
            let Ok(sample) = Sample::now(&self.app.store) else {
                return Poll::Ready(None);
            };
            let Some(last) = self
                .last
                .replace(sample.clone())
                .filter(|_| tick < self.end)
            else {
                return Poll::Ready(None);
            };
            let known = self.app.census.known(&self.app.store);
            let live = Live::new(&self.app, &sample, &last, &known);
            if let Ok(event) = Event::default().json_data(live) {
                return Poll::Ready(Some(Ok(event)));
            }
        }
    }
}

impl Live {
    fn new(app: &App, sample: &Sample, last: &Sample, known: &Known) -> Self {
        let (statistics, rates) = (sample.statistics(), sample.since(last));
        Self {
            sessions: known.sessions(),
            sessions_counted: known.remark(chrono::Utc::now()),
            commits: number(statistics.commits()),
            commits_per_second: rate(rates.commits_per_second),
            conflicts: number(statistics.conflicts()),
            conflicts_per_second: rate(rates.conflicts_per_second),
            reruns_per_second: rate(rates.reruns_per_second),
            bytes_per_second: size(rates.bytes_per_second),
            syncs_per_second: rate(rates.syncs_per_second),
            commit_p50: time(rates.commit_p50_seconds.unwrap_or(0.0)),
            commit_p99: time(rates.commit_p99_seconds.unwrap_or(0.0)),
            journal_bytes: size(rates.journal_bytes as f64),
            file_bytes: size(rates.file_bytes as f64),
            waiting_commits: number(statistics.waiting_commits() as u64),
            held_snapshots: number(statistics.held_snapshots() as u64),
            health: Signs::of(app, sample, Some(&rates), known).findings(),
        }
    }
}

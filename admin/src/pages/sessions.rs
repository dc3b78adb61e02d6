//! The sessions of a container, by pages.

use super::Answer;
use crate::entry::Visit;
use crate::failure::Failure;
use crate::fields::Fields;
use crate::forms::duration;
use crate::ranking::{Order, Question, Ranked};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use cloakroom::{ListedSession, SessionFilter};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// How many sessions a page lists, unless the address asks for another number.
const LISTED: usize = 50;
/// The most that an address may ask for.
const MOST_LISTED: usize = 1000;
/// How many calls one page makes to the store until it has found something. Each examines a bounded number of sessions.
const CALLS: usize = 8;

const NO_ORDER: &str =
    "Sessions are sorted by oldest, newest, longest-idle, last-used, largest or smallest.";

#[derive(Default, Serialize)]
struct Page {
    /// The names of all containers.
    containers: Vec<String>,
    filter: Typed,
    /// By the name of the field.
    errors: BTreeMap<&'static str, String>,
    sessions: Vec<SessionView>,
    examined: usize,
    /// The key after which the next page begins.
    next: Option<String>,
    /// The query of the next page.
    next_query: Option<String>,
    /// The query of the same filter, sorted by keys, to which an order can be added.
    query: String,
    /// If another order than that of the keys was asked for.
    sorted: Option<Sorted>,
}

/// How far a list is that is not in the order of the keys.
#[derive(Serialize)]
struct Sorted {
    order: Order,
    /// If not, the list is empty: the same address asks again.
    is_complete: bool,
    /// Whether it begins only when another list is sorted.
    is_waiting: bool,
    /// When the list was sorted.
    ended: Option<DateTime<Utc>>,
    /// Whether the address asks for a further page of a list that is gone. This is the first page of a newer one.
    is_newer: bool,
    examined: u64,
    /// How many sessions match. The first 1,000 of them can be listed.
    matching: u64,
    /// Where this page begins.
    skipped: usize,
}

/// A page of a sorted list that is not its first.
struct Further {
    /// The number of the ranking that the pages before it showed.
    ranking: u64,
    skipped: usize,
}

impl Further {
    fn of(fields: &Fields) -> Option<Self> {
        let skipped = fields.get("skip")?.parse().ok()?;
        let ranking = fields.get("ranking").and_then(|it| it.parse().ok());
        Some(Self {
            ranking: ranking.unwrap_or(0),
            skipped,
        })
    }
}

/// What was typed into the form.
#[derive(Clone, Default, Serialize)]
struct Typed {
    container: String,
    key: String,
    owner: String,
    label: String,
    idle_at_least: String,
    idle_at_most: String,
    age_at_least: String,
    age_at_most: String,
    bytes_at_least: String,
    bytes_at_most: String,
    /// `yes`: expired sessions that are not removed yet, too.
    expired: String,
}

/// A session as lists show it, and as JSON.
#[derive(Serialize)]
pub(super) struct SessionView {
    key: String,
    created: Option<DateTime<Utc>>,
    last_access: Option<DateTime<Utc>>,
    expires: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_expired: Option<bool>,
    owner: Option<String>,
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packages: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<ListedSession> for SessionView {
    fn from(session: ListedSession) -> Self {
        Self {
            key: session.client.to_string(),
            created: session.created,
            last_access: session.last_access,
            expires: session.expires,
            is_expired: Some(session.is_expired),
            owner: session.owner,
            label: session.label,
            containers: None,
            packages: Some(session.packages),
            bytes: Some(session.bytes),
            error: session.error.map(|error| error.to_string()),
        }
    }
}

impl From<cloakroom::SessionInfo> for SessionView {
    fn from(session: cloakroom::SessionInfo) -> Self {
        Self {
            key: session.client.to_string(),
            created: session.created,
            last_access: session.last_access,
            expires: session.expires,
            is_expired: None,
            owner: session.owner,
            label: session.label,
            containers: Some(session.containers),
            packages: None,
            bytes: None,
            error: None,
        }
    }
}

impl Typed {
    fn of(fields: &Fields) -> Self {
        let text = |name| fields.get(name).unwrap_or_default().to_owned();
        Self {
            container: fields.exact("container").unwrap_or_default().to_owned(),
            key: text("key"),
            owner: fields.exact("owner").unwrap_or_default().to_owned(),
            label: fields.exact("label").unwrap_or_default().to_owned(),
            idle_at_least: text("idle_at_least"),
            idle_at_most: text("idle_at_most"),
            age_at_least: text("age_at_least"),
            age_at_most: text("age_at_most"),
            bytes_at_least: text("bytes_at_least"),
            bytes_at_most: text("bytes_at_most"),
            expired: text("expired"),
        }
    }

    /// The beginning of the filter: which keys, expired or not.
    fn which(&self, errors: &mut BTreeMap<&'static str, String>) -> SessionFilter {
        let mut filter = SessionFilter::new();
        if !self.key.is_empty() {
            match SessionFilter::new().key_prefix(&self.key) {
                Ok(by_key) => filter = by_key,
                Err(error) => {
                    errors.insert("key", error.to_string());
                }
            }
        }
        match &*self.expired {
            "" | "no" => {}
            "yes" => filter = filter.with_expired(),
            _ => {
                errors.insert("expired", "Write yes or no.".to_owned());
            }
        }
        filter
    }

    /// The filter, or what is wrong with it by the name of the field.
    fn filter(&self) -> Result<SessionFilter, BTreeMap<&'static str, String>> {
        let mut errors = BTreeMap::new();
        let mut filter = self.which(&mut errors);
        if !self.owner.is_empty() {
            filter = filter.owner(&self.owner);
        }
        if !self.label.is_empty() {
            filter = filter.label(&self.label);
        }
        type Span = (&'static str, fn(SessionFilter, Duration) -> SessionFilter);
        let spans: [(Span, &str); 4] = [
            (
                ("idle_at_least", SessionFilter::idle_at_least),
                &self.idle_at_least,
            ),
            (
                ("idle_at_most", SessionFilter::idle_at_most),
                &self.idle_at_most,
            ),
            (
                ("age_at_least", SessionFilter::age_at_least),
                &self.age_at_least,
            ),
            (
                ("age_at_most", SessionFilter::age_at_most),
                &self.age_at_most,
            ),
        ];
        for ((name, set), text) in spans {
            match duration(text) {
                _ if text.is_empty() => {}
                Ok(span) => filter = set(filter, span),
                Err(error) => {
                    errors.insert(name, error);
                }
            }
        }
        type Size = (&'static str, fn(SessionFilter, u64) -> SessionFilter);
        let sizes: [(Size, &str); 2] = [
            (
                ("bytes_at_least", SessionFilter::bytes_at_least),
                &self.bytes_at_least,
            ),
            (
                ("bytes_at_most", SessionFilter::bytes_at_most),
                &self.bytes_at_most,
            ),
        ];
        for ((name, set), text) in sizes {
            match text.parse() {
                _ if text.is_empty() => {}
                Ok(bytes) => filter = set(filter, bytes),
                Err(_) => {
                    errors.insert(name, "Write a whole number of bytes.".to_owned());
                }
            }
        }
        match errors.is_empty() {
            true => Ok(filter),
            false => Err(errors),
        }
    }

    /// The query that asks for the same.
    fn query(&self, limit: usize, more: &[(&str, &str)]) -> String {
        let fields = [
            ("key", &self.key),
            ("owner", &self.owner),
            ("label", &self.label),
            ("idle_at_least", &self.idle_at_least),
            ("idle_at_most", &self.idle_at_most),
            ("age_at_least", &self.age_at_least),
            ("age_at_most", &self.age_at_most),
            ("bytes_at_least", &self.bytes_at_least),
            ("bytes_at_most", &self.bytes_at_most),
            ("expired", &self.expired),
        ];
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("container", &self.container);
        query.extend_pairs(fields.iter().filter(|(_, text)| !text.is_empty()));
        if limit != LISTED {
            query.append_pair("limit", &limit.to_string());
        }
        query.extend_pairs(more).finish()
    }
}

impl Page {
    fn sort(&mut self, ranked: &Ranked, order: Order, further: Option<Further>, limit: usize) {
        let (skipped, is_newer) = match further {
            Some(further) if further.ranking == ranked.number => (further.skipped, false),
            Some(_) => (0, ranked.is_complete),
            None => (0, false),
        };
        let rest = ranked.sessions.get(skipped..).unwrap_or_default();
        let shown = rest.iter().take(limit.max(1));
        self.sessions = shown.cloned().map(SessionView::from).collect();
        let next = skipped + self.sessions.len();
        if next < ranked.sessions.len() {
            let (number, next) = (ranked.number.to_string(), next.to_string());
            let more = [
                ("sort", order.name()),
                ("ranking", &number),
                ("skip", &next),
            ];
            self.next_query = Some(self.filter.query(limit, &more));
        }
        self.sorted = Some(Sorted {
            order,
            is_complete: ranked.is_complete,
            is_waiting: ranked.number == 0,
            ended: ranked.ended,
            is_newer,
            examined: ranked.examined,
            matching: ranked.matching,
            skipped,
        });
    }
}

pub(super) async fn list(visit: Visit) -> Answer {
    let store = &visit.app.store;
    let containers = store.containers();
    let mut page = Page {
        containers: containers.iter().map(|it| it.name().to_owned()).collect(),
        filter: Typed::of(&visit.fields),
        ..Page::default()
    };
    let filter = match page.filter.filter() {
        Ok(filter) => filter,
        Err(errors) => {
            page.errors = errors;
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return visit.show_as(status, "sessions.html", "Error: Sessions", &page);
        }
    };
    let container = store.container(&page.filter.container)?;
    let limit = visit.fields.get("limit").and_then(|it| it.parse().ok());
    let limit = limit.map_or(LISTED, |limit: usize| limit.min(MOST_LISTED));
    page.query = page.filter.query(limit, &[]);
    if let Some(order) = visit.fields.get("sort") {
        let order = Order::of(order).ok_or_else(|| Failure::bad_request(NO_ORDER))?;
        let question = Question {
            container: container.name().to_owned(),
            filter,
            order,
        };
        let further = Further::of(&visit.fields);
        let number = further.as_ref().map(|it| it.ranking);
        let ranked = (visit.app.rankings)
            .answer(question, container, number)
            .await?;
        page.sort(&ranked, order, further, limit);
        return visit.show("sessions.html", "Sessions", &page);
    }
    let after = visit.fields.get("after");
    let mut after = after.map(str::parse::<cloakroom::ClientKey>).transpose()?;
    for _ in 0..CALLS {
        let left = limit.saturating_sub(page.sessions.len());
        let list = container.sessions_async(&filter, after, left).await?;
        page.examined += list.examined;
        page.sessions
            .extend(list.sessions.into_iter().map(SessionView::from));
        after = list.next;
        if after.is_none() || page.sessions.len() >= limit {
            break;
        }
    }
    page.next = after.map(|key| key.to_string());
    page.next_query = (page.next.as_ref()).map(|key| page.filter.query(limit, &[("after", key)]));
    visit.show("sessions.html", "Sessions", &page)
}

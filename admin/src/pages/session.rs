//! One session.

use super::Answer;
use crate::entry::Visit;
use crate::failure::Failure;
use crate::forms::written;
use crate::render::Format;
use crate::shown::{Node, Trees};
use axum::extract::Path;
use chrono::{DateTime, Utc};
use cloakroom::{ClientKey, EntryPackage, EntryPart, SessionEntry};
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;

/// How many packages and keys of each part a page for people shows.
const PACKAGES: usize = 200;
const KEYS: usize = 1000;

#[derive(Serialize)]
struct Page {
    key: String,
    parts: Vec<PartView>,
    /// Where the session is now, if its id was renewed a moment ago.
    renewed_as: Option<String>,
}

#[derive(Serialize)]
struct PartView {
    container: String,
    created: Option<DateTime<Utc>>,
    last_access: Option<DateTime<Utc>>,
    expires: Option<DateTime<Utc>>,
    is_expired: bool,
    timeout: Option<String>,
    timeout_seconds: Option<f64>,
    owner: Option<String>,
    label: Option<String>,
    authenticated_at: Option<DateTime<Utc>>,
    packages: Vec<PackageView>,
    error: Option<String>,
    /// How many packages it has. A page for people shows the first of them.
    package_count: usize,
}

#[derive(Serialize)]
struct PackageView {
    name: String,
    bytes: u64,
    /// How many keys it has. A page for people shows the first of them.
    key_count: usize,
    keys: Vec<KeyView>,
    /// Whether the values are there.
    has_values: bool,
    error: Option<String>,
}

#[derive(Serialize)]
struct KeyView {
    name: String,
    bytes: u64,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    tree: Option<Node>,
    /// For programs, in the form of exports.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<cloakroom::Value>,
}

impl Page {
    fn of(entry: SessionEntry) -> Self {
        Self {
            key: entry.client.to_string(),
            parts: entry.parts.into_iter().map(PartView::of).collect(),
            renewed_as: entry.renewed_as.map(|key| key.to_string()),
        }
    }

    /// The page for people: some packages and keys of each part. Programs get everything.
    fn show(mut self, visit: &Visit) -> Answer {
        if visit.format == Format::Html {
            for part in &mut self.parts {
                // The one whose values were asked for stays.
                let asked = part.packages.iter().position(|it| it.has_values);
                if let Some(asked) = asked.filter(|asked| *asked >= PACKAGES) {
                    part.packages.swap(0, asked);
                }
                part.packages.truncate(PACKAGES);
                let (asked, others): (Vec<_>, Vec<_>) =
                    part.packages.iter_mut().partition(|it| it.has_values);
                let mut left = KEYS;
                for package in asked.into_iter().chain(others) {
                    package.keys.truncate(left);
                    left -= package.keys.len();
                }
            }
        }
        let title = format!("Session {}", self.key);
        visit.show("session.html", &title, &self)
    }
}

impl PartView {
    fn of(part: EntryPart) -> Self {
        Self {
            container: part.container,
            created: part.created,
            last_access: part.last_access,
            expires: part.expires,
            is_expired: part.is_expired,
            timeout: part.timeout.map(written),
            timeout_seconds: part.timeout.map(|it| it.as_secs_f64()),
            owner: part.owner,
            label: part.label,
            authenticated_at: part.authenticated_at,
            package_count: part.packages.len(),
            packages: part.packages.into_iter().map(PackageView::of).collect(),
            error: part.error.map(|error| error.to_string()),
        }
    }
}

impl PackageView {
    fn of(package: EntryPackage) -> Self {
        let keys = package.keys.into_iter().map(|key| KeyView {
            name: key.name,
            bytes: key.bytes,
            tree: None,
            value: None,
        });
        Self {
            name: package.name,
            bytes: package.bytes,
            key_count: keys.len(),
            keys: keys.collect(),
            has_values: false,
            error: package.error.map(|error| error.to_string()),
        }
    }
}

pub(super) async fn show(visit: Visit, Path(key): Path<String>) -> Answer {
    let key = read_key(&key)?;
    Page::of(entry(&visit, key).await?).show(&visit)
}

/// The same page with the values of one package. It is asked for by a form, because the asking is recorded.
pub(super) async fn values(visit: Visit, Path(key): Path<String>) -> Answer {
    if !visit.access.may_see_values() {
        return Err(Failure::forbidden(
            "You may not see the values of sessions.",
        ));
    }
    let key = read_key(&key)?;
    let container = visit.fields.text("container").unwrap_or_default();
    let package = visit.fields.text("package");
    let package = package.ok_or_else(|| Failure::bad_request("The field “package” is missing."))?;
    let mut page = Page::of(entry(&visit, key).await?);
    let mut parts = page.parts.iter_mut();
    let part = parts.find(|part| part.container == container);
    let of = part.and_then(|part| part.packages.iter_mut().find(|it| it.name == package));
    let of = of.ok_or_else(|| Failure::not_found("The session has no such package any more."))?;
    let subject = format!("{key}, container “{container}”, package “{package}”");
    // First the record, then the values.
    let asked = async { Ok::<_, Failure>("shown".to_owned()) };
    visit.record("show values", subject, asked).await?;
    let store = &visit.app.store;
    let values = store.entry_values_async(key, &container, &package).await?;
    let mut trees = Trees::new();
    let is_json = visit.format == Format::Json;
    let sizes: HashMap<_, _> = of.keys.drain(..).map(|key| (key.name, key.bytes)).collect();
    let keys = values.into_iter().map(|(name, value)| KeyView {
        bytes: sizes.get(&name).copied().unwrap_or(0),
        tree: match is_json {
            true => None,
            false => trees.next(&value),
        },
        value: is_json.then_some(value),
        name,
    });
    of.keys = keys.collect();
    of.has_values = true;
    page.show(&visit)
}

pub(super) async fn end(visit: Visit, Path(key): Path<String>) -> Answer {
    let key = read_key(&key)?;
    let store = visit.app.store.clone();
    let work = async move {
        let ended = store.end_async(key).await?;
        let words = match ended {
            0 => "there was no such session any more",
            _ => "ended",
        };
        Ok((words.to_owned(), json!({ "ended": ended })))
    };
    visit
        .change("end session", key.to_string(), "/sessions", work)
        .await
}

async fn entry(visit: &Visit, key: ClientKey) -> Result<SessionEntry, Failure> {
    let entry = visit.app.store.entry_async(key).await?;
    entry.ok_or_else(|| {
        Failure::not_found(
            "There is no session with this key. It may have ended, or its id may have changed.",
        )
    })
}

fn read_key(text: &str) -> Result<ClientKey, Failure> {
    Ok(text.parse()?)
}

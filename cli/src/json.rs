//! What commands print with `--json`: the forms that `docs/cli-json.md` describes.

use crate::text::time;
use cloakroom::{
    ContainerSettings, EntryPackage, EntryPart, ListedSession, Residence, SessionHistogram,
    SessionMeasures, Value,
};
use serde::Serialize;
use std::time::Duration;

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Serialize)]
pub(crate) struct SettingsJson {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) residence: &'static str,
    pub(crate) timeout_ms: u64,
    pub(crate) resolution_ms: u64,
    pub(crate) max_lifetime_ms: Option<u64>,
    pub(crate) implicit_sweeps: bool,
}

impl SettingsJson {
    /// Of a container with these names, its own first.
    pub(crate) fn of(names: &[String], settings: &ContainerSettings) -> Self {
        let mut names = names.iter().cloned();
        Self {
            name: names.next().unwrap_or_default(),
            aliases: names.collect(),
            residence: residence(settings.residence),
            timeout_ms: millis(settings.timeout),
            resolution_ms: millis(settings.resolution),
            max_lifetime_ms: settings.max_lifetime.map(millis),
            implicit_sweeps: settings.implicit_sweeps,
        }
    }
}

pub(crate) fn residence(residence: Residence) -> &'static str {
    match residence {
        Residence::File => "file",
        Residence::Memory => "memory",
        Residence::Cookie => "cookie",
        _ => "other",
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct MeasuresJson {
    pub(crate) name: String,
    pub(crate) sessions: u64,
    pub(crate) expired: u64,
    pub(crate) unreadable: u64,
    pub(crate) owned: u64,
    pub(crate) packages: u64,
    pub(crate) bytes: u64,
    pub(crate) ages_seconds: Vec<(u64, u64)>,
    pub(crate) idle_seconds: Vec<(u64, u64)>,
    pub(crate) sizes_bytes: Vec<(u64, u64)>,
}

impl MeasuresJson {
    pub(crate) fn of(name: &str, measures: &SessionMeasures) -> Self {
        let ranges = |histogram: &SessionHistogram| histogram.ranges().collect();
        Self {
            name: name.to_owned(),
            sessions: measures.live,
            expired: measures.expired,
            unreadable: measures.unreadable,
            owned: measures.owned,
            packages: measures.packages,
            bytes: measures.bytes,
            ages_seconds: ranges(&measures.age_histogram),
            idle_seconds: ranges(&measures.idle_histogram),
            sizes_bytes: ranges(&measures.bytes_histogram),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ListedJson {
    pub(crate) client: String,
    pub(crate) container: String,
    pub(crate) created: Option<String>,
    pub(crate) last_access: Option<String>,
    pub(crate) expires: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) packages: usize,
    pub(crate) bytes: u64,
    pub(crate) error: Option<String>,
}

impl ListedJson {
    pub(crate) fn of(container: &str, session: &ListedSession) -> Self {
        Self {
            client: session.client.to_string(),
            container: container.to_owned(),
            created: session.created.map(time),
            last_access: session.last_access.map(time),
            expires: session.expires.map(time),
            owner: session.owner.clone(),
            label: session.label.clone(),
            packages: session.packages,
            bytes: session.bytes,
            error: session.error.as_ref().map(ToString::to_string),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct PartJson {
    pub(crate) name: String,
    pub(crate) created: Option<String>,
    pub(crate) last_access: Option<String>,
    pub(crate) expires: Option<String>,
    pub(crate) is_expired: bool,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) owner: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) authenticated_at: Option<String>,
    pub(crate) packages: Vec<PackageJson>,
    pub(crate) error: Option<String>,
}

impl PartJson {
    pub(crate) fn of(part: &EntryPart) -> Self {
        Self {
            name: part.container.clone(),
            created: part.created.map(time),
            last_access: part.last_access.map(time),
            expires: part.expires.map(time),
            is_expired: part.is_expired,
            timeout_ms: part.timeout.map(millis),
            owner: part.owner.clone(),
            label: part.label.clone(),
            authenticated_at: part.authenticated_at.map(time),
            packages: part.packages.iter().map(PackageJson::of).collect(),
            error: part.error.as_ref().map(ToString::to_string),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct PackageJson {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) keys: Vec<KeyJson>,
    pub(crate) error: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct KeyJson {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Value>,
}

impl PackageJson {
    fn of(package: &EntryPackage) -> Self {
        let keys = package.keys.iter().map(|key| KeyJson {
            name: key.name.clone(),
            bytes: key.bytes,
            value: None,
        });
        Self {
            name: package.name.clone(),
            bytes: package.bytes,
            keys: keys.collect(),
            error: package.error.as_ref().map(ToString::to_string),
        }
    }
}

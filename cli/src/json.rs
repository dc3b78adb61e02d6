//! What commands print with `--json`: the forms that `docs/cli-json.md` describes.

use crate::text::time;
use chrono::{DateTime, Utc};
use cloakroom::{
    ContainerSettings, Damage, EntryPackage, EntryPart, ListedSession, Residence, SessionHistogram,
    SessionMeasures,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::time::Duration;

type Time = Option<DateTime<Utc>>;

/// To the second.
fn whole<S: Serializer>(at: &Time, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(time).serialize(serializer)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SettingsJson {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) residence: String,
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
            residence: residence(settings.residence).to_owned(),
            timeout_ms: millis(settings.timeout),
            resolution_ms: millis(settings.resolution),
            max_lifetime_ms: settings.max_lifetime.map(millis),
            implicit_sweeps: settings.implicit_sweeps,
        }
    }
}

fn residence(residence: Residence) -> &'static str {
    match residence {
        Residence::File => "file",
        Residence::Memory => "memory",
        Residence::Cookie => "cookie",
        _ => "other",
    }
}

/// The ranges of a histogram: the largest value of each, and how many are in it.
pub(crate) type Ranges = Vec<(u64, u64)>;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MeasuresJson {
    pub(crate) name: String,
    pub(crate) sessions: u64,
    pub(crate) expired: u64,
    pub(crate) unreadable: u64,
    pub(crate) owned: u64,
    pub(crate) packages: u64,
    pub(crate) bytes: u64,
    pub(crate) ages_seconds: Ranges,
    pub(crate) idle_seconds: Ranges,
    pub(crate) sizes_bytes: Ranges,
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
    #[serde(serialize_with = "whole")]
    pub(crate) created: Time,
    #[serde(serialize_with = "whole")]
    pub(crate) last_access: Time,
    #[serde(serialize_with = "whole")]
    pub(crate) expires: Time,
    pub(crate) is_expired: bool,
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
            created: session.created,
            last_access: session.last_access,
            expires: session.expires,
            is_expired: session.is_expired,
            owner: session.owner.clone(),
            label: session.label.clone(),
            packages: session.packages,
            bytes: session.bytes,
            error: session.error.as_ref().map(ToString::to_string),
        }
    }
}

/// One session.
#[derive(Debug, Serialize)]
pub(crate) struct EntryJson {
    pub(crate) client: String,
    pub(crate) renewed_as: Option<String>,
    pub(crate) containers: Vec<PartJson>,
}

impl EntryJson {
    /// Whether it is there, and has expired everywhere.
    pub(crate) fn has_expired(&self) -> bool {
        !self.containers.is_empty() && self.containers.iter().all(|part| part.is_expired)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct PartJson {
    pub(crate) name: String,
    #[serde(serialize_with = "whole")]
    pub(crate) created: Time,
    #[serde(serialize_with = "whole")]
    pub(crate) last_access: Time,
    #[serde(serialize_with = "whole")]
    pub(crate) expires: Time,
    pub(crate) is_expired: bool,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) owner: Option<String>,
    pub(crate) label: Option<String>,
    #[serde(serialize_with = "whole")]
    pub(crate) authenticated_at: Time,
    pub(crate) packages: Vec<PackageJson>,
    pub(crate) error: Option<String>,
}

impl PartJson {
    pub(crate) fn of(part: &EntryPart) -> Self {
        Self {
            name: part.container.clone(),
            created: part.created,
            last_access: part.last_access,
            expires: part.expires,
            is_expired: part.is_expired,
            timeout_ms: part.timeout.map(millis),
            owner: part.owner.clone(),
            label: part.label.clone(),
            authenticated_at: part.authenticated_at,
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
    pub(crate) value: Option<Box<RawValue>>,
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

/// What a check found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CheckJson {
    pub(crate) sessions: u64,
    pub(crate) packages: u64,
    pub(crate) damaged_records: u64,
    pub(crate) damaged_pages: u64,
    pub(crate) findings: Vec<DamageJson>,
    pub(crate) bytes_in_use: u64,
    pub(crate) file_bytes: u64,
    /// Whether everything was read.
    pub(crate) complete: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DamageJson {
    pub(crate) container: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) package: Option<String>,
    pub(crate) error: String,
}

impl DamageJson {
    pub(crate) fn of(damage: &Damage) -> Self {
        Self {
            container: damage.container.clone(),
            client: damage.client.map(|client| client.to_string()),
            package: damage.package.clone(),
            error: damage.error.to_string(),
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ExportedJson {
    pub(crate) containers: u64,
    pub(crate) sessions: u64,
    pub(crate) packages: u64,
    pub(crate) damaged: u64,
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ImportedJson {
    pub(crate) containers: u64,
    pub(crate) sessions: u64,
    pub(crate) skipped: u64,
    pub(crate) damaged: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretJson {
    pub(crate) number: u8,
    pub(crate) is_issuing: bool,
    /// `None` if the store does not know it.
    #[serde(serialize_with = "whole")]
    pub(crate) created: Time,
}

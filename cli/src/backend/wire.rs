//! The JSON of an administration, which the documentation of the page describes.

use crate::failure::Failure;
use crate::json::{
    EntryJson, ImportedJson, KeyJson, ListedJson, MeasuresJson, PackageJson, PartJson, SecretJson,
    SettingsJson, millis,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;
use ureq::http::StatusCode;

type Time = Option<DateTime<Utc>>;

#[derive(Deserialize)]
pub(crate) struct VersionWire {
    pub(crate) program: String,
    pub(crate) version: String,
    pub(crate) schema: u32,
}

#[derive(Deserialize)]
pub(crate) struct StatusWire {
    pub(crate) identity: Option<String>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) containers: Vec<String>,
    pub(crate) figures: FiguresWire,
}

/// The counters begin when the application opens the store.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct FiguresWire {
    pub(crate) file_bytes: u64,
    pub(crate) journal_bytes: u64,
    pub(crate) unreadable_parts: u64,
    pub(crate) commits: u64,
    pub(crate) conflicts: u64,
    pub(crate) reruns: u64,
    pub(crate) bytes_written: u64,
    pub(crate) syncs: u64,
}

/// Why a request is not answered.
#[derive(Default, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) text: Option<String>,
    /// The kind of the store's error.
    pub(crate) kind: Option<String>,
    pub(crate) sessions_ended: Option<u64>,
    /// What an import had done by then.
    pub(crate) imported: Option<ImportedPartWire>,
    /// What is wrong with a form, by the name of the field.
    #[serde(default)]
    errors: BTreeMap<String, String>,
}

impl Refusal {
    /// Whether what was sent is wrong.
    pub(crate) fn is_invalid(&self) -> bool {
        self.kind.as_deref() == Some("InvalidInput")
    }

    pub(crate) fn failure(self, status: StatusCode) -> Failure {
        if !self.errors.is_empty() {
            let errors = self
                .errors
                .iter()
                .map(|(field, text)| format!("{field}: {text}"));
            let advice = "Correct it, and try again. `cloakroom help` describes the commands.";
            return Failure::usage(errors.collect::<Vec<_>>().join("; "), advice);
        }
        let text = self.text.unwrap_or_else(|| status.to_string());
        if let Some(kind) = self.kind {
            return Failure::of_kind(&kind, text);
        }
        let advice = match status {
            StatusCode::FORBIDDEN => "Use a token that gives the right to do it.",
            StatusCode::NOT_FOUND => {
                "If the address is right, the application has an older version of cloakroom-admin: use the program of that \
                 version."
            }
            _ => "Try again. The page of the administration tells what is going on.",
        };
        Failure::unusable("refused", text, advice)
    }
}

#[derive(Deserialize)]
pub(crate) struct ContainersWire {
    pub(crate) containers: Vec<ContainerWire>,
}

#[derive(Deserialize)]
pub(crate) struct FormWire {
    pub(crate) container: ContainerWire,
}

#[derive(Deserialize)]
pub(crate) struct ContainerWire {
    name: String,
    aliases: Vec<String>,
    residence: String,
    timeout_seconds: f64,
    resolution_seconds: f64,
    max_lifetime_seconds: Option<f64>,
    implicit_sweeps: bool,
}

impl From<ContainerWire> for SettingsJson {
    fn from(wire: ContainerWire) -> Self {
        let ms = |seconds| millis(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        Self {
            name: wire.name,
            aliases: wire.aliases,
            residence: wire.residence,
            timeout_ms: ms(wire.timeout_seconds),
            resolution_ms: ms(wire.resolution_seconds),
            max_lifetime_ms: wire.max_lifetime_seconds.map(ms),
            implicit_sweeps: wire.implicit_sweeps,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct SessionsWire {
    pub(crate) sessions: Vec<SessionWire>,
    #[serde(default)]
    pub(crate) examined: u64,
    pub(crate) next: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct SessionWire {
    key: String,
    created: Time,
    last_access: Time,
    expires: Time,
    /// Older versions list no session that has expired.
    #[serde(default)]
    is_expired: bool,
    owner: Option<String>,
    label: Option<String>,
    packages: Option<usize>,
    bytes: Option<u64>,
    error: Option<String>,
}

impl SessionWire {
    pub(crate) fn listed(self, container: &str) -> ListedJson {
        ListedJson {
            client: self.key,
            container: container.to_owned(),
            created: self.created,
            last_access: self.last_access,
            expires: self.expires,
            is_expired: self.is_expired,
            owner: self.owner,
            label: self.label,
            packages: self.packages.unwrap_or_default(),
            bytes: self.bytes.unwrap_or_default(),
            error: self.error,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct EntryWire {
    key: String,
    pub(crate) parts: Vec<PartWire>,
    renewed_as: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct PartWire {
    pub(crate) container: String,
    created: Time,
    last_access: Time,
    expires: Time,
    is_expired: bool,
    timeout_seconds: Option<f64>,
    owner: Option<String>,
    label: Option<String>,
    authenticated_at: Time,
    pub(crate) packages: Vec<PackageWire>,
    error: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct PackageWire {
    pub(crate) name: String,
    bytes: u64,
    pub(crate) keys: Vec<KeyWire>,
    error: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct KeyWire {
    pub(crate) name: String,
    bytes: u64,
    /// A null is a value too, and differs from one that was not asked for.
    #[serde(default, deserialize_with = "present")]
    pub(crate) value: Option<Box<RawValue>>,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(value).map(Some)
}

impl From<EntryWire> for EntryJson {
    fn from(wire: EntryWire) -> Self {
        Self {
            client: wire.key,
            renewed_as: wire.renewed_as,
            containers: wire.parts.into_iter().map(PartJson::from).collect(),
        }
    }
}

impl From<PartWire> for PartJson {
    fn from(wire: PartWire) -> Self {
        let timeout = wire
            .timeout_seconds
            .map(|it| Duration::try_from_secs_f64(it).unwrap_or_default());
        Self {
            name: wire.container,
            created: wire.created,
            last_access: wire.last_access,
            expires: wire.expires,
            is_expired: wire.is_expired,
            timeout_ms: timeout.map(millis),
            owner: wire.owner,
            label: wire.label,
            authenticated_at: wire.authenticated_at,
            packages: wire.packages.into_iter().map(PackageJson::from).collect(),
            error: wire.error,
        }
    }
}

impl From<PackageWire> for PackageJson {
    fn from(wire: PackageWire) -> Self {
        let keys = wire.keys.into_iter().map(|key| KeyJson {
            name: key.name,
            bytes: key.bytes,
            value: key.value,
        });
        Self {
            name: wire.name,
            bytes: wire.bytes,
            keys: keys.collect(),
            error: wire.error,
        }
    }
}

/// The answer to a change.
#[derive(Deserialize)]
pub(crate) struct ChangeWire<T> {
    pub(crate) result: Option<T>,
}

#[derive(Deserialize)]
pub(crate) struct EndedWire {
    pub(crate) ended: u64,
    pub(crate) damage: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct TaskWire {
    pub(crate) number: u64,
    pub(crate) label: String,
    pub(crate) ended: Time,
    pub(crate) done: u64,
    pub(crate) of: Option<u64>,
    pub(crate) outcome: Option<String>,
    pub(crate) failed: bool,
    pub(crate) stopped: bool,
    pub(crate) result: Option<serde_json::Value>,
}

#[derive(Deserialize)]
pub(crate) struct MeasuredWire {
    pub(crate) containers: Vec<MeasuresJson>,
}

#[derive(Deserialize)]
pub(crate) struct NumberWire {
    pub(crate) number: u8,
}

#[derive(Deserialize)]
pub(crate) struct SecretsWire {
    pub(crate) secrets: Vec<SecretJson>,
}

/// The last line of an export.
#[derive(Deserialize)]
pub(crate) struct ExportEndWire {
    pub(crate) end: ExportCountsWire,
}

#[derive(Deserialize)]
pub(crate) struct ExportCountsWire {
    pub(crate) containers: u64,
    pub(crate) sessions: u64,
    pub(crate) packages: u64,
    pub(crate) damaged: u64,
}

#[derive(Clone, Copy, Deserialize)]
pub(crate) struct ImportedPartWire {
    pub(crate) sessions: u64,
    pub(crate) lines: u64,
}

pub(crate) type ImportWire = ChangeWire<ImportedJson>;

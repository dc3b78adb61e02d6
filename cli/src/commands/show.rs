//! `show`: one session.

use crate::args::Global;
use crate::failure::{Failure, Found, Outcome};
use crate::json::PartJson;
use crate::output::{error_line, heading, json, line};
use crate::text::{bytes, duration, name, plain, since, time, timeout};
use chrono::{DateTime, Utc};
use cloakroom::{ClientKey, SessionEntry, SessionFilter, Store};
use serde_json::json;
use std::collections::BTreeSet;
use std::io;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    Hidden,
    Shown,
}

impl From<bool> for Values {
    fn from(shown: bool) -> Self {
        if shown { Self::Shown } else { Self::Hidden }
    }
}

pub(crate) fn run(global: &Global, key: &str, values: Values) -> Outcome {
    global.on_store(|store| {
        let entry = match find(store, key)? {
            Some(client) => store.entry(client)?,
            None => None,
        };
        let Some(entry) = entry else {
            if global.json {
                json(&serde_json::Value::Null)?;
            }
            error_line("there is no session of this key; `cloakroom list` lists the sessions")?;
            return Ok(Found::Something);
        };
        let mut parts: Vec<_> = entry.parts.iter().map(PartJson::of).collect();
        if values == Values::Shown {
            fill(store, &entry, &mut parts)?;
        }
        match global.json {
            true => json(&json!({
                "client": entry.client.to_string(),
                "renewed_as": entry.renewed_as.map(|client| client.to_string()),
                "containers": parts,
            }))?,
            false => print(store, &entry, &parts, values)?,
        }
        let is_damaged = |part: &PartJson| {
            part.error.is_some() || part.packages.iter().any(|package| package.error.is_some())
        };
        let damaged = parts.iter().filter(|part| is_damaged(part));
        Ok(Found::of(damaged.count() as u64))
    })
}

/// The key that is written in full, or the only one that begins like this.
fn find(store: &Store, digits: &str) -> Outcome<Option<ClientKey>> {
    if digits.len() >= 32 {
        return Ok(Some(digits.parse()?));
    }
    let filter = SessionFilter::new().key_prefix(digits)?;
    let mut found = BTreeSet::new();
    for container in store.containers() {
        let mut after = None;
        loop {
            let page = container.sessions(&filter, after, 2)?;
            found.extend(page.sessions.iter().map(|session| session.client));
            after = page.next;
            if after.is_none() || found.len() > 1 {
                break;
            }
        }
    }
    if found.len() > 1 {
        let advice = "Give more digits, or the whole key.";
        return Err(Failure::usage("several keys begin like this", advice));
    }
    Ok(found.pop_first())
}

fn fill(store: &Store, entry: &SessionEntry, parts: &mut [PartJson]) -> Outcome<()> {
    for part in parts {
        for package in part
            .packages
            .iter_mut()
            .filter(|package| package.error.is_none())
        {
            let values = store.entry_values(entry.client, &part.name, &package.name)?;
            for key in &mut package.keys {
                let value = values.iter().find(|(name, _)| *name == key.name);
                key.value = value.map(|(_, value)| value.clone());
            }
        }
    }
    Ok(())
}

fn print(store: &Store, entry: &SessionEntry, parts: &[PartJson], values: Values) -> Outcome<()> {
    let now = store.now();
    line(&heading(&format!("session {}", entry.client)))?;
    if let Some(renewed) = entry.renewed_as {
        line(&format!(
            "its id was renewed a moment ago: the session is now {renewed}"
        ))?;
    }
    for (part, json) in entry.parts.iter().zip(parts) {
        line("")?;
        line(&heading(&format!("container {}", name(&part.container))))?;
        let row = |head: &str, text: String| line(&format!("  {head:<14}{text}"));
        if let Some(error) = &json.error {
            row("damaged", plain(error))?;
            continue;
        }
        let ago = |at: DateTime<Utc>| format!("{} ({} ago)", time(at), duration(since(now, at)));
        row("created", part.created.map_or("-".to_owned(), ago))?;
        row("last access", part.last_access.map_or("-".to_owned(), ago))?;
        row(
            "expires",
            match part.expires {
                None => "never".to_owned(),
                Some(at) if part.is_expired => format!("{} (it has expired)", time(at)),
                Some(at) => format!("{} (in {})", time(at), duration(since(at, now))),
            },
        )?;
        if let Some(own) = part.timeout {
            row("own timeout", timeout(own))?;
        }
        if let Some(owner) = &part.owner {
            row("owner", plain(owner))?;
        }
        if let Some(label) = &part.label {
            row("label", plain(label))?;
        }
        if let Some(at) = part.authenticated_at {
            row("logged in", ago(at))?;
        }
        json.packages
            .iter()
            .try_for_each(|package| print_package(package, values))?;
    }
    Ok(())
}

fn print_package(package: &crate::json::PackageJson, values: Values) -> Outcome<()> {
    line(&format!(
        "  package {}  {}",
        name(&package.name),
        bytes(package.bytes)
    ))?;
    if let Some(error) = &package.error {
        return line(&format!("    damaged: {}", plain(error)));
    }
    for key in &package.keys {
        let shown = match &key.value {
            Some(value) => {
                let text = serde_json::to_string(value).map_err(io::Error::from)?;
                plain(&text)
            }
            None => bytes(key.bytes),
        };
        line(&format!("    {} = {shown}", name(&key.name)))?;
    }
    if values == Values::Hidden && !package.keys.is_empty() {
        line(&crate::output::dim(
            "    the values are shown with --values",
        ))?;
    }
    Ok(())
}

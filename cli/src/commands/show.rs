//! `show`: one session.

use crate::args::Global;
use crate::backend::{Backend, Filter};
use crate::failure::{Failure, Found, Outcome};
use crate::json::{EntryJson, PackageJson, PartJson};
use crate::output::{error_line, heading, json, line};
use crate::text::{bytes, duration, name, plain, since, time, timeout};
use chrono::{DateTime, Utc};
use cloakroom::{ClientKey, SessionFilter};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

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
    global.on_backend(|store| {
        let entry = match find(store, key)? {
            Some(client) => store.entry(client)?.map(|entry| (client, entry)),
            None => None,
        };
        let Some((client, mut entry)) = entry else {
            if global.json {
                json(&serde_json::Value::Null)?;
            }
            error_line("there is no session of this key; `cloakroom list` lists the sessions")?;
            return Ok(Found::Something);
        };
        if values == Values::Shown {
            fill(store, client, &mut entry.containers)?;
        }
        match global.json {
            true => json(&entry)?,
            false => print(store, &entry, values)?,
        }
        let is_damaged = |part: &PartJson| {
            part.error.is_some() || part.packages.iter().any(|package| package.error.is_some())
        };
        let damaged = entry.containers.iter().filter(|part| is_damaged(part));
        Ok(Found::of(damaged.count() as u64))
    })
}

/// The key that is written in full, or the only one that begins like this.
fn find(store: &dyn Backend, digits: &str) -> Outcome<Option<ClientKey>> {
    if digits.len() >= 32 {
        return Ok(Some(digits.parse()?));
    }
    // Digits that are wrong are told before anything is asked.
    SessionFilter::new().key_prefix(digits)?;
    let filter = Filter {
        key: Some(digits.to_owned()),
        with_expired: true,
        ..Filter::default()
    };
    let mut found = BTreeSet::new();
    for container in store.containers()? {
        let mut after = None;
        loop {
            let page = store.sessions(&container, &filter, after, 2)?;
            for session in &page.sessions {
                found.insert(session.client.parse()?);
            }
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

fn fill(store: &dyn Backend, client: ClientKey, parts: &mut [PartJson]) -> Outcome<()> {
    for part in parts {
        let packages = part.packages.iter_mut();
        for package in packages.filter(|package| package.error.is_none()) {
            let values = store.values(client, &part.name, &package.name)?;
            let mut values: HashMap<_, _> = values.into_iter().collect();
            for key in &mut package.keys {
                key.value = values.remove(&key.name);
            }
        }
    }
    Ok(())
}

fn print(store: &dyn Backend, entry: &EntryJson, values: Values) -> Outcome<()> {
    let now = store.now()?;
    line(&heading(&format!("session {}", plain(&entry.client))))?;
    if let Some(renewed) = &entry.renewed_as {
        line(&format!(
            "its id was renewed a moment ago: the session is now {}",
            plain(renewed)
        ))?;
    }
    for part in &entry.containers {
        line("")?;
        line(&heading(&format!("container {}", name(&part.name))))?;
        let row = |head: &str, text: String| line(&format!("  {head:<14}{text}"));
        if let Some(error) = &part.error {
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
        if let Some(own) = part.timeout_ms {
            row("own timeout", timeout(Duration::from_millis(own)))?;
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
        part.packages
            .iter()
            .try_for_each(|package| print_package(package, values))?;
    }
    Ok(())
}

fn print_package(package: &PackageJson, values: Values) -> Outcome<()> {
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
            Some(value) => plain(value.get()),
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

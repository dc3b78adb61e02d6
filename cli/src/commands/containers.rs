//! `containers`: their settings, shown and changed.

use crate::args::{ContainersCommand, Global, SetArguments, YesNo};
use crate::backend::{Backend, SettingsChange};
use crate::failure::{Failure, Found, Outcome};
use crate::json::SettingsJson;
use crate::output::{Align, Table, json, line};
use crate::server::StorePlace;
use crate::text::{name, plain, timeout};
use std::time::Duration;

pub(crate) fn run(global: &Global, command: Option<ContainersCommand>) -> Outcome {
    global.on_backend(|store| match &command {
        None => show(global, store),
        Some(ContainersCommand::Set(wanted)) => set(global, store, wanted),
    })
}

fn show(global: &Global, store: &dyn Backend) -> Outcome {
    let all = store.all_settings()?;
    if global.json {
        json(&all)?;
        return Ok(Found::Nothing);
    }
    let right = |head| (head, Align::Right);
    let mut table = Table::new(&[
        ("CONTAINER", Align::Left),
        right("TIMEOUT"),
        right("RESOLUTION"),
        right("MAX LIFETIME"),
        ("SWEPT", Align::Left),
        ("LIVES IN", Align::Left),
        ("ALIASES", Align::Left),
    ]);
    for settings in &all {
        let aliases: Vec<_> = settings.aliases.iter().map(|of| name(of)).collect();
        let is_swept = if settings.implicit_sweeps {
            "yes"
        } else {
            "no"
        };
        table.row([
            name(&settings.name),
            timeout(millis(settings.timeout_ms)),
            resolution_of(settings),
            lifetime_of(settings),
            is_swept.to_owned(),
            match (&*settings.residence, &global.store) {
                ("file", Some(StorePlace::Server(_))) if global.at.is_none() => "server".to_owned(),
                (residence, _) => plain(residence),
            },
            aliases.join(", "),
        ]);
    }
    table.print()?;
    Ok(Found::Nothing)
}

fn resolution_of(settings: &SettingsJson) -> String {
    match settings.resolution_ms {
        0 => "every access".to_owned(),
        ms => timeout(millis(ms)),
    }
}

fn lifetime_of(settings: &SettingsJson) -> String {
    let lifetime = settings.max_lifetime_ms.map(millis);
    lifetime.map_or("none".to_owned(), timeout)
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn set(global: &Global, store: &dyn Backend, wanted: &SetArguments) -> Outcome {
    let before = store.settings(&wanted.name)?;
    let gives = wanted.timeout.or(wanted.resolution).or(wanted.max_lifetime);
    if gives.is_none() && wanted.implicit_sweeps.is_none() {
        let advice = "Name one, for example --timeout 30m.";
        return Err(Failure::usage("no setting is named", advice));
    }
    let change = SettingsChange {
        timeout: wanted.timeout,
        resolution: wanted.resolution,
        max_lifetime: wanted.max_lifetime,
        implicit_sweeps: wanted.implicit_sweeps.map(|sweeps| sweeps == YesNo::Yes),
    };
    let settings = store.configure(&wanted.name, &change)?;
    let of = name(&wanted.name);
    if global.json {
        json(&settings)?;
    } else if settings == before {
        line(&format!("{of} had these settings already"))?;
    } else {
        line(&format!(
            "{of}: timeout {}, resolution {}, max lifetime {}. An application that registers the container with settings \
             of its own sets these again.",
            timeout(millis(settings.timeout_ms)),
            resolution_of(&settings),
            lifetime_of(&settings),
        ))?;
    }
    Ok(Found::Nothing)
}

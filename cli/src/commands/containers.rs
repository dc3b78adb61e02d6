//! `containers`: their settings, shown and changed.

use crate::args::{ContainersCommand, Global, SetArguments, YesNo};
use crate::failure::{Failure, Found, Outcome};
use crate::json::{SettingsJson, residence};
use crate::output::{Align, Table, json, line};
use crate::text::{name, timeout};
use cloakroom::{Container, ContainerSettings, Store};

pub(crate) fn run(global: &Global, command: Option<ContainersCommand>) -> Outcome {
    global.on_store(|store| match &command {
        None => show(global, store),
        Some(ContainersCommand::Set(wanted)) => set(global, store, wanted),
    })
}

fn show(global: &Global, store: &Store) -> Outcome {
    let mut all = Vec::new();
    for container in store.containers() {
        all.push((container.names()?, container.settings()?));
    }
    if global.json {
        let all = all
            .iter()
            .map(|(names, settings)| SettingsJson::of(names, settings));
        json(&all.collect::<Vec<_>>())?;
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
    for (names, settings) in all {
        let mut names = names.iter().map(|of| name(of));
        table.row([
            names.next().unwrap_or_default(),
            timeout(settings.timeout),
            resolution_of(&settings),
            settings.max_lifetime.map_or("none".to_owned(), timeout),
            if settings.implicit_sweeps {
                "yes"
            } else {
                "no"
            }
            .to_owned(),
            residence(settings.residence).to_owned(),
            names.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.print()?;
    Ok(Found::Nothing)
}

fn resolution_of(settings: &ContainerSettings) -> String {
    match settings.resolution.is_zero() {
        true => "every access".to_owned(),
        false => timeout(settings.resolution),
    }
}

fn set(global: &Global, store: &Store, wanted: &SetArguments) -> Outcome {
    let container: Container = store.container(&wanted.name)?;
    let mut settings = container.settings()?;
    let before = settings.clone();
    if let Some(timeout) = wanted.timeout {
        settings = settings.timeout(timeout);
    }
    if let Some(resolution) = wanted.resolution {
        settings = settings.resolution(resolution);
    }
    if let Some(lifetime) = wanted.max_lifetime {
        settings = settings.max_lifetime(Some(lifetime).filter(|lifetime| !lifetime.is_zero()));
    }
    if let Some(sweeps) = wanted.implicit_sweeps {
        settings = settings.implicit_sweeps(sweeps == YesNo::Yes);
    }
    let gives = wanted.timeout.or(wanted.resolution).or(wanted.max_lifetime);
    if gives.is_none() && wanted.implicit_sweeps.is_none() {
        let advice = "Name one, for example --timeout 30m.";
        return Err(Failure::usage("no setting is named", advice));
    }
    container.configure(settings.clone())?;
    if global.json {
        json(&SettingsJson::of(&container.names()?, &settings))?;
    } else if settings == before {
        line(&format!(
            "{} had these settings already",
            name(&wanted.name)
        ))?;
    } else {
        let max = settings.max_lifetime.map_or("none".to_owned(), timeout);
        line(&format!(
            "{}: timeout {}, resolution {}, max lifetime {max}. An application that registers the container with \
             settings of its own sets these again.",
            name(&wanted.name),
            timeout(settings.timeout),
            resolution_of(&settings),
        ))?;
    }
    Ok(Found::Nothing)
}

//! The containers and their settings.

use super::Answer;
use crate::entry::Visit;
use crate::failure::Failure;
use crate::fields::Fields;
use crate::forms::{duration, written};
use axum::http::StatusCode;
use cloakroom::{Container, ContainerSettings, Residence};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The settings of a container as the form shows them, and as JSON.
#[derive(Clone, Debug, Serialize)]
struct ContainerView {
    /// The unnamed container is `""`.
    name: String,
    /// Its other names.
    aliases: Vec<String>,
    residence: &'static str,
    timeout: String,
    timeout_seconds: f64,
    resolution: String,
    resolution_seconds: f64,
    /// The resolution in force: at most half the timeout.
    resolution_in_force: String,
    resolution_in_force_seconds: f64,
    max_lifetime: Option<String>,
    max_lifetime_seconds: Option<f64>,
    implicit_sweeps: bool,
}

impl ContainerView {
    fn of(container: &Container) -> cloakroom::Result<Self> {
        let settings = container.settings()?;
        let in_force = match settings.timeout {
            Duration::ZERO => settings.resolution,
            timeout => settings.resolution.min(timeout / 2),
        };
        // Its own name is the first.
        let mut names = container.names()?.into_iter();
        Ok(Self {
            name: names.next().unwrap_or_default(),
            aliases: names.collect(),
            residence: match settings.residence {
                Residence::File => "file",
                Residence::Memory => "memory",
                Residence::Cookie => "cookie",
                _ => "elsewhere",
            },
            timeout: written(settings.timeout),
            timeout_seconds: settings.timeout.as_secs_f64(),
            resolution: written(settings.resolution),
            resolution_seconds: settings.resolution.as_secs_f64(),
            resolution_in_force: written(in_force),
            resolution_in_force_seconds: in_force.as_secs_f64(),
            max_lifetime: settings.max_lifetime.map(written),
            max_lifetime_seconds: settings.max_lifetime.map(|it| it.as_secs_f64()),
            implicit_sweeps: settings.implicit_sweeps,
        })
    }
}

#[derive(Serialize)]
struct List {
    containers: Vec<ContainerView>,
}

pub(super) async fn list(visit: Visit) -> Answer {
    let mut containers = Vec::new();
    for container in visit.app.store.containers() {
        match ContainerView::of(&container) {
            Ok(view) => containers.push(view),
            // It was unregistered meanwhile.
            Err(error) if error.kind() == cloakroom::ErrorKind::NoSuchContainer => {}
            Err(error) => return Err(error.into()),
        }
    }
    visit.show("containers.html", "Containers", &List { containers })
}

/// The form, with what was typed and what is wrong with it.
#[derive(Serialize)]
struct Form {
    container: ContainerView,
    /// The settings from which the form was made. They come back with it.
    seen: String,
    typed: Typed,
    /// By the name of the field.
    errors: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Typed {
    timeout: String,
    resolution: String,
    max_lifetime: String,
    implicit_sweeps: bool,
}

pub(super) async fn edit(visit: Visit) -> Answer {
    let container = container(&visit)?;
    let view = ContainerView::of(&container)?;
    let form = Form {
        seen: summary(&container.settings()?),
        typed: Typed {
            timeout: view.timeout.clone(),
            resolution: view.resolution.clone(),
            max_lifetime: view.max_lifetime.clone().unwrap_or_default(),
            implicit_sweeps: view.implicit_sweeps,
        },
        container: view,
        errors: BTreeMap::new(),
    };
    visit.show("container.html", &title(&form.container), &form)
}

pub(super) async fn save(visit: Visit) -> Answer {
    visit.need_change()?;
    let container = container(&visit)?;
    let old = container.settings()?;
    if let Some(seen) = visit.fields.exact("settings_seen")
        && seen != summary(&old)
    {
        let text = format!(
            "The settings are now: {}. Nothing was changed. Open the form again.",
            summary(&old)
        );
        let title = "Somebody else changed them meanwhile";
        return Err(Failure::new(StatusCode::CONFLICT, title, text));
    }
    match changed(&old, &visit.fields) {
        Ok(new) => {
            let name = container.name().to_owned();
            let what = difference(&old, &new);
            let work = async move {
                container.configure_async(new).await?;
                Ok(what)
            };
            let next = "/containers";
            visit.change("configure container", name, next, work).await
        }
        Err(errors) => {
            let text = |name| visit.fields.exact(name).unwrap_or_default().to_owned();
            let form = Form {
                container: ContainerView::of(&container)?,
                seen: summary(&old),
                typed: Typed {
                    timeout: text("timeout"),
                    resolution: text("resolution"),
                    max_lifetime: text("max_lifetime"),
                    implicit_sweeps: visit.fields.get("implicit_sweeps") == Some("true"),
                },
                errors,
            };
            let title = format!("Error: {}", title(&form.container));
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            visit.show_as(status, "container.html", &title, &form)
        }
    }
}

/// The container that a field names. It is never the unnamed one by mistake.
fn container(visit: &Visit) -> Result<Container, Failure> {
    let name = visit.fields.text("name");
    let name = name.ok_or_else(|| {
        Failure::bad_request("The field “name” is missing. The unnamed container's is empty.")
    })?;
    Ok(visit.app.store.container(&name)?)
}

fn title(view: &ContainerView) -> String {
    match &*view.name {
        "" => "The unnamed container".to_owned(),
        name => format!("Container {name}"),
    }
}

/// The settings that the form asks for. A program may leave out what is to stay. So does a form with a box that is not
/// checked: it names its boxes in a field of their own.
fn changed(
    old: &ContainerSettings,
    fields: &Fields,
) -> Result<ContainerSettings, BTreeMap<&'static str, String>> {
    let mut errors = BTreeMap::new();
    let mut read = |name: &'static str, old: Duration| match fields.exact(name) {
        None => old,
        Some(text) => duration(text).unwrap_or_else(|error| {
            errors.insert(name, error);
            old
        }),
    };
    let timeout = read("timeout", old.timeout);
    let resolution = read("resolution", old.resolution);
    let max_lifetime = match fields.exact("max_lifetime") {
        None => old.max_lifetime,
        Some(text) if text.trim().is_empty() => None,
        Some(_) => Some(read("max_lifetime", Duration::ZERO)),
    };
    if max_lifetime == Some(Duration::ZERO) && !errors.contains_key("max_lifetime") {
        let text = "Sessions would end at once. Leave the field empty for no limit.";
        errors.insert("max_lifetime", text.to_owned());
    }
    let has_box = fields.exact("boxes").is_some();
    let implicit_sweeps = match fields.get("implicit_sweeps") {
        None if has_box => false,
        None => old.implicit_sweeps,
        Some("true") => true,
        Some("false") => false,
        Some(_) => {
            errors.insert("implicit_sweeps", "Say true or false.".to_owned());
            false
        }
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(old
        .clone()
        .timeout(timeout)
        .resolution(resolution)
        .max_lifetime(max_lifetime)
        .implicit_sweeps(implicit_sweeps))
}

/// The settings in one line.
fn summary(settings: &ContainerSettings) -> String {
    let lifetime = settings.max_lifetime.map_or("none".to_owned(), written);
    let timeout = written(settings.timeout);
    let resolution = written(settings.resolution);
    let sweeps = settings.implicit_sweeps;
    format!(
        "timeout {timeout}, resolution {resolution}, longest lifetime {lifetime}, sweeps by itself {sweeps}"
    )
}

/// What was changed, for the audit log.
fn difference(old: &ContainerSettings, new: &ContainerSettings) -> String {
    let lifetime = |it: &ContainerSettings| it.max_lifetime.map_or("none".to_owned(), written);
    let sweeps = |it: &ContainerSettings| it.implicit_sweeps.to_string();
    let settings = [
        ("timeout", written(old.timeout), written(new.timeout)),
        (
            "resolution",
            written(old.resolution),
            written(new.resolution),
        ),
        ("longest lifetime", lifetime(old), lifetime(new)),
        ("sweeps by itself", sweeps(old), sweeps(new)),
    ];
    let changes = settings.iter().filter(|(_, old, new)| old != new);
    let changes: Vec<_> = changes
        .map(|(name, old, new)| format!("{name} from {old} to {new}"))
        .collect();
    match changes.is_empty() {
        true => "nothing was changed".to_owned(),
        false => changes.join(", "),
    }
}

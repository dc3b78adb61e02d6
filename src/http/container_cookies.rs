//! Reads the cookies of a request that hold containers, and makes those of its response (C8.6).

use http::header::COOKIE;
use http::{HeaderValue, request};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::sync::Arc;

use super::cookie::SessionCookie;
use super::seal::{RefusedSeal, names_unknown_secret};
use super::sealed_cookie::{SealContext, capacity, count_refused, open, seal};
use super::settings::LayerSettings;
use crate::client_id::{ClientId, ClientIds, ClientKey};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::transaction::{CarriedLimit, CarriedRows, Carrier, ContainerEntry};

/// The longest container name that a cookie's name contains as it is.
const LONGEST_NAME: usize = 64;

/// The cookies of one request that hold containers.
pub(super) struct ContainerCookies {
    cookies: Vec<ContainerCookie>,
    carrier: Arc<Carrier>,
}

struct ContainerCookie {
    container: Arc<ContainerEntry>,
    cookie: SessionCookie,
    /// Whether the request has a cookie of this name.
    is_presented: bool,
}

impl ContainerCookies {
    /// Opens the cookies that belong to a client. Others are not read. `None` if no container lives in a cookie.
    pub(super) fn open(
        settings: &LayerSettings,
        request: &request::Parts,
        id: Option<&ClientId>,
        now: Timestamp,
    ) -> Option<Self> {
        let containers = settings.store.cookie_containers();
        if containers.is_empty() {
            return None;
        }
        // If browsers would reject the path, the response reports the error when it sends a cookie.
        let session = settings.cookie.at(request);
        let session = session.as_deref().unwrap_or(&settings.cookie);
        let ids = settings.store.client_ids();
        let mut rows = CarriedRows::default();
        let mut cookies = Vec::with_capacity(containers.len());
        let mut limits = Vec::with_capacity(containers.len());
        for container in containers {
            let name = cookie_name(session.name(), &container.container_ref.name);
            let cookie = session.named(name);
            let fields = request.headers.get_all(COOKIE);
            let mut values = cookie.candidates(fields).peekable();
            let is_presented = values.peek().is_some();
            if let Some(id) = id {
                let context = context_of(settings, &container, id.key());
                // `any` stops at the first value that opens.
                values.any(|value| {
                    let read = read(ids, context, &container, now, value, &mut rows);
                    read.map_err(count_refused).is_ok()
                });
            }
            drop(values);
            limits.push(CarriedLimit {
                container_ref: container.container_ref.clone(),
                bytes: cookie.overhead().map_or(0, capacity),
            });
            cookies.push(ContainerCookie {
                container,
                cookie,
                is_presented,
            });
        }
        Some(Self {
            cookies,
            carrier: Arc::new(Carrier::new(rows, limits.into())),
        })
    }

    pub(super) fn carrier(&self) -> Arc<Carrier> {
        self.carrier.clone()
    }

    /// The `Set-Cookie` fields of the response, for the containers that its commits changed. If the session ended, they
    /// also remove the other cookies.
    pub(super) fn fields(
        &self,
        settings: &LayerSettings,
        has_ended: HasEnded,
    ) -> Result<Vec<HeaderValue>> {
        let ids = settings.store.client_ids();
        let changed = self.carrier.changed();
        let rows = self.carrier.rows();
        let mut fields = Vec::new();
        for it in &self.cookies {
            let container = it.container.id();
            let session = rows.session_in(container);
            match session {
                Some((client, row)) if changed.contains(&container) => {
                    let context = context_of(settings, &it.container, client);
                    let times = row.times();
                    let expires = it.container.policy.over_at(&times);
                    let text = seal(ids, context, expires, &rows.encode(container, client)?)?;
                    fields.push(it.cookie.handing_out(&text, times.timeout)?);
                }
                _ if changed.contains(&container) => fields.push(it.cookie.removal()?),
                _ if it.is_presented && has_ended == HasEnded::Yes => {
                    fields.push(it.cookie.removal()?);
                }
                _ => {}
            }
        }
        Ok(fields)
    }
}

/// Whether the response removes the visitor's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HasEnded {
    Yes,
    No,
}

/// The rows of all these clients in the request's cookies. They show which client has a session. Refusals are not
/// counted: a cookie opens for one client at most.
pub(super) fn rows_of(
    settings: &LayerSettings,
    request: &request::Parts,
    clients: &[&ClientId],
    now: Timestamp,
) -> CarriedRows {
    let ids = settings.store.client_ids();
    let mut rows = CarriedRows::default();
    each_value(settings, request, |container, value| {
        for client in clients {
            let context = context_of(settings, container, client.key());
            if read(ids, context, container, now, value, &mut rows).is_ok() {
                break;
            }
        }
    });
    rows
}

/// Whether a cookie that holds a container may be sealed under a secret that another process made.
pub(super) fn name_unknown_secret(settings: &LayerSettings, request: &request::Parts) -> bool {
    let ids = settings.store.client_ids();
    let mut found = false;
    each_value(settings, request, |_, value| {
        found |= names_unknown_secret(ids, value);
    });
    found
}

/// Visits the values of the cookies that hold containers.
fn each_value(
    settings: &LayerSettings,
    request: &request::Parts,
    mut visit: impl FnMut(&ContainerEntry, &[u8]),
) {
    for container in settings.store.cookie_containers() {
        let session = &settings.cookie;
        let cookie = session.named(cookie_name(session.name(), &container.container_ref.name));
        let fields = request.headers.get_all(COOKIE);
        let values = cookie.candidates(fields);
        values.for_each(|value| visit(&container, value));
    }
}

fn context_of<'a>(
    settings: &LayerSettings,
    container: &'a ContainerEntry,
    client: ClientKey,
) -> SealContext<'a> {
    SealContext {
        store: settings.store.identity(),
        container: container.id().number(),
        name: &container.container_ref.name,
        client,
    }
}

/// Reads one cookie.
fn read(
    ids: &ClientIds,
    context: SealContext<'_>,
    container: &ContainerEntry,
    now: Timestamp,
    value: &[u8],
    rows: &mut CarriedRows,
) -> Result<(), RefusedSeal> {
    let opened = open(ids, context, now, value)?;
    let decoded = rows.decode(container.id(), context.client, &opened);
    decoded.map_err(|_| RefusedSeal::Garbled)
}

/// The name of the cookie that holds a container. Different containers have different names.
fn cookie_name(session: &str, container: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if container.len() <= LONGEST_NAME && container.bytes().all(is_plain) {
        return format!("{session}-{container}");
    }
    // No plain name contains this character.
    let mut name = format!("{session}-~");
    for byte in Sha256::digest(container).iter().take(8) {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_container_has_a_cookie_name_of_its_own() {
        let long = "x".repeat(LONGEST_NAME + 1);
        let names = ["a", "a.b", "a/b", "a b", "ä", &long];
        let names: Vec<_> = names
            .iter()
            .map(|it| cookie_name("__Host-id", it))
            .collect();
        assert_eq!(names[..2], ["__Host-id-a", "__Host-id-a.b"]);
        let all: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(all.len(), names.len());
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~".contains(&byte);
        assert!(names.iter().all(|name| name.bytes().all(is_token)));
    }
}

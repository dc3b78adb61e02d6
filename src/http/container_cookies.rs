//! The cookies that hold containers: reads those of a request, and makes those of its response (C8.6).

use http::header::COOKIE;
use http::{HeaderValue, request};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::sync::Arc;

use super::cookie::SessionCookie;
use super::sealed_cookie::{RefusedSeal, SealPlace, open, room, seal};
use super::settings::LayerSettings;
use crate::client_id::{ClientId, ClientIds};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::transaction::{CarriedLimit, CarriedRows, Carrier, ContainerEntry};

/// The longest container name that a cookie's name repeats.
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
        // A path that browsers would reject is told when the response sends a cookie.
        let session = settings.cookie.at(request);
        let session = session.as_deref().unwrap_or(&settings.cookie);
        let ids = settings.store.client_ids();
        let mut rows = CarriedRows::default();
        let mut cookies = Vec::with_capacity(containers.len());
        let mut limits = Vec::with_capacity(containers.len());
        for container in containers {
            let name = cookie_name(session.name(), &container.place.name);
            let cookie = session.named(name);
            let fields = request.headers.get_all(COOKIE);
            let mut values = cookie.candidates(fields).peekable();
            let is_presented = values.peek().is_some();
            if let Some(id) = id {
                // `any` stops at the first that opens.
                values.any(|value| read(ids, &container, id, now, value, &mut rows));
            }
            drop(values);
            limits.push(CarriedLimit {
                place: container.place.clone(),
                bytes: cookie.overhead().map_or(0, room),
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

    /// The `Set-Cookie` fields of the response: what its commits changed. If the session ended, the other cookies are
    /// removed.
    pub(super) fn fields(&self, ids: &ClientIds, has_ended: HasEnded) -> Result<Vec<HeaderValue>> {
        let changed = self.carrier.changed();
        let rows = self.carrier.rows();
        let mut fields = Vec::new();
        for it in &self.cookies {
            let container = it.container.id();
            let session = rows.session_in(container);
            match session {
                Some((client, row)) if changed.contains(&container) => {
                    let place = SealPlace {
                        container: container.number(),
                        client,
                    };
                    let times = row.times();
                    let expires = it.container.policy.over_at(&times);
                    let text = seal(ids, place, expires, &rows.encode(container, client)?)?;
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

/// Whether the response takes the visitor's id away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HasEnded {
    Yes,
    No,
}

/// Reads one cookie; tells whether it was read.
fn read(
    ids: &ClientIds,
    container: &ContainerEntry,
    id: &ClientId,
    now: Timestamp,
    value: &[u8],
    rows: &mut CarriedRows,
) -> bool {
    let place = SealPlace {
        container: container.id().number(),
        client: id.key(),
    };
    let opened = open(ids, place, now, value);
    let read = opened.and_then(|opened| {
        let decoded = rows.decode(container.id(), id.key(), &opened);
        decoded.map_err(|_| RefusedSeal::Garbled)
    });
    if let Err(refused) = read {
        refused.count();
    }
    read.is_ok()
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

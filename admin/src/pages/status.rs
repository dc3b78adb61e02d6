//! What programs ask first: that this is the administration of a store, in which version, and what they may do.

use super::Answer;
use super::overview::Figures;
use crate::entry::Visit;
use crate::render;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// The version of the JSON under all addresses. It rises when a member or an address is renamed, removed, or gets another
/// meaning. New ones do not raise it.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Status {
    program: &'static str,
    version: &'static str,
    schema: u32,
    /// The store's identity as 32 hexadecimal digits.
    identity: String,
    /// The time of the store's clock.
    now: DateTime<Utc>,
    who: String,
    may_change: bool,
    may_see_values: bool,
    containers: Vec<String>,
    figures: Figures,
}

pub(super) async fn show(visit: Visit) -> Answer {
    let store = &visit.app.store;
    let status = Status {
        program: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        schema: SCHEMA,
        identity: crate::csrf::hex(&store.identity()),
        now: store.now(),
        who: visit.access.who().unwrap_or_default().to_owned(),
        may_change: visit.access.may_change(),
        may_see_values: visit.access.may_see_values(),
        containers: (store.containers().iter())
            .map(|it| it.name().to_owned())
            .collect(),
        figures: Figures::of(&store.statistics()?),
    };
    Ok(render::json(StatusCode::OK, &status))
}

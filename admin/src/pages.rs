//! The pages.

use crate::admin::App;
use crate::failure::Failure;
use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use std::sync::Arc;

mod audit;
mod backup;
mod containers;
mod download;
mod export;
pub(crate) mod import;
mod live;
mod maintenance;
mod overview;
mod owners;
mod secrets;
mod session;
mod sessions;
mod settings;
pub(crate) mod sign_in;
mod status;

/// What a page gives.
type Answer = Result<Response, Failure>;

const STYLE: &str = include_str!("assets/style.css");
const SCRIPT: &str = include_str!("assets/live.js");

/// The addresses.
pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(overview::show))
        .route("/live", get(live::stream))
        .route("/status", get(status::show))
        .route("/containers", get(containers::list))
        .route(
            "/containers/edit",
            get(containers::edit).post(containers::save),
        )
        .route("/sessions", get(sessions::list))
        .route("/sessions/{key}", get(session::show))
        .route("/sessions/{key}/end", post(session::end))
        .route("/sessions/{key}/values", post(session::values))
        .route("/owners", get(owners::show))
        .route("/owners/end", post(owners::end))
        .route("/maintenance", get(maintenance::show))
        .route("/maintenance/backup", post(backup::send))
        .route("/maintenance/export", post(export::send))
        .route(import::PATH, post(import::receive))
        .route("/maintenance/secrets", get(secrets::show))
        .route("/maintenance/secrets/retire", post(secrets::retire))
        .route("/maintenance/{work}", post(maintenance::begin))
        .route("/maintenance/tasks/{number}", get(maintenance::task))
        .route("/maintenance/tasks/{number}/stop", post(maintenance::stop))
        .route("/settings", get(settings::show))
        .route("/audit", get(audit::show))
        .route("/sign-in", get(sign_in::already))
        .route("/sign-out", post(sign_in::out))
        .route(
            "/assets/style.css",
            get(async || asset("text/css; charset=utf-8", STYLE)),
        )
        .route(
            "/assets/live.js",
            get(async || asset("text/javascript; charset=utf-8", SCRIPT)),
        )
        .fallback(async || {
            Failure::not_found("There is no such page. The address may be mistyped.")
        })
}

/// A file inside the program. Browsers ask again after a minute, so that a new version of the program is seen soon.
fn asset(kind: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "private, max-age=60"),
    ];
    (headers, content).into_response()
}

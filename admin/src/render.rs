//! Pages as HTML, or their content as JSON.

use crate::failure::Failure;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};
use serde::Serialize;

/// No inline style and no inline script, nothing from elsewhere, in no frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The headers of every answer.
pub(crate) const HEADERS: [(HeaderName, HeaderValue); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// How a client wants its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Html,
    Json,
}

impl Format {
    /// JSON, if `Accept` names it and not HTML (RFC 9110 §12.5.1), or if the request's content is JSON.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let mentions = |name: HeaderName, kind: &str| {
            let mut values = headers.get_all(name).iter();
            values.any(|value| {
                let value = String::from_utf8_lossy(value.as_bytes());
                value.to_ascii_lowercase().contains(kind)
            })
        };
        let wants_html = mentions(header::ACCEPT, "text/html");
        let wants_json = mentions(header::ACCEPT, "application/json");
        let sends_json = mentions(header::CONTENT_TYPE, "application/json");
        match !wants_html && (wants_json || sends_json) {
            true => Self::Json,
            false => Self::Html,
        }
    }
}

/// The templates.
pub(crate) fn environment() -> Environment<'static> {
    const TEMPLATES: [(&str, &str); 14] = [
        ("audit.html", include_str!("templates/audit.html")),
        ("base.html", include_str!("templates/base.html")),
        ("container.html", include_str!("templates/container.html")),
        ("containers.html", include_str!("templates/containers.html")),
        ("error.html", include_str!("templates/error.html")),
        ("macros.html", include_str!("templates/macros.html")),
        (
            "maintenance.html",
            include_str!("templates/maintenance.html"),
        ),
        ("overview.html", include_str!("templates/overview.html")),
        ("owners.html", include_str!("templates/owners.html")),
        ("session.html", include_str!("templates/session.html")),
        ("secrets.html", include_str!("templates/secrets.html")),
        ("sessions.html", include_str!("templates/sessions.html")),
        ("settings.html", include_str!("templates/settings.html")),
        ("sign_in.html", include_str!("templates/sign_in.html")),
    ];
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    for (name, source) in TEMPLATES {
        if let Err(error) = environment.add_template(name, source) {
            tracing::error!(%error, name, "a template of the administration page is faulty");
        }
    }
    environment.add_filter("number", crate::forms::number);
    environment.add_filter("counted", |count: u64, noun: &str| {
        crate::forms::counted(count, noun)
    });
    environment.add_filter("bytes", crate::forms::bytes);
    environment.add_filter("roughly", crate::forms::roughly);
    environment.add_filter("shown", crate::shown::visible);
    environment.add_filter("settings", crate::shown::visible_settings);
    environment.add_filter("time", |time: &str| time_for_people(time));
    environment
}

/// A time as pages show it: to the second, in UTC.
fn time_for_people(time: &str) -> String {
    let read = chrono::DateTime::parse_from_rfc3339(time);
    read.map_or_else(
        |_| time.to_owned(),
        |time| time.to_utc().format("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// A page: the frame's values, and its own.
pub(crate) fn html(
    environment: &Environment<'_>,
    template: &str,
    frame: Value,
    page: &impl Serialize,
) -> Result<String, Failure> {
    let page = Value::from(Serde(page));
    let template = environment.get_template(template)?;
    Ok(template.render(context! { page => page, ..frame })?)
}

/// The answer with a page's content as JSON.
pub(crate) fn json(status: StatusCode, content: &impl Serialize) -> Response {
    match serde_json::to_vec(content) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page of the administration is no JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

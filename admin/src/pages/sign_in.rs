//! The form that asks for the token.

use super::Answer;
use crate::entry::Visit;
use crate::token::{COOKIE, TokenAccess};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect};
use serde::Serialize;

pub(crate) const PATH: &str = "/sign-in";

#[derive(Serialize)]
struct Page {
    error: Option<&'static str>,
}

pub(crate) fn form(visit: &Visit, error: Option<&'static str>) -> Answer {
    let status = match error {
        Some(_) => StatusCode::FORBIDDEN,
        None => StatusCode::OK,
    };
    let title = if error.is_some() {
        "Error: Sign in"
    } else {
        "Sign in"
    };
    visit.show_as(status, "sign_in.html", title, &Page { error })
}

/// Signs in by the token of the form.
pub(crate) async fn give_token(visit: &Visit, token: &TokenAccess, headers: &HeaderMap) -> Answer {
    let given = visit.fields.get("token").unwrap_or_default();
    let Some(cookie) = token.sign_in(given).await else {
        return form(visit, Some("This is not the token."));
    };
    let cookie = cookie_field(visit, headers, &cookie, "");
    let to_overview = Redirect::to(&visit.url("/"));
    Ok(([(header::SET_COOKIE, cookie)], to_overview).into_response())
}

/// Who is signed in is sent on.
pub(super) async fn already(visit: Visit) -> Redirect {
    Redirect::to(&visit.url("/"))
}

pub(super) async fn out(visit: Visit, headers: HeaderMap) -> Answer {
    if let Some(token) = &visit.app.sign_in {
        token.sign_out(&headers);
    }
    let cookie = cookie_field(&visit, &headers, "", "; Max-Age=0");
    let to_form = Redirect::to(&visit.url(PATH));
    Ok(([(header::SET_COOKIE, cookie)], to_form).into_response())
}

/// `Secure`, but on this machine itself, where there may be no TLS.
fn cookie_field(visit: &Visit, headers: &HeaderMap, value: &str, more: &str) -> String {
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let is_local = host.is_some_and(|host| {
        let names: [&[u8]; 3] = [b"127.0.0.1", b"localhost", b"[::1]"];
        names.iter().any(|name| {
            let rest = host.strip_prefix(*name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b":"))
        })
    });
    let secure = if is_local { "" } else { "; Secure" };
    let path = visit.cookie_path();
    format!("{COOKIE}={value}; Path={path}; HttpOnly; SameSite=Strict{secure}{more}")
}

//! The form that asks for the token.

use super::Answer;
use crate::admin::CookieScheme;
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
pub(crate) async fn give_token(visit: &Visit, token: &TokenAccess) -> Answer {
    let given = visit.fields.get("token").unwrap_or_default();
    let signed_in = token.sign_in(given).await;
    let Some((access, cookie)) = signed_in else {
        visit
            .record_as("", "sign in", Err("a wrong token".to_owned()))
            .await;
        return form(visit, Some("This is not the token."));
    };
    let who = access.who().unwrap_or_default();
    visit
        .record_as(who, "sign in", Ok("signed in".to_owned()))
        .await;
    let cookie = cookie_field(visit, &cookie, "");
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
    let who = visit.access.who().unwrap_or_default();
    visit
        .record_as(who, "sign out", Ok("signed out".to_owned()))
        .await;
    let cookie = cookie_field(&visit, "", "; Max-Age=0");
    let to_form = Redirect::to(&visit.url(PATH));
    Ok(([(header::SET_COOKIE, cookie)], to_form).into_response())
}

fn cookie_field(visit: &Visit, value: &str, more: &str) -> String {
    let secure = match visit.app.cookie {
        CookieScheme::Https => "; Secure",
        CookieScheme::PlainHttp => "",
    };
    let path = visit.cookie_path();
    format!("{COOKIE}={value}; Path={path}; HttpOnly; SameSite=Strict{secure}{more}")
}

//! The form that asks for the token.

use super::Answer;
use crate::admin::CookieScheme;
use crate::entry::Visit;
use crate::forms::counted;
use crate::token::{COOKIE, TokenAccess};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

pub(crate) const PATH: &str = "/sign-in";

/// How often the audit log is told of wrong tokens at most: who tries many does not drive other entries out of it.
const TOLD: Duration = Duration::from_secs(60);

/// The wrong tokens that the audit log was not told of, and when it was told last.
#[derive(Debug, Default)]
pub(crate) struct WrongTokens(Mutex<(u64, Option<Instant>)>);

impl WrongTokens {
    /// Counts a wrong token. Returns how many are to be told now.
    fn note(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (untold, told) = &mut *state;
        *untold += 1;
        if told.is_some_and(|told| told.elapsed() < TOLD) {
            return 0;
        }
        *told = Some(Instant::now());
        std::mem::take(untold)
    }

    /// How many were not told.
    fn take(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.0)
    }
}

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
    let wrong = &visit.app.wrong_tokens;
    let untold = match &signed_in {
        Some(_) => wrong.take(),
        None => wrong.note(),
    };
    if untold > 0 {
        let tokens = counted(untold, "wrong token");
        visit.record_as("", "sign in", Err(tokens)).await;
    }
    let Some((access, cookie)) = signed_in else {
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

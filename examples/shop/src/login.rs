//! Registration, login and logout.

use crate::pages::ShopError;
use crate::{DAY, Shop};
use axum::extract::{Form, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use cloakroom::Session;
use cloakroom::http::FlashMessage;
use minijinja::context;
use serde::Deserialize;

const SHORTEST: usize = 8;
const LONGEST: usize = 128;

#[derive(Deserialize)]
pub(crate) struct Credentials {
    name: String,
    password: String,
    /// Sent only if the box is checked.
    remember: Option<String>,
}

impl Credentials {
    /// The first problem of a new account.
    fn problem(&self) -> Option<&'static str> {
        let is_name = |name: &str| {
            (1..=40).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !is_name(&self.name) {
            Some("A name has 1 to 40 letters, digits and hyphens.")
        } else if !(SHORTEST..=LONGEST).contains(&self.password.len()) {
            Some("A password has 8 to 128 characters.")
        } else {
            None
        }
    }
}

pub(crate) async fn register_page(
    State(shop): State<Shop>,
    session: Session,
) -> Result<Response, ShopError> {
    shop.pages.show(&session, "register.html", context! {})
}

pub(crate) async fn login_page(
    State(shop): State<Shop>,
    session: Session,
) -> Result<Response, ShopError> {
    shop.pages.show(&session, "login.html", context! {})
}

pub(crate) async fn register(
    State(shop): State<Shop>,
    session: Session,
    headers: HeaderMap,
    Form(sent): Form<Credentials>,
) -> Result<Response, ShopError> {
    if let Some(problem) = sent.problem() {
        return Ok((FlashMessage::error(problem), Redirect::to("/register")).into_response());
    }
    let (accounts, name, password) = (shop.accounts, sent.name.clone(), sent.password.clone());
    // Hashing a password takes some ten milliseconds of the processor.
    let is_new = tokio::task::spawn_blocking(move || accounts.add(&name, &password)).await??;
    if !is_new {
        let message = FlashMessage::error("This name is taken.");
        return Ok((message, Redirect::to("/register")).into_response());
    }
    enter(&session, &headers, &sent)
}

pub(crate) async fn log_in(
    State(shop): State<Shop>,
    session: Session,
    headers: HeaderMap,
    Form(sent): Form<Credentials>,
) -> Result<Response, ShopError> {
    let (accounts, name, password) = (shop.accounts, sent.name.clone(), sent.password.clone());
    let matches = password.len() <= LONGEST
        && tokio::task::spawn_blocking(move || accounts.verify(&name, &password)).await??;
    if !matches {
        let message = FlashMessage::error("The name or the password is wrong.");
        return Ok((message, Redirect::to("/login")).into_response());
    }
    enter(&session, &headers, &sent)
}

/// Logs in: a new id, the owner, and the time of the authentication, in the commit of this request. The cart stays.
fn enter(
    session: &Session,
    headers: &HeaderMap,
    sent: &Credentials,
) -> Result<Response, ShopError> {
    session.log_in(&sent.name)?;
    session.set_label(label(headers))?;
    let remember = sent.remember.is_some().then_some(30 * DAY);
    session.set_timeout(remember)?;
    let message = FlashMessage::success(format!("Welcome, {}.", sent.name));
    Ok((message, Redirect::to("/")).into_response())
}

/// What the list of devices shows: one of a few names that we chose, never the visitor's own text.
fn label(headers: &HeaderMap) -> &'static str {
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok());
    let agent = agent.unwrap_or_default();
    let is = |part: &str| agent.contains(part);
    match () {
        () if is("Android") => "A phone or tablet with Android",
        () if is("iPhone") || is("iPad") => "An iPhone or iPad",
        () if is("Firefox") => "Firefox on a computer",
        () if is("Chrome") => "Chrome on a computer",
        () if is("Safari") => "Safari on a computer",
        () => "A browser",
    }
}

pub(crate) async fn log_out(session: Session) -> Result<Redirect, ShopError> {
    session.log_out()?;
    Ok(Redirect::to("/"))
}

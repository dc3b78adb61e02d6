//! Registration, login and logout.

use crate::answers::ShopError;
use crate::app::{DAY, Shop};
use crate::pages::Page;
use crate::password;
use axum::extract::{Extension, Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use cloakroom::Session;
use cloakroom::http::{FlashMessage, VisitorAddress};
use minijinja::{Value, context};
use serde::Deserialize;

const TOO_OFTEN: &str = "That was too often. Wait five minutes, and then try again.";

#[derive(Deserialize)]
pub(crate) struct Credentials {
    name: String,
    password: String,
    /// Sent only if the box is checked.
    remember: Option<String>,
    next: Option<String>,
}

impl Credentials {
    /// Upper and lower case are one name: `Ann` and `ann` must not be two people.
    fn name(&self) -> String {
        self.name.trim().to_ascii_lowercase()
    }

    /// The first problem of a new account: its field, and what to say.
    fn problem(&self) -> Option<(&'static str, &'static str)> {
        if !is_name(&self.name()) {
            return Some(("name", "A name has 1 to 40 letters, digits and hyphens."));
        }
        password::problem(&self.password).map(|problem| ("password", problem))
    }

    /// The form again, with what was typed, except for the password.
    fn again(&self, field: &str, error: &str) -> Value {
        let (name, remember) = (&self.name, self.remember.is_some());
        context! { field, error, name, remember, next => next_page(self.next.as_deref()) }
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=40).contains(&name.len()) && name.bytes().all(fits)
}

#[derive(Deserialize)]
pub(crate) struct Next {
    next: Option<String>,
}

/// Where a login leads: to one of a few pages, never to an address that somebody put into a link.
fn next_page(wanted: Option<&str>) -> &'static str {
    let pages = ["/", "/cart", "/live", "/devices", "/password"];
    let found = pages.into_iter().find(|page| Some(*page) == wanted);
    found.unwrap_or("/")
}

pub(crate) async fn register_page(page: Page) -> Result<Response, ShopError> {
    page.show("register.html", context! {})
}

/// A customer who is logged in must enter the password again.
pub(crate) async fn login_page(
    page: Page,
    session: Session,
    Query(query): Query<Next>,
) -> Result<Response, ShopError> {
    let next = next_page(query.next.as_deref());
    page.show("login.html", context! { next, name => session.owner()? })
}

pub(crate) async fn register(
    State(shop): State<Shop>,
    page: Page,
    session: Session,
    Extension(address): Extension<VisitorAddress>,
    headers: HeaderMap,
    Form(sent): Form<Credentials>,
) -> Result<Response, ShopError> {
    let again =
        |status, field, error| page.show_again(status, "register.html", sent.again(field, error));
    if let Some((field, problem)) = sent.problem() {
        return again(StatusCode::UNPROCESSABLE_ENTITY, field, problem);
    }
    let name = sent.name();
    if !shop.attempts.admit(&name, address.ip) {
        return again(StatusCode::TOO_MANY_REQUESTS, "name", TOO_OFTEN);
    }
    // If the session's commit conflicts, the request runs again, and finds the account that it has added.
    let is_theirs = shop.accounts.add(&name, &sent.password).await?
        || shop.accounts.verify(&name, &sent.password).await?;
    if !is_theirs {
        return again(
            StatusCode::UNPROCESSABLE_ENTITY,
            "name",
            "This name is taken.",
        );
    }
    shop.attempts.forget(&name);
    enter(&session, &headers, &sent)
}

pub(crate) async fn log_in(
    State(shop): State<Shop>,
    page: Page,
    session: Session,
    Extension(address): Extension<VisitorAddress>,
    headers: HeaderMap,
    Form(sent): Form<Credentials>,
) -> Result<Response, ShopError> {
    let again =
        |status, error| page.show_again(status, "login.html", sent.again("password", error));
    let name = sent.name();
    if is_name(&name) && !shop.attempts.admit(&name, address.ip) {
        return again(StatusCode::TOO_MANY_REQUESTS, TOO_OFTEN);
    }
    let may_match = is_name(&name) && password::problem(&sent.password).is_none();
    if !may_match || !shop.accounts.verify(&name, &sent.password).await? {
        let error = "The name or the password is wrong.";
        return again(StatusCode::UNPROCESSABLE_ENTITY, error);
    }
    shop.attempts.forget(&name);
    enter(&session, &headers, &sent)
}

/// Logs in: a new id, the owner, and the time of the authentication, in the commit of this request. The cart of a
/// visitor stays; that of another user does not.
fn enter(
    session: &Session,
    headers: &HeaderMap,
    sent: &Credentials,
) -> Result<Response, ShopError> {
    let name = sent.name();
    let owner = session.owner()?;
    if owner.as_ref().is_some_and(|owner| *owner != name) {
        session.destroy()?;
    }
    session.log_in(&name)?;
    // The password again, for something important, changes neither the label nor the timeout.
    if owner.as_ref() != Some(&name) {
        session.set_label(label(headers))?;
        let remember = sent.remember.is_some().then_some(30 * DAY);
        session.set_timeout(remember)?;
    }
    let message = FlashMessage::success(format!("Welcome, {name}."));
    let next = next_page(sent.next.as_deref());
    Ok((message, Redirect::to(next)).into_response())
}

/// What the list of devices shows at first: one of a few names that we chose, never the browser's own text.
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

/// Answers with a page: a message that waits for the next one would need a session.
pub(crate) async fn log_out(page: Page, session: Session) -> Result<Response, ShopError> {
    session.log_out()?;
    page.show("bye.html", context! {})
}

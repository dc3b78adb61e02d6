//! C6.5: errors as pages of the application, and `?` in handlers with the error types that applications use.

use super::*;
use anyhow::Context as _;
use axum::http::{HeaderMap, StatusCode, request};
use axum::response::{Html, IntoResponse};
use axum::routing::post;
use cloakroom::ErrorKind;
use cloakroom::http::CsrfLayer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn named(error: &Error, request: &request::Parts) -> impl IntoResponse + use<> {
    let status = match error.kind() {
        ErrorKind::TypeMismatch => StatusCode::IM_A_TEAPOT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let page = format!("<h1>{:?} at {}</h1>", error.kind(), request.uri.path());
    (status, [("x-page", "ours")], Html(page))
}

async fn mismatch(session: Session) -> Result<(), Error> {
    count(&session)?;
    session.pkg(PACKAGE).get::<String>("count").map(drop)
}

async fn refused(session: Session) -> Result<(), Error> {
    session.pkg(PACKAGE).insert("count", Unserializable)
}

struct Unserializable;

impl serde::Serialize for Unserializable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

/// The page of an error: its status and its text.
async fn shown(response: Response<Body>) -> (u16, String) {
    assert_eq!(
        values(&response, header::CONTENT_TYPE),
        ["text/html; charset=utf-8"]
    );
    assert_eq!(values(&response, "x-page".parse().unwrap()), ["ours"]);
    assert_eq!(values(&response, header::CACHE_CONTROL), ["no-store"]);
    assert!(response.extensions().get::<Error>().is_some());
    (response.status().as_u16(), text(response).await)
}

#[tokio::test]
async fn the_application_chooses_status_and_page_of_each_error() {
    let store = Store::in_memory().unwrap();
    let app = Router::new()
        .route("/mismatch", get(mismatch))
        .route("/refused", get(refused))
        .route("/form", post(counter))
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(store).on_error(named));
    let at = async |method, path| shown(send(&app, request(method, path, "")).await).await;
    let page = |status, text: &str| (status, format!("<h1>{text}</h1>"));
    // By the handler, by the commit, and by another layer.
    assert_eq!(
        at("GET", "/mismatch").await,
        page(418, "TypeMismatch at /mismatch")
    );
    assert_eq!(
        at("GET", "/refused").await,
        page(503, "NotSerializable at /refused")
    );
    assert_eq!(at("POST", "/form").await, page(503, "CsrfRefused at /form"));
}

#[tokio::test]
async fn a_page_keeps_what_clients_and_caches_are_told() {
    let builder = Store::builder().max_new_sessions(1, std::time::Duration::from_secs(5));
    let layer = SessionLayer::new(builder.in_memory().unwrap());
    let app = site(layer.on_error(named));
    visitor(&app).await;
    let response = get_page(&app, "/count", "").await;
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(values(&response, header::VARY), ["Cookie"]);
    shown(response).await;
}

/// The page decides how a failure looks, never whether it is one.
#[tokio::test]
async fn a_page_with_a_good_status_commits_nothing() {
    let store = Store::in_memory().unwrap();
    let layer = SessionLayer::new(store.clone()).on_error(|_, _| "all is well");
    let app = Router::new()
        .route("/mismatch", get(mismatch))
        .layer(layer.clone())
        .merge(site(layer));
    let cookie = visitor(&app).await;
    let response = get_page(&app, "/mismatch", &cookie).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(stored(&store, &cookie), Some(1));
}

#[tokio::test]
async fn a_response_of_the_applications_own_is_left_alone() {
    let own = || async { (StatusCode::INTERNAL_SERVER_ERROR, "my own page") };
    let app = Router::new()
        .route("/", get(own))
        .layer(SessionLayer::new(Store::in_memory().unwrap()).on_error(named));
    let response = get_page(&app, "/", "").await;
    assert_eq!(text(response).await, "my own page");
}

/// The usual wrapper around `anyhow`.
struct AnyError(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for AnyError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for AnyError {
    fn into_response(self) -> Response<Body> {
        match Error::find_in(&*self.0) {
            Some(error) => error.clone().into_response(),
            None => (StatusCode::INTERNAL_SERVER_ERROR, "unexpected").into_response(),
        }
    }
}

/// An application's own, by `thiserror`.
#[derive(Debug, thiserror::Error)]
enum ShopError {
    #[error("there is no such article")]
    NoArticle,
    #[error("the session failed")]
    Session(#[from] Error),
}

impl IntoResponse for ShopError {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::NoArticle => (StatusCode::NOT_FOUND, self.to_string()).into_response(),
            Self::Session(error) => error.into_response(),
        }
    }
}

/// An application's own, without other crates.
enum CartError {
    Full,
    Session(Error),
}

impl From<Error> for CartError {
    fn from(error: Error) -> Self {
        Self::Session(error)
    }
}

impl IntoResponse for CartError {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Full => (StatusCode::CONFLICT, "Your cart is full.").into_response(),
            Self::Session(error) => error.into_response(),
        }
    }
}

async fn with_anyhow(session: Session, headers: HeaderMap) -> Result<String, AnyError> {
    count(&session).context("counting")?;
    if headers.contains_key("x-other") {
        let n: u32 = "five".parse()?;
        return Ok(n.to_string());
    }
    let n = session
        .pkg(PACKAGE)
        .get::<String>("count")
        .context("reading")?;
    Ok(n.unwrap_or_default())
}

async fn with_thiserror(session: Session, headers: HeaderMap) -> Result<String, ShopError> {
    count(&session)?;
    if headers.contains_key("x-other") {
        return Err(ShopError::NoArticle);
    }
    Ok(session
        .pkg(PACKAGE)
        .get::<String>("count")?
        .unwrap_or_default())
}

async fn with_its_own(session: Session, headers: HeaderMap) -> Result<String, CartError> {
    count(&session)?;
    if headers.contains_key("x-other") {
        return Err(CartError::Full);
    }
    let n = session.pkg(PACKAGE).get::<String>("count")?;
    Ok(n.unwrap_or_default())
}

#[tokio::test]
async fn the_question_mark_works_with_the_error_types_of_applications() {
    let store = Store::in_memory().unwrap();
    let layer = SessionLayer::new(store.clone());
    let app = Router::new()
        .route("/anyhow", get(with_anyhow))
        .route("/thiserror", get(with_thiserror))
        .route("/own", get(with_its_own))
        .layer(layer.clone())
        .merge(site(layer));
    let cookie = visitor(&app).await;
    for (path, other_status) in [("/anyhow", 500), ("/thiserror", 404), ("/own", 409)] {
        let response = get_page(&app, path, &cookie).await;
        assert_eq!(response.status(), 500, "{path}");
        let error = response.extensions().get::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::TypeMismatch, "{path}");

        let mut other = request("GET", path, &cookie);
        other.headers_mut().insert("x-other", "1".parse().unwrap());
        let response = send(&app, other).await;
        assert_eq!(response.status(), other_status, "{path}");
        assert!(response.extensions().get::<Error>().is_none());
    }
    // Of the six, only the 404 and the 409 committed.
    assert_eq!(stored(&store, &cookie), Some(3));
}

/// C6.2: a conflict inside another error runs the request again, too.
#[tokio::test]
async fn a_wrapped_conflict_runs_the_request_again() {
    let store = Store::in_memory().unwrap();
    let (other, runs) = (store.clone(), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&runs);
    let losing = move |session: Session| async move {
        if seen.fetch_add(1, Ordering::Relaxed) == 0 {
            let id = session.client_id().context("a visitor")?;
            let slow = other.begin()?;
            count(&slow.session(&id)?)?;
            interfere(&other, &id, 100);
            slow.commit().context("saving")?;
        }
        Ok::<_, AnyError>(count(&session)?.to_string())
    };
    let layer = SessionLayer::new(store);
    let app = Router::new()
        .route("/", get(losing))
        .layer(layer.clone())
        .merge(site(layer));
    let cookie = visitor(&app).await;
    assert_eq!(page(&app, "/", &cookie).await, "101");
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

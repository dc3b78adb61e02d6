//! C6.1: other layers around the session layer and inside it, as `docs/guide/layers.md` places them.

use super::*;
use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use axum::routing::post;
use cloakroom::ErrorKind;
use cloakroom::http::Rerun;
use std::future::pending;
use std::time::Duration;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

const SECOND: Duration = Duration::from_secs(1);

/// Inserts, and then never comes to its second insert.
async fn stuck(session: Session) -> Result<(), Error> {
    count(&session)?;
    pending::<()>().await;
    session.pkg(PACKAGE).insert("second", true)
}

async fn fall(session: Session) -> &'static str {
    count(&session).unwrap();
    panic!("the handler's own fault")
}

fn timeout(status: StatusCode) -> TimeoutLayer {
    TimeoutLayer::with_status_code(status, SECOND)
}

/// A known visitor and a new one come to `path`: the answer to the first, and what is stored of it.
async fn visit(store: &Store, app: &Router, path: &str) -> (Response<Body>, Option<u64>) {
    let cookie = visitor(app).await;
    let response = get_page(app, path, &cookie).await;
    assert_eq!(set_cookie(&get_page(app, path, "").await), None);
    (response, stored(store, &cookie))
}

/// C6.1
#[tokio::test(start_paused = true)]
async fn a_timeout_inside_commits_nothing() {
    for status in [StatusCode::REQUEST_TIMEOUT, StatusCode::GATEWAY_TIMEOUT] {
        let store = Store::in_memory().unwrap();
        let app = Router::new()
            .route("/stuck", get(stuck))
            .layer(timeout(status))
            .route("/count", get(counter))
            .layer(SessionLayer::new(store.clone()));
        let (response, stored) = visit(&store, &app, "/stuck").await;
        assert_eq!(response.status(), status);
        assert_eq!(stored, Some(1), "{status}");
    }
}

/// C6.1: tower's own timeout is an error, which axum has turned into a response.
#[tokio::test(start_paused = true)]
async fn a_timeout_inside_that_is_an_error_commits_nothing() {
    let store = Store::in_memory().unwrap();
    let elapsed = |_: tower::BoxError| async { StatusCode::REQUEST_TIMEOUT };
    let app = Router::new()
        .route("/stuck", get(stuck))
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(elapsed))
                .layer(tower::timeout::TimeoutLayer::new(SECOND)),
        )
        .route("/count", get(counter))
        .layer(SessionLayer::new(store.clone()));
    let (response, stored) = visit(&store, &app, "/stuck").await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(stored, Some(1));
}

/// C6.1
#[tokio::test(start_paused = true)]
async fn a_timeout_outside_drops_the_handler_and_commits_nothing() {
    let store = Store::in_memory().unwrap();
    let app = Router::new()
        .route("/stuck", get(stuck))
        .layer(SessionLayer::new(store.clone()))
        .layer(timeout(StatusCode::REQUEST_TIMEOUT))
        .route(
            "/count",
            get(counter).layer(SessionLayer::new(store.clone())),
        );
    let (response, stored) = visit(&store, &app, "/stuck").await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(stored, Some(1));
}

/// C6.1: a handler that gives up commits nothing, with any status of its error.
#[tokio::test]
async fn a_handler_that_returns_an_error_commits_nothing() {
    let store = Store::in_memory().unwrap();
    let much = |session: Session| async move {
        count(&session)?;
        session.pkg(PACKAGE).insert(&"k".repeat(9999), 1)
    };
    let app = Router::new()
        .route("/much", get(much))
        .route("/count", get(counter))
        .layer(SessionLayer::new(store.clone()));
    let (response, stored) = visit(&store, &app, "/much").await;
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(stored, Some(1));
}

/// C6.1
#[tokio::test]
async fn a_panic_is_caught_on_either_side_and_commits_nothing() {
    let store = Store::in_memory().unwrap();
    let layer = || SessionLayer::new(store.clone());
    let inside = Router::new()
        .route("/fall", get(fall))
        .layer(CatchPanicLayer::new())
        .layer(layer());
    let outside = Router::new()
        .route("/fall", get(fall))
        .layer(layer())
        .layer(CatchPanicLayer::new());
    for app in [inside, outside] {
        let app = app.route("/count", get(counter).layer(layer()));
        let (response, stored) = visit(&store, &app, "/fall").await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(stored, Some(1));
    }
}

/// C4.6, C6.1
#[tokio::test]
async fn compression_on_either_side_keeps_the_cookie_and_what_caches_are_told() {
    let store = Store::in_memory().unwrap();
    let long = |session: Session| async move {
        let n = count(&session)?;
        Ok::<_, Error>("long ".repeat(1000) + &n.to_string())
    };
    let layer = || SessionLayer::new(store.clone());
    let inside = ServiceBuilder::new()
        .layer(layer())
        .layer(CompressionLayer::new());
    let outside = ServiceBuilder::new()
        .layer(CompressionLayer::new())
        .layer(layer());
    let inside = Router::new().route("/", get(long)).layer(inside);
    let outside = Router::new().route("/", get(long)).layer(outside);
    for app in [inside, outside] {
        let mut asked = request("GET", "/", "");
        let gzip = header::HeaderValue::from_static("gzip");
        asked.headers_mut().insert(header::ACCEPT_ENCODING, gzip);
        let response = send(&app, asked).await;
        assert_eq!(values(&response, header::CONTENT_ENCODING), ["gzip"]);
        assert_eq!(values(&response, header::CACHE_CONTROL), ["no-store"]);
        let vary = values(&response, header::VARY).join(",").to_lowercase();
        assert!(
            vary.contains("cookie") && vary.contains("accept-encoding"),
            "{vary}"
        );
        assert_eq!(stored(&store, &jar(&response)), Some(1));
    }
}

/// C6.4, C6.1: a body beyond the limit of a layer outside is refused before the session is asked for.
#[tokio::test]
async fn a_body_limit_and_cors_outside_answer_without_the_session() {
    let store = Store::in_memory().unwrap();
    let app = Router::new()
        .route("/", post(echo).layer(Rerun::Always))
        .layer(
            ServiceBuilder::new()
                .layer(TraceLayer::new_for_http())
                .layer(CorsLayer::permissive())
                .layer(RequestBodyLimitLayer::new(10))
                .layer(SessionLayer::new(store.clone())),
        );
    let post = |body: &'static str| {
        let mut request = request("POST", "/", "").map(|_| Body::from(body));
        let length = header::HeaderValue::from(body.len());
        request.headers_mut().insert(header::CONTENT_LENGTH, length);
        send(&app, request)
    };
    let refused = post("far too long for it").await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!refused.headers().contains_key(header::SET_COOKIE));
    let taken = post("short").await;
    assert_eq!(stored(&store, &jar(&taken)), Some(1));
    assert_eq!(text(taken).await, "short");

    store.close().unwrap();
    let mut preflight = request("OPTIONS", "/", "");
    for (name, value) in [
        ("origin", "https://example.com"),
        ("access-control-request-method", "POST"),
    ] {
        preflight
            .headers_mut()
            .insert(name, header::HeaderValue::from_static(value));
    }
    assert_eq!(send(&app, preflight).await.status(), StatusCode::OK);
    let refused = post("short").await;
    assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        refused
            .headers()
            .contains_key("access-control-allow-origin")
    );
}

//! Routes that need a recent login.

use super::*;
use axum::http::{StatusCode, request};
use axum::response::Redirect;
use cloakroom::ErrorKind;
use cloakroom::http::RequireFresh;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

async fn log_in(session: Session) -> Result<(), Error> {
    session.log_in("ann").map(drop)
}

async fn own(session: Session) -> Result<(), Error> {
    session.set_owner(Some("ann"))
}

/// A site on a clock that is moved by hand, with one page behind the layer.
fn guarded(fresh: RequireFresh) -> (Clock, Store, Router) {
    let (clock, store, _) = timed();
    let layer = SessionLayer::new(store.clone());
    let app = Router::new()
        .route("/secret", get(counter).post(counter).layer(fresh))
        .route("/login", get(log_in))
        .route("/own", get(own))
        .route("/read", get(reader))
        .layer(layer);
    (clock, store, app)
}

async fn status(app: &Router, cookie: &str) -> u16 {
    get_page(app, "/secret", cookie).await.status().as_u16()
}

#[tokio::test]
async fn a_page_is_served_within_the_time_after_a_login_and_not_later() {
    let (clock, store, app) = guarded(RequireFresh::within(5 * MINUTE));
    assert_eq!(status(&app, "").await, 401);
    let cookie = jar(&get_page(&app, "/own", "").await);
    assert_eq!(status(&app, &cookie).await, 401, "an owner is no login");
    let cookie = jar(&get_page(&app, "/login", &cookie).await);
    assert_eq!(status(&app, &cookie).await, 200);
    clock.advance(5 * MINUTE);
    assert_eq!(status(&app, &cookie).await, 200);
    // An access is no login.
    clock.advance(Duration::from_millis(1));
    assert_eq!(status(&app, &cookie).await, 401);
    assert_eq!(page(&app, "/read", &cookie).await, "2");
    assert_eq!(stored(&store, &cookie), Some(2));
    let cookie = jar(&get_page(&app, "/login", &cookie).await);
    assert_eq!(status(&app, &cookie).await, 200);
}

#[tokio::test]
async fn a_refusal_carries_its_error_and_says_what_to_do() {
    let (_, _, app) = guarded(RequireFresh::within(MINUTE));
    let response = get_page(&app, "/secret", "").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(values(&response, header::WWW_AUTHENTICATE), ["Session"]);
    assert_eq!(set_cookie(&response), None);
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFresh);
    assert!(text(response).await.contains("Log in again"));
}

#[tokio::test]
async fn the_application_redirects_to_its_login() {
    let to_login =
        |request: &request::Parts| Redirect::to(&format!("/login?next={}", request.uri.path()));
    let (_, _, app) = guarded(RequireFresh::within(MINUTE).or_else(to_login));
    let response = get_page(&app, "/secret", "").await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(values(&response, header::LOCATION), ["/login?next=/secret"]);
    assert_eq!(set_cookie(&response), None);
}

#[tokio::test]
async fn without_the_session_layer_nothing_passes() {
    let app = Router::new().route("/", get(counter).layer(RequireFresh::within(MINUTE)));
    let response = get_page(&app, "/", "").await;
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoSessionLayer);
}

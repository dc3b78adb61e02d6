//! C6.5: what an error answers, a missing layer, and a layer too many.

use super::*;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use cloakroom::ErrorKind;
use cloakroom::http::CookieSettings;

/// C6.5
#[tokio::test]
async fn a_missing_layer_is_named() {
    let app = Router::new().route("/", get(counter));
    let response = get_page(&app, "/", "").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoSessionLayer);
    let body = text(response).await;
    assert!(body.contains("is the session layer installed?"), "{body}");
}

/// C6.3
#[tokio::test]
async fn an_optional_session_is_none_without_the_layer_and_an_error_where_one_fails() {
    async fn perhaps(session: Option<Session>) -> Result<String, Error> {
        match session {
            Some(session) => count(&session).map(|n| n.to_string()),
            None => Ok("no layer".to_owned()),
        }
    }
    let store = Store::in_memory().unwrap();
    let app = Router::new()
        .route("/with", get(perhaps))
        .layer(SessionLayer::new(store.clone()))
        .route("/without", get(perhaps));
    assert_eq!(page(&app, "/without", "").await, "no layer");
    let cookie = jar(&get_page(&app, "/with", "").await);
    assert_eq!(page(&app, "/with", &cookie).await, "2");
    store.close().unwrap();
    let refused = get_page(&app, "/with", &cookie).await;
    let error = refused.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

/// C6.5
#[tokio::test]
async fn an_error_as_a_response_is_empty_and_carries_itself() {
    let store = Store::in_memory().unwrap();
    let session_less = store.begin().unwrap();
    session_less.doom();
    let doomed = session_less.commit().unwrap_err();
    let response = doomed.into_response();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(values(&response, header::CACHE_CONTROL), ["no-store"]);
    assert!(!response.headers().contains_key(header::RETRY_AFTER));
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Doomed);
    assert_eq!(text(response).await, "");
}

/// C6.5
#[tokio::test]
async fn a_conflict_as_a_response_asks_to_come_again() {
    let (store, app) = usual();
    let id = id_of(&store, &visitor(&app).await);
    let slow = store.begin().unwrap();
    count(&slow.session(&id).unwrap()).unwrap();
    interfere(&store, &id, 100);
    let response = slow.commit().unwrap_err().into_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(values(&response, header::RETRY_AFTER), ["1"]);
}

/// C6.5
#[tokio::test]
async fn a_nested_layer_steps_aside() {
    let (outer, inner) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
    let settings = CookieSettings::new().name("inner").unwrap();
    let app = Router::new()
        .route("/count", get(counter).put(echo))
        .layer(SessionLayer::new(inner.clone()).cookie(settings))
        .layer(SessionLayer::new(outer.clone()));
    let cookie = jar(&get_page(&app, "/count", "").await);
    assert!(!cookie.contains("inner"), "{cookie}");
    assert_eq!(stored(&outer, &cookie), Some(1));
    assert!(inner.client_ids().verify(halves(&cookie).1).is_none());

    let put = request("PUT", "/count", &cookie).map(|_| Body::from("through both"));
    assert_eq!(text(send(&app, put).await).await, "through both");
    assert_eq!(page(&app, "/count", &cookie).await, "3");
}

//! C6.1: the layer in the ways that axum's applications put layers together.

use super::*;
use axum::extract::Request as AxumRequest;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use axum::routing::put;
use cloakroom::http::{GenericSessionLayer, Replay, Rerun, session};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tower::{Layer as _, ServiceBuilder, service_fn};

/// A middleware that uses the session itself, before the handler does.
async fn counted(
    session: Session,
    request: AxumRequest,
    next: Next,
) -> Result<Response<Body>, Error> {
    count(&session)?;
    Ok(next.run(request).await)
}

/// A middleware over `Request<Body>` that knows nothing of sessions.
async fn plain(request: AxumRequest, next: Next) -> impl IntoResponse {
    ([("x-middleware", "ran")], next.run(request).await)
}

fn with_body(method: &str, cookie: &str, body: &'static str) -> Request<Body> {
    request(method, "/", cookie).map(|_| Body::from(body))
}

/// C6.1
#[tokio::test]
async fn middleware_inside_the_layer_in_a_service_builder_shares_the_session() {
    let store = Store::in_memory().unwrap();
    let app = Router::new().route("/", get(counter).post(echo)).layer(
        ServiceBuilder::new()
            .layer(from_fn(plain))
            .layer(SessionLayer::new(store.clone()))
            .layer(from_fn(plain))
            .layer(from_fn(counted)),
    );
    let response = get_page(&app, "/", "").await;
    assert_eq!(values(&response, "x-middleware".parse().unwrap()).len(), 1);
    let cookie = jar(&response);
    assert_eq!(
        text(response).await,
        "2",
        "by the middleware and the handler"
    );
    assert_eq!(
        text(send(&app, with_body("POST", &cookie, "words")).await).await,
        "words"
    );
    assert_eq!(stored(&store, &cookie), Some(4));
}

/// C6.1
#[tokio::test]
async fn a_service_over_axums_request_lies_inside_and_outside_the_layer() {
    let store = Store::in_memory().unwrap();
    let inner = service_fn(|request: Request<Body>| async move {
        let session = session(request.extensions()).await.unwrap();
        Ok::<_, std::convert::Infallible>(count(&session).unwrap().to_string())
    });
    let service = SessionLayer::new(store).layer(inner);
    let outer = tower::util::MapRequest::new(service, |request: Request<Body>| request);
    let first = outer
        .clone()
        .oneshot(request("GET", "/", ""))
        .await
        .unwrap();
    let second = outer
        .oneshot(request("GET", "/", &jar(&first)))
        .await
        .unwrap();
    assert_eq!(text(second).await, "2");
}

/// C6.1: a body of its own need not have a default.
#[tokio::test]
async fn an_inner_layer_may_change_the_type_of_the_responses_body() {
    let store = Store::in_memory().unwrap();
    let app = Router::new().route("/", get(counter)).layer(
        ServiceBuilder::new()
            .layer(SessionLayer::new(store))
            .map_response(|response: Response<Body>| {
                response.map(|body| http_body_util::BodyExt::map_frame(body, |frame| frame))
            }),
    );
    assert_eq!(page(&app, "/", "").await, "1");
}

/// C6.1
#[tokio::test]
async fn the_layer_may_be_a_route_layer_nested_or_merged() {
    let store = Store::in_memory().unwrap();
    let pages = Router::new()
        .route("/count", get(counter))
        .route_layer(from_fn(plain))
        .route_layer(SessionLayer::new(store.clone()));
    let app = Router::new()
        .nest("/inner", pages.clone())
        .merge(pages)
        .route("/one", get(counter).layer(SessionLayer::new(store.clone())))
        .layer(from_fn(plain));
    let cookie = jar(&get_page(&app, "/inner/count", "").await);
    assert_eq!(page(&app, "/count", &cookie).await, "2");
    assert_eq!(page(&app, "/one", &cookie).await, "3");
    let missing = get_page(&app, "/nowhere", &cookie).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
}

/// C6.2: the kept part of the body reaches the second attempt through axum's body.
#[tokio::test]
async fn a_body_is_read_again_after_a_conflict() {
    let store = Store::in_memory().unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let (other, seen) = (store.clone(), Arc::clone(&runs));
    let disturbed = move |session: Session, body: String| async move {
        count(&session)?;
        if seen.fetch_add(1, Ordering::Relaxed) % 2 == 0 {
            interfere(&other, &session.client_id().unwrap(), 100);
        }
        Ok::<_, Error>(body)
    };
    let app = Router::new()
        .route(
            "/",
            put(disturbed.clone()).post(disturbed).layer(Rerun::Always),
        )
        .route("/count", get(counter))
        .layer(
            ServiceBuilder::new()
                .layer(SessionLayer::new(store.clone()))
                .layer(from_fn(plain)),
        );
    let cookie = visitor(&app).await;
    for method in ["PUT", "POST"] {
        runs.store(0, Ordering::Relaxed);
        let response = send(&app, with_body(method, &cookie, "kept")).await;
        assert_eq!(text(response).await, "kept", "{method}");
        assert_eq!(runs.load(Ordering::Relaxed), 2, "{method}");
        assert_eq!(stored(&store, &cookie), Some(101), "{method}");
    }
}

/// C6.1: without axum, any body becomes one that can be read again.
#[tokio::test]
async fn the_generic_layer_takes_and_gives_other_bodies() {
    let layer: GenericSessionLayer = SessionLayer::new(Store::in_memory().unwrap()).generic();
    let service = layer.layer(service_fn(|request: Request<Replay<String>>| async move {
        let (parts, body) = request.into_parts();
        let n = count(&session(&parts.extensions).await?)?;
        let body = http_body_util::BodyExt::collect(body).await.unwrap();
        let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        Ok::<Response<String>, Error>(Response::new(format!("{n} {body}")))
    }));
    let response = service
        .oneshot(Request::new("words".to_owned()))
        .await
        .unwrap();
    assert_eq!(response.body(), "1 words");
}

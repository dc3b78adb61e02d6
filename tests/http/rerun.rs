//! C6.2: `Rerun` on the layer and on one route.

use super::conflicts::{always_losing, losing, scene};
use super::*;
use axum::http::StatusCode;
use cloakroom::http::Rerun;

/// C6.2
#[tokio::test]
async fn always_runs_a_post_again() {
    let routes = Router::new().route("/", losing());
    let (scene, cookie, app) = scene(routes, |l| l.rerun(Rerun::Always)).await;
    let response = send(&app, request("POST", "/", &cookie)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(scene.runs(), 2);
    assert_eq!(text(response).await, "101");
}

/// C6.2
#[tokio::test]
async fn never_runs_not_even_a_get_again() {
    let routes = Router::new().route("/", always_losing());
    let (scene, cookie, app) = scene(routes, |l| l.rerun(Rerun::Never)).await;
    let response = get_page(&app, "/", &cookie).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(scene.runs(), 1);
}

/// C6.2
#[tokio::test]
async fn a_routes_own_setting_replaces_the_layers() {
    let routes = || {
        Router::new()
            .route("/always", losing().layer(Rerun::Always))
            .route("/never", always_losing().layer(Rerun::Never))
    };
    let (always, cookie, app) = scene(routes(), |l| l).await;
    let response = send(&app, request("POST", "/always", &cookie)).await;
    assert_eq!((response.status(), always.runs()), (StatusCode::OK, 2));

    let (never, cookie, app) = scene(routes(), |l| l).await;
    let response = get_page(&app, "/never", &cookie).await;
    let expected = (StatusCode::SERVICE_UNAVAILABLE, 1);
    assert_eq!((response.status(), never.runs()), expected);
}

/// C6.2
#[tokio::test]
async fn a_route_that_runs_again_records_its_body() {
    let routes = Router::new().route("/", losing().post(echo).layer(Rerun::Always));
    let (_, cookie, app) = scene(routes, |l| l.rerun(Rerun::Never)).await;
    let request = request("POST", "/", &cookie).map(|_| Body::from("the body"));
    assert_eq!(text(send(&app, request).await).await, "the body");
}

/// C6.2
#[tokio::test]
async fn without_a_layer_around_it_the_setting_does_nothing() {
    let app = Router::new().route("/", get(|| async { "here" }).layer(Rerun::Never));
    assert_eq!(page(&app, "/", "").await, "here");
}

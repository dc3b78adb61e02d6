//! Futures that are allocated with each request. glibc keeps freed blocks of up to 1032 bytes at hand for each thread.
//! Larger blocks take several times as long, and a lock that the threads share.

use super::super::service::TowerInner;
use super::*;
use crate::store::Store;
use axum::Router;
use axum::routing::get;
use axum_core::body::Body;
use axum_core::extract::FromRequestParts;
use axum_core::response::IntoResponse;

const SMALL_BLOCK: usize = 1032;

fn exchange(store: Store) -> Arc<Exchange> {
    let settings = Arc::new(LayerSettings::new(store));
    let (parts, ()) = Request::new(()).into_parts();
    Exchange::new(settings, parts, &http_body::SizeHint::with_exact(0))
}

#[test]
fn the_future_of_a_request_is_small() {
    let route: Router = Router::new().route("/", get(async || "hello"));
    let inner = TowerInner {
        service: route,
        inward: |_: Replay<Body>| Body::empty(),
        outward: IntoResponse::into_response,
    };
    let future = run(inner, exchange(Store::in_memory().unwrap()), Body::empty());
    let size = size_of_val(&future);
    assert!(size <= SMALL_BLOCK, "{size} bytes");
}

/// axum's future of a handler also has the request and the handler's own future.
#[test]
fn the_future_that_extracts_a_session_is_small() {
    let (mut parts, ()) = Request::new(()).into_parts();
    let size = size_of_val(&Session::from_request_parts(&mut parts, &()));
    assert!(size <= SMALL_BLOCK / 2, "{size} bytes");
    let slot = Slot::first(&exchange(Store::in_memory().unwrap()));
    let size = size_of_val(&slot.session());
    assert!(size <= SMALL_BLOCK / 2, "{size} bytes");
}

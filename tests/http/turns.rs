//! C2.10, C6.2: how long a request waits for turns, and which caller is told that waiting blocks a thread.

use super::support::engine::needs_files;
use super::support::log::Warnings;
use super::*;
use axum::http::StatusCode;
use axum::routing::any;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

fn patient() -> Store {
    Store::builder().turn_wait(LONG).in_memory().unwrap()
}

/// C6.2
#[tokio::test]
async fn a_request_waits_once_and_no_longer_than_its_layer_says() {
    let store = patient();
    let app = site(SessionLayer::new(store.clone()));
    let cookie = visitor(&app).await;
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, leave) = (Arc::clone(&entered), Arc::clone(&go));
    let slow = move |_: Session| async move {
        enter.notify_one();
        leave.notified().await;
    };
    let slow = Router::new().route("/slow", any(slow));
    let slow = slow.layer(SessionLayer::new(store.clone()));
    let first = tokio::spawn(slow.oneshot(request("POST", "/slow", &cookie)));
    entered.notified().await;
    let hasty = SessionLayer::new(store).turn_wait(Duration::from_millis(1));
    let hasty = site(hasty);
    // At extraction and at commit; at commit only; at commit, and when it is run again.
    for (method, found) in [("POST", "2"), ("GET", "3"), ("PUT", "4")] {
        let counted = send(&hasty, request(method, "/count", &cookie));
        let counted = tokio::time::timeout(Duration::from_secs(60), counted).await;
        assert_eq!(text(counted.expect("it waits on")).await, found);
    }
    assert!(!first.is_finished());
    go.notify_one();
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
}

/// C6.2: an extraction that is given up halfway, as by a `select!`, and asked for again.
#[tokio::test]
async fn an_extraction_that_is_asked_for_again_waits_no_longer() {
    needs_files!("an extraction that is dropped at each poll gets nowhere over a network");
    let store = patient();
    let app = site(SessionLayer::new(store.clone()));
    let cookie = visitor(&app).await;
    let entered = Arc::new(Notify::new());
    let enter = Arc::clone(&entered);
    let slow = move |_: Session| async move {
        enter.notify_one();
        std::future::pending::<()>().await;
    };
    let slow = Router::new().route("/slow", any(slow));
    let slow = slow.layer(SessionLayer::new(store.clone()));
    let held = tokio::spawn(slow.oneshot(request("POST", "/slow", &cookie)));
    entered.notified().await;
    let wait = Duration::from_millis(1);
    let each = wait / 100;
    let ask = move |request: Request<Body>| async move {
        for _ in 0..1000 {
            let mut asking = pin!(cloakroom::http::session(request.extensions()));
            let asked = poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx))).await;
            let begun = Instant::now();
            match asked {
                Poll::Ready(session) => return session.map(drop).map(|()| "came"),
                Poll::Pending => while begun.elapsed() < each {},
            }
        }
        Ok("waits on")
    };
    let app = Router::new().route("/ask", any(ask));
    let app = app.layer(SessionLayer::new(store).turn_wait(wait));
    let asked = send(&app, request("POST", "/ask", &cookie)).await;
    assert_eq!(text(asked).await, "came");
    held.abort();
}

fn insert(store: &Store) -> Result<(), Error> {
    let id = store.client_ids().issue();
    store.transact(|txn| txn.session(&id)?.pkg(PACKAGE).insert("count", 1))
}

/// C2.10
#[tokio::test]
async fn a_handler_that_blocks_the_thread_of_the_runtime_is_warned_of_once() {
    let warnings = Warnings::default();
    let _logged = tracing::subscriber::set_default(warnings.counted());
    let store = Store::in_memory().unwrap();
    insert(&store).unwrap();
    let elsewhere = store.clone();
    let on_a_thread = move || async move {
        let blocking = tokio::task::spawn_blocking(move || insert(&elsewhere));
        blocking.await.unwrap()
    };
    let inside = store.clone();
    let app = Router::new()
        .route("/thread", any(on_a_thread))
        .route("/block", any(move || async move { insert(&inside) }))
        .layer(SessionLayer::new(store.clone()));
    for (path, warned) in [("/thread", 0), ("/block", 1), ("/block", 1)] {
        let response = send(&app, request("GET", path, "")).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(warnings.count(), warned, "{path}");
    }
}

/// C2.10
#[tokio::test]
async fn a_closure_of_transact_async_that_blocks_is_warned_of() {
    let warnings = Warnings::default();
    let _logged = tracing::subscriber::set_default(warnings.counted());
    let store = Store::in_memory().unwrap();
    let nested = async |_| insert(&store);
    store
        .transact_async(|_| async { Ok::<_, Error>(()) })
        .await
        .unwrap();
    assert_eq!(warnings.count(), 0);
    store.transact_async(nested).await.unwrap();
    assert_eq!(warnings.count(), 1);
    // From here on there is no task.
    let other = Store::in_memory().unwrap();
    insert(&other).unwrap();
    assert_eq!(warnings.count(), 1);
}

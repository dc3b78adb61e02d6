//! C6.1, C6.3, C6.4: one transaction a request, and when it ends.

use super::*;
use axum::body::Bytes;
use axum::http::{Extensions, StatusCode};
use axum::response::IntoResponse;
use cloakroom::{ErrorKind, http};
use http_body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::Notify;
use tower::{Layer as _, service_fn};

/// C6.1
#[tokio::test]
async fn a_response_below_500_commits() {
    let store = Store::in_memory().unwrap();
    let teapot = |session: Session| async move {
        count(&session)?;
        Ok::<_, Error>(StatusCode::IM_A_TEAPOT)
    };
    let app = Router::new()
        .route("/", get(teapot))
        .layer(SessionLayer::new(store.clone()));
    let response = get_page(&app, "/", "").await;
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(stored(&store, &jar(&response)), Some(1));
}

/// C6.1
#[tokio::test]
async fn a_response_of_500_aborts_and_hands_out_no_cookie() {
    let (store, app) = usual();
    let fail = |session: Session| async move {
        count(&session).unwrap();
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let app = app.merge(
        Router::new()
            .route("/fail", get(fail))
            .layer(SessionLayer::new(store.clone())),
    );

    let response = get_page(&app, "/fail", "").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(set_cookie(&response), None);

    let cookie = visitor(&app).await;
    get_page(&app, "/fail", &cookie).await;
    assert_eq!(stored(&store, &cookie), Some(1));
}

/// C6.1
#[tokio::test]
async fn a_rotation_followed_by_a_500_rotates_nothing() {
    let (store, app) = usual();
    let fail = |session: Session| async move {
        session.rotate().unwrap();
        StatusCode::BAD_GATEWAY
    };
    let app = app.merge(
        Router::new()
            .route("/fail", get(fail))
            .layer(SessionLayer::new(store.clone())),
    );
    let cookie = visitor(&app).await;
    let response = get_page(&app, "/fail", &cookie).await;
    assert_eq!(set_cookie(&response), None);
    assert_eq!(page(&app, "/count", &cookie).await, "2");
}

/// C6.1
#[tokio::test]
async fn a_handler_that_panics_leaves_no_trace() {
    let (store, app) = usual();
    async fn fall(session: Session) -> &'static str {
        count(&session).unwrap();
        panic!("the handler's own fault")
    }
    let fall = Router::new()
        .route("/fall", get(fall))
        .layer(SessionLayer::new(store.clone()));
    let cookie = visitor(&app).await;
    let fallen = tokio::spawn(fall.oneshot(request("GET", "/fall", &cookie)));
    assert!(fallen.await.unwrap_err().is_panic());
    assert_eq!(stored(&store, &cookie), Some(1));
    assert_eq!(page(&app, "/count", &cookie).await, "2");
}

/// C6.1
#[tokio::test]
async fn a_dropped_request_aborts_even_if_its_extensions_are_kept() {
    let (store, app) = usual();
    let cookie = visitor(&app).await;
    let kept: Arc<Mutex<Option<(Session, Extensions)>>> = Arc::default();
    let (entered, keep) = (Arc::new(Notify::new()), Arc::clone(&kept));
    let notify = Arc::clone(&entered);
    let wait = move |session: Session, extensions: Extensions| async move {
        count(&session).unwrap();
        *keep.lock().unwrap() = Some((session, extensions));
        notify.notify_one();
        std::future::pending::<()>().await;
    };
    let slow = Router::new()
        .route("/wait", get(wait))
        .layer(SessionLayer::new(store.clone()));
    let task = tokio::spawn(slow.oneshot(request("GET", "/wait", &cookie)));
    entered.notified().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());

    let (session, extensions) = kept.lock().unwrap().take().unwrap();
    assert_eq!(count(&session).unwrap_err().kind(), ErrorKind::Closed);
    let again = http::session(&extensions).await;
    assert_eq!(again.err().unwrap().kind(), ErrorKind::Closed);
    assert_eq!(stored(&store, &cookie), Some(1));
}

/// C6.1
#[tokio::test]
async fn an_error_of_the_inner_service_aborts_and_passes_through() {
    let (store, app) = usual();
    let cookie = visitor(&app).await;
    let inner = service_fn(|request: Request<http::Replay<Body>>| async move {
        let session = http::session(request.extensions()).await.unwrap();
        count(&session).unwrap();
        Err::<Response<Body>, _>("the inner service's own")
    });
    let layer = SessionLayer::new(store.clone()).generic();
    let service = layer.layer(inner);
    let error = service
        .oneshot(request("GET", "/", &cookie))
        .await
        .unwrap_err();
    assert_eq!(error, "the inner service's own");
    assert_eq!(stored(&store, &cookie), Some(1));
}

/// C6.1
#[tokio::test]
async fn a_service_without_axum_asks_for_its_session() {
    let store = Store::in_memory().unwrap();
    let inner = service_fn(|request: Request<http::Replay<Body>>| async move {
        let session = http::session(request.extensions()).await.unwrap();
        let n = count(&session).unwrap();
        Ok::<_, Infallible>(Response::new(Body::from(n.to_string())))
    });
    let service = SessionLayer::new(store).generic().layer(inner);
    let first = service
        .clone()
        .oneshot(request("GET", "/", ""))
        .await
        .unwrap();
    let second = service
        .oneshot(request("GET", "/", &jar(&first)))
        .await
        .unwrap();
    assert_eq!(text(second).await, "2");
}

/// C6.1
#[tokio::test]
async fn commit_when_replaces_the_rule() {
    let store = Store::in_memory().unwrap();
    let layer = SessionLayer::new(store.clone())
        .commit_when(|response| response.headers.contains_key("x-commit"));
    let yes = |session: Session| async move {
        count(&session).unwrap();
        (StatusCode::INTERNAL_SERVER_ERROR, [("x-commit", "")])
    };
    let app = Router::new()
        .route("/yes", get(yes))
        .route("/no", get(counter))
        .layer(layer);
    assert_eq!(set_cookie(&get_page(&app, "/no", "").await), None);
    let response = get_page(&app, "/yes", "").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let cookie = jar(&response);
    get_page(&app, "/no", &cookie).await;
    assert_eq!(stored(&store, &cookie), Some(1));
}

/// C6.1
#[tokio::test]
async fn a_commit_that_fails_turns_the_response_into_an_error() {
    struct Refusing;
    impl serde::Serialize for Refusing {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    let (store, app) = usual();
    let handler = |session: Session| async move {
        count(&session)?;
        session.pkg(PACKAGE).insert("bad", Refusing)?;
        Ok::<_, Error>(([("x-saved", "yes")], "saved"))
    };
    let app = app.merge(
        Router::new()
            .route("/bad", get(handler))
            .layer(SessionLayer::new(store.clone())),
    );
    let cookie = visitor(&app).await;
    let response = get_page(&app, "/bad", &cookie).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!response.headers().contains_key("x-saved"));
    assert_eq!(values(&response, header::CACHE_CONTROL), ["no-store"]);
    assert_eq!(values(&response, header::VARY), ["Cookie"]);
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotSerializable);
    assert_eq!(text(response).await, "");
    assert_eq!(stored(&store, &cookie), Some(1));

    let response = get_page(&app, "/bad", "").await;
    assert_eq!(set_cookie(&response), None);
}

/// C6.1
#[tokio::test]
async fn the_commit_comes_before_the_body_and_the_stream_finds_the_session_closed() {
    let store = Store::in_memory().unwrap();
    let handler = |session: Session| async move {
        count(&session)?;
        let late = move || format!("{:?}", count(&session).unwrap_err().kind());
        Ok::<_, Error>(Body::new(Late(Some(late))))
    };
    let app = Router::new()
        .route("/", get(handler))
        .layer(SessionLayer::new(store.clone()));
    let response = get_page(&app, "/", "").await;
    assert_eq!(
        stored(&store, &jar(&response)),
        Some(1),
        "before the body was read"
    );
    assert_eq!(text(response).await, "Closed");
}

/// A body whose only frame is made when it is asked for.
struct Late<F>(Option<F>);

impl<F: FnOnce() -> String + Unpin> http_body::Body for Late<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let text = self.0.take().map(|make| make());
        Poll::Ready(text.map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

/// C6.1
#[tokio::test]
async fn two_extractions_give_one_session_in_one_transaction() {
    let (store, _) = usual();
    let handler = |one: Session, two: Session, extensions: Extensions| async move {
        let (three, four) = tokio::join!(http::session(&extensions), http::session(&extensions));
        for session in [&one, &two, &three?, &four?] {
            count(session)?;
        }
        assert_eq!(one.client_id(), two.client_id());
        Ok::<_, Error>(())
    };
    let app = Router::new()
        .route("/", get(handler))
        .layer(SessionLayer::new(store.clone()));
    let response = get_page(&app, "/", "").await;
    assert_eq!(stored(&store, &jar(&response)), Some(4));
}

/// C6.1
#[tokio::test]
async fn parallel_first_extractions_share_one_transaction() {
    let store = Store::in_memory().unwrap();
    let handler = |extensions: Extensions| async move {
        let ask = |extensions: Extensions| async move { http::session(&extensions).await };
        let tasks: Vec<_> = (0..8)
            .map(|_| tokio::spawn(ask(extensions.clone())))
            .collect();
        for task in tasks {
            count(&task.await.unwrap()?)?;
        }
        Ok::<_, Error>(())
    };
    let app = Router::new()
        .route("/", get(handler))
        .layer(SessionLayer::new(store.clone()));
    let response = get_page(&app, "/", "").await;
    assert_eq!(stored(&store, &jar(&response)), Some(8));
}

/// C6.3
#[tokio::test]
async fn a_session_is_shared_with_tasks_across_awaits() {
    let store = Store::in_memory().unwrap();
    let handler = |session: Session| async move {
        let tasks: Vec<_> = (0..4)
            .map(|n| {
                let session = session.clone();
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    session.pkg(PACKAGE).insert(&format!("key {n}"), n)
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap()?;
        }
        Ok::<_, Error>(session.pkg(PACKAGE).len()?.to_string())
    };
    let app = Router::new()
        .route("/", get(handler))
        .layer(SessionLayer::new(store));
    assert_eq!(page(&app, "/", "").await, "4");
}

/// C6.4
#[tokio::test]
async fn a_request_that_never_asks_for_its_session_touches_no_store() {
    let (store, app) = usual();
    let cookie = visitor(&app).await;
    store.close().unwrap();
    let response = get_page(&app, "/plain", &cookie).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key(header::VARY));
    assert!(!response.headers().contains_key(header::CACHE_CONTROL));
    assert!(!get_page(&app, "/read", &cookie).await.status().is_success());
}

/// C6.1
#[tokio::test]
async fn a_rejected_session_is_still_an_answer() {
    let (store, app) = usual();
    store.close().unwrap();
    let response = get_page(&app, "/read", "").await;
    let error = response.extensions().get::<Error>().unwrap().clone();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(response.status(), error.into_response().status());
    assert_eq!(text(response).await, "");
}

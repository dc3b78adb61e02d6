//! C6.1: which requests leave no trace.

use super::*;
use cloakroom::http::Abort;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Mutex;
use std::task::Poll;
use tokio::sync::Notify;

/// A site in which a page counts, and then answers with a status that is in the query.
async fn answering<B: Backend>() -> (Store, B) {
    let store = Store::in_memory().unwrap();
    let page = |session: Session, visit: Visit| async move {
        count(&session)?;
        status(visit.head.uri.query().unwrap().parse().unwrap())
    };
    let site = Site::new(SessionLayer::new(store.clone())).page("/answer", page);
    (store, B::start(site).await)
}

pub(crate) async fn responses_of_500_and_408_abort<B: Backend>() {
    let (store, app) = answering::<B>().await;
    let cookie = app.visitor().await;
    for status in [500, 502, 408] {
        let path = format!("/answer?{status}");
        let answer = app.get(&path, &cookie).await;
        assert_eq!(answer.status(), status);
        assert_eq!(stored(&store, &cookie), Some(1), "{status}");
        assert_eq!(app.get(&path, "").await.set_cookie(), None, "{status}");
    }
}

pub(crate) async fn an_error_of_the_handler_aborts<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let site = Site::new(SessionLayer::new(store.clone())).page("/fail", |session, _| async move {
        count(&session)?;
        let large = "x".repeat(1 << 20);
        session.pkg(PACKAGE).insert(&large, 1)?;
        text("never sent")
    });
    let app = B::start(site).await;
    let cookie = app.visitor().await;
    let answer = app.get("/fail", &cookie).await;
    assert!(answer.status() >= 400);
    assert_eq!(stored(&store, &cookie), Some(1));
}

/// Whether a future panics.
async fn falls(future: impl Future) -> bool {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(_)) => Poll::Ready(false),
            Err(_) => Poll::Ready(true),
        }
    })
    .await
}

pub(crate) async fn a_handler_that_panics_leaves_no_trace<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let site = Site::new(SessionLayer::new(store.clone())).page("/fall", |session, _| async move {
        count(&session)?;
        panic!("the handler's own fault")
    });
    let app = B::start(site).await;
    let cookie = app.visitor().await;
    assert!(falls(app.get("/fall", &cookie)).await);
    assert_eq!(stored(&store, &cookie), Some(1));
    assert_eq!(app.page("/count", &cookie).await, "2");
}

pub(crate) async fn a_dropped_request_aborts<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let kept: Arc<Mutex<Option<(Session, Extensions)>>> = Arc::default();
    let entered = Arc::new(Notify::new());
    let (keep, enter) = (Arc::clone(&kept), Arc::clone(&entered));
    let site = Site::new(SessionLayer::new(store.clone())).page("/wait", move |session, visit| {
        let (keep, enter) = (Arc::clone(&keep), Arc::clone(&enter));
        async move {
            count(&session)?;
            *keep.lock().unwrap() = Some((session, visit.extensions));
            enter.notify_one();
            pending().await
        }
    });
    let app = B::start(site).await;
    let cookie = app.visitor().await;
    tokio::select! {
        _ = app.get("/wait", &cookie) => unreachable!("it waits for ever"),
        () = entered.notified() => {}
    }
    let (session, extensions) = kept.lock().unwrap().take().unwrap();
    assert_eq!(count(&session).unwrap_err().kind(), ErrorKind::Closed);
    let again = cloakroom::http::session(&extensions).await;
    assert_eq!(again.err().unwrap().kind(), ErrorKind::Closed);
    assert_eq!(stored(&store, &cookie), Some(1));
}

pub(crate) async fn a_response_can_say_that_it_aborts<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let layer = SessionLayer::new(store.clone()).commit_when(|_| true);
    let site = Site::new(layer).page("/preview", |session, _| async move {
        let mut response = text(count(&session)?)?;
        response.extensions_mut().insert(Abort);
        Ok(response)
    });
    let app = B::start(site).await;
    let cookie = app.visitor().await;
    assert_eq!(app.page("/preview", &cookie).await, "2");
    assert_eq!(stored(&store, &cookie), Some(1));
}

//! C8.7: a request that commits before it ends, and goes on.

use super::*;
use axum::http::StatusCode;
use axum::routing::any;
use cloakroom::http::Rerun;
use cloakroom::{ContainerSettings, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;

fn app<H, T>(layer: SessionLayer, handler: H) -> Router
where
    H: axum::handler::Handler<T, ()>,
    T: 'static,
{
    site(layer.clone()).merge(Router::new().route("/now", any(handler)).layer(layer))
}

/// The kind of the error that a response carries.
fn kind(response: &Response<Body>) -> Option<ErrorKind> {
    response.extensions().get::<Error>().map(Error::kind)
}

/// C8.7
#[tokio::test]
async fn what_was_committed_stays_and_its_cookie_is_sent_whatever_the_status() {
    let fails = |session: Session| async move {
        count(&session)?;
        session.commit_now().await?;
        count(&session)?;
        Ok::<_, Error>(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let store = Store::in_memory().unwrap();
    let app = app(SessionLayer::new(store.clone()), fails);
    let response = get_page(&app, "/now", "").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let cache = values(&response, header::CACHE_CONTROL);
    assert_eq!(cache, ["no-store"]);
    let cookie = jar(&response);
    assert_eq!(stored(&store, &cookie), Some(1));
    // A known visitor's cookie is neither new nor due.
    let response = get_page(&app, "/now", &cookie).await;
    assert_eq!(set_cookie(&response), None);
    assert_eq!(stored(&store, &cookie), Some(2));
}

/// C8.7: later changes are committed with the response.
#[tokio::test]
async fn the_request_goes_on_in_a_new_transaction_with_the_same_handles() {
    let (done, hooks) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let (ran, told) = (done.clone(), hooks.clone());
    let twice = move |session: Session| async move {
        let visits = session.pkg(PACKAGE);
        session.txn().after_commit(move || {
            ran.fetch_add(1, Ordering::SeqCst);
            told.notify_one();
        });
        let savepoint = session.txn().savepoint()?;
        count(&session)?;
        session.commit_now().await?;
        let gone = session.txn().rollback_to(&savepoint).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NoSuchSavepoint);
        let n = visits.get::<u64>("count")?.unwrap();
        visits.insert("count", n + 10)?;
        let cart = session.pkg("cart");
        cart.insert("n", 1)?;
        Ok::<_, Error>(n.to_string())
    };
    let store = Store::in_memory().unwrap();
    store.register("cart", ContainerSettings::new()).unwrap();
    let app = app(SessionLayer::new(store.clone()), twice);
    let response = get_page(&app, "/now", "").await;
    let cookie = jar(&response);
    assert_eq!(text(response).await, "1");
    assert_eq!(stored(&store, &cookie), Some(11));
    hooks.notified().await;
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

/// C8.7: the first transaction does not see what others commit while it is open; the next one does.
#[tokio::test]
async fn the_new_transaction_sees_what_others_committed_meanwhile() {
    let store = Store::in_memory().unwrap();
    let others = store.clone();
    let handler = move |session: Session| async move {
        count(&session)?;
        let id = session.client_id().unwrap();
        let insert = move |txn: cloakroom::Txn| {
            let news = txn
                .session(&id)
                .and_then(|it| it.pkg("news").insert("n", 7));
            std::future::ready(news)
        };
        others.transact_async(insert).await?;
        let before: Option<u32> = session.pkg("news").get("n")?;
        assert_eq!(before, None);
        // The reads count as observations, so that this conflicts. The next transaction has read nothing.
        assert!(session.commit_now().await.unwrap_err().is_conflict());
        let after: Option<u32> = session.pkg("news").get("n")?;
        assert_eq!(after, Some(7));
        count(&session).map(|n| n.to_string())
    };
    let app = app(SessionLayer::new(store.clone()), handler);
    let cookie = visitor(&app).await;
    let response = send(&app, request("PUT", "/now", &cookie)).await;
    assert_eq!(text(response).await, "2");
    assert_eq!(stored(&store, &cookie), Some(2));
}

struct Refusing;

impl serde::Serialize for Refusing {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

/// C8.7
#[tokio::test]
async fn the_handler_gets_the_error_and_goes_on_without_the_changes() {
    let handler = |session: Session| async move {
        count(&session)?;
        session.pkg("bad").insert("value", Refusing)?;
        let error = session.commit_now().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSerializable);
        assert!(!session.exists()?);
        session.pkg("good").insert("kind", "saved")?;
        Ok::<_, Error>("went on")
    };
    let store = Store::in_memory().unwrap();
    let app = app(SessionLayer::new(store.clone()), handler);
    let response = get_page(&app, "/now", "").await;
    let cookie = jar(&response);
    assert_eq!(text(response).await, "went on");
    assert_eq!(stored(&store, &cookie), None);
    let id = id_of(&store, &cookie);
    let good = store.transact(|txn| txn.session(&id)?.pkg("good").get::<String>("kind"));
    assert_eq!(good.unwrap().as_deref(), Some("saved"));
}

/// C8.7: neither after a conflict of its own nor after a later one.
#[tokio::test]
async fn the_request_is_never_run_again() {
    for conflicts_early in [true, false] {
        let store = Store::in_memory().unwrap();
        let runs = Arc::new(AtomicU32::new(0));
        let (others, ran) = (store.clone(), runs.clone());
        let handler = move |session: Session| async move {
            ran.fetch_add(1, Ordering::SeqCst);
            let id = session.client_id().unwrap();
            if !conflicts_early {
                session.commit_now().await?;
            }
            count(&session)?;
            tokio::task::spawn_blocking(move || interfere(&others, &id, 40))
                .await
                .unwrap();
            if conflicts_early {
                let error = session.commit_now().await.unwrap_err();
                assert!(error.is_conflict());
                return Err(error);
            }
            Ok("never sent")
        };
        let layer = SessionLayer::new(store.clone()).rerun(Rerun::Always);
        let app = app(layer, handler);
        let cookie = visitor(&app).await;
        let response = get_page(&app, "/now", &cookie).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(kind(&response), Some(ErrorKind::Conflict));
        assert_eq!(runs.load(Ordering::SeqCst), 1, "{conflicts_early}");
        assert_eq!(stored(&store, &cookie), Some(40));
    }
}

/// C8.7
#[tokio::test]
async fn the_request_holds_no_turn_afterwards() {
    let store = Store::builder().turn_wait(Duration::from_secs(3600));
    let store = store.in_memory().unwrap();
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, leave) = (entered.clone(), go.clone());
    let handler = move |session: Session| async move {
        count(&session)?;
        session.commit_now().await?;
        enter.notify_one();
        leave.notified().await;
        session.pkg("late").insert("done", true)?;
        Ok::<_, Error>("done")
    };
    let app = app(SessionLayer::new(store.clone()), handler);
    let cookie = visitor(&app).await;
    let first = tokio::spawn(app.clone().oneshot(request("POST", "/now", &cookie)));
    entered.notified().await;
    let second = send(&app, request("POST", "/count", &cookie)).await;
    assert_eq!(text(second).await, "3");
    go.notify_one();
    let first = first.await.unwrap().unwrap();
    assert_eq!(text(first).await, "done");
}

/// C8.7, C4.7
#[tokio::test]
async fn a_new_id_is_sent_and_is_the_one_that_the_request_goes_on_under() {
    let handler = |session: Session| async move {
        let id = session.log_in("ann")?;
        session.commit_now().await?;
        assert_eq!(session.client_id().as_ref(), Some(&id));
        assert_eq!(session.owner()?.as_deref(), Some("ann"));
        count(&session)?;
        Ok::<_, Error>(StatusCode::OK)
    };
    let store = Store::in_memory().unwrap();
    let app = app(SessionLayer::new(store.clone()), handler);
    let old = visitor(&app).await;
    let response = get_page(&app, "/now", &old).await;
    let new = jar(&response);
    assert_ne!(new, old);
    assert_eq!(
        (stored(&store, &old), stored(&store, &new)),
        (None, Some(2))
    );
}

/// C8.7, C4.8
#[tokio::test]
async fn after_a_logout_the_request_may_begin_another_session() {
    let ends = |session: Session| async move {
        session.destroy()?;
        session.commit_now().await?;
        assert!(!session.exists()?);
        Ok::<_, Error>(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let begins = |session: Session| async move {
        session.destroy()?;
        session.commit_now().await?;
        count(&session).map(|n| n.to_string())
    };
    let store = Store::in_memory().unwrap();
    let app = app(SessionLayer::new(store.clone()), begins);
    let old = visitor(&app).await;
    let response = get_page(&app, "/now", &old).await;
    let new = jar(&response);
    assert_eq!(text(response).await, "1");
    assert_eq!(
        (stored(&store, &old), stored(&store, &new)),
        (None, Some(1))
    );

    let app = super::commit_now::app(SessionLayer::new(store.clone()), ends);
    let response = get_page(&app, "/now", &new).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(set_cookie(&response).unwrap().contains("Max-Age=0"));
}

/// C4.7, C4.8: a session that is left in no container has ended, and its id with it.
#[tokio::test]
async fn after_the_end_in_every_container_the_id_is_not_used_again() {
    fn end(session: &Session) -> Result<(), Error> {
        session.pkg("cart").insert("n", 1)?;
        session.data("")?.destroy()?;
        session.pkg("cart").clear()
    }
    let ends = |session: Session| async move { end(&session) };
    let begins = |session: Session| async move {
        end(&session)?;
        session.commit_now().await?;
        count(&session).map(|n| n.to_string())
    };
    let store = Store::in_memory().unwrap();
    store.register("cart", ContainerSettings::new()).unwrap();
    let begins = app(SessionLayer::new(store.clone()), begins);
    let old = visitor(&begins).await;
    let response = get_page(&begins, "/now", &old).await;
    let new = jar(&response);
    assert_eq!(text(response).await, "1");
    assert_eq!(
        (stored(&store, &old), stored(&store, &new)),
        (None, Some(1))
    );

    let ends = app(SessionLayer::new(store.clone()), ends);
    let response = get_page(&ends, "/now", &new).await;
    assert!(set_cookie(&response).unwrap().contains("Max-Age=0"));
}

/// C8.7, C4.8: an older id must not overwrite a newer one.
#[tokio::test]
async fn the_cookie_of_a_session_that_has_ended_meanwhile_is_not_sent() {
    let store = Store::in_memory().unwrap();
    let others = store.clone();
    let handler = move |session: Session| async move {
        count(&session)?;
        session.commit_now().await?;
        let key = session.client_id().unwrap().key();
        let ended = others.end_async(key).await?;
        Ok::<_, Error>(ended.to_string())
    };
    let app = app(SessionLayer::new(store), handler);
    let response = get_page(&app, "/now", "").await;
    assert_eq!(set_cookie(&response), None);
    assert_eq!(text(response).await, "1");
}

/// C6.5
#[tokio::test]
async fn a_session_that_the_layer_refuses_is_not_committed_early() {
    let (ran, hooks) = std::sync::mpsc::channel();
    let handler = move |session: Session| async move {
        count(&session)?;
        session.txn().after_abort(move || ran.send(()).unwrap());
        let refused = session.commit_now().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotAdmitted);
        assert!(!session.exists()?);
        Ok::<_, Error>("reads only")
    };
    let store = Store::in_memory().unwrap();
    let layer = SessionLayer::new(store).admit_new(|_| false);
    let app = app(layer, handler);
    let response = get_page(&app, "/now", "").await;
    assert_eq!(set_cookie(&response), None);
    assert_eq!(text(response).await, "reads only");
    hooks.recv().unwrap();
}

/// C8.7: a transaction that no layer made belongs to its caller, who commits it.
#[tokio::test]
async fn outside_a_request_it_is_refused() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let error = session.commit_now().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    count(&session).unwrap();
    txn.commit_async().await.unwrap();
}

/// C8.7
#[tokio::test]
async fn a_session_that_outlives_its_response_is_closed() {
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keep = kept.clone();
    let handler = move |session: Session| async move {
        *keep.lock().unwrap() = Some(session);
    };
    let app = app(SessionLayer::new(Store::in_memory().unwrap()), handler);
    assert_eq!(get_page(&app, "/now", "").await.status(), StatusCode::OK);
    let session = kept.lock().unwrap().take().unwrap();
    let error = session.commit_now().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

/// C8.7: nothing is told to be saved then.
#[tokio::test]
async fn a_commit_that_is_given_up_leaves_the_session_closed() {
    let store = Store::builder().turn_wait(Duration::from_secs(3600));
    let store = store.in_memory().unwrap();
    let entered = Arc::new(Notify::new());
    let enter = entered.clone();
    let slow = move |_: Session| async move {
        enter.notify_one();
        std::future::pending::<()>().await;
    };
    let handler = |session: Session| async move {
        count(&session)?;
        drop(session.commit_now()); // It did not begin.
        count(&session)?;
        // It waits behind the request that holds the turn.
        let given_up = tokio::time::timeout(Duration::from_millis(1), session.commit_now());
        given_up.await.unwrap_err();
        assert_eq!(count(&session).unwrap_err().kind(), ErrorKind::Closed);
        Ok::<_, Error>("never sent")
    };
    let layer = SessionLayer::new(store.clone());
    let app = app(layer.clone(), handler);
    let app = app.merge(Router::new().route("/slow", any(slow)).layer(layer));
    let cookie = visitor(&app).await;
    let held = tokio::spawn(app.clone().oneshot(request("POST", "/slow", &cookie)));
    entered.notified().await;
    let response = get_page(&app, "/now", &cookie).await;
    assert_eq!(kind(&response), Some(ErrorKind::Closed));
    held.abort();
    assert_eq!(stored(&store, &cookie), Some(1));
}

/// C8.7: its future may be a part of the response's body, and is polled when that is sent.
#[tokio::test]
async fn the_response_does_not_wait_for_a_commit_that_the_engine_was_not_given() {
    type Commit = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
    let store = Store::builder().turn_wait(Duration::from_secs(3600));
    let store = store.in_memory().unwrap();
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, leave) = (entered.clone(), go.clone());
    let slow = move |_: Session| async move {
        enter.notify_one();
        leave.notified().await;
    };
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keep = kept.clone();
    let handler = move |session: Session| async move {
        count(&session)?;
        let mut commit: Commit = Box::pin(async move { session.commit_now().await });
        // It waits behind the request that holds the turn.
        let began = std::future::poll_fn(|cx| Poll::Ready(commit.as_mut().poll(cx))).await;
        assert!(began.is_pending());
        *keep.lock().unwrap() = Some(commit);
        Ok::<_, Error>("waits")
    };
    let layer = SessionLayer::new(store.clone());
    let app = app(layer.clone(), handler);
    let app = app.merge(Router::new().route("/slow", any(slow)).layer(layer));
    let cookie = visitor(&app).await;
    let held = tokio::spawn(app.clone().oneshot(request("POST", "/slow", &cookie)));
    entered.notified().await;
    let response = get_page(&app, "/now", &cookie);
    let response = tokio::time::timeout(Duration::from_secs(10), response);
    let response = response.await.expect("a response");
    go.notify_one();
    held.await.unwrap().unwrap();
    // Nothing is told to be saved then.
    assert_eq!(kind(&response), Some(ErrorKind::Closed));
    let commit = kept.lock().unwrap().take().unwrap();
    commit.await.unwrap();
    assert_eq!(stored(&store, &cookie), Some(2));
}

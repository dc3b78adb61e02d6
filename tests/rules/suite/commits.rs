//! C6.1, C6.3, C6.4, C8.7: one transaction a request, begun when it is asked for, committed before the response is sent.

use super::*;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

/// C6.4
pub(crate) async fn a_session_that_is_not_asked_for_touches_no_store<B: Backend>() {
    let (store, app) = usual::<B>().await;
    let cookie = app.visitor().await;
    store.close().unwrap();
    let answer = app.get("/plain", &cookie).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.cache(), (vec![], vec![]));
    assert_eq!(answer.body.await, "plain");
    assert_eq!(app.get("/read", &cookie).await.status(), 500);
}

/// C6.1
pub(crate) async fn a_response_below_500_commits<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let site = Site::new(SessionLayer::new(store.clone())).page("/tea", |session, _| async move {
        count(&session)?;
        status(418)
    });
    let answer = B::start(site).await.get("/tea", "").await;
    assert_eq!(answer.status(), 418);
    assert_eq!(stored(&store, &answer.jar()), Some(1));
}

/// C6.1
pub(crate) async fn the_commit_comes_before_the_body<B: Backend>() {
    let (store, app) = usual::<B>().await;
    let answer = app.get("/count", "").await;
    assert_eq!(stored(&store, &answer.jar()), Some(1));
    assert_eq!(answer.body.await, "1");
}

/// C6.1
pub(crate) async fn later_extractions_give_the_same_transaction<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let site = Site::new(SessionLayer::new(store.clone())).page("/", |one, visit| async move {
        let (two, three) = tokio::join!(
            cloakroom::http::session(&visit.extensions),
            cloakroom::http::session(&visit.extensions)
        );
        for session in [&one, &two?, &three?] {
            count(session)?;
        }
        text(read(&one)?)
    });
    let answer = B::start(site).await.get("/", "").await;
    assert_eq!(stored(&store, &answer.jar()), Some(3));
}

/// C6.1
pub(crate) async fn commit_when_replaces_the_rule<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let layer = SessionLayer::new(store.clone())
        .commit_when(|response| response.headers.contains_key("x-commit"));
    let site = Site::new(layer).page("/yes", |session, _| async move {
        count(&session)?;
        let mut response = status(500)?;
        let yes = "yes".parse().unwrap();
        response.headers_mut().insert("x-commit", yes);
        Ok(response)
    });
    let app = B::start(site).await;
    assert_eq!(app.get("/count", "").await.set_cookie(), None);
    let answer = app.get("/yes", "").await;
    assert_eq!(answer.status(), 500);
    assert_eq!(stored(&store, &answer.jar()), Some(1));
}

struct Refusing;

impl serde::Serialize for Refusing {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

/// C6.1, C6.5
pub(crate) async fn a_commit_that_fails_becomes_the_response<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let site = Site::new(SessionLayer::new(store.clone())).page("/bad", |session, _| async move {
        count(&session)?;
        session.pkg(PACKAGE).insert("bad", Refusing)?;
        let mut response = text("saved")?;
        response
            .headers_mut()
            .insert("x-saved", "yes".parse().unwrap());
        Ok(response)
    });
    let app = B::start(site).await;
    let cookie = app.visitor().await;
    let answer = app.get("/bad", &cookie).await;
    assert_eq!(answer.status(), 500);
    assert!(!answer.head.headers.contains_key("x-saved"));
    assert_eq!(answer.cache(), (vec!["no-store"], vec!["Cookie"]));
    assert_eq!(answer.kind(), Some(ErrorKind::NotSerializable));
    assert_eq!(answer.body.await, "");
    assert_eq!(stored(&store, &cookie), Some(1));
    assert_eq!(app.get("/bad", "").await.set_cookie(), None);
}

/// C6.1
pub(crate) async fn a_body_that_is_sent_finds_the_session_closed<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let site = Site::new(SessionLayer::new(store.clone())).page("/late", |session, _| async move {
        count(&session)?;
        let late = move || format!("{:?}", count(&session).unwrap_err().kind());
        Ok(Response::new(ReplyBody::Late(Box::new(late))))
    });
    let answer = B::start(site).await.get("/late", "").await;
    assert_eq!(stored(&store, &answer.jar()), Some(1));
    assert_eq!(answer.body.await, "Closed");
}

/// C8.7
pub(crate) async fn what_was_committed_now_stays_and_its_cookie_is_sent<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let site = Site::new(SessionLayer::new(store.clone())).page("/now", |session, _| async move {
        count(&session)?;
        session.commit_now().await?;
        count(&session)?;
        status(500)
    });
    let answer = B::start(site).await.get("/now", "").await;
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.cache(), (vec!["no-store"], vec!["Cookie"]));
    assert_eq!(stored(&store, &answer.jar()), Some(1));
}

/// C8.7
pub(crate) async fn after_commit_now_the_request_never_runs_again<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let (others, ran) = (store.clone(), Arc::clone(&runs));
    let layer = SessionLayer::new(store.clone()).rerun(Rerun::Always);
    let site = Site::new(layer).page("/now", move |session, _| {
        let others = others.clone();
        ran.fetch_add(1, Ordering::SeqCst);
        async move {
            session.commit_now().await?;
            count(&session)?;
            interfere(&others, &session.client_id().unwrap(), 40);
            text("never sent")
        }
    });
    let app = B::start(site).await;
    let cookie = app.visitor().await;
    let answer = app.get("/now", &cookie).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.kind(), Some(ErrorKind::Conflict));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(stored(&store, &cookie), Some(40));
}

/// C8.7
pub(crate) async fn after_commit_now_the_request_holds_no_turn<B: Backend>() {
    let store = Store::builder().turn_wait(3600 * SECOND);
    let store = store.in_memory().unwrap();
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, leave) = (entered.clone(), go.clone());
    let site = Site::new(SessionLayer::new(store)).page("/now", move |session, _| {
        let (enter, leave) = (enter.clone(), leave.clone());
        async move {
            count(&session)?;
            session.commit_now().await?;
            enter.notify_one();
            leave.notified().await;
            text("done")
        }
    });
    let app = B::start(site).await;
    let cookie = app.visitor().await;
    let second = async {
        entered.notified().await;
        let second = app.post("/count", &cookie).await;
        go.notify_one();
        second.body.await
    };
    let (first, second) = tokio::join!(app.post("/now", &cookie), second);
    assert_eq!(second, "3");
    assert_eq!(first.body.await, "done");
}

//! Flash messages: they survive a redirect, are shown exactly once, and are not lost by a response that fails.

use super::*;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use axum::routing::post;
use cloakroom::http::{Flash, FlashLevel, FlashMessage};
use cloakroom::testing::{self, Visitor};
use std::sync::Arc;
use tokio::sync::Barrier;

/// All messages, one a line.
fn lines(messages: &[FlashMessage]) -> String {
    let lines = messages.iter().map(|m| format!("{} {}\n", m.level, m.text));
    lines.collect()
}

async fn show(flash: Flash) -> Result<String, Error> {
    Ok(lines(&flash.take()?))
}

async fn show_and_fail(flash: Flash) -> Result<StatusCode, Error> {
    assert_eq!(lines(&flash.take()?), "success saved\n");
    Ok(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn save() -> impl IntoResponse {
    (FlashMessage::success("saved"), Redirect::to("/"))
}

async fn fail() -> impl IntoResponse {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        FlashMessage::error("lost"),
        "no",
    )
}

async fn all_levels(flash: Flash) -> Result<Redirect, Error> {
    flash.debug("1")?;
    flash.info("2")?;
    flash.success("3")?;
    flash.warning("4")?;
    flash.error("5")?;
    Ok(Redirect::to("/"))
}

fn visitor() -> Visitor<Router> {
    let (store, clock) = testing::store();
    let app = Router::new()
        .route("/", get(show))
        .route("/fail-to-show", get(show_and_fail))
        .route("/save", post(save))
        .route("/fail", post(fail))
        .route("/levels", post(all_levels))
        .layer(SessionLayer::new(store));
    Visitor::new(app, &clock)
}

#[tokio::test]
async fn a_message_survives_the_redirect_and_is_shown_once() {
    let mut visitor = visitor();
    let saved = visitor.post("/save", &[]).await;
    assert_eq!(saved.status(), StatusCode::SEE_OTHER);
    assert_eq!(visitor.follow(&saved).await.text(), "success saved\n");
    assert_eq!(visitor.get("/").await.text(), "");
}

/// C1.4
#[tokio::test]
async fn looking_for_messages_creates_nothing() {
    let answer = visitor().get("/").await;
    assert_eq!(answer.text(), "");
    assert!(answer.set_cookies().is_empty());
}

#[tokio::test]
async fn messages_keep_their_order_and_levels() {
    let mut visitor = visitor();
    visitor.post("/levels", &[]).await;
    visitor.post("/save", &[]).await;
    assert_eq!(
        visitor.get("/").await.text(),
        "debug 1\ninfo 2\nsuccess 3\nwarning 4\nerror 5\nsuccess saved\n"
    );
}

#[tokio::test]
async fn a_failed_response_neither_takes_messages_nor_leaves_some() {
    let mut visitor = visitor();
    visitor.post("/save", &[]).await;
    let failed = visitor.get("/fail-to-show").await;
    assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let failed = visitor.post("/fail", &[]).await;
    assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(visitor.get("/").await.text(), "success saved\n");
}

#[tokio::test]
async fn a_failed_response_alone_creates_nothing() {
    let failed = visitor().post("/fail", &[]).await;
    assert!(failed.set_cookies().is_empty());
}

/// Both have read the message before either commits.
#[tokio::test]
async fn of_parallel_requests_exactly_one_shows_a_message() {
    async fn together(State(both): State<Arc<Barrier>>, flash: Flash) -> Result<String, Error> {
        let shown = lines(&flash.take()?);
        // The attempt that follows a conflict meets nobody.
        if !shown.is_empty() {
            both.wait().await;
        }
        Ok(shown)
    }
    let app = Router::new()
        .route("/", get(together))
        .with_state(Arc::new(Barrier::new(2)))
        .route("/save", post(save))
        .layer(SessionLayer::new(Store::in_memory().unwrap()));
    let cookie = jar(&send(&app, request("POST", "/save", "")).await);
    let (one, two) = tokio::join!(page(&app, "/", &cookie), page(&app, "/", &cookie));
    let mut shown = [one, two];
    shown.sort();
    assert_eq!(shown, ["", "success saved\n"]);
}

/// C2.9: parallel messages never conflict.
#[test]
fn messages_of_parallel_transactions_are_all_kept() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let push = |text: &str| {
        let txn = store.begin().unwrap();
        let flash = Flash::of(&txn.session(&id).unwrap());
        flash.info(text).unwrap();
        txn
    };
    push("first").commit().unwrap();
    let (one, two) = (push("one"), push("two"));
    two.commit().unwrap();
    one.commit().unwrap();
    let txn = store.begin().unwrap();
    let shown = Flash::of(&txn.session(&id).unwrap()).take().unwrap();
    assert_eq!(lines(&shown), "info first\ninfo two\ninfo one\n");
}

#[test]
fn a_bounded_number_of_messages_waits() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let flash = Flash::of(&txn.session(&id).unwrap());
    for n in 0..40 {
        flash.info(n.to_string()).unwrap();
    }
    let shown = flash.take().unwrap();
    assert_eq!((shown.len(), &*shown[0].text), (32, "8"));
}

#[test]
fn a_message_is_serialized_for_templates() {
    let message = FlashMessage::new(FlashLevel::Warning, "<b>");
    let json = serde_json::to_string(&message).unwrap();
    assert_eq!(json, r#"{"level":"warning","text":"<b>"}"#);
}

/// C4.5: a message is a write as any other.
#[tokio::test]
async fn with_post_only_a_message_for_a_new_visitor_needs_a_post() {
    let cookie = cloakroom::http::CookieSettings::new().post_only();
    let layer = SessionLayer::new(Store::in_memory().unwrap()).cookie(cookie);
    let app = Router::new()
        .route("/", get(show))
        .route("/save", get(save).post(save))
        .layer(layer);
    let refused = get_page(&app, "/save", "").await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(set_cookie(&refused), None);
    // A request that only looks for messages writes nothing.
    assert_eq!(page(&app, "/", "").await, "");
    let saved = send(&app, request("POST", "/save", "")).await;
    assert_eq!(saved.status(), StatusCode::SEE_OTHER);
    let cookie = jar(&saved);
    assert_eq!(page(&app, "/", &cookie).await, "success saved\n");
    let again = get_page(&app, "/save", &cookie).await;
    assert_eq!(again.status(), StatusCode::SEE_OTHER);
    assert_eq!(page(&app, "/", &cookie).await, "success saved\n");
}

//! What rivals are known to get wrong. Each failing has a test that promises the opposite, here or where the rule is
//! tested that forbids it. A test below reads this table and looks for each of them.
//!
//! | failing | test |
//! |---|---|
//! | Of two requests that change two keys, the slower one loses the other's change. | `tests/isolation.rs` `no_update_of_another_row_is_lost` |
//! | Of two requests that count on one key, one count is lost. | `tests/isolation.rs` `no_update_is_lost` |
//! | A slow request brings a session back that was logged out. | `tests/conflicts/endings.rs` `a_session_that_ended_meanwhile_is_never_resurrected` |
//! | It does so over HTTP. | `tests/http/ids.rs` `a_late_request_with_a_destroyed_id_brings_nothing_back` |
//! | It does so under a new id. | `tests/http/ids.rs` `a_request_that_came_before_its_id_ended_hands_out_no_new_id` |
//! | A new id, and then a response of 500: the session is gone. | `tests/http/commit.rs` `a_rotation_followed_by_a_500_rotates_nothing` |
//! | Only writes keep a session alive. | `tests/time/expiry.rs` `a_visitor_who_clicks_every_half_timeout_stays_whatever_the_resolution` |
//! | Every request writes. | `tests/time/touches.rs` `loads_within_the_resolution_write_nothing` |
//! | A session's own timeout is not stored, and falls back at the next write. | `tests/peers.rs` `a_timeout_of_its_own_outlives_the_next_write_and_a_restart` |
//! | The cookie that removes has other attributes than the one that was set. | `tests/http/cookies.rs` `destruction_removes_the_cookie_with_its_attributes` |
//! | Clients then keep it. | `tests/curl.rs` `the_cookie_of_a_destroyed_session_is_removed` |
//! | What cannot be loaded becomes an empty session. | `tests/peers.rs` `a_session_that_cannot_be_loaded_is_an_error_and_not_an_empty_one` |
//! | What cannot be decoded becomes an empty session, or locks the user out. | `tests/peers.rs` `a_value_that_cannot_be_decoded_is_an_error_and_locks_nobody_out` |
//! | An id that the client chose is adopted. | `tests/peers.rs` `an_id_that_the_client_chose_is_not_adopted` |
//! | Forged ids are accepted, or looked up. | `src/http/forged_tests.rs` `of_a_hundred_thousand_forged_cookies_none_is_accepted_and_none_is_looked_up` |
//! | Ids are signed with SHA-1. | `src/client_id/tests.rs` `an_id_is_the_random_bytes_the_name_and_an_hmac_of_both` |
//! | Ids are from a weak generator. | `src/client_id/tests.rs` `issued_ids_differ` |
//! | Only the sweeper knows what has expired. | `tests/time/sweeps.rs` `without_implicit_sweeps_rows_stay_until_one_is_asked_for` |
//! | What has expired is served meanwhile. | `tests/time/expiry.rs` `a_session_is_served_for_an_hour_and_not_a_moment_longer` |
//! | A sweep visits every session, in a request. | `src/store/background_tests.rs` `a_sweep_a_count_and_a_registration_scan_on_a_thread_of_the_store` |
//! | A sweep is one deletion without a bound. | `tests/peers.rs` `a_sweep_removes_in_bounded_commits` |
//! | To end a user's sessions, all sessions are read. | `src/transaction/growth_tests.rs` `sessions_that_are_ended_by_their_owner` |
//! | That ends nothing at all. | `tests/logins/ending.rs` `all_sessions_of_an_owner_are_ended` |
//! | Caches serve one user's cookie to another. | `tests/http/cookies.rs` `a_response_that_sets_or_removes_the_cookie_is_not_stored` |
//! | Caches serve one user's page to another. | `tests/http/cookies.rs` `a_response_that_depended_on_the_session_is_private` |
//! | An error of the commit is swallowed. | `tests/http/commit.rs` `a_commit_that_fails_turns_the_response_into_an_error` |
//! | The browser follows a redirect before the session is saved. | `tests/peers.rs` `a_redirect_waits_until_the_session_is_saved` |
//! | Two extractors of one request wait for each other. | `tests/http/commit.rs` `two_extractions_give_one_session_in_one_transaction` |
//! | So do extractors of one request that run at once. | `tests/http/commit.rs` `parallel_first_extractions_share_one_transaction` |
//! | The sweeper ends for good at its first error. | `torture/tests/faults/sweeps.rs` `sweeps_go_on_after_one_that_failed` |
//!
//! A sweep does visit every session of its container, as zope.session's does: in pages, beside the requests. That tags
//! are compared in constant time cannot be tested without a clock; the comparison is `subtle`'s.
#![cfg(feature = "axum")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use axum::response::Redirect;
use axum::routing::get;
use cloakroom::http::SessionLayer;
use cloakroom::{Error, ErrorKind, Session, Store};
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::clock::{HOUR, MINUTE, clock};
use support::damage::flip_session;
use support::store::{builder, file_builder, place, timed};
use support::visitors::visitor;
use support::writer::HeldWriter;
use tower::ServiceExt as _;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The failings' tests as the table names them: file and function.
fn table() -> Vec<(&'static str, &'static str)> {
    let rows = include_str!("peers.rs").lines().filter_map(|line| {
        let row = line.strip_prefix("//! | ")?.split_once(" | `")?.1;
        row.strip_suffix("` |")?.split_once("` `")
    });
    rows.collect()
}

#[test]
fn each_failing_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = table();
    assert!(table.len() > 20, "the table is not read");
    for (file, name) in table {
        let text = std::fs::read_to_string(root.join(file)).expect(file);
        let (before, _) = text
            .split_once(&format!("fn {name}("))
            .unwrap_or_else(|| panic!("{file} has no {name}"));
        let attributes = before.rsplit("\n\n").next().unwrap();
        assert!(attributes.contains("test]"), "{name} is no test");
    }
}

fn app(store: &Store) -> Router {
    let read = |session: Session| async move {
        let n = session.pkg("app").get::<i64>("n")?;
        Ok::<_, Error>(n.unwrap_or(0).to_string())
    };
    let write = |session: Session| async move { session.pkg("app").insert("n", 2) };
    let redirect = |session: Session| async move {
        session.pkg("app").insert("n", 3)?;
        Ok::<_, Error>(Redirect::to("/read"))
    };
    let other = |session: Session| async move {
        session.pkg("app").insert("other", 7)?;
        Ok::<_, Error>(session.pkg("app").get::<i64>("other")?.unwrap().to_string())
    };
    let text = |session: Session| async move { session.pkg("app").get::<String>("n").map(drop) };
    Router::new()
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/redirect", get(redirect))
        .route("/other", get(other))
        .route("/text", get(text))
        .layer(SessionLayer::new(store.clone()))
}

/// The cookie's whole `name=value` for an id.
fn cookie(store: &Store, id: &str) -> String {
    let digits = store.identity().map(|byte| format!("{byte:02x}"));
    format!("__Host-id-{}={id}", digits[..4].concat())
}

fn request(path: &str, cookie: &str) -> Request<Body> {
    let request = Request::builder().uri(path).header(header::COOKIE, cookie);
    request.body(Body::empty()).unwrap()
}

async fn ask(app: &Router, path: &str, cookie: &str) -> Response<Body> {
    app.clone().oneshot(request(path, cookie)).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    assert_eq!(response.status(), StatusCode::OK);
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

// tower-sessions 215
#[test]
fn a_timeout_of_its_own_outlives_the_next_write_and_a_restart() {
    let (clock, (_folder, path)) = (clock(), place());
    let open = || builder(&clock).secret([7; 32]).open(&path).unwrap();
    let store = open();
    let id = visitor(&store);
    let remember = |txn: &cloakroom::Txn| txn.session(&id)?.set_timeout(Some(30 * DAY));
    store.transact::<_, Error>(remember).unwrap();
    clock.advance(2 * HOUR);
    let write = |txn: &cloakroom::Txn| txn.session(&id)?.pkg("app").insert("n", 2);
    store.transact::<_, Error>(write).unwrap();
    store.close().unwrap();
    let store = open();
    clock.advance(29 * DAY);
    let id = store.client_ids().verify(id.as_str()).unwrap();
    let n = store.transact::<_, Error>(|txn| txn.session(&id)?.pkg("app").get("n"));
    assert_eq!(n.unwrap(), Some(2));
}

// axum_session
#[tokio::test]
async fn a_session_that_cannot_be_loaded_is_an_error_and_not_an_empty_one() {
    let (_folder, path) = place();
    let store = file_builder().open(&path).unwrap();
    let id = visitor(&store);
    store.close().unwrap();
    flip_session(&path, id.key());

    let store = file_builder().open(&path).unwrap();
    let (app, cookie) = (app(&store), cookie(&store, id.as_str()));
    for page in ["/read", "/write", "/redirect"] {
        let response = ask(&app, page, &cookie).await;
        assert_eq!(
            response.status(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "{page}"
        );
        let error = response.extensions().get::<Error>().expect(page);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{page}");
        assert!(
            !response.headers().contains_key(header::SET_COOKIE),
            "{page}"
        );
    }
    drop(app);
    store.close().unwrap();

    // Nothing was put over it.
    flip_session(&path, id.key());
    let store = file_builder().open(&path).unwrap();
    assert_eq!(
        text(ask(&self::app(&store), "/read", &cookie).await).await,
        "1"
    );
}

// scs 269, Django
#[tokio::test]
async fn a_value_that_cannot_be_decoded_is_an_error_and_locks_nobody_out() {
    let (_, store) = timed();
    let id = visitor(&store);
    let (app, cookie) = (app(&store), cookie(&store, id.as_str()));
    let response = ask(&app, "/text", &cookie).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert_eq!(text(ask(&app, "/other", &cookie).await).await, "7");
    assert_eq!(text(ask(&app, "/read", &cookie).await).await, "1");
}

// axum_session
#[tokio::test]
async fn an_id_that_the_client_chose_is_not_adopted() {
    let (_, store) = timed();
    let app = app(&store);
    let foreign = timed().1.client_ids().issue();
    for chosen in ["mine", foreign.as_str(), &"A".repeat(68)] {
        let response = ask(&app, "/write", &cookie(&store, chosen)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let field = response.headers()[header::SET_COOKIE].to_str().unwrap();
        let given = field.split(['=', ';']).nth(1).unwrap();
        assert_ne!(given, chosen);
        assert!(store.client_ids().verify(given).is_some());
        let again = text(ask(&app, "/read", &cookie(&store, chosen)).await).await;
        assert_eq!(again, "0");
        let own = text(ask(&app, "/read", &cookie(&store, given)).await).await;
        assert_eq!(own, "2");
    }
}

// Django: one DELETE over millions of rows
#[test]
fn a_sweep_removes_in_bounded_commits() {
    let clock = clock();
    let store = builder(&clock).in_memory().unwrap();
    for _ in 0..500 {
        visitor(&store);
    }
    clock.advance(HOUR + MINUTE);
    let before = store.statistics().unwrap().commits();
    let swept = store.container("").unwrap().sweep().unwrap();
    assert_eq!(swept.removed, 500);
    let commits = store.statistics().unwrap().commits() - before;
    assert!(commits >= 10, "500 sessions in {commits} commits");
}

// express-session 360, 660
#[tokio::test]
async fn a_redirect_waits_until_the_session_is_saved() {
    let (_folder, path) = place();
    let store = file_builder().open(&path).unwrap();
    let id = visitor(&store);
    let (app, cookie) = (app(&store), cookie(&store, id.as_str()));
    let held = HeldWriter::of(&store);
    let mut answer = pin!(ask(&app, "/redirect", &cookie));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10 {
        let polled = answer.as_mut().poll(&mut context);
        assert!(
            matches!(polled, Poll::Pending),
            "answered before it was saved"
        );
        tokio::task::yield_now().await;
    }
    drop(held);
    let response = answer.await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(text(ask(&app, "/read", &cookie).await).await, "3");
}

//! C4.8, C8.2: sessions that are ended past the web while requests of theirs are on their way. The late response carries
//! no cookie, so that it cannot overwrite that of a newer session.

use super::*;
use axum::extract::Path;
use axum::http::StatusCode;
use cloakroom::http::{CookieLifetime, CookieSettings};
use cloakroom::{ErrorKind, SessionInfo};
use std::time::Duration;

const ENDINGS: [&str; 3] = ["end", "end_all_of", "end_all"];

fn only(store: &Store) -> SessionInfo {
    store.sessions_of("ann").unwrap().remove(0)
}

async fn end(store: &Store, by: &str) -> Result<u64, Error> {
    match by {
        "end" => store.end_async(only(store).client).await,
        "end_all_of" => store.end_all_of_async("ann").await,
        _ => store.end_all_async().await,
    }
}

/// Pages whose session ends while they are made, and a visitor who is logged in and whose cookie is due again.
async fn ending() -> (Store, Router, String) {
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let reading = store.clone();
    let read = move |session: Session, Path(by): Path<String>| async move {
        let n = session.pkg(PACKAGE).get::<u64>("count")?;
        assert_eq!(end(&reading, &by).await?, 1);
        Ok::<_, Error>(n.unwrap_or(0).to_string())
    };
    let writing = store.clone();
    let write = move |session: Session, Path(by): Path<String>| async move {
        count(&session)?;
        assert_eq!(end(&writing, &by).await?, 1);
        Ok::<_, Error>(())
    };
    let log_in = async |session: Session| session.log_in("ann").map(drop);
    let cookie = CookieSettings::new().lifetime(CookieLifetime::Max);
    let app = Router::new()
        .route("/login", axum::routing::post(log_in))
        .route("/count", axum::routing::get(counter).post(counter))
        .route("/read", get(reader))
        .route("/read/{by}", get(read))
        .route("/write/{by}", axum::routing::post(write))
        .layer(SessionLayer::new(store.clone()).cookie(cookie));
    let cookie = jar(&send(&app, request("POST", "/login", "")).await);
    clock.advance(Duration::from_secs(1200));
    (store, app, cookie)
}

#[tokio::test]
async fn a_session_that_stays_would_get_its_cookie_again() {
    let (_, app, cookie) = ending().await;
    assert!(set_cookie(&get_page(&app, "/read", &cookie).await).is_some());
}

#[tokio::test]
async fn a_late_response_of_a_session_that_was_ended_carries_no_cookie() {
    for by in ENDINGS {
        let (_, app, cookie) = ending().await;
        let response = get_page(&app, &format!("/read/{by}"), &cookie).await;
        assert_eq!(response.status(), StatusCode::OK, "{by}");
        assert_eq!(set_cookie(&response), None, "{by}");

        let (store, app, cookie) = ending().await;
        let late = request("POST", &format!("/write/{by}"), &cookie);
        let response = send(&app, late).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{by}");
        assert_eq!(set_cookie(&response), None, "{by}");
        assert_eq!(stored(&store, &cookie), None, "{by}");
    }
}

#[tokio::test]
async fn a_request_that_comes_after_the_end_reads_empty_and_creates_nothing() {
    for by in ENDINGS {
        let (store, app, cookie) = ending().await;
        assert_eq!(end(&store, by).await.unwrap(), 1);
        let response = get_page(&app, "/read", &cookie).await;
        assert_eq!(set_cookie(&response), None, "{by}");
        assert_eq!(text(response).await, "0", "{by}");
        let response = send(&app, request("POST", "/count", &cookie)).await;
        assert_eq!(set_cookie(&response), None, "{by}");
        let error = response.extensions().get::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{by}");
    }
}

/// C1.6
#[tokio::test]
async fn what_is_told_of_a_session_does_not_print_its_id() {
    let (store, _, cookie) = ending().await;
    let told = format!("{:?} {:?}", only(&store), store.sessions_of("ann").unwrap());
    assert!(told.contains("ann"), "{told}");
    assert!(!told.contains(halves(&cookie).1), "{told}");
}

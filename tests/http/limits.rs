//! C6.5: what a visitor is answered when a limit of the store is reached.

use super::*;
use axum::http::StatusCode;
use cloakroom::ErrorKind;
use std::time::Duration;

/// C6.5, C4.8
#[tokio::test]
async fn a_visitor_beyond_the_limit_of_new_sessions_is_asked_to_come_again() {
    let hour = Duration::from_secs(3600);
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let store = Store::builder()
        .clock(clock.clone())
        .max_new_sessions(1, hour);
    let app = site(SessionLayer::new(store.in_memory().unwrap()));
    let known = visitor(&app).await;
    clock.advance(hour / 2);

    let refused = get_page(&app, "/count", "").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    // An interval is counted in sixteen parts, so that it may take a part longer.
    let wait = (hour / 2 + hour / 16).as_secs().to_string();
    assert_eq!(values(&refused, header::RETRY_AFTER), [wait]);
    assert_eq!(set_cookie(&refused), None);
    let error = refused.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(text(refused).await, "");

    assert_eq!(page(&app, "/read", "").await, "0");
    assert_eq!(page(&app, "/count", &known).await, "2");
    clock.advance(hour / 2 + hour / 16);
    visitor(&app).await;
}

//! C6.5: what a visitor is answered when a limit of the store is reached.

use super::*;
use axum::http::StatusCode;
use cloakroom::ErrorKind;
use std::time::Duration;

/// C6.5, C4.8
#[tokio::test]
async fn a_visitor_beyond_the_limit_of_new_sessions_is_asked_to_come_again() {
    let hour = Duration::from_secs(3600);
    let store = Store::builder().max_new_sessions(1, hour);
    let app = site(SessionLayer::new(store.in_memory().unwrap()));
    let known = visitor(&app).await;

    let refused = get_page(&app, "/count", "").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(values(&refused, header::RETRY_AFTER), ["1"]);
    assert_eq!(set_cookie(&refused), None);
    let error = refused.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(text(refused).await, "");

    assert_eq!(page(&app, "/read", "").await, "0");
    assert_eq!(page(&app, "/count", &known).await, "2");
}

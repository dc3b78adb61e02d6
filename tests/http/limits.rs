//! C6.5: the response when a limit of the store is reached.

use super::*;
use axum::http::StatusCode;
use cloakroom::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// C6.5, C4.8
#[tokio::test]
async fn a_visitor_beyond_the_limit_of_new_sessions_is_asked_to_come_again() {
    let hour = Duration::from_secs(3600);
    let clock = clock();
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

/// C6.5: the hook is asked where a request is about to found a session, and only there.
#[tokio::test]
async fn the_application_may_refuse_new_sessions() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let store = Store::in_memory().unwrap();
    let layer = SessionLayer::new(store.clone()).admit_new(move |request| {
        count.fetch_add(1, Ordering::Relaxed);
        !request.headers.contains_key("x-bot")
    });
    let blind = |session: Session| async move { session.pkg(PACKAGE).insert("blind", true) };
    let owned = |session: Session| async move { session.set_owner(Some("ann")) };
    let app = Router::new()
        .route("/blind", get(blind))
        .route("/owned", get(owned))
        .layer(layer.clone())
        .merge(site(layer));
    let bot = |path, cookie: &str| {
        let mut request = request("GET", path, cookie);
        let yes = header::HeaderValue::from_static("yes");
        request.headers_mut().insert("x-bot", yes);
        request
    };

    let refused = send(&app, bot("/count", "")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(set_cookie(&refused), None);
    let error = refused.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotAdmitted);
    assert_eq!(text(refused).await, "");
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    let known = visitor(&app).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    for (path, expected) in [("/count", "2"), ("/read", "2"), ("/count", "3")] {
        assert_eq!(text(send(&app, bot(path, &known)).await).await, expected);
    }
    for path in ["/blind", "/owned"] {
        let response = send(&app, bot(path, &known)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    assert_eq!(text(send(&app, bot("/read", "")).await).await, "0");
    assert_eq!(send(&app, bot("/plain", "")).await.status(), StatusCode::OK);
    let rotated = jar(&send(&app, bot("/rotate", &known)).await);
    assert_eq!(asked.load(Ordering::Relaxed), 2, "nobody else founds one");

    // The limit also asks about a session that is founded without an insert.
    let refused = send(&app, bot("/owned", "")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(asked.load(Ordering::Relaxed), 3);

    // A visitor who ended the session founds another one.
    send(&app, bot("/destroy", &rotated)).await;
    assert_eq!(stored(&store, &known), None);
    let refused = send(&app, bot("/count", &known)).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

/// C1.9, C6.5: a session is one in all containers, so going on in a further one founds none, and none is a way past
/// the hook.
#[tokio::test]
async fn a_further_container_founds_no_new_session() {
    use cloakroom::ContainerSettings;
    let store = Store::in_memory().unwrap();
    let short = ContainerSettings::new().timeout(Duration::from_secs(60));
    store.register("cart", short.clone()).unwrap();
    let flash = short.in_memory();
    store.register("flash", flash).unwrap();
    let layer = SessionLayer::new(store.clone())
        .admit_new(|request| !request.headers.contains_key("x-bot"));
    let put = |package: &'static str| {
        get(move |session: Session| async move { session.pkg(package).insert("n", 1) })
    };
    let app = Router::new()
        .route("/cart", put("cart"))
        .route("/flash", put("flash"))
        .layer(layer.clone())
        .merge(site(layer));
    let bot = |path, cookie: &str| {
        let mut request = request("GET", path, cookie);
        let yes = header::HeaderValue::from_static("yes");
        request.headers_mut().insert("x-bot", yes);
        request
    };
    for path in ["/cart", "/flash"] {
        let refused = send(&app, bot(path, "")).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    let known = visitor(&app).await;
    for path in ["/cart", "/flash", "/count"] {
        let response = send(&app, bot(path, &known)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    let known = jar(&send(&app, request("GET", "/flash", "")).await);
    for path in ["/cart", "/count"] {
        let response = send(&app, bot(path, &known)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
}

/// C6.2, C6.5: a request that runs again is one request to the hook.
#[tokio::test]
async fn the_application_is_asked_once_for_a_request_that_runs_again() {
    let asked = Arc::new(AtomicU32::new(0));
    let (runs, counted) = (Arc::new(AtomicU32::new(0)), Arc::clone(&asked));
    let store = Store::in_memory().unwrap();
    let shared = store.client_ids().issue();
    let other = store.clone();
    let disturbed = move |session: Session| {
        let first = runs.fetch_add(1, Ordering::Relaxed) == 0;
        let (other, shared) = (other.clone(), shared.clone());
        async move {
            // Another session of the same transaction, which somebody else changes meanwhile.
            super::count(&session.txn().session(&shared)?)?;
            if first {
                interfere(&other, &shared, 100);
            }
            super::count(&session).map(|n| n.to_string())
        }
    };
    let layer = SessionLayer::new(store.clone()).admit_new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        true
    });
    let app = Router::new().route("/", get(disturbed)).layer(layer);
    let response = get_page(&app, "/", "").await;
    assert_eq!(stored(&store, &jar(&response)), Some(1));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// Behind a proxy, the application limits by the visitor's address, which only a listed proxy can tell.
#[tokio::test]
async fn the_application_limits_by_the_address_that_a_listed_proxy_tells() {
    use cloakroom::http::{TrustedProxies, VisitorAddress};
    let with_peer = |peer: &str| {
        let peer = peer.parse().unwrap();
        let proxies = TrustedProxies::new(move |_| Some(peer));
        let layer = SessionLayer::new(Store::in_memory().unwrap())
            .proxies(proxies.network("10.0.0.0/8").unwrap())
            .admit_new(|request| {
                let visitor = request.extensions.get::<VisitorAddress>().unwrap();
                visitor.ip.to_string() == "192.0.2.7"
            });
        site(layer)
    };
    let forwarded = || {
        let mut request = request("GET", "/count", "");
        let list = "1.1.1.1, 192.0.2.7".parse().unwrap();
        request.headers_mut().insert("x-forwarded-for", list);
        request
    };
    assert_eq!(
        send(&with_peer("10.0.0.1"), forwarded()).await.status(),
        200
    );
    assert_eq!(
        send(&with_peer("192.0.2.1"), forwarded()).await.status(),
        429
    );
}

//! C2.1, C4.8 over HTTP: requests that take their time before they look at their session.

use super::*;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::any;
use cloakroom::http::{CookieLifetime, CookieSettings, CsrfLayer, CsrfToken, RequireFresh};
use http_body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Notify;

type Change = fn(&Session) -> Result<(), Error>;

/// The changes that a handler makes once its body is there.
const CHANGES: [(&str, Change); 5] = [
    ("insert", |s| s.pkg(PACKAGE).insert("count", 8)),
    ("add", |s| s.pkg(PACKAGE).add("count", 7)),
    ("update", |s| {
        let next = |n: Option<u64>| n.unwrap_or(0) + 7;
        s.pkg(PACKAGE).update("count", next).map(drop)
    }),
    ("get", |s| {
        assert_eq!(s.pkg(PACKAGE).get("count")?, Some(1));
        s.pkg(PACKAGE).insert("count", 8)
    }),
    ("owner", |s| {
        s.pkg(PACKAGE).insert("count", 8)?;
        s.set_owner(Some("ann"))
    }),
];

/// The body of an upload, which comes when it is told to.
struct Upload(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(waiting) = &mut self.0 else {
            return Poll::Ready(None);
        };
        ready!(waiting.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"all of it")))))
    }
}

fn upload(begun: &Arc<Notify>, go_on: &Arc<Notify>) -> Body {
    let (begun, go_on) = (Arc::clone(begun), Arc::clone(go_on));
    Body::new(Upload(Some(Box::pin(async move {
        begun.notify_one();
        go_on.notified().await;
    }))))
}

/// C2.1
#[tokio::test]
async fn a_slow_upload_changes_and_reads_its_session() {
    for (name, change) in CHANGES {
        let clock = clock();
        let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
        let save = move |session: Session, _: Bytes| async move { change(&session) };
        let app = Router::new().route("/save", any(save));
        let app = app.layer(SessionLayer::new(store.clone()));
        let cookie = visitor(&site(SessionLayer::new(store.clone()))).await;
        // Of two cookies, the one that is live counts; that is no look of the request's either.
        let dead = store.client_ids().issue();
        let both = format!("{}={}; {cookie}", halves(&cookie).0, dead.as_str());
        for cookies in [&cookie, &both] {
            store
                .transact(|txn| {
                    let session = txn.session(&id_of(&store, &cookie))?;
                    session.pkg(PACKAGE).insert("count", 1)
                })
                .unwrap();
            let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let mut request = request("POST", "/save", cookies);
            *request.body_mut() = upload(&begun, &go_on);
            let saving = tokio::spawn(app.clone().oneshot(request));
            begun.notified().await;
            clock.advance(Duration::from_secs(31));
            go_on.notify_one();
            let response = saving.await.unwrap().unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{name}");
            assert_eq!(stored(&store, &cookie), Some(8), "{name}");
        }
    }
}

/// C4.8
#[tokio::test]
async fn a_post_that_came_before_a_login_hands_out_no_id_however_late_it_asks() {
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    // It asks for its session when the body is there.
    let save = |request: axum::extract::Request| async move {
        let (parts, body) = request.into_parts();
        axum::body::to_bytes(body, 1024).await.unwrap();
        let session = cloakroom::http::session(&parts.extensions).await?;
        session.pkg(PACKAGE).insert("count", 9)
    };
    let pages = site(SessionLayer::new(store.clone()));
    let app = Router::new().route("/save", any(save));
    let app = app.layer(SessionLayer::new(store.clone()));
    let cookie = visitor(&pages).await;
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut post = request("POST", "/save", &cookie);
    *post.body_mut() = upload(&begun, &go_on);
    let saving = tokio::spawn(app.clone().oneshot(post));
    begun.notified().await;
    let login = jar(&get_page(&pages, "/rotate", &cookie).await);
    // The id is no longer refused to others.
    clock.advance(Duration::from_secs(60));
    go_on.notify_one();
    let response = saving.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(set_cookie(&response), None);
    assert_eq!(page(&pages, "/read", &login).await, "1");
    // A request that comes with it now gets another.
    let response = send(&pages, request("POST", "/count", &cookie)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(set_cookie(&response).is_some());
}

/// Sends a request whose body takes longer than a snapshot lasts.
async fn send_slowly(app: &Router, clock: &Clock, mut request: Request<Body>) -> Response<Body> {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    *request.body_mut() = upload(&begun, &go_on);
    let sending = tokio::spawn(app.clone().oneshot(request));
    begun.notified().await;
    clock.advance(Duration::from_secs(31));
    go_on.notify_one();
    sending.await.unwrap().unwrap()
}

/// A site whose page `/save` reads its body, then changes its session. It asks for a token and a login.
fn checked_site(store: &Store) -> Router {
    let save = |session: Session, _: Bytes| async move {
        assert_eq!(session.pkg(PACKAGE).get("count")?, Some(1));
        session.pkg(PACKAGE).insert("count", 8)
    };
    let log_in = |session: Session, token: CsrfToken| async move {
        session.pkg(PACKAGE).insert("count", 1)?;
        session.log_in("ann")?;
        Ok::<_, Error>(token.to_string())
    };
    let fresh = RequireFresh::within(Duration::from_secs(300));
    Router::new()
        .route("/save", any(save).layer(fresh))
        .route("/kept", any(|_: Bytes| async { "kept" }))
        .route("/login", get(log_in))
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(store.clone()))
}

fn with_token(path: &str, cookie: &str, token: &str) -> Request<Body> {
    let mut request = request("POST", path, cookie);
    let token = token.parse().unwrap();
    request.headers_mut().insert("x-csrf-token", token);
    request
}

/// C2.1
#[tokio::test]
async fn a_slow_upload_behind_the_checks_of_other_layers_changes_and_reads_its_session() {
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let app = checked_site(&store);
    let response = get_page(&app, "/login", "").await;
    let (cookie, token) = (jar(&response), text(response).await);
    let response = send_slowly(&app, &clock, with_token("/save", &cookie, &token)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(stored(&store, &cookie), Some(8));
}

/// C3.4: the check uses the session if the handler does not.
#[tokio::test]
async fn a_request_that_only_a_check_looks_at_is_an_access() {
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let app = checked_site(&store);
    let response = get_page(&app, "/login", "").await;
    let (cookie, token) = (jar(&response), text(response).await);
    for _ in 0..4 {
        clock.advance(Duration::from_secs(30 * 60));
        let response = send(&app, with_token("/kept", &cookie, &token)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(values(&response, header::VARY), ["Cookie"]);
        assert_eq!(set_cookie(&response), None);
    }
    assert_eq!(stored(&store, &cookie), Some(1));
}

/// C4.3: an access that only the check records still renews the cookie.
#[tokio::test]
async fn an_access_that_only_a_check_makes_renews_the_cookie() {
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let lasting = CookieSettings::new().lifetime(CookieLifetime::Max);
    let form = |token: CsrfToken| async move { token.to_string() };
    let unused = |_: Session| async { "unused" };
    let app = Router::new()
        .route("/form", get(form))
        .route("/kept", any(|| async { "kept" }))
        .route("/unused", any(unused))
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(store.clone()).cookie(lasting));
    let response = get_page(&app, "/form", "").await;
    let (cookie, token) = (jar(&response), text(response).await);
    for path in ["/kept", "/unused"] {
        let at_once = send(&app, with_token(path, &cookie, &token)).await;
        assert_eq!(set_cookie(&at_once), None, "{path}");
        clock.advance(Duration::from_secs(11 * 60));
        let renewed = send(&app, with_token(path, &cookie, &token)).await;
        assert_eq!(jar(&renewed), cookie, "{path}");
    }
}

/// C2.4: a check inside middleware sees the middleware's changes.
#[tokio::test]
async fn a_check_sees_what_middleware_did_before_it() {
    use axum::middleware::{Next, from_fn};
    let store = Store::in_memory().unwrap();
    let remember = |session: Session, request: Request<Body>, next: Next| async move {
        session.log_in("ann")?;
        Ok::<_, Error>(next.run(request).await)
    };
    let app = Router::new()
        .route("/", get(|| async { "secret" }))
        .layer(RequireFresh::within(Duration::from_secs(60)))
        .layer(from_fn(remember))
        .layer(SessionLayer::new(store));
    assert_eq!(page(&app, "/", "").await, "secret");
}

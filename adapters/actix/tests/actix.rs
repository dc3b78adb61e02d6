//! What belongs to actix-web alone: its errors, its scopes, its extractors, its payloads, and clones of its requests. The
//! rules that every framework follows are in `rules.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use actix_http::Request;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse};
use actix_web::error::{ErrorForbidden, InternalError, PayloadError};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::{Next, from_fn};
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::{App, HttpRequest, HttpResponse, Responder, web};
use bytes::Bytes;
use cloakroom::http::{CsrfLayer, FlashMessage, RequireFresh, Rerun, SessionLayer};
use cloakroom::{ErrorKind, Package, Store};
use cloakroom_actix::{
    CsrfMiddleware, CsrfToken, Error, Flash, FreshMiddleware, Pkg, Session, SessionMiddleware,
    WithFlash,
};
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;

fn count(session: &Session) -> Result<u64, Error> {
    let visits = session.pkg("visits");
    let n = visits.get::<u64>("count")?.unwrap_or(0) + 1;
    visits.insert("count", n)?;
    Ok(n)
}

async fn counter(session: Session) -> Result<String, Error> {
    Ok(count(&session)?.to_string())
}

/// The count in the store, read past the web.
fn stored(store: &Store, cookie: &str) -> Option<u64> {
    let id = store.client_ids().verify(cookie.split_once('=').unwrap().1);
    let id = id.expect("an id");
    let count = store.transact(|txn| txn.session(&id)?.pkg("visits").get("count"));
    count.unwrap()
}

/// Lets the first of several runs lose the race for its session.
fn lose_once(store: &Store, session: &Session, runs: &AtomicUsize) -> Result<String, Error> {
    let n = count(session)?;
    if runs.fetch_add(1, Ordering::SeqCst) == 0 {
        let id = session.client_id().unwrap();
        store.transact(|txn| txn.session(&id)?.pkg("visits").insert("count", 100u64))?;
    }
    Ok(n.to_string())
}

fn sessions(store: &Store) -> SessionMiddleware {
    SessionMiddleware::new(SessionLayer::new(store.clone()))
}

fn get(path: &str, cookie: &str) -> TestRequest {
    let request = TestRequest::get().uri(path);
    match cookie {
        "" => request,
        _ => request.insert_header((header::COOKIE, cookie)),
    }
}

async fn send<B: MessageBody>(
    app: &impl Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    request: TestRequest,
) -> ServiceResponse<B> {
    app.call(request.to_request()).await.unwrap()
}

/// What a browser would send back.
fn jar<B>(response: &HttpResponse<B>) -> String {
    let field = field(response, "set-cookie").expect("a cookie");
    field.split(';').next().unwrap().to_owned()
}

fn field<'a, B>(response: &'a HttpResponse<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|it| it.to_str().unwrap())
}

async fn text<B: MessageBody>(response: ServiceResponse<B>) -> String {
    String::from_utf8(read_body(response).await.to_vec()).unwrap()
}

/// An error of the application, which counts first.
#[derive(Debug)]
struct Refusal;

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not you")
    }
}

impl actix_web::ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }
}

async fn refuse(
    session: Session,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    count(&session)?;
    match request.path() {
        "/count" => return next.call(request).await,
        "/now" => session.commit_now().await.map_err(Error::from)?,
        _ => {}
    }
    Err(Refusal.into())
}

/// C6.1: in actix-web an error of middleware is a response. It aborts, whatever its status, and tells caches what it must.
#[actix_web::test]
async fn an_error_of_middleware_aborts_and_stays_that_error() {
    let store = Store::in_memory().unwrap();
    let app = App::new()
        .route("/count", web::get().to(HttpResponse::Ok))
        .wrap(from_fn(refuse))
        .wrap(sessions(&store));
    let app = init_service(app).await;
    let cookie = jar(send(&app, get("/count", "")).await.response());

    let error = app.call(get("/no", &cookie).to_request()).await;
    let error = error.unwrap_err();
    assert!(error.as_error::<Refusal>().is_some());
    // It may be asked twice.
    for _ in 0..2 {
        let response = error.error_response();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(field(&response, "vary"), Some("Cookie"));
        let cache = field(&response, "cache-control");
        assert_eq!(cache, Some("private, no-cache"));
        assert_eq!(field(&response, "set-cookie"), None);
    }
    assert_eq!(stored(&store, &cookie), Some(1));

    // C8.7
    let error = app.call(get("/now", "").to_request()).await;
    let response = error.unwrap_err().error_response();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(field(&response, "cache-control"), Some("no-store"));
    assert_eq!(stored(&store, &jar(&response)), Some(1));
}

#[actix_web::test]
async fn an_error_that_has_its_response_keeps_it() {
    async fn refuse(
        _: Session,
        _: ServiceRequest,
        _: Next<BoxBody>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        let page = HttpResponse::Forbidden().body("come back tomorrow");
        Err(InternalError::from_response("", page).into())
    }
    let store = Store::in_memory().unwrap();
    let app = App::new().wrap(from_fn(refuse)).wrap(sessions(&store));
    let app = init_service(app).await;
    let error = app.call(get("/", "").to_request()).await.unwrap_err();
    let response = error.error_response();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(field(&response, "vary"), Some("Cookie"));
    let body = response.into_body().try_into_bytes().unwrap();
    assert_eq!(body, "come back tomorrow");
}

/// C6.4
#[actix_web::test]
async fn an_error_of_a_request_without_a_session_is_not_touched() {
    async fn refuse(
        _: ServiceRequest,
        _: Next<BoxBody>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        Err(ErrorForbidden("no"))
    }
    let store = Store::in_memory().unwrap();
    let app = App::new().wrap(from_fn(refuse)).wrap(sessions(&store));
    let app = init_service(app).await;
    let error = app.call(get("/", "").to_request()).await.unwrap_err();
    let response = error.error_response();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(field(&response, "vary"), None);
    assert_eq!(field(&response, "cache-control"), None);
}

/// C6.2: routers need a request of which there is no clone.
#[actix_web::test]
async fn a_request_of_which_a_clone_is_held_does_not_run_again() {
    let store = Store::in_memory().unwrap();
    let (runs, others) = (Arc::new(AtomicUsize::new(0)), store.clone());
    let ran = Arc::clone(&runs);
    let held: Rc<RefCell<Option<HttpRequest>>> = Rc::default();
    let keep = Rc::clone(&held);
    let lose = move |session: Session, request: HttpRequest| {
        *keep.borrow_mut() = Some(request);
        let lost = lose_once(&others, &session, &ran);
        async { lost }
    };
    let app = App::new()
        .route("/lose", web::get().to(lose))
        .route("/count", web::get().to(counter))
        .wrap(sessions(&store));
    let app = init_service(app).await;
    let cookie = jar(send(&app, get("/count", "")).await.response());
    let response = send(&app, get("/lose", &cookie)).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(field(response.response(), "retry-after"), Some("1"));
    let extensions = response.response().extensions();
    let error = extensions.get::<cloakroom::Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(stored(&store, &cookie), Some(100));
    held.borrow_mut().take();
}

/// Changes the head of a request, as middleware may.
async fn spoil(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let spoilt = header::HeaderName::from_static("x-spoilt");
    assert!(!request.headers().contains_key(&spoilt));
    let headers = &mut request.head_mut().headers;
    headers.insert(spoilt, header::HeaderValue::from_static("yes"));
    next.call(request).await
}

/// C6.2: the second run finds the request as it reached the middleware, whatever the first one did to it.
#[actix_web::test]
async fn a_request_is_routed_again_in_its_scope() {
    let store = Store::in_memory().unwrap();
    let (runs, others) = (AtomicUsize::new(0), store.clone());
    let runs = Arc::new(runs);
    let told: Rc<RefCell<Vec<String>>> = Rc::default();
    let tell = Rc::clone(&told);
    let lose = move |session: Session,
                     request: HttpRequest,
                     path: web::Path<(String, u32)>,
                     data: web::Data<&'static str>,
                     body: String| {
        let pattern = request.match_pattern();
        let line = format!("{} {pattern:?} {path:?} {data:?} {body}", request.uri());
        tell.borrow_mut().push(line);
        let lost = lose_once(&others, &session, &runs);
        async { lost }
    };
    let layer = SessionLayer::new(store.clone()).rerun(Rerun::Always);
    let inner = web::scope("/item")
        .app_data(web::Data::new("of the scope"))
        .wrap(from_fn(spoil))
        .route("/{n}", web::post().to(lose));
    let outer = web::scope("/{shop}")
        .app_data(web::Data::new("of the outer scope"))
        .wrap(SessionMiddleware::new(layer))
        .route("/count", web::get().to(counter))
        .service(inner);
    let app = init_service(App::new().service(outer)).await;
    let cookie = jar(send(&app, get("/tea/count", "")).await.response());
    let request = TestRequest::post()
        .uri("/tea/item/7?a=1")
        .insert_header((header::COOKIE, &*cookie))
        .set_payload("the body");
    let response = send(&app, request).await;
    assert_eq!(text(response).await, "101");
    let told = told.borrow();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], told[1]);
    let begins = "/tea/item/7?a=1 Some(\"/{shop}/item/{n}\") Path((\"tea\", 7))";
    assert!(told[0].starts_with(begins), "{}", told[0]);
    assert!(told[0].contains("of the scope"), "{}", told[0]);
    assert!(told[0].ends_with("the body"), "{}", told[0]);
}

#[derive(Default, Serialize, Deserialize)]
struct Cart {
    articles: Vec<String>,
}

impl Package for Cart {
    const ID: &str = "cart";
}

#[actix_web::test]
async fn packages_and_messages_are_arguments_and_parts_of_responses() {
    async fn add(mut cart: Pkg<Cart>) -> Result<impl Responder, Error> {
        cart.update(|cart| cart.articles.push("tea".to_owned()))?;
        let n = cart.articles.len();
        let told = FlashMessage::success(format!("{n} in the cart"));
        Ok(WithFlash(told, web::Redirect::to("/").see_other()))
    }
    async fn fail() -> impl Responder {
        WithFlash(FlashMessage::error("lost"), HttpResponse::BadGateway())
    }
    async fn show(flash: Flash, cart: Pkg<Cart>) -> Result<String, Error> {
        let messages = flash.take()?;
        let texts: Vec<_> = messages.into_iter().map(|it| it.text).collect();
        Ok(format!("{} {texts:?}", cart.articles.len()))
    }
    let store = Store::in_memory().unwrap();
    let app = App::new()
        .route("/", web::get().to(show))
        .route("/add", web::get().to(add))
        .route("/fail", web::get().to(fail))
        .wrap(sessions(&store));
    let app = init_service(app).await;
    let added = send(&app, get("/add", "")).await;
    assert_eq!(added.status(), StatusCode::SEE_OTHER);
    let cookie = jar(added.response());
    send(&app, get("/fail", &cookie)).await;
    let shown = send(&app, get("/", &cookie)).await;
    assert_eq!(text(shown).await, "1 [\"1 in the cart\"]");
    let again = send(&app, get("/", &cookie)).await;
    assert_eq!(text(again).await, "1 []");
}

/// C6.5: the error of an extractor, to a handler that asks for it.
#[actix_web::test]
async fn a_handler_can_ask_for_the_error_of_its_session() {
    async fn perhaps(session: Result<Session, Error>) -> String {
        match session {
            Ok(session) => session.exists().unwrap().to_string(),
            Err(error) => format!("{:?}", error.kind()),
        }
    }
    let store = Store::in_memory().unwrap();
    let with = web::resource("/with").wrap(sessions(&store)).to(perhaps);
    let app = App::new()
        .service(with)
        .route("/without", web::get().to(perhaps));
    let app = init_service(app).await;
    assert_eq!(text(send(&app, get("/with", "")).await).await, "false");
    let without = send(&app, get("/without", "")).await;
    assert_eq!(text(without).await, "NoSessionLayer");
    store.close().unwrap();
    assert_eq!(text(send(&app, get("/with", "")).await).await, "Closed");
}

#[actix_web::test]
async fn actix_session_and_this_middleware_share_a_store() {
    use actix_session_cloakroom::CloakroomSessionStore;
    async fn both(new: Session, old: actix_session::Session) -> actix_web::Result<String> {
        let n = old.get::<u64>("count")?.unwrap_or(0) + 1;
        old.insert("count", n)?;
        Ok(format!("{} {n}", count(&new)?))
    }
    let store = Store::in_memory().unwrap();
    let old = CloakroomSessionStore::new(store.clone()).unwrap();
    let key = actix_web::cookie::Key::generate();
    let app = App::new()
        .route("/", web::get().to(both))
        .wrap(sessions(&store))
        .wrap(actix_session::SessionMiddleware::new(old, key));
    let app = init_service(app).await;
    let first = send(&app, get("/", "")).await;
    let cookies = first.response().headers().get_all(header::SET_COOKIE);
    let cookies = cookies.map(|field| field.to_str().unwrap().split(';').next().unwrap());
    let cookies: Vec<_> = cookies.map(str::to_owned).collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    assert_eq!(text(first).await, "1 1");
    let second = send(&app, get("/", &cookies.join("; "))).await;
    assert_eq!(text(second).await, "2 2");
}

/// C8.3: by a field of a form, which the handler gets all the same, and by the header.
#[actix_web::test]
async fn forged_requests_are_refused() {
    async fn token(token: CsrfToken) -> String {
        format!("{} {}", token.field_name(), token.as_str())
    }
    async fn pay(session: Session, form: String) -> Result<String, Error> {
        count(&session)?;
        Ok(form)
    }
    let store = Store::in_memory().unwrap();
    let pay = web::resource("/pay").get(token).post(pay);
    let csrf = CsrfLayer::new().field("proof").unwrap();
    let app = App::new()
        .service(pay)
        .wrap(CsrfMiddleware::new(csrf))
        .wrap(sessions(&store));
    let app = init_service(app).await;
    let page = send(&app, get("/pay", "")).await;
    let cookie = jar(page.response());
    let page = text(page).await;
    let token = page.strip_prefix("proof ").unwrap();
    let post = |form: String| {
        let request = TestRequest::post().uri("/pay").set_payload(form);
        let kind = "application/x-www-form-urlencoded";
        let request = request.insert_header((header::CONTENT_TYPE, kind));
        request.insert_header((header::COOKIE, &*cookie))
    };

    let form = format!("n=1&proof={token}&m=2");
    let paid = send(&app, post(form.clone())).await;
    assert_eq!(text(paid).await, form);
    let paid = post(String::new()).insert_header(("x-csrf-token", token));
    assert_eq!(send(&app, paid).await.status(), StatusCode::OK);
    assert_eq!(stored(&store, &cookie), Some(2));

    let without = send(&app, post("n=1".to_owned())).await;
    assert_eq!(without.status(), StatusCode::FORBIDDEN);
    assert_eq!(field(without.response(), "cache-control"), Some("no-store"));
    assert!(text(without).await.contains("no security token"));
    let elsewhere = post(form).insert_header(("sec-fetch-site", "cross-site"));
    let elsewhere = send(&app, elsewhere).await;
    let error = elsewhere.response().extensions();
    let error = error.get::<cloakroom::Error>().unwrap().kind();
    assert_eq!(error, ErrorKind::CsrfRefused);
    assert_eq!(stored(&store, &cookie), Some(2));
}

/// C8.6
#[actix_web::test]
async fn a_route_asks_for_a_recent_login() {
    async fn log_in(session: Session) -> Result<&'static str, Error> {
        session.log_in("ann")?;
        Ok("welcome")
    }
    let clock = cloakroom::Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let fresh = RequireFresh::within(Duration::from_secs(60));
    let password = web::resource("/password")
        .wrap(FreshMiddleware::new(fresh))
        .get(async || "changed");
    let app = App::new()
        .route("/login", web::get().to(log_in))
        .service(password)
        .wrap(sessions(&store));
    let app = init_service(app).await;
    let cookie = jar(send(&app, get("/login", "")).await.response());
    let changed = send(&app, get("/password", &cookie)).await;
    assert_eq!(text(changed).await, "changed");
    clock.advance(Duration::from_secs(61));
    for cookie in [&*cookie, ""] {
        let late = send(&app, get("/password", cookie)).await;
        assert_eq!(late.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(field(late.response(), "vary"), Some("Cookie"));
        assert!(text(late).await.contains("Log in again"));
    }
}

/// A payload of unknown size.
struct Pieces(Vec<Bytes>);

impl Stream for Pieces {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop().map(Ok))
    }
}

/// C6.2: a request of HTTP/2 without a body has a payload that ends at once. Its size is known, so that it need not wait
/// for its session's turn, as one of unknown size must.
#[actix_web::test]
async fn a_payload_that_ends_at_once_is_no_body() {
    let store = Store::builder().turn_wait(Duration::from_secs(3600));
    let store = store.in_memory().unwrap();
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, leave) = (Arc::clone(&entered), Arc::clone(&go));
    let slow = move |_: Session| {
        enter.notify_one();
        let leave = Arc::clone(&leave);
        async move {
            leave.notified().await;
            "slow"
        }
    };
    async fn length(session: Session, body: Bytes) -> Result<String, Error> {
        session.exists()?;
        Ok(body.len().to_string())
    }
    let app = App::new()
        .route("/slow", web::post().to(slow))
        .route("/count", web::get().to(counter))
        .route("/length", web::put().to(length))
        .wrap(sessions(&store));
    let app = init_service(app).await;
    let cookie = jar(send(&app, get("/count", "")).await.response());
    let sent = |pieces: Vec<Bytes>| {
        let request = TestRequest::put().uri("/length");
        let request = request
            .insert_header((header::COOKIE, &*cookie))
            .to_request();
        let payload: Payload = Payload::Stream {
            payload: Box::pin(Pieces(pieces)),
        };
        app.call(request.replace_payload(payload).0)
    };
    let slow = TestRequest::post().uri("/slow");
    let slow = slow.insert_header((header::COOKIE, &*cookie));
    let slow = app.call(slow.to_request());
    let others = async {
        entered.notified().await;
        let without = sent(Vec::new()).await.unwrap();
        assert_eq!(text(without).await, "0");
        let mut with = Box::pin(sent(vec![
            Bytes::from_static(b"b"),
            Bytes::from_static(b"a"),
        ]));
        let waits = std::future::poll_fn(|cx| Poll::Ready(with.as_mut().poll(cx).is_pending()));
        assert!(waits.await);
        go.notify_one();
        text(with.await.unwrap()).await
    };
    let (slow, with) = tokio::join!(slow, others);
    assert_eq!(text(slow.unwrap()).await, "slow");
    assert_eq!(with, "2");
}

/// C6.3, C10.2: over an engine whose every call comes late, no request blocks the thread that serves all others.
#[actix_web::test]
async fn no_request_blocks_the_thread_that_serves_it() {
    if std::env::var_os("CLOAKROOM_TEST_ENGINE").is_none() {
        eprintln!("SKIPPED on files: run with CLOAKROOM_TEST_ENGINE=remote");
        return;
    }
    let store = Store::open_async("a store").await.unwrap();
    let app = App::new()
        .route("/", web::get().to(counter))
        .wrap(sessions(&store));
    let app = init_service(app).await;
    let before = cloakroom::torture::times_blocked();
    let cookie = jar(send(&app, get("/", "")).await.response());
    let again = || async { send(&app, get("/", &cookie)).await.status() };
    let (a, b, c) = tokio::join!(again(), again(), again());
    assert_eq!([a, b, c], [StatusCode::OK; 3]);
    assert_eq!(cloakroom::torture::times_blocked(), before);
    // The waiting is counted.
    assert_eq!(stored(&store, &cookie), Some(4));
    assert!(cloakroom::torture::times_blocked() > before);
}

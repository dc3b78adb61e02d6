//! C8.3: ids in URLs and form fields: tokens that are bound to an address, expire, and lead to no session with an owner.

use super::*;
use axum::extract::OriginalUri;
use axum::http::{HeaderName, StatusCode, Uri};
use axum::routing::post;
use cloakroom::ErrorKind;
use cloakroom::http::{
    BearerTransport, CookieSettings, FormTransport, QueryTransport, TrustedProxies, UrlId,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(super) const HOME: &str = "192.0.2.1";
const LIFETIME: Duration = Duration::from_secs(60);

/// Counts, and answers with the count, the URL as seen, and a URL and a field with the id.
async fn counting(session: Session, uri: Uri, url_id: UrlId) -> Result<String, Error> {
    let n = count(&session)?;
    Ok(format!(
        "{n} {uri} {} {}",
        url_id.encode_url("/count?a=1#b")?,
        url_id.input()?
    ))
}

async fn body_of(session: Session, body: String) -> Result<String, Error> {
    Ok(format!("{} {body}", count(&session)?))
}

async fn rotating(session: Session, url_id: UrlId) -> Result<String, Error> {
    session.rotate()?;
    url_id.encode_url("/read")
}

async fn logging_in(session: Session) -> Result<&'static str, Error> {
    session.log_in("ann")?;
    Ok("welcome")
}

/// Logs in, and commits before the response.
async fn logging_in_now(session: Session) -> Result<&'static str, Error> {
    session.log_in("ann")?;
    session.commit_now().await?;
    Ok("welcome")
}

pub(super) fn pages() -> Router {
    Router::new()
        .route("/count", get(counting).post(counting))
        .route("/read", get(reader).post(reader))
        .route("/form", post(body_of))
        .route("/rotate", get(rotating))
        .route("/login", post(logging_in))
        .route("/login_now", post(logging_in_now))
        .route(
            "/own",
            post(|s: Session| async move { s.set_owner(Some("ann")) }),
        )
        .route(
            "/plain",
            get(|OriginalUri(uri): OriginalUri| async move { uri.to_string() }),
        )
}

/// The peer as tests write it: no server listens here.
fn peers() -> TrustedProxies {
    TrustedProxies::new(|request| {
        let peer = request.headers.get("x-peer").map(|it| it.to_str().unwrap());
        peer.unwrap_or(HOME).parse().ok()
    })
}

pub(super) fn layer(store: &Store) -> SessionLayer {
    SessionLayer::new(store.clone())
        .proxies(peers())
        .transport(QueryTransport::new("sid").unwrap().lifetime(LIFETIME))
        .transport(FormTransport::new("sid").unwrap().lifetime(LIFETIME))
}

pub(super) fn site() -> (Clock, Store, Router) {
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let app = pages().layer(layer(&store));
    (clock, store, app)
}

pub(super) fn from(peer: &str, mut request: Request<Body>) -> Request<Body> {
    let peer = peer.parse().unwrap();
    request.headers_mut().insert("x-peer", peer);
    request
}

pub(super) async fn fetch(app: &Router, peer: &str, url: &str) -> Response<Body> {
    send(app, from(peer, request("GET", url, ""))).await
}

pub(super) fn posted(url: &str, kind: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = request("POST", url, "");
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
    *request.body_mut() = body.into();
    from(HOME, request)
}

pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// The token of a new session whose count is 1.
pub(super) async fn token(app: &Router) -> String {
    let page = text(fetch(app, HOME, "/count").await).await;
    let (_, rest) = page.split_once("&sid=").unwrap();
    rest.split_once('#').unwrap().0.to_owned()
}

pub(super) fn policy(response: &Response<Body>) -> Vec<String> {
    values(response, HeaderName::from_static("referrer-policy"))
}

/// A body of these pieces, which counts how often it is asked.
struct Watched(VecDeque<String>, Arc<AtomicUsize>);

impl http_body::Body for Watched {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<axum::body::Bytes>, Self::Error>>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let text = self.0.pop_front();
        std::task::Poll::Ready(text.map(|it| Ok(http_body::Frame::data(it.into()))))
    }
}

#[tokio::test]
async fn a_visitor_without_cookies_is_known_by_the_urls_of_the_pages() {
    let (_, _, app) = site();
    let first = fetch(&app, HOME, "/count").await;
    assert!(set_cookie(&first).is_some());
    assert_eq!(policy(&first), [""; 0]);
    let page = text(first).await;
    let next = page.split(' ').nth(2).unwrap();
    assert!(
        next.starts_with("/count?a=1&sid=") && next.ends_with("#b"),
        "{next}"
    );
    let url = next.strip_suffix("#b").unwrap();

    let second = fetch(&app, HOME, url).await;
    assert_eq!(set_cookie(&second), None);
    assert_eq!(policy(&second), ["strict-origin"]);
    assert_eq!(values(&second, header::CACHE_CONTROL), ["no-store"]);
    let page = text(second).await;
    // The handler sees the URL without the token, and gets a new one for its page.
    assert!(page.starts_with("2 /count?a=1 /count?a=1&sid="), "{page}");
    assert!(!page.contains(url.split_once("sid=").unwrap().1), "{page}");
    // Whatever becomes of the request.
    for path in ["/plain", "/nowhere"] {
        let other = fetch(&app, HOME, &format!("{path}?sid=x")).await;
        assert_eq!(policy(&other), ["strict-origin"], "{path}");
    }
}

#[tokio::test]
async fn a_form_brings_the_id_and_its_handler_gets_the_whole_body() {
    let (_, _, app) = site();
    let page = text(fetch(&app, HOME, "/count").await).await;
    let field = page.split_once("value=\"").unwrap().1;
    let token = field.split_once('"').unwrap().0;
    let body = format!("sid={token}&tea=2&note={}", "x".repeat(100_000));
    // In small pieces.
    let pieces = body
        .as_bytes()
        .chunks(61)
        .map(|it| String::from_utf8(it.to_vec()).unwrap());
    let pieces = Body::new(Watched(pieces.collect(), Arc::default()));
    let response = send(&app, posted("/form", FORM, pieces)).await;
    assert_eq!(set_cookie(&response), None);
    assert_eq!(text(response).await, format!("2 {body}"));
}

#[tokio::test]
async fn only_a_bounded_part_of_a_form_is_searched() {
    let (_, _, app) = site();
    let token = token(&app).await;
    let late = format!("note={}&sid={token}", "x".repeat(64 * 1024));
    let response = send(&app, posted("/form", FORM, late.clone())).await;
    assert_eq!(text(response).await, format!("1 {late}"));
    let early = format!("note={}&sid={token}&", "x".repeat(32 * 1024));
    let response = send(&app, posted("/form", FORM, early.clone())).await;
    assert_eq!(text(response).await, format!("2 {early}"));
}

#[tokio::test]
async fn other_bodies_are_not_read_before_the_handler_reads_them() {
    let (_, _, app) = site();
    let token = token(&app).await;
    let parts =
        format!("--x\r\nContent-Disposition: form-data; name=\"sid\"\r\n\r\n{token}\r\n--x--\r\n");
    let json = format!("{{\"sid\":\"{token}\"}}");
    let form = format!("sid={token}");
    let cookie = visitor(&app).await;
    for (kind, body, cookie) in [
        ("multipart/form-data; boundary=x", parts, ""),
        ("application/json", json, ""),
        ("text/plain", form.clone(), ""),
        (FORM, form, &*cookie),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let watched = Watched([body.clone()].into(), Arc::clone(&asked));
        // The handler of this page does not read the body.
        let mut request = posted("/read", kind, Body::new(watched));
        if !cookie.is_empty() {
            request
                .headers_mut()
                .insert(header::COOKIE, cookie.parse().unwrap());
        }
        let found = text(send(&app, request).await).await;
        assert_eq!(
            (&*found, asked.load(Ordering::Relaxed)),
            (if cookie.is_empty() { "0" } else { "1" }, 0),
            "{kind}"
        );
        let response = send(&app, posted("/form", kind, body.clone())).await;
        let whole = text(response).await;
        assert!(whole.ends_with(&body), "{kind}");
    }
}

pub(super) async fn reads(app: &Router, peer: &str, token: &str) -> String {
    let by_url = text(fetch(app, peer, &format!("/read?sid={token}")).await).await;
    let by_form = posted("/read", FORM, format!("sid={token}"));
    let by_form = text(send(app, from(peer, by_form)).await).await;
    assert_eq!(by_url, by_form);
    by_url
}

#[tokio::test]
async fn a_token_is_worth_nothing_at_another_address_later_or_in_another_store() {
    let (clock, _, app) = site();
    let token = token(&app).await;
    assert_eq!(reads(&app, HOME, &token).await, "1");
    assert_eq!(reads(&app, "::ffff:192.0.2.1", &token).await, "1");
    for peer in ["192.0.2.2", "2001:db8::1", "unknown"] {
        assert_eq!(reads(&app, peer, &token).await, "0", "{peer}");
    }
    let (_, _, elsewhere) = site();
    assert_eq!(reads(&elsewhere, HOME, &token).await, "0");
    for odd in [
        "",
        "x",
        "new",
        &token[1..],
        &format!("{token}A"),
        &token.to_lowercase(),
    ] {
        assert_eq!(reads(&app, HOME, odd).await, "0", "{odd}");
    }
    clock.advance(LIFETIME - Duration::from_secs(1));
    assert_eq!(reads(&app, HOME, &token).await, "1");
    clock.advance(Duration::from_secs(1));
    assert_eq!(reads(&app, HOME, &token).await, "0");
}

/// A refused token is no id at all: the visitor gets a cookie as any other.
#[tokio::test]
async fn with_a_refused_token_a_new_visitor_gets_a_cookie() {
    let (_, _, app) = site();
    let token = token(&app).await;
    let response = fetch(&app, "192.0.2.2", &format!("/count?sid={token}")).await;
    assert!(set_cookie(&response).is_some());
    assert!(text(response).await.starts_with("1 "));
}

/// Neither the id nor anything that a cookie takes.
#[tokio::test]
async fn an_id_is_no_token_and_a_token_is_no_id() {
    let (_, _, app) = site();
    let cookie = visitor(&app).await;
    let (name, id) = halves(&cookie);
    assert_eq!(reads(&app, HOME, id).await, "0");
    let token = token(&app).await;
    assert_eq!(page(&app, "/read", &format!("{name}={token}")).await, "0");
}

#[tokio::test]
async fn a_new_id_travels_in_the_urls_of_its_page() {
    let (_, _, app) = site();
    let token = token(&app).await;
    let response = fetch(&app, HOME, &format!("/rotate?sid={token}")).await;
    assert_eq!(set_cookie(&response), None);
    let next = text(response).await;
    assert_eq!(reads(&app, HOME, &token).await, "0");
    assert_eq!(text(fetch(&app, HOME, &next).await).await, "1");
}

/// A browser that keeps cookies is known by them alone, and its pages carry no token.
#[tokio::test]
async fn a_cookie_or_another_transport_comes_before_tokens() {
    let (_, store, app) = site();
    let token = token(&app).await;
    let cookie = visitor(&app).await;
    let path = format!("/count?sid={token}");
    let shown = send(&app, from(HOME, request("GET", &path, &cookie))).await;
    assert_eq!(policy(&shown), ["strict-origin"]);
    assert_eq!(text(shown).await, "2 /count /count?a=1#b ");
    let app = pages().layer(layer(&store).transport(BearerTransport::new()));
    let mut request = from(HOME, request("GET", &path, ""));
    let field = "Bearer new".parse().unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, field);
    assert_eq!(
        text(send(&app, request).await).await,
        "1 /count /count?a=1#b "
    );
}

#[tokio::test]
async fn without_the_setting_or_an_address_no_token_is_made_or_read() {
    let (_, store, app) = site();
    let token = token(&app).await;
    let cookies = pages().layer(SessionLayer::new(store.clone()).proxies(peers()));
    assert_eq!(reads(&cookies, HOME, &token).await, "0");
    let shown = text(fetch(&cookies, HOME, "/count").await).await;
    assert_eq!(shown, "1 /count /count?a=1#b ");

    let nowhere = SessionLayer::new(store).transport(QueryTransport::new("sid").unwrap());
    let nowhere = pages().layer(nowhere);
    assert_eq!(reads(&nowhere, HOME, &token).await, "0");
    let response = fetch(&nowhere, HOME, "/count").await;
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// C4.5: with `post_only`, a page without a session has no token.
#[tokio::test]
async fn where_no_session_can_begin_there_is_no_token() {
    let store = Store::in_memory().unwrap();
    let cookie = CookieSettings::new().post_only();
    let show = |url_id: UrlId| async move { url_id.encode_url("/a") };
    let app = Router::new()
        .route("/", get(show))
        .layer(layer(&store).cookie(cookie));
    let response = fetch(&app, HOME, "/").await;
    assert_eq!(set_cookie(&response), None);
    assert_eq!(text(response).await, "/a");
}

/// C4.5: a session has ended whose token is still good.
#[tokio::test]
async fn with_post_only_a_dead_token_begins_no_session_by_get() {
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let cookie = CookieSettings::new().post_only();
    let shorten =
        |session: Session| async move { session.set_timeout(Some(Duration::from_secs(10))) };
    let app = pages().route("/shorten", post(shorten));
    let app = app.layer(layer(&store).cookie(cookie));
    let shown = text(send(&app, posted("/count", FORM, "")).await).await;
    let (_, rest) = shown.split_once("&sid=").unwrap();
    let url = format!("/count?sid={}", rest.split_once('#').unwrap().0);
    assert!(text(fetch(&app, HOME, &url).await).await.starts_with("2 "));
    let shorten = url.replace("/count", "/shorten");
    let response = send(&app, posted(&shorten, FORM, "")).await;
    assert_eq!(response.status(), StatusCode::OK);

    clock.advance(LIFETIME - Duration::from_secs(1));
    let response = fetch(&app, HOME, &url).await;
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::MissingClientId);
    let response = send(&app, posted(&url, FORM, "")).await;
    assert!(text(response).await.starts_with("1 "));
}

#[tokio::test]
async fn without_the_cookie_tokens_alone_work() {
    let store = Store::in_memory().unwrap();
    let app = pages().layer(layer(&store).without_cookie());
    let first = fetch(&app, HOME, "/count").await;
    assert_eq!(set_cookie(&first), None);
    let shown = text(first).await;
    let token = shown
        .split_once("&sid=")
        .unwrap()
        .1
        .split_once('#')
        .unwrap()
        .0;
    assert_eq!(reads(&app, HOME, token).await, "1");
}

#[test]
fn names_that_would_need_encoding_are_refused() {
    for name in ["", "a b", "a=b", "a&b", "a%62", "é"] {
        let refused = [
            QueryTransport::new(name).map(drop),
            FormTransport::new(name).map(drop),
        ];
        for refused in refused {
            assert_eq!(
                refused.unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{name}"
            );
        }
    }
}

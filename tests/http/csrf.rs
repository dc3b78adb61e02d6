//! Requests that another site makes a browser send are refused, and no others.

use super::*;
use axum::body::Bytes;
use axum::extract::MatchedPath;
use axum::http::StatusCode;
use axum::routing::post;
use cloakroom::ErrorKind;
use cloakroom::http::{CookieSettings, CsrfLayer, CsrfToken};
use http_body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll};

async fn form(token: CsrfToken) -> String {
    token.to_string()
}

async fn field(token: CsrfToken) -> String {
    token.input()
}

async fn pay(session: Session, body: Bytes) -> Result<String, Error> {
    let n = count(&session)?;
    Ok(format!("{n} {}", String::from_utf8(body.to_vec()).unwrap()))
}

fn shop(layer: CsrfLayer) -> (Store, Router) {
    let store = Store::in_memory().unwrap();
    let app = Router::new()
        .route("/form", get(form))
        .route("/field", get(field))
        .route("/pay", get(pay).post(pay).put(pay).delete(pay))
        .route("/hooks/{name}", post(pay))
        .route("/login", post(rotate))
        .route("/logout", post(destroy))
        .layer(layer)
        .layer(SessionLayer::new(store.clone()));
    (store, app)
}

/// A visitor's cookie, and a token of the session.
async fn visitor_with_form(app: &Router) -> (String, String) {
    let response = get_page(app, "/form", "").await;
    (jar(&response), text(response).await)
}

struct Post<'a> {
    path: &'a str,
    cookie: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: String,
}

const URL: &str = "application/x-www-form-urlencoded";

async fn post_to(app: &Router, post: Post<'_>) -> Response<Body> {
    let mut request = request("POST", post.path, post.cookie);
    for (name, value) in post.headers {
        let name: header::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    send(app, request.map(|_| Body::from(post.body))).await
}

async fn pay_with(app: &Router, cookie: &str, headers: &[(&str, &str)]) -> StatusCode {
    let post = Post {
        path: "/pay",
        cookie,
        headers,
        body: String::new(),
    };
    post_to(app, post).await.status()
}

async fn pay_by_form(app: &Router, cookie: &str, kind: &str, body: String) -> Response<Body> {
    let headers = &[("content-type", kind)];
    let path = "/pay";
    post_to(
        app,
        Post {
            path,
            cookie,
            headers,
            body,
        },
    )
    .await
}

#[tokio::test]
async fn a_token_in_the_header_passes_and_none_is_refused() {
    let (store, app) = shop(CsrfLayer::new());
    let (cookie, token) = visitor_with_form(&app).await;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let refused = send(&app, request(method, "/pay", &cookie)).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{method}");
    }
    assert_eq!(stored(&store, &cookie), None);
    let passed = pay_with(&app, &cookie, &[("x-csrf-token", &token)]).await;
    assert_eq!(passed, StatusCode::OK);
    assert_eq!(stored(&store, &cookie), Some(1));
}

#[tokio::test]
async fn safe_methods_are_not_checked() {
    let (_, app) = shop(CsrfLayer::new());
    assert_eq!(page(&app, "/pay", "").await, "1 ");
}

#[tokio::test]
async fn a_refusal_says_in_words_what_to_do() {
    let (_, app) = shop(CsrfLayer::new());
    let (cookie, token) = visitor_with_form(&app).await;
    let other = visitor_with_form(&app).await;
    let cross = [("sec-fetch-site", "cross-site"), ("x-csrf-token", &token)];
    for (cookie, headers, words) in [
        (&*cookie, &cross[..], "from another site"),
        (&cookie, &[], "no security token"),
        (&other.0, &[("x-csrf-token", &token)], "an earlier session"),
        (&cookie, &[("x-csrf-token", "x")], "an earlier session"),
        ("", &[("x-csrf-token", &token)], "your session has ended"),
    ] {
        let post = Post {
            path: "/pay",
            cookie,
            headers,
            body: String::new(),
        };
        let response = post_to(&app, post).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(set_cookie(&response), None);
        let error = response.extensions().get::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::CsrfRefused);
        let kind = values(&response, header::CONTENT_TYPE);
        assert_eq!(kind, ["text/plain; charset=utf-8"]);
        let body = text(response).await;
        assert!(body.contains(words), "{body}");
    }
}

#[tokio::test]
async fn another_site_is_refused_even_with_a_token() {
    let (_, app) = shop(CsrfLayer::new());
    let (cookie, token) = visitor_with_form(&app).await;
    let with = async |name, value| {
        let headers = [
            ("host", "a.example"),
            ("x-csrf-token", &token),
            (name, value),
        ];
        pay_with(&app, &cookie, &headers).await
    };
    assert_eq!(with("sec-fetch-site", "cross-site").await, 403);
    assert_eq!(with("sec-fetch-site", "same-site").await, 403);
    assert_eq!(with("origin", "https://b.example").await, 403);
    assert_eq!(with("origin", "null").await, 403);
    assert_eq!(with("sec-fetch-site", "same-origin").await, 200);
    assert_eq!(with("origin", "https://a.example").await, 200);
}

#[tokio::test]
async fn same_origin_suffices_where_that_is_set_and_nothing_else_does() {
    let (_, app) = shop(CsrfLayer::new().accept_same_origin());
    let (cookie, token) = visitor_with_form(&app).await;
    let own = [("sec-fetch-site", "same-origin")];
    assert_eq!(pay_with(&app, &cookie, &own).await, 200);
    assert_eq!(
        pay_with(&app, &cookie, &[("sec-fetch-site", "cross-site")]).await,
        403
    );
    assert_eq!(pay_with(&app, &cookie, &[]).await, 403);
    assert_eq!(
        pay_with(&app, &cookie, &[("x-csrf-token", &token)]).await,
        200
    );
}

#[tokio::test]
async fn a_trusted_origin_still_needs_a_token() {
    let layer = CsrfLayer::new()
        .trust_origin("https://app.example")
        .unwrap();
    let (_, app) = shop(layer);
    let (cookie, token) = visitor_with_form(&app).await;
    let origin = [
        ("origin", "https://app.example"),
        ("sec-fetch-site", "same-site"),
    ];
    assert_eq!(pay_with(&app, &cookie, &origin).await, 403);
    let with_token = [origin[0], origin[1], ("x-csrf-token", &token)];
    assert_eq!(pay_with(&app, &cookie, &with_token).await, 200);
    for odd in ["app.example", "https://", "https://a/", "*", "https://*.a"] {
        let error = CsrfLayer::new().trust_origin(odd).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{odd}");
    }
}

#[tokio::test]
async fn a_form_field_passes_and_the_handler_gets_the_whole_form() {
    let (_, app) = shop(CsrfLayer::new());
    let (cookie, token) = visitor_with_form(&app).await;
    let body = format!("to=ann&csrf_token={token}&sum=5");
    let response = pay_by_form(&app, &cookie, URL, body.clone()).await;
    assert_eq!(text(response).await, format!("1 {body}"));

    let parts = format!(
        "--x\r\nContent-Disposition: form-data; name=\"csrf_token\"\r\n\r\n{token}\r\n\
         --x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{}\r\n--x--\r\n",
        "a".repeat(200_000)
    );
    let kind = "multipart/form-data; boundary=x";
    let response = pay_by_form(&app, &cookie, kind, parts.clone()).await;
    assert_eq!(text(response).await, format!("2 {parts}"));

    let response = pay_by_form(&app, &cookie, "text/plain", body).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

/// A body whose frames have one byte.
struct Bytewise(Bytes);

impl http_body::Body for Bytewise {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let is_end = self.0.is_empty();
        Poll::Ready((!is_end).then(|| Ok(Frame::data(self.0.split_to(1)))))
    }
}

/// Frames of one byte: the token is put together from them, and each arrives at the handler.
#[tokio::test]
async fn a_form_in_many_small_frames_passes() {
    let (_, app) = shop(CsrfLayer::new());
    let (cookie, token) = visitor_with_form(&app).await;
    let form = format!("csrf_token={token}&sum=5");
    let body = Bytewise(form.clone().into());
    let mut request = request("POST", "/pay", &cookie).map(|_| Body::new(body));
    request
        .headers_mut()
        .insert(header::CONTENT_TYPE, URL.parse().unwrap());
    let response = send(&app, request).await;
    assert_eq!(text(response).await, format!("1 {form}"));
}

#[tokio::test]
async fn only_the_beginning_of_a_form_is_searched() {
    let (_, app) = shop(CsrfLayer::new().form_limit(100));
    let (cookie, token) = visitor_with_form(&app).await;
    let late = format!("a={}&csrf_token={token}", "a".repeat(100));
    let response = pay_by_form(&app, &cookie, URL, late).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let body = text(response).await;
    assert!(body.contains("at the beginning of its form"), "{body}");
}

/// A hidden field that the layer names, as the page contains it.
#[tokio::test]
async fn the_names_of_header_and_field_are_settings() {
    let layer = CsrfLayer::new()
        .field("_token")
        .unwrap()
        .header("x-token".parse().unwrap());
    let (_, app) = shop(layer);
    let response = get_page(&app, "/field", "").await;
    let cookie = jar(&response);
    let input = text(response).await;
    let token = input
        .strip_prefix("<input type=\"hidden\" name=\"_token\" value=\"")
        .and_then(|rest| rest.strip_suffix("\">"))
        .unwrap();
    let response = pay_by_form(&app, &cookie, URL, format!("_token={token}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(pay_with(&app, &cookie, &[("x-token", token)]).await, 200);
    assert_eq!(
        pay_with(&app, &cookie, &[("x-csrf-token", token)]).await,
        403
    );
    for odd in ["", "a b", "a&b", "é"] {
        assert!(CsrfLayer::new().field(odd).is_err(), "{odd}");
    }
}

#[tokio::test]
async fn exempt_routes_are_not_checked() {
    let layer = CsrfLayer::new().exempt_path("/pay").exempt(|request| {
        let route = request.extensions.get::<MatchedPath>();
        route.is_some_and(|route| route.as_str() == "/hooks/{name}")
    });
    let (_, app) = shop(layer);
    for (path, status) in [
        ("/pay", 200),
        ("/hooks/stripe", 200),
        ("/pay/", 403),
        ("/login", 403),
    ] {
        let response = send(&app, request("POST", path, "")).await;
        assert_eq!(response.status(), status, "{path}");
    }
}

#[tokio::test]
async fn tokens_are_masked_and_all_are_valid() {
    let (_, app) = shop(CsrfLayer::new());
    let (cookie, first) = visitor_with_form(&app).await;
    let second = page(&app, "/form", &cookie).await;
    assert_ne!(first, second);
    for token in [&first, &second] {
        assert_eq!(
            pay_with(&app, &cookie, &[("x-csrf-token", token)]).await,
            200
        );
    }
}

/// A form that was open during the login still works; one of an ended session does not.
#[tokio::test]
async fn a_token_outlives_a_new_id_and_not_its_session() {
    let (_, app) = shop(CsrfLayer::new());
    let (cookie, token) = visitor_with_form(&app).await;
    let headers = [("x-csrf-token", &*token)];
    let post = |path, cookie| Post {
        path,
        cookie,
        headers: &headers,
        body: String::new(),
    };
    let cookie = jar(&post_to(&app, post("/login", &cookie)).await);
    assert_eq!(pay_with(&app, &cookie, &headers).await, 200);
    assert_eq!(post_to(&app, post("/logout", &cookie)).await.status(), 200);
    assert_eq!(pay_with(&app, &cookie, &headers).await, 403);
}

#[tokio::test]
async fn without_the_session_layer_the_refusal_names_it() {
    let app = Router::new()
        .route("/pay", post(|| async {}))
        .layer(CsrfLayer::new());
    let response = {
        let headers = &[("x-csrf-token", "x")];
        let post = Post {
            path: "/pay",
            cookie: "",
            headers,
            body: String::new(),
        };
        post_to(&app, post).await
    };
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text(response).await.contains("session layer"));
}

#[tokio::test]
async fn a_token_is_shown_by_no_debug() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let token = CsrfToken::of(&txn.session(&id).unwrap()).unwrap();
    assert!(!format!("{token:?}").contains(&token.as_str()[..8]));
    assert_eq!(
        serde_json::to_string(&token).unwrap(),
        format!("\"{token}\"")
    );
}

#[tokio::test]
async fn another_site_opens_no_websocket() {
    let (_, app) = shop(CsrfLayer::new());
    let (cookie, _) = visitor_with_form(&app).await;
    for (origin, status) in [("https://evil.example", 403), ("https://shop.example", 200)] {
        let mut request = request("GET", "/pay", &cookie);
        for (name, value) in [
            ("host", "shop.example"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("origin", origin),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answered = send(&app, request).await.status();
        assert_eq!(answered.as_u16(), status, "{origin}");
    }
}

/// C4.8: a page with a form shows, although the visitor was logged out elsewhere a moment ago.
#[tokio::test]
async fn a_page_with_a_form_is_served_to_a_visitor_who_was_logged_out_elsewhere() {
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let counted = |session: Session, token: CsrfToken| async move {
        count(&session)?;
        Ok::<_, Error>(token.to_string())
    };
    let app = Router::new()
        .route("/form", get(form))
        .route("/counted", get(counted))
        .route("/pay", post(pay))
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(store.clone()));
    let (cookie, _) = visitor_with_form(&app).await;
    assert_eq!(store.end(id_of(&store, &cookie).key()).unwrap(), 1);

    let response = get_page(&app, "/form", &cookie).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(set_cookie(&response), None);
    let token = text(response).await;
    let headers = [("x-csrf-token", &*token)];
    let paid = Post {
        path: "/pay",
        cookie: &cookie,
        headers: &headers,
        body: String::new(),
    };
    let refused = post_to(&app, paid).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let error = refused.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::CsrfRefused);
    // Other values that a page stores are not lost in silence.
    let counted = get_page(&app, "/counted", &cookie).await;
    assert_eq!(counted.status(), StatusCode::SERVICE_UNAVAILABLE);

    clock.advance(std::time::Duration::from_secs(11));
    let response = get_page(&app, "/form", &cookie).await;
    let (cookie, token) = (jar(&response), text(response).await);
    let paid = pay_with(&app, &cookie, &[("x-csrf-token", &token)]).await;
    assert_eq!(paid, StatusCode::OK);
}

/// C4.5
#[tokio::test]
async fn with_post_only_a_form_shows_and_its_page_creates_no_session() {
    let store = Store::in_memory().unwrap();
    let post_only = CookieSettings::new().post_only();
    let app = Router::new()
        .route("/form", get(form))
        .route("/pay", post(pay))
        .layer(CsrfLayer::new().accept_same_origin())
        .layer(SessionLayer::new(store.clone()).cookie(post_only));
    let response = get_page(&app, "/form", "").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(set_cookie(&response), None);
    let ours = [("sec-fetch-site", "same-origin")];
    assert_eq!(pay_with(&app, "", &ours).await, StatusCode::OK);
}

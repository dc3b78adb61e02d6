//! C8.3: what limits the dangers of ids in URLs: other readers of the URL, owners, and other sites.

use super::url_ids::{FORM, HOME, fetch, from, layer, pages, policy, posted, reads, site, token};
use super::*;
use axum::extract::OriginalUri;
use axum::http::StatusCode;
use cloakroom::ErrorKind;
use cloakroom::http::CsrfLayer;
use std::time::Duration;
use tower::Layer as _;

/// The router notes the URL before the layers of `Router::layer` run.
#[tokio::test]
async fn the_original_uri_has_no_token_if_the_layer_is_around_the_router() {
    let store = Store::in_memory().unwrap();
    let within = pages().layer(layer(&store));
    let response = fetch(&within, HOME, "/plain?a=1&sid=x").await;
    assert_eq!(text(response).await, "/plain?a=1&sid=x");
    let around = layer(&store).layer(pages());
    let request = from(HOME, request("GET", "/plain?a=1&sid=x", ""));
    let response = around.oneshot(request).await.unwrap();
    assert_eq!(text(response).await, "/plain?a=1");
}

#[tokio::test]
async fn a_handlers_stricter_policy_stays_and_a_weaker_one_does_not() {
    let store = Store::in_memory().unwrap();
    for (own, sent) in [
        ("no-referrer", "no-referrer"),
        ("strict-origin", "strict-origin"),
        ("origin", "origin"),
        // With it, other pages of the site would get the token.
        ("same-origin", "strict-origin"),
        ("unsafe-url", "strict-origin"),
        ("no-referrer, unsafe-url", "strict-origin"),
    ] {
        let page = move || async move { [("referrer-policy", own)] };
        let app = Router::new().route("/", get(page)).layer(layer(&store));
        assert_eq!(policy(&fetch(&app, HOME, "/?sid=x").await), [sent]);
        assert_eq!(policy(&fetch(&app, HOME, "/").await), [own]);
    }
}

/// It is made after the layer has answered.
#[tokio::test]
async fn an_error_page_does_not_weaken_the_policy() {
    let store = Store::in_memory().unwrap();
    for (own, sent) in [
        ("unsafe-url", "strict-origin"),
        ("no-referrer", "no-referrer"),
    ] {
        let page = move |_: &Error, _: &axum::http::request::Parts| {
            axum::response::IntoResponse::into_response([("referrer-policy", own)])
        };
        let app = pages().layer(layer(&store).on_error(page));
        let token = token(&app).await;
        let response = send(&app, posted(&format!("/login?sid={token}"), FORM, "")).await;
        assert!(response.extensions().get::<Error>().is_some());
        assert_eq!(policy(&response), [sent]);
    }
}

#[tokio::test]
async fn a_session_with_an_owner_is_not_found_also_if_it_got_the_owner_later() {
    let (_, store, app) = site();
    let first = fetch(&app, HOME, "/count").await;
    let cookie = jar(&first);
    let shown = text(first).await;
    let token = shown
        .split_once("&sid=")
        .unwrap()
        .1
        .split_once('#')
        .unwrap()
        .0;
    assert_eq!(reads(&app, HOME, token).await, "1");
    // The session keeps its id, as a `log_in` would not let it.
    let id = store.client_ids().verify(halves(&cookie).1).unwrap();
    let own = |owner| store.transact::<_, Error>(|txn| txn.session(&id)?.set_owner(owner));
    own(Some("ann")).unwrap();
    assert_eq!(reads(&app, HOME, token).await, "0");
    // It writes to another session, and sends no cookie of it: no CSRF check has seen the request.
    let response = fetch(&app, HOME, &format!("/count?sid={token}")).await;
    assert_eq!(set_cookie(&response), None);
    assert!(text(response).await.starts_with("1 "));
    assert_eq!(page(&app, "/read", &cookie).await, "1");
    // Its own pages carry no token.
    let shown = page(&app, "/count", &cookie).await;
    assert_eq!(shown, "2 /count /count?a=1#b ");
    own(None).unwrap();
    assert_eq!(reads(&app, HOME, token).await, "2");
}

#[tokio::test]
async fn a_session_that_a_token_found_gets_no_owner() {
    let (_, store, app) = site();
    let token = token(&app).await;
    for path in ["/login", "/login_now", "/own"] {
        let response = send(&app, posted(path, FORM, format!("sid={token}"))).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
        let error = response.extensions().get::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::MissingClientId);
        assert_eq!(set_cookie(&response), None);
    }
    assert!(store.sessions_of("ann").unwrap().is_empty());
    assert_eq!(reads(&app, HOME, &token).await, "1");
}

/// C2.7: as if it had come after the owner.
#[tokio::test]
async fn a_session_that_gets_an_owner_during_the_request_is_not_written_by_it() {
    // The other commit does not wait for the request's turn.
    let store = Store::builder()
        .turn_wait(Duration::ZERO)
        .in_memory()
        .unwrap();
    let owned = store.clone();
    let parallel = async move |session: Session, OriginalUri(uri): OriginalUri| {
        let n = count(&session)?;
        let id = session.client_id().unwrap();
        if n == 2 {
            owned.transact::<_, Error>(|txn| txn.session(&id)?.set_owner(Some("ann")))?;
        }
        if uri.path() == "/now" {
            session.commit_now().await?;
        }
        Ok::<_, Error>(n.to_string())
    };
    let paths = ["/now", "/later"];
    let routes = paths.map(|path| (path, get(parallel.clone()).post(parallel.clone())));
    let add = |app: Router, (path, methods)| app.route(path, methods);
    let app = routes.into_iter().fold(pages(), add).layer(layer(&store));
    for path in paths {
        let first = fetch(&app, HOME, "/count").await;
        let cookie = jar(&first);
        let shown = text(first).await;
        let (_, rest) = shown.split_once("&sid=").unwrap();
        let token = rest.split_once('#').unwrap().0;
        let response = send(&app, posted(path, FORM, format!("sid={token}"))).await;
        let error = response.extensions().get::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{path}");
        assert_eq!(page(&app, "/read", &cookie).await, "1", "{path}");
        assert_eq!(reads(&app, HOME, token).await, "0", "{path}");
    }
    // A request that can run again finds no session then.
    let token = token(&app).await;
    let response = fetch(&app, HOME, &format!("/later?sid={token}")).await;
    assert_eq!(text(response).await, "1");
}

#[tokio::test]
async fn csrf_checks_do_not_apply_to_a_request_with_a_valid_token() {
    let store = Store::in_memory().unwrap();
    let app = pages().layer(CsrfLayer::new()).layer(layer(&store));
    let token = token(&app).await;
    for (sid, status) in [(&*token, StatusCode::OK), ("x", StatusCode::FORBIDDEN)] {
        let by_form = posted("/form", FORM, format!("sid={sid}"));
        let by_url = posted(&format!("/form?sid={sid}"), "text/plain", "");
        for request in [by_form, by_url] {
            assert_eq!(send(&app, request).await.status(), status, "{sid}");
        }
    }
}

/// Behind one address, another visitor's token would lead into that one's session.
#[tokio::test]
async fn a_token_that_another_site_sends_is_not_accepted() {
    let (_, _, app) = site();
    let token = token(&app).await;
    for (fields, found) in [
        (&[("sec-fetch-site", "same-origin")][..], "1"),
        (&[("sec-fetch-site", "none")], "1"),
        (&[("sec-fetch-site", "same-site")], "0"),
        (&[("sec-fetch-site", "cross-site")], "0"),
        (
            &[("origin", "https://a.example"), ("host", "a.example")],
            "1",
        ),
        (
            &[("origin", "https://b.example"), ("host", "a.example")],
            "0",
        ),
    ] {
        let by_url = request("GET", &format!("/read?sid={token}"), "");
        let by_form = posted("/read", FORM, format!("sid={token}"));
        for mut request in [from(HOME, by_url), by_form] {
            for (name, value) in fields {
                request.headers_mut().insert(*name, value.parse().unwrap());
            }
            assert_eq!(text(send(&app, request).await).await, found, "{fields:?}");
        }
    }
    // The handler does not see it all the same.
    let mut request = from(HOME, request("GET", &format!("/count?sid={token}"), ""));
    let site = "cross-site".parse().unwrap();
    request.headers_mut().insert("sec-fetch-site", site);
    let response = send(&app, request).await;
    assert!(set_cookie(&response).is_some());
    assert_eq!(policy(&response), ["strict-origin"]);
    assert!(text(response).await.starts_with("1 /count /count?a=1&sid="));
}

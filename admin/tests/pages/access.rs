//! Who sees what, and whose changes are accepted (C9.3).

use crate::support::{BASE, Pages};
use crate::{session, with_token};
use axum::http::{Request, StatusCode, header};
use cloakroom::Store;
use cloakroom_admin::{Access, Admin, TokenAccess};
use std::time::Duration;

/// Every address of the router, as its source has them.
fn addresses(key: cloakroom::ClientKey) -> Vec<String> {
    let source = include_str!("../../src/pages.rs");
    let routes = source.split(".route(").skip(1);
    let addresses = routes.map(|route| match route.split_once('"') {
        Some((before, rest)) if before.trim().is_empty() => rest.split('"').next().unwrap(),
        _ => "/maintenance/import",
    });
    let addresses = addresses.map(|address| {
        let address = address.replace("{key}", &key.to_string());
        let address = address.replace("{work}", "sweep").replace("{number}", "1");
        address.trim_end_matches('/').to_owned()
    });
    addresses.collect()
}

#[tokio::test]
async fn without_access_no_address_says_that_it_exists() {
    let pages = Pages::new();
    let key = session(&pages.store, "dora");
    let addresses = addresses(key);
    assert!(addresses.len() > 25, "{addresses:?}");
    assert!(addresses.contains(&"/live".to_owned()));
    let more = ["", "/nothing", "/sessions/", "/containers/edit?name=", "//"];
    let more = more.iter().map(|it| (*it).to_owned());
    for path in addresses.into_iter().chain(more) {
        for method in ["GET", "POST", "HEAD", "OPTIONS", "PUT"] {
            for accept in ["text/html", "application/json", "text/event-stream"] {
                let request = Request::builder().method(method);
                let request = request
                    .uri(format!("{BASE}{path}"))
                    .header("accept", accept);
                let request = request.header("authorization", "Bearer nobody");
                let answer = pages.send(request, "").await;
                let seen = (answer.status, &*answer.text);
                assert_eq!(seen, (StatusCode::NOT_FOUND, ""), "{method} {path}");
                let mut headers = answer.headers.keys();
                assert!(headers.all(|it| *it == "content-length"), "{method} {path}");
            }
        }
    }
    for path in [
        format!("/sessions/{key}/end"),
        "/owners/end".to_owned(),
        "/maintenance/end-all".to_owned(),
    ] {
        let answer = pages.post_with("nobody", &path, "owner=dora").await;
        let seen = (answer.status, &*answer.text);
        assert_eq!(seen, (StatusCode::NOT_FOUND, ""), "{path}");
    }
    assert!(pages.store.session_info(key).unwrap().is_some());
}

#[tokio::test]
async fn no_address_takes_a_change_without_a_form_of_ours() {
    let pages = Pages::new();
    let key = session(&pages.store, "dora");
    let token = pages.get("ann", "/owners?owner=dora").await.form_token();
    for path in addresses(key) {
        let ours = format!("form_token={token}&owner=dora&name=&number=0&confirm=yes");
        let forged = [
            ("same-origin", "owner=dora&name=&timeout=1m".to_owned()),
            ("cross-site", ours.clone()),
            ("same-site", ours),
        ];
        for (site, fields) in forged {
            let request = Request::post(format!("{BASE}{path}?form_token={token}"));
            // What only an import may have.
            let request = match path.ends_with("/import") {
                true => Request::post(format!("{BASE}{path}")),
                false => request,
            };
            let request = request
                .header("x-who", "ann")
                .header("sec-fetch-site", site);
            let request = request.header("content-type", "application/x-www-form-urlencoded");
            let answer = pages.send(request, &fields).await;
            let is_refused = matches!(
                answer.status,
                StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED
            );
            // Who has access is sent on from the form that asks for a token.
            let is_harmless = path == "/sign-in" && answer.status == StatusCode::SEE_OTHER;
            assert!(
                is_refused || is_harmless,
                "{path} {site}: {}",
                answer.status
            );
        }
    }
    assert!(pages.store.session_info(key).unwrap().is_some());
    let log = pages.json("ann", "/audit").await.json();
    assert_eq!(log["entries"], serde_json::json!([]));
}

#[tokio::test(start_paused = true)]
async fn many_wrong_tokens_drive_nothing_out_of_the_audit_log() {
    let pages = with_token();
    let send = async |token: &str| {
        let request = Request::post(format!("{BASE}/sign-in"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        pages.send(request, &format!("token={token}")).await
    };
    let log = async || {
        let request = Request::get(format!("{BASE}/audit")).header("accept", "application/json");
        let request = request.header("authorization", "Bearer correct horse battery");
        let log = pages.send(request, "").await.json();
        let entries = log["entries"].as_array().unwrap().iter();
        let told = entries.map(|it| it["outcome"].as_str().unwrap().to_owned());
        told.collect::<Vec<_>>()
    };
    // Each takes a second.
    for _ in 0..100 {
        assert_eq!(
            send("wrong+horse+battery").await.status,
            StatusCode::FORBIDDEN
        );
    }
    let told = log().await;
    assert_eq!(told.last().unwrap(), "1 wrong token");
    assert!(told.len() <= 3, "{told:?}");
    send("correct+horse+battery").await.location();
    let told = log().await;
    let wrong = told.iter().filter_map(|it| it.split_once(" wrong token"));
    let wrong: u64 = wrong.map(|(count, _)| count.parse::<u64>().unwrap()).sum();
    assert_eq!(wrong, 100, "{told:?}");
    assert_eq!(told[0], "signed in");
}

#[tokio::test]
async fn who_may_only_look_changes_nothing() {
    let pages = Pages::new();
    let key = session(&pages.store, "dora");
    let token = pages
        .get("bob", "/containers/edit?name=")
        .await
        .form_token();
    let changes = [
        (format!("/sessions/{key}/end"), ""),
        ("/owners/end".to_owned(), "owner=dora"),
        ("/maintenance/rotate-secret".to_owned(), ""),
        ("/containers/edit".to_owned(), "name=&timeout=1m"),
    ];
    for (path, fields) in changes {
        let answer = pages
            .post_with("bob", &path, &format!("form_token={token}&{fields}"))
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert!(pages.store.session_info(key).unwrap().is_some());
    let timeout = pages
        .store
        .container("")
        .unwrap()
        .settings()
        .unwrap()
        .timeout;
    assert_eq!(timeout, Duration::from_secs(3600));
    assert!(
        pages.json("ann", "/audit").await.json()["entries"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_change_needs_a_form_of_ours() {
    let pages = Pages::new();
    let key = session(&pages.store, "dora");
    let path = format!("/sessions/{key}/end");
    let token = pages
        .get("ann", "/containers/edit?name=")
        .await
        .form_token();
    let of_bob = pages
        .get("bob", "/containers/edit?name=")
        .await
        .form_token();
    for fields in [
        String::new(),
        format!("form_token={of_bob}"),
        "form_token=0".to_owned(),
    ] {
        let answer = pages.post_with("ann", &path, &fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{fields}");
    }
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
    ] {
        let request = Request::post(format!("{BASE}{path}"))
            .header("x-who", "ann")
            .header("host", "app.example");
        let request = request
            .header(name, value)
            .header("content-type", "application/x-www-form-urlencoded");
        let answer = pages.send(request, &format!("form_token={token}")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    assert!(pages.store.session_info(key).unwrap().is_some());
    let answer = pages
        .post_with("ann", &path, &format!("form_token={token}"))
        .await;
    assert_eq!(answer.location(), "/internal/sessions/sessions?done=1");
    assert!(pages.store.session_info(key).unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_program_shows_its_token() {
    let pages = with_token();
    let get = |token: &str| {
        let request =
            Request::get(format!("{BASE}/containers")).header("accept", "application/json");
        request.header("authorization", format!("Bearer {token}"))
    };
    assert_eq!(
        pages.send(get("correct horse battery"), "").await.status,
        StatusCode::OK
    );
    let began = tokio::time::Instant::now();
    assert_eq!(
        pages.send(get("wrong horse battery"), "").await.status,
        StatusCode::NOT_FOUND
    );
    assert!(began.elapsed() >= Duration::from_secs(1));
    // It needs no token of a form: no browser adds this header by itself.
    let key = session(&pages.store, "dora");
    let request =
        Request::post(format!("{BASE}/sessions/{key}/end")).header("accept", "application/json");
    let request = request.header("authorization", "Bearer correct horse battery");
    let answer = pages.send(request, "").await;
    assert_eq!(
        (answer.status, answer.json()["outcome"].as_str()),
        (StatusCode::OK, Some("ended"))
    );
    assert!(TokenAccess::new("too short", Access::all("x")).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_person_types_the_token_once() {
    let pages = with_token();
    let html = |path: &str| Request::get(format!("{BASE}{path}")).header("accept", "text/html");
    let answer = pages.send(html("/containers"), "").await;
    assert_eq!(answer.location(), "/internal/sessions/sign-in");
    let form = pages.send(html("/sign-in"), "").await;
    assert!(
        form.text.contains("type=\"password\"") && !form.text.contains("Containers"),
        "{}",
        form.text
    );
    assert_eq!(
        pages.send(html("/assets/style.css"), "").await.status,
        StatusCode::OK
    );

    let change = Request::post(format!("{BASE}/owners/end")).header("accept", "text/html");
    let ended = pages.send(change, "").await;
    assert_eq!(ended.status, StatusCode::FORBIDDEN);
    assert!(ended.text.contains("Nothing was changed"), "{}", ended.text);

    let post = || {
        let request = Request::post(format!("{BASE}/sign-in")).header("host", "app.example");
        request.header("content-type", "application/x-www-form-urlencoded")
    };
    let wrong = pages.send(post(), "token=wrong+horse+battery").await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert!(wrong.text.contains("This is not the token."));
    let elsewhere = pages
        .send(
            post().header("origin", "https://evil.example"),
            "token=correct+horse+battery",
        )
        .await;
    assert_eq!(elsewhere.status, StatusCode::FORBIDDEN);
    let right = pages.send(post(), "token=correct+horse+battery").await;
    assert_eq!(right.location(), BASE);
    let cookie = right.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.ends_with("; Path=/internal/sessions; HttpOnly; SameSite=Strict; Secure"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();

    let page = pages
        .send(
            html("/containers").header("cookie", format!("a=b; {cookie}")),
            "",
        )
        .await;
    assert_eq!(page.status, StatusCode::OK);
    let key = session(&pages.store, "dora");
    let end = |fields: String| {
        let request = Request::post(format!("{BASE}/sessions/{key}/end")).header("cookie", &cookie);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        (request, fields)
    };
    // The cookie alone is not enough.
    let (request, fields) = end(String::new());
    assert_eq!(
        pages.send(request, &fields).await.status,
        StatusCode::FORBIDDEN
    );
    let token = page.form_token();
    let (request, fields) = end(format!("form_token={token}"));
    pages.send(request, &fields).await.location();
    let out = Request::post(format!("{BASE}/sign-out")).header("cookie", &cookie);
    let out = out.header("content-type", "application/x-www-form-urlencoded");
    pages
        .send(out, &format!("form_token={token}"))
        .await
        .location();
    let again = pages
        .send(html("/containers").header("cookie", &cookie), "")
        .await;
    assert_eq!(again.location(), "/internal/sessions/sign-in");
}

#[tokio::test]
async fn the_pages_let_go_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    for _ in 0..20 {
        let store = Store::open(&path).unwrap();
        let everybody = |_: &axum::http::request::Parts| async { Access::all("ann") };
        let pages = Pages::of(store.clone(), Admin::new(store, everybody));
        pages.get("ann", "").await;
        drop(pages);
    }
}

#[tokio::test]
async fn mounted_with_and_without_a_slash_the_overview_is_found() {
    use tower::ServiceExt as _;
    for (mount, overview) in [("/x", "/x"), ("/x/", "/x/")] {
        let everybody = |_: &axum::http::request::Parts| async { Access::all("ann") };
        let pages = cloakroom_admin::router(Store::in_memory().unwrap(), everybody);
        let app = axum::Router::new().nest(mount, pages);
        let get = |path: &str| {
            let request = Request::get(path).header("accept", "text/html");
            app.clone()
                .oneshot(request.body(axum::body::Body::empty()).unwrap())
        };
        assert_eq!(
            get(overview).await.unwrap().status(),
            StatusCode::OK,
            "{mount}"
        );
        let sent = get("/x/sign-in").await.unwrap();
        assert_eq!(sent.headers()[header::LOCATION], overview);
    }
}

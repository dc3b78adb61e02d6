//! The pages, without a browser: what is shown, to whom, and what a form does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use axum::http::{Request, StatusCode, header};
use cloakroom::{ClientKey, ContainerSettings, Store};
use cloakroom_admin::{Access, Admin, TokenAccess};
use std::time::Duration;
use support::{BASE, Pages};

const PATHS: [&str; 9] = [
    "",
    "/containers",
    "/containers/edit?name=",
    "/sessions",
    "/owners",
    "/owners?owner=ann",
    "/maintenance",
    "/settings",
    "/audit",
];

fn session(store: &Store, owner: &str) -> ClientKey {
    let id = store.client_ids().issue();
    let founded = store.transact(|txn| {
        let session = txn.session(&id)?;
        session.set_owner(Some(owner))?;
        session.pkg("cart").insert("items", ("tea", 2))
    });
    founded.unwrap();
    id.key()
}

#[tokio::test]
async fn without_access_no_address_says_that_it_exists() {
    let pages = Pages::new();
    let key = session(&pages.store, "dora");
    let session = format!("/sessions/{key}");
    let more = [
        &*session,
        "/assets/style.css",
        "/live",
        "/nothing",
        "/sign-in",
    ];
    for path in PATHS.iter().chain(&more) {
        for answer in [
            pages.get("nobody", path).await,
            pages.json("nobody", path).await,
        ] {
            assert_eq!(
                (answer.status, &*answer.text),
                (StatusCode::NOT_FOUND, ""),
                "{path}"
            );
            let headers: Vec<_> = answer.headers.keys().collect();
            assert!(
                headers.iter().all(|it| *it == "content-length"),
                "{path}: {headers:?}"
            );
        }
    }
    for path in [
        format!("{session}/end"),
        "/owners/end".to_owned(),
        "/maintenance/sweep".to_owned(),
    ] {
        let answer = pages.post_with("nobody", &path, "owner=dora").await;
        assert_eq!(
            (answer.status, &*answer.text),
            (StatusCode::NOT_FOUND, ""),
            "{path}"
        );
    }
    assert!(pages.store.session_info(key).unwrap().is_some());
}

#[tokio::test]
async fn each_page_is_there_in_both_forms_with_safe_headers() {
    let pages = Pages::new();
    let key = session(&pages.store, "dora");
    let session = format!("/sessions/{key}");
    for path in PATHS.iter().chain(&[&*session]) {
        let answer = pages.get("bob", path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        assert!(answer.text.contains("<h1>"), "{path}");
        assert!(!answer.text.contains("style="), "{path}");
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
        pages.json("bob", path).await.json();
    }
    let answer = pages.get("bob", "/nothing").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.text.contains("There is no such page"));
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

#[tokio::test]
async fn what_was_done_is_told_and_kept_with_who_and_what() {
    let pages = Pages::new();
    let (one, other) = (session(&pages.store, "dora"), session(&pages.store, "dora"));
    pages.post("ann", &format!("/sessions/{one}/end"), "").await;
    let answer = pages.post("ann", "/owners/end", "owner=dora").await;
    assert_eq!(answer.location(), "/internal/sessions/owners?done=2");
    assert!(pages.store.session_info(other).unwrap().is_none());
    let told = pages.get("ann", "/owners?done=2").await;
    assert!(told.text.contains("1 session ended"), "{}", told.text);
    assert!(
        !pages
            .get("bob", "/owners?done=2")
            .await
            .text
            .contains("1 session ended")
    );
    let log = pages.json("bob", "/audit").await.json();
    let entries = log["entries"].as_array().unwrap();
    let told: Vec<_> = entries
        .iter()
        .map(|it| {
            (
                it["who"].as_str(),
                it["action"].as_str(),
                it["subject"].as_str(),
            )
        })
        .collect();
    let one = one.to_string();
    let expected = [
        (Some("ann"), Some("end sessions of owner"), Some("dora")),
        (Some("ann"), Some("end session"), Some(&*one)),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn settings_are_validated_and_stay_as_typed() {
    let pages = Pages::new();
    pages
        .store
        .register("shop.cart", ContainerSettings::new())
        .unwrap();
    let fields =
        "name=shop.cart&boxes=1&timeout=90&resolution=5m&max_lifetime=<b>&implicit_sweeps=true";
    let answer = pages.post("ann", "/containers/edit", fields).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer.text.contains("2 fields have mistakes"),
        "{}",
        answer.text
    );
    assert!(answer.text.contains("Say the unit") && answer.text.contains("value=\"90\""));
    assert!(!answer.text.contains("<b>"));
    let container = pages.store.container("shop.cart").unwrap();
    assert_eq!(container.settings().unwrap(), ContainerSettings::new());

    let fields = "name=shop.cart&boxes=1&timeout=30m&resolution=5m&max_lifetime=7d";
    let answer = pages.post("ann", "/containers/edit", fields).await;
    assert_eq!(answer.location(), "/internal/sessions/containers?done=1");
    let day = Duration::from_secs(24 * 3600);
    let expected = ContainerSettings::new()
        .timeout(Duration::from_secs(1800))
        .resolution(Duration::from_secs(300))
        .max_lifetime(Some(7 * day))
        .implicit_sweeps(false);
    assert_eq!(container.settings().unwrap(), expected);
    let log = pages.json("ann", "/audit").await.json();
    let outcome = log["entries"][0]["outcome"].as_str().unwrap();
    assert!(outcome.contains("timeout from 1h to 30m"), "{outcome}");
    let missing = pages.get("ann", "/containers/edit?name=nothing").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn values_are_shown_on_asking_and_the_asking_is_kept() {
    let pages = Pages::new();
    let key = session(&pages.store, "dora");
    let page = pages.get("bob", &format!("/sessions/{key}")).await;
    assert!(
        page.text.contains("items") && !page.text.contains(">tea<"),
        "{}",
        page.text
    );
    let fields = "container=&package=cart";
    let page = pages
        .post("bob", &format!("/sessions/{key}/values"), fields)
        .await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains(">tea<"), "{}", page.text);
    let log = pages.json("bob", "/audit").await.json();
    assert_eq!(log["entries"][0]["action"], "show values");
    assert!(
        log["entries"][0]["subject"]
            .as_str()
            .unwrap()
            .contains(&key.to_string())
    );
    let refused = pages
        .post("cyd", &format!("/sessions/{key}/values"), fields)
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(
        !pages
            .get("cyd", &format!("/sessions/{key}"))
            .await
            .text
            .contains("Show values")
    );
}

#[tokio::test]
async fn nothing_that_a_visitor_can_store_is_shown_unescaped() {
    let pages = Pages::new();
    let evil = "<script>alert(1)</script>\u{202e}\"'><img src=x onerror=alert(1)>\u{0}";
    let id = pages.store.client_ids().issue();
    let founded = pages.store.transact(|txn| {
        let session = txn.session(&id)?;
        session.log_in("<script>own</script>\u{202e}")?;
        session.set_label("<script>label</script>\u{200b}")
    });
    founded.unwrap();
    let id = pages
        .store
        .sessions_of("<script>own</script>\u{202e}")
        .unwrap()[0]
        .client;
    let other = pages.store.client_ids().issue();
    let founded = pages.store.transact(|txn| {
        let package = txn.session(&other)?.pkg("<script>package</script>\u{202e}");
        package.insert("<script>key</script>\u{202e}", evil)?;
        package.insert("long", "\u{202e}<b>".repeat(100_000))?;
        package.insert("map", std::collections::BTreeMap::from([(evil, evil)]))
    });
    founded.unwrap();
    let package = "container=&package=%3Cscript%3Epackage%3C%2Fscript%3E%E2%80%AE";
    let values = pages
        .post("ann", &format!("/sessions/{}/values", other.key()), package)
        .await;
    assert!(values.text.contains("alert(1)"), "{}", values.text);
    let owner = "/owners?owner=%3Cscript%3Eown%3C%2Fscript%3E%E2%80%AE";
    let shown = [
        pages.get("ann", "/sessions").await,
        pages.get("ann", &format!("/sessions/{id}")).await,
        pages
            .get("ann", &format!("/sessions/{}", other.key()))
            .await,
        pages.get("ann", owner).await,
        pages
            .get(
                "ann",
                "/sessions?owner=%3Cscript%3E%E2%80%AE&label=%22%3E%3Cimg",
            )
            .await,
        pages
            .get("ann", "/sessions?idle_at_least=%3Cscript%3E")
            .await,
        pages.get("ann", "/audit").await,
        values,
    ];
    for page in shown {
        let text = page.text;
        assert!(
            !text.contains("<script>") && !text.contains("<img"),
            "{text}"
        );
        // What was typed into a filter stays in its field; everything else is made visible.
        let lines = text.lines().filter(|line| !line.contains("<input id="));
        for line in lines {
            assert!(!line.contains(['\u{202e}', '\u{200b}', '\u{0}']), "{line}");
        }
        assert!(text.len() < 300_000, "{}", text.len());
    }
}

#[tokio::test]
async fn pages_of_sessions_are_bounded_and_lead_on() {
    let pages = Pages::new();
    for number in 0..120 {
        session(&pages.store, &format!("owner {}", number % 3));
    }
    let mut path = "/sessions?container=&owner=owner%201&limit=25".to_owned();
    let mut keys = Vec::new();
    let mut count = 0;
    loop {
        let page = pages.json("bob", &path).await.json();
        let sessions = page["sessions"].as_array().unwrap();
        assert!(sessions.len() <= 25);
        keys.extend(
            sessions
                .iter()
                .map(|it| it["key"].as_str().unwrap().to_owned()),
        );
        count += 1;
        let Some(query) = page["next_query"].as_str() else {
            break;
        };
        path = format!("/sessions?{query}");
    }
    assert_eq!((keys.len(), count), (40, 2));
    assert!(keys.is_sorted());
}

#[tokio::test]
async fn rubbish_gets_a_page_and_harms_nothing() {
    let pages = Pages::new();
    let huge = "x".repeat(10_000);
    let paths = [
        "/sessions/xyz".to_owned(),
        format!("/sessions/{huge}"),
        "/sessions/%ff%fe".to_owned(),
        "/sessions?after=zz".to_owned(),
        "/sessions?key=%F0%9F%98%80".to_owned(),
        "/sessions?container=nothing".to_owned(),
        "/sessions?bytes_at_least=-1".to_owned(),
        "/maintenance/tasks/99999999999999999999999".to_owned(),
        "/maintenance/tasks/7".to_owned(),
        format!("/owners?owner={huge}"),
        "/?done=x&&&=%".to_owned(),
    ];
    for path in paths {
        let answer = pages.get("ann", &path).await;
        assert!(
            !answer.status.is_server_error(),
            "{path}: {} {}",
            answer.status,
            answer.text
        );
    }
    let bodies = [
        ("text/plain", "x"),
        ("application/json", "[1]"),
        ("application/json", "{"),
        ("application/x-www-form-urlencoded", "%%%=%"),
    ];
    for (kind, body) in bodies {
        let request = Request::post(format!("{BASE}/owners/end"))
            .header("x-who", "ann")
            .header("content-type", kind);
        let answer = pages.send(request, body).await;
        assert!(
            answer.status.is_client_error(),
            "{kind} {body}: {}",
            answer.status
        );
    }
    let request = Request::post(format!("{BASE}/owners/end"))
        .header("x-who", "ann")
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = pages.send(request, &"a".repeat(100_000)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let answer = pages
        .send(
            Request::delete(format!("{BASE}/owners")).header("x-who", "ann"),
            "",
        )
        .await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn work_is_begun_followed_and_kept() {
    let pages = Pages::new();
    let answer = pages.post("ann", "/maintenance/check", "").await;
    let path = answer.location().strip_prefix(BASE).unwrap().to_owned();
    let ended = loop {
        let task = pages.json("bob", &path).await.json();
        if !task["ended"].is_null() {
            break task;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(ended["failed"], false);
    assert!(
        ended["outcome"]
            .as_str()
            .unwrap()
            .contains("no damage found")
    );
    let page = pages.get("ann", &path).await;
    assert!(page.text.contains("no damage found"), "{}", page.text);
    let log = pages.json("ann", "/audit").await.json();
    assert_eq!(log["entries"][0]["action"], "Check");
}

fn with_token() -> Pages {
    let store = Store::in_memory().unwrap();
    let token = TokenAccess::new("correct horse battery", Access::all("operator")).unwrap();
    Pages::of(
        store.clone(),
        Admin::new(store, token.clone()).sign_in(token),
    )
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
async fn names_that_look_alike_are_kept_apart() {
    let pages = Pages::new();
    let (ann, other, lines) = (
        session(&pages.store, "ann"),
        session(&pages.store, "ann "),
        session(&pages.store, "a\nb\u{1}"),
    );
    let page = pages.json("ann", "/owners?owner=ann%20").await.json();
    assert_eq!(page["sessions"][0]["key"], other.to_string());
    let page = pages.get("ann", "/owners?owner=ann%20").await;
    let (_, field) = page
        .text
        .split_once("name=\"owner_encoded\" value=\"")
        .unwrap();
    let field = field.split('"').next().unwrap();
    pages
        .post(
            "ann",
            "/owners/end",
            &format!("owner_encoded={}", field.replace('%', "%25")),
        )
        .await;
    assert!(pages.store.session_info(other).unwrap().is_none());
    assert!(pages.store.session_info(ann).unwrap().is_some());
    // As a browser sends it: it encodes the field's text once more.
    pages
        .post("ann", "/owners/end", "owner_encoded=a%250Ab%2501")
        .await;
    assert!(pages.store.session_info(lines).unwrap().is_none());
}

#[tokio::test]
async fn an_owner_of_very_many_sessions_has_pages() {
    let pages = Pages::new();
    for _ in 0..450 {
        session(&pages.store, "guest");
    }
    let (mut path, mut keys) = ("/owners?owner=guest".to_owned(), Vec::new());
    loop {
        let page = pages.json("bob", &path).await.json();
        let sessions = page["sessions"].as_array().unwrap();
        assert!(sessions.len() <= 200);
        keys.extend(
            sessions
                .iter()
                .map(|it| it["key"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("/owners?owner=guest&after={next}"),
            None => break,
        }
    }
    keys.dedup();
    assert_eq!(keys.len(), 450);
    assert!(keys.is_sorted());
    assert!(
        pages
            .get("bob", "/owners?owner=guest")
            .await
            .text
            .contains("Next page")
    );
}

#[tokio::test]
async fn a_program_changes_what_it_names_alone() {
    let pages = with_token();
    pages
        .store
        .register("shop.cart", ContainerSettings::new())
        .unwrap();
    let send = async |fields: &str| {
        let request = Request::post(format!("{BASE}/containers/edit"))
            .header("authorization", "Bearer correct horse battery")
            .header("content-type", "application/x-www-form-urlencoded");
        pages.send(request, fields).await.status
    };
    assert_eq!(
        send("name=shop.cart&timeout=30m").await,
        StatusCode::SEE_OTHER
    );
    let expected = ContainerSettings::new().timeout(Duration::from_secs(1800));
    let container = pages.store.container("shop.cart").unwrap();
    assert_eq!(container.settings().unwrap(), expected);
    assert_eq!(send("timeout=1m").await, StatusCode::BAD_REQUEST);
    assert_eq!(
        send("name=shop.cart&implicit_sweeps=off").await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(container.settings().unwrap(), expected);
}

#[tokio::test]
async fn a_form_from_older_settings_changes_nothing() {
    let pages = Pages::new();
    let page = pages.get("ann", "/containers/edit?name=").await;
    let (_, seen) = page
        .text
        .split_once("name=\"settings_seen\" value=\"")
        .unwrap();
    let seen = seen.split('"').next().unwrap().replace(' ', "+");
    let others = pages.store.container("").unwrap();
    let day = Duration::from_secs(24 * 3600);
    others
        .configure(ContainerSettings::new().max_lifetime(Some(day)))
        .unwrap();
    let fields =
        format!("name=&boxes=1&settings_seen={seen}&timeout=30m&resolution=10m&max_lifetime=");
    let answer = pages.post("ann", "/containers/edit", &fields).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(
        answer.text.contains("longest lifetime 1day"),
        "{}",
        answer.text
    );
    assert_eq!(others.settings().unwrap().max_lifetime, Some(day));
}

#[tokio::test]
async fn values_are_not_shown_if_the_asking_cannot_be_kept() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    assert!(cloakroom_admin::AuditLog::in_file("/dev/null").is_err());
    let log = cloakroom_admin::AuditLog::to_writer(Full);
    let store = Store::in_memory().unwrap();
    let everybody = |_: &axum::http::request::Parts| async { Access::all("ann") };
    let pages = Pages::of(store.clone(), Admin::new(store, everybody).audit_log(log));
    let key = session(&pages.store, "dora");
    let values = format!("/sessions/{key}/values");
    let answer = pages.post("ann", &values, "container=&package=cart").await;
    assert_eq!(answer.status, StatusCode::INSUFFICIENT_STORAGE);
    assert!(!answer.text.contains(">tea<"));
    let overview = pages.get("ann", "").await;
    assert!(
        overview.text.contains("The audit log cannot be written"),
        "{}",
        overview.text
    );
    // What cannot be shown is not logged as shown.
    let missing = pages
        .post("ann", &values, "container=&package=nothing")
        .await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_downloaded_and_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let resolver = |head: &axum::http::request::Parts| {
        let may = head.headers.contains_key("x-who");
        let access = if may {
            Access::all("ann")
        } else {
            Access::all("support").without_values()
        };
        async move { access }
    };
    let pages = Pages::of(store.clone(), Admin::new(store, resolver));
    let keys: Vec<_> = (0..300).map(|_| session(&pages.store, "dora")).collect();
    let bytes = pages.download("ann", "/maintenance/backup").await;
    let file = folder.path().join("downloaded");
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(cloakroom::Backup::verify(&file).unwrap().sessions, 300);
    let restored = folder.path().join("restored");
    Store::restore([&file], &restored, |_| std::ops::ControlFlow::Continue(())).unwrap();
    let restored = Store::open(restored).unwrap();
    assert!(restored.session_info(keys[299]).unwrap().is_some());
    let log = pages.json("ann", "/audit").await.json();
    let actions: Vec<_> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["action"].as_str().unwrap())
        .collect();
    assert!(actions.contains(&"start backup"), "{actions:?}");

    let page = pages
        .send(
            Request::get(format!("{BASE}/maintenance")).header("accept", "text/html"),
            "",
        )
        .await;
    assert!(!page.text.contains("Back up and download"));
    let request = Request::post(format!("{BASE}/maintenance/backup"))
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = pages
        .send(request, &format!("form_token={}", page.form_token()))
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

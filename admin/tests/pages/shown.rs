//! What is shown, and that it is harmless (C9.2).

use crate::support::{BASE, Pages};
use crate::{PATHS, session};
use axum::http::{Request, StatusCode, header};
use cloakroom::{SessionFilter, Store};
use cloakroom_admin::{Access, Admin};

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
async fn the_overview_has_the_number_of_sessions_and_its_age() {
    let pages = Pages::new();
    for owner in ["dora", "emil"] {
        session(&pages.store, owner);
    }
    let counted = pages.json("bob", "").await.json()["sessions"].clone();
    assert_eq!(counted["live"], 2);
    assert!(counted["counted_at"].is_string() && counted["took_seconds"].is_number());
    session(&pages.store, "fay");
    // They are not counted for each request.
    assert_eq!(pages.json("bob", "").await.json()["sessions"], counted);
    let page = pages.get("bob", "").await.text;
    assert!(page.contains("data-figure=\"sessions\">2<"), "{page}");
    assert!(page.contains("counted just now"), "{page}");
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

/// Asks until the list is sorted.
async fn sorted(pages: &Pages, path: &str) -> serde_json::Value {
    loop {
        let page = pages.json("bob", path).await.json();
        if page["sorted"]["is_complete"] == true {
            return page;
        }
        assert_eq!(page["sessions"].as_array().unwrap().len(), 0);
    }
}

#[tokio::test]
async fn all_sessions_are_sorted_and_not_a_page_of_them() {
    let pages = Pages::new();
    let mut sizes = Vec::new();
    for number in 0..1200 {
        let id = pages.store.client_ids().issue();
        let founded = pages.store.transact(|txn| {
            let session = txn.session(&id)?;
            session.set_owner(Some(if number % 3 == 0 { "dora" } else { "emil" }))?;
            session
                .pkg("p")
                .insert("v", "x".repeat(number * 7919 % 1200))
        });
        founded.unwrap();
    }
    let mut after = None;
    loop {
        let list = pages.store.container("").unwrap();
        let list = list.sessions(&SessionFilter::new(), after, 1000).unwrap();
        sizes.extend(list.sessions.iter().map(|it| it.bytes));
        after = list.next;
        if after.is_none() {
            break;
        }
    }
    sizes.sort_unstable();
    let bytes = |page: &serde_json::Value| {
        let sessions = page["sessions"].as_array().unwrap();
        let bytes = sessions.iter().map(|it| it["bytes"].as_u64().unwrap());
        bytes.collect::<Vec<_>>()
    };
    let mut shown = Vec::new();
    let mut path = "/sessions?container=&sort=smallest&limit=400".to_owned();
    loop {
        let page = sorted(&pages, &path).await;
        assert_eq!(page["sorted"]["matching"], 1200);
        shown.extend(bytes(&page));
        match page["next_query"].as_str() {
            Some(query) => path = format!("/sessions?{query}"),
            None => break,
        }
    }
    assert_eq!(shown, sizes[..1000]);
    let path = "/sessions?container=&owner=dora&sort=largest&limit=3";
    let page = sorted(&pages, path).await;
    assert_eq!(page["sorted"]["matching"], 400);
    let largest = bytes(&page);
    assert!(largest.len() == 3 && largest.is_sorted_by(|a, b| a >= b));
    let html = pages.get("bob", path).await.text;
    assert!(html.contains("aria-sort=\"descending\""), "{html}");
    assert!(html.contains("Sorted among all 400 that match"), "{html}");
    assert!(
        html.contains("owner=dora&amp;limit=3&amp;sort=smallest")
            || html.contains("owner=dora&#38;limit=3&amp;sort=smallest"),
        "{html}"
    );
    let wrong = pages.get("bob", "/sessions?sort=colour").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
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

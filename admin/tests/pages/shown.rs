//! What is shown, and that it is harmless (C9.2).

use crate::damage::{flip_packages, flip_session};
use crate::support::{BASE, Pages};
use crate::{PATHS, ended, session};
use axum::http::{Request, StatusCode, header};
use cloakroom::Store;
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

#[tokio::test(start_paused = true)]
async fn live_figures_come_as_events_and_the_stream_ends() {
    let pages = Pages::new();
    session(&pages.store, "dora");
    let answer = pages.get("bob", "/live").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    assert!(answer.headers.contains_key(header::CONTENT_SECURITY_POLICY));
    let events: Vec<serde_json::Value> = (answer.text.lines())
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    // The browser asks again, so that a right that was taken away ends soon.
    assert!((5..=10).contains(&events.len()), "{}", events.len());
    let page = pages.get("bob", "").await.text;
    let figures = page.split("data-figure=\"").skip(1);
    let figures: Vec<_> = figures.map(|it| it.split('"').next().unwrap()).collect();
    for figure in [
        "sessions",
        "commits_per_second",
        "conflicts_per_second",
        "reruns_per_second",
        "commit_p50",
        "commit_p99",
        "bytes_per_second",
        "syncs_per_second",
        "journal_bytes",
        "file_bytes",
    ] {
        assert!(figures.contains(&figure), "{figure}: {figures:?}");
    }
    for event in events {
        let missing = figures.iter().find(|figure| !event[**figure].is_string());
        assert_eq!(missing, None, "{event}");
        assert_eq!(event["health"], serde_json::json!([]));
    }
    assert_eq!(page.matches("<svg").count(), 9);
}

#[tokio::test]
async fn the_settings_that_are_code_are_shown_whole() {
    let store = Store::in_memory().unwrap();
    let layer = cloakroom::http::SessionLayer::new(store.clone());
    let whole = format!("{layer:#?}");
    let everybody = |_: &axum::http::request::Parts| async { Access::all("ann") };
    let pages = Admin::new(store.clone(), everybody).session_layer(&layer);
    let pages = Pages::of(store, pages);
    assert_eq!(pages.json("", "/settings").await.json()["layer"], whole);
    let page = pages.get("", "/settings").await.text;
    assert!(!page.contains("bytes in all"), "{page}");
    let names = whole.lines().filter_map(|line| line.split_once(':'));
    let missing = names
        .map(|(name, _)| name.trim())
        .find(|it| !page.contains(it));
    assert_eq!(missing, None, "{page}");
}

#[tokio::test]
async fn a_store_that_is_closed_is_told_with_what_to_do() {
    let pages = Pages::new();
    pages.store.clone().close().unwrap();
    let overview = pages.get("bob", "").await.text;
    assert!(overview.contains("has closed its store"), "{overview}");
    assert!(!overview.contains("Free space"), "{overview}");
    for path in ["/sessions", "/owners?owner=dora"] {
        let page = pages.get("bob", path).await;
        assert_eq!(
            page.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{path}: {}",
            page.text
        );
        assert!(
            page.text.contains("has closed its store"),
            "{path}: {}",
            page.text
        );
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_is_measured_and_found_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let keys = {
        let store = Store::open(&path).unwrap();
        let keys: Vec<_> = (0..130).map(|_| session(&store, "dora")).collect();
        store.close().unwrap();
        keys
    };
    keys[..120]
        .iter()
        .for_each(|key| flip_packages(&path, *key));
    keys[120..123]
        .iter()
        .for_each(|key| flip_session(&path, *key));
    let store = Store::open(&path).unwrap();
    let everybody = |_: &axum::http::request::Parts| async { Access::all("ann") };
    let pages = Pages::of(store.clone(), Admin::new(store, everybody));
    let begin = async |work: &str| {
        let begun = pages.post("ann", &format!("/maintenance/{work}"), "").await;
        let path = begun.location().strip_prefix(BASE).unwrap().to_owned();
        let task = ended(&pages, "ann", &path).await;
        (task, pages.get("ann", &path).await.text)
    };
    let (task, page) = begin("measure").await;
    assert_eq!(task["result"]["containers"][0]["unreadable"], 3);
    assert!(page.contains("127 sessions measured, 3 damaged"), "{page}");
    assert!(page.contains("<td class=\"count error\">3</td>"), "{page}");
    assert!(page.contains("<td class=\"count\">32 bytes</td>"), "{page}");
    let (task, page) = begin("check").await;
    let findings = task["result"]["findings"].as_array().unwrap();
    assert!((120..=1000).contains(&findings.len()), "{}", findings.len());
    // A hundred are named.
    let (_, found) = page.split_once("aria-label=\"Damage\"").unwrap();
    let (found, _) = found.split_once("</table>").unwrap();
    assert_eq!(found.matches("<tr>").count(), 101, "{page}");
    assert!(found.contains("<bdi>cart</bdi>"), "{page}");
    assert!(page.contains("The first 100."), "{page}");
    let overview = pages.get("ann", "").await.text;
    assert!(
        overview.contains("The last check found damage"),
        "{overview}"
    );
    assert!(
        overview.contains("by the last count: 3 sessions"),
        "{overview}"
    );
    let damaged = pages.get("ann", &format!("/sessions/{}", keys[0])).await;
    assert_eq!(damaged.status, StatusCode::OK);
    assert!(damaged.text.contains("message bad"), "{}", damaged.text);
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

//! What programs ask for beside the pages, as JSON.

use crate::session;
use crate::support::{Answer, BASE, Pages};
use axum::http::{Request, StatusCode, header};
use cloakroom::Store;
use cloakroom_admin::{Access, Admin, TokenAccess};
use serde_json::Value;
use std::time::Duration;

const TOKEN: &str = "correct horse battery";

/// The pages of a store, for a program with a token.
fn pages(access: Access) -> Pages {
    let store = Store::builder().implicit_sweeps(false).in_memory().unwrap();
    let token = TokenAccess::new(TOKEN, access).unwrap();
    Pages::of(store.clone(), Admin::new(store, token))
}

async fn send(pages: &Pages, request: axum::http::request::Builder, body: &str) -> Answer {
    let request = request.header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
    pages
        .send(request.header(header::ACCEPT, "application/json"), body)
        .await
}

async fn get(pages: &Pages, path: &str) -> Answer {
    send(pages, Request::get(format!("{BASE}{path}")), "").await
}

async fn post(pages: &Pages, path: &str, body: &str) -> Answer {
    let request = Request::post(format!("{BASE}{path}"));
    let kind = "application/x-www-form-urlencoded";
    send(pages, request.header(header::CONTENT_TYPE, kind), body).await
}

/// The result of work that is followed to its end.
async fn result(pages: &Pages, work: &str) -> Value {
    let begun = post(pages, &format!("/maintenance/{work}"), "").await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
    let number = begun.json()["number"].clone();
    for _ in 0..2000 {
        let task = get(pages, &format!("/maintenance/tasks/{number}"))
            .await
            .json();
        if !task["ended"].is_null() {
            return task["result"].clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{work} does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_told_the_version_their_rights_and_results() {
    let pages = pages(Access::all("ann"));
    let one = session(&pages.store, "dora");
    session(&pages.store, "dora");
    let status = get(&pages, "/status").await.json();
    assert_eq!(
        (&status["program"], &status["schema"]),
        (&"cloakroom-admin".into(), &1.into())
    );
    assert_eq!(
        (&status["who"], &status["may_change"]),
        (&"ann".into(), &true.into())
    );
    assert!(status["figures"]["commits"].as_u64().unwrap() >= 2);
    let measured = result(&pages, "measure").await;
    assert_eq!(measured["containers"][0]["sessions"], 2);
    assert_eq!(measured["containers"][0]["owned"], 2);
    assert_eq!(result(&pages, "check").await["complete"], true);
    assert_eq!(result(&pages, "sweep").await["removed"], 0);
    let new = result(&pages, "rotate-secret").await;
    let secrets = get(&pages, "/maintenance/secrets").await.json();
    assert_eq!(
        secrets["secrets"].as_array().unwrap().last().unwrap()["number"],
        new["number"]
    );
    let ended = post(&pages, &format!("/sessions/{one}/end"), "")
        .await
        .json();
    assert_eq!(
        (&ended["result"]["ended"], &ended["who"]),
        (&1.into(), &"ann".into())
    );
    assert_eq!(result(&pages, "end-all").await["ended"], 1);
    let wrong = post(
        &pages,
        "/maintenance/secrets/retire",
        "number=200&confirm=yes",
    )
    .await;
    assert_eq!(wrong.json()["kind"], "InvalidInput");
}

// C9.3
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_imported_again_and_both_are_kept_in_the_log() {
    let pages = pages(Access::all("ann"));
    for _ in 0..300 {
        session(&pages.store, "dora");
    }
    let lines = post(&pages, "/maintenance/export", "").await.text;
    assert!(lines.ends_with("}}\n") && lines.lines().count() > 300);
    pages.store.end_all_async().await.unwrap();
    let import = |how: &str| Request::post(format!("{BASE}/maintenance/import?{how}"));
    let cut: String = lines.split_inclusive('\n').take(280).collect();
    let failed = send(&pages, import("on_duplicate=fail"), &cut).await.json();
    assert_eq!(
        (&failed["kind"], &failed["imported"]["sessions"]),
        (&"InvalidInput".into(), &256.into())
    );
    let after = failed["imported"]["lines"].to_string();
    let how = format!("on_duplicate=fail&after_line={after}");
    let done = send(&pages, import(&how), &lines).await.json();
    assert_eq!(done["result"]["sessions"], 300 - 256);
    assert_eq!(
        pages.store.sessions_of_async("dora").await.unwrap().len(),
        300
    );
    assert_eq!(
        send(&pages, import("on_duplicate=maybe"), "").await.status,
        StatusCode::BAD_REQUEST
    );
    let log = get(&pages, "/audit").await.json();
    let entries = log["entries"].as_array().unwrap().iter();
    let told: Vec<_> = entries
        .map(|it| (it["action"].as_str().unwrap(), it["who"].as_str().unwrap()))
        .collect();
    for action in ["start export", "export", "import"] {
        assert!(told.contains(&(action, "ann")), "{told:?}");
    }
}

// C9.3
#[tokio::test(flavor = "multi_thread")]
async fn programs_that_may_only_look_measure_and_change_nothing() {
    for access in [
        Access::read_only("bob"),
        Access::all("support").without_values(),
    ] {
        let may_change = access.may_change();
        let pages = pages(access);
        session(&pages.store, "dora");
        assert_eq!(
            result(&pages, "measure").await["containers"][0]["sessions"],
            1
        );
        for path in [
            "/maintenance/export",
            "/maintenance/import",
            "/maintenance/backup",
        ] {
            assert_eq!(
                post(&pages, path, "").await.status,
                StatusCode::FORBIDDEN,
                "{path}"
            );
        }
        if !may_change {
            for path in [
                "/maintenance/end-all",
                "/maintenance/check",
                "/maintenance/secrets/retire",
            ] {
                let answer = post(&pages, path, "number=0").await;
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
            }
            assert_eq!(
                pages.store.sessions_of_async("dora").await.unwrap().len(),
                1
            );
        }
    }
    // Nobody without access, and no other site, gets as far.
    let pages = Pages::new();
    for who in ["nobody", "ann"] {
        for path in [
            "/maintenance/import",
            "/maintenance/export",
            "/maintenance/end-all",
            "/maintenance/secrets/retire",
        ] {
            let expected = if who == "ann" {
                StatusCode::FORBIDDEN
            } else {
                StatusCode::NOT_FOUND
            };
            assert_eq!(
                pages.post_with(who, path, "number=0").await.status,
                expected,
                "{path}"
            );
        }
    }
}

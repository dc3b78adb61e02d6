//! Lists and long pages: found, sorted, and bounded.

use crate::session;
use crate::support::Pages;
use axum::http::StatusCode;
use cloakroom::{SessionFilter, Store};
use cloakroom_admin::{Access, Admin};

#[tokio::test]
async fn sessions_are_found_by_a_part_of_their_label() {
    let pages = Pages::new();
    let mut keys = Vec::new();
    for label in ["Firefox on Linux", "Safari on iPhone", "Firefox on Android"] {
        let id = pages.store.client_ids().issue();
        let founded = pages
            .store
            .transact(|txn| txn.session(&id)?.set_label(label));
        founded.unwrap();
        keys.push(id.key().to_string());
    }
    let page = pages.json("bob", "/sessions?label=Firefox").await.json();
    let found = page["sessions"].as_array().unwrap().iter();
    let mut found: Vec<_> = found.map(|it| it["key"].as_str().unwrap()).collect();
    found.sort_unstable();
    let mut expected = vec![&*keys[0], &*keys[2]];
    expected.sort_unstable();
    assert_eq!(found, expected);
    let page = pages.get("bob", "/sessions?label=iPhone").await.text;
    assert!(
        page.contains(&keys[1]) && !page.contains(&keys[0]),
        "{page}"
    );
}

#[tokio::test]
async fn a_session_of_very_many_keys_and_packages_has_a_bounded_page() {
    let store = Store::builder().max_packages(1000).in_memory().unwrap();
    let everybody = |_: &axum::http::request::Parts| async { Access::all("ann") };
    let pages = Pages::of(store.clone(), Admin::new(store, everybody));
    let id = pages.store.client_ids().issue();
    let founded = pages.store.transact(|txn| {
        let session = txn.session(&id)?;
        for number in 0..300 {
            let package = session.pkg(&format!("package {number:03}"));
            for key in 0..10 {
                package.insert(&format!("key {key}"), 1)?;
            }
        }
        let many = session.pkg("zz many");
        for number in 0..1000 {
            many.insert(&format!("key {number:04}"), "<".repeat(900))?;
        }
        many.insert("deep", deep(100))
    });
    founded.unwrap();
    let path = format!("/sessions/{}", id.key());
    let page = pages.get("ann", &path).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.text.contains("301 packages in all, 200 shown"),
        "{}",
        page.text
    );
    assert_eq!(page.text.matches("class=\"none\">hidden<").count(), 1000);
    let values = format!("{path}/values");
    let shown = pages
        .post("ann", &values, "container=&package=zz+many")
        .await;
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
    assert!(
        shown.text.contains("1,001 keys, 1,000 shown"),
        "{}",
        shown.text
    );
    assert!(shown.text.len() < 5_000_000, "{}", shown.text.len());
    // Programs get everything.
    let page = pages.json("ann", &path).await.json();
    let packages = page["parts"][0]["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 301);
    assert_eq!(packages[300]["keys"].as_array().unwrap().len(), 1001);
}

/// A list in a list in a list.
fn deep(levels: usize) -> serde_json::Value {
    (0..levels).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]))
}

#[tokio::test]
async fn a_further_page_of_a_sorted_list_that_is_gone_is_the_first_of_a_new_one() {
    let pages = Pages::new();
    for _ in 0..30 {
        session(&pages.store, "dora");
    }
    let first = sorted(&pages, "/sessions?container=&sort=oldest&limit=10").await;
    let further = format!("/sessions?{}", first["next_query"].as_str().unwrap());
    let second = sorted(&pages, &further).await;
    assert_eq!(
        (&second["sorted"]["skipped"], &second["sorted"]["is_newer"]),
        (&10.into(), &false.into())
    );
    assert_ne!(second["sessions"], first["sessions"]);
    for order in ["newest", "largest", "smallest", "last-used"] {
        sorted(&pages, &format!("/sessions?container=&sort={order}")).await;
    }
    let newer = sorted(&pages, &further).await;
    assert_eq!(
        (&newer["sorted"]["skipped"], &newer["sorted"]["is_newer"]),
        (&0.into(), &true.into())
    );
    assert_eq!(newer["sessions"], first["sessions"]);
    let page = pages.get("bob", &further).await.text;
    assert!(page.contains("this is its first page"), "{page}");
    // No address makes a page larger than a thousand.
    let page = pages.json("bob", "/sessions?limit=99999999").await;
    assert_eq!(page.json()["sessions"].as_array().unwrap().len(), 30);
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
    for _ in 0..100 {
        let page = pages.json("bob", path).await.json();
        if page["sorted"]["is_complete"] == true {
            return page;
        }
        assert_eq!(page["sessions"].as_array().unwrap().len(), 0);
    }
    panic!("{path} is not sorted");
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

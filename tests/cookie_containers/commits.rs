//! Cookies and commits: a response carries them only if its commit succeeded.

use super::{SEEN, World};
use cloakroom::{Clock, ErrorKind, Store};

#[tokio::test]
async fn what_is_not_committed_is_not_sent() {
    let world = World::new();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    for path in ["/fail", "/error"] {
        let answer = ann.get(path).await;
        assert_eq!((answer.status, answer.sets_any()), (500, false), "{path}");
    }
    assert_eq!(ann.read("seen").await, "tea");
    assert!(!ann.get("/").await.sets_any());
}

#[tokio::test]
async fn both_parts_are_committed_or_neither() {
    let world = World::new();
    let mut ann = world.browser();
    let first = ann.get("/both?value=1").await;
    assert!(first.set(SEEN).is_some());
    assert_eq!(
        (ann.read("seen").await, ann.read("cart").await),
        ("1".into(), "1".into())
    );
    // A POST runs once.
    let lost = ann.send("POST", "/overtaken?value=2").await;
    assert_eq!((lost.status, lost.sets_any()), (503, false));
    assert_eq!(ann.read("seen").await, "1");
    assert_eq!(ann.read("cart").await, "other");
}

// C8.7
#[tokio::test]
async fn an_early_commit_is_sent_whatever_comes_after() {
    let world = World::new();
    let mut ann = world.browser();
    ann.put("cart", "1").await;
    let answer = ann.get("/early?value=tea").await;
    assert_eq!((answer.status, &*answer.text), (500, "tea"));
    assert!(answer.set(SEEN).is_some());
    assert_eq!(ann.read("seen").await, "tea");
}

// C8.7
#[tokio::test]
async fn an_early_commit_of_a_new_visitor_sends_the_id_too() {
    let world = World::new();
    let mut ann = world.browser();
    let answer = ann.get("/early?value=tea").await;
    assert_eq!(answer.status, 500);
    assert!(answer.set(SEEN).is_some() && answer.set(super::ID).is_some());
    assert_eq!(ann.read("seen").await, "tea");
}

#[tokio::test]
async fn outside_a_request_it_is_empty_and_cannot_be_written() {
    let world = World::new();
    let mut ann = world.browser();
    ann.get("/both?value=1").await;
    let id = world
        .store
        .client_ids()
        .verify(&ann.cookies[super::ID])
        .unwrap();
    let txn = world.store.begin().unwrap();
    let seen = txn.session(&id).unwrap().pkg("seen");
    assert_eq!(seen.get::<String>("key").unwrap(), None);
    seen.insert("key", "tea").unwrap();
    let error = txn.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        (error.container(), error.package()),
        (Some("seen"), Some("seen"))
    );
    assert_eq!(ann.read("seen").await, "1");
}

#[tokio::test]
async fn a_container_in_memory_goes_along() {
    let world = World::new();
    let settings = cloakroom::ContainerSettings::new().in_memory();
    world.store.register("cart", settings).unwrap();
    let mut ann = world.browser();
    ann.get("/both?value=1").await;
    assert_eq!(
        (ann.read("seen").await, ann.read("cart").await),
        ("1".into(), "1".into())
    );
    let lost = ann.send("POST", "/overtaken?value=2").await;
    assert_eq!((lost.status, lost.sets_any()), (503, false));
    assert_eq!(ann.read("seen").await, "1");
}

// C8.6, C8.7
#[tokio::test]
async fn an_early_commit_that_nobody_waits_for_is_sent_whole() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(super::NOON.parse().unwrap());
    let store = Store::builder().clock(clock.clone());
    // On a disk, so that the commit takes its time.
    let store = store.open(folder.path().join("store")).unwrap();
    let world = World::of(store, clock);
    for _ in 0..8 {
        let mut ann = world.browser();
        let answer = ann.get("/given-up?value=tea").await;
        // If it was certain at once, the request went on.
        assert!([200, 500].contains(&answer.status));
        assert_eq!(ann.read("cart").await, "tea");
        assert_eq!(ann.read("seen").await, "tea");
    }
}

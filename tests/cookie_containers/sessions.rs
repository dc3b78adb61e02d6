//! The life of a session whose packages are in cookies.

use super::{Browser, ID, MINUTE, SEEN, World};
use cloakroom::http::CookieSettings;
use std::time::Duration;

#[tokio::test]
async fn rotation_and_login_seal_again_under_the_new_id() {
    let world = World::new();
    let mut ann = world.browser();
    ann.get("/both?value=tea").await;
    for path in ["/rotate", "/login"] {
        let before = ann.clone();
        let answer = ann.get(path).await;
        assert!(
            answer.set(SEEN).is_some() && answer.set(ID).is_some(),
            "{path}"
        );
        assert_eq!(ann.read("seen").await, "tea", "{path}");
        assert_eq!(before.clone().read("seen").await, "", "{path}");
        let mut mixed = ann.clone();
        mixed
            .cookies
            .insert(SEEN.into(), before.cookies[SEEN].clone());
        assert_eq!(mixed.read("seen").await, "", "{path}");
    }
    assert_eq!(ann.get("/exists").await.text, "true Some(\"ann\")");
}

#[tokio::test]
async fn logout_removes_the_cookie_and_a_replay_reads_empty() {
    let world = World::new();
    for path in ["/put?pkg=seen&value=tea", "/both?value=tea"] {
        let mut ann = world.browser();
        ann.get(path).await;
        let before = ann.clone();
        let answer = ann.get("/logout").await;
        assert!(answer.set(SEEN).unwrap().contains("Max-Age=0"), "{path}");
        assert!(answer.set(ID).unwrap().contains("Max-Age=0"), "{path}");
        assert!(ann.cookies.is_empty());
        let mut replayed = before.clone();
        assert_eq!(replayed.read("seen").await, "", "{path}");
        assert_eq!(replayed.get("/exists").await.text, "false None", "{path}");
    }
}

// C8.1
#[tokio::test]
async fn a_label_takes_a_session_on_that_has_ended_in_the_store() {
    let world = World::new();
    let mut ann = world.browser();
    ann.get("/both?value=tea").await;
    let answer = ann.get("/end-and-label").await;
    assert_eq!((answer.status, &*answer.text), (200, "true"));
    assert_eq!(world.stored().0, 1);
    assert_eq!(ann.read("seen").await, "tea");
    assert_eq!(ann.read("cart").await, "");
    assert_eq!(ann.get("/exists").await.text, "true None");
}

// C4.8
#[tokio::test]
async fn a_replayed_cookie_revives_no_stored_session() {
    let world = World::new();
    let container = world.store.container("seen").unwrap();
    let settings = container.settings().unwrap().timeout(Duration::ZERO);
    container.configure(settings).unwrap();
    for path in ["/put?pkg=seen&value=tea", "/both?value=tea"] {
        let mut ann = world.browser();
        ann.get(path).await;
        let before = ann.clone();
        ann.get("/logout").await;
        for package in ["cart", "seen"] {
            let written = before
                .clone()
                .get(&format!("/put?pkg={package}&value=1"))
                .await;
            assert_eq!((written.status, written.sets_any()), (503, false), "{path}");
        }
        // Nobody knows any more that the id was ended.
        world.clock.advance(7 * 24 * 60 * MINUTE);
        world.store.container("").unwrap().sweep().unwrap();
        let mut replayed = before.clone();
        assert_eq!(replayed.read("seen").await, "tea", "{path}");
        replayed.put("cart", "1").await;
        assert_ne!(replayed.cookies[ID], before.cookies[ID], "{path}");
        assert_eq!(before.clone().read("cart").await, "", "{path}");
        assert_eq!(before.clone().read("seen").await, "", "{path}");
    }
}

// C4.8
#[tokio::test]
async fn a_session_in_a_cookie_alone_gets_a_new_id_when_it_begins_in_the_store() {
    let world = World::new();
    for path in ["/put?pkg=cart&value=1", "/login", "/both?value=tea"] {
        let mut ann = world.browser();
        ann.put("seen", "tea").await;
        let before = ann.clone();
        assert_eq!(ann.get("/exists").await.text, "true None");
        ann.put("seen", "tea").await;
        assert_eq!(ann.cookies[ID], before.cookies[ID]);
        let answer = ann.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_ne!(ann.cookies[ID], before.cookies[ID], "{path}");
        assert_eq!(ann.read("seen").await, "tea", "{path}");
        // The old id is dead.
        assert_eq!(before.clone().read("seen").await, "", "{path}");
        let late = before.clone().get("/put?pkg=cart&value=2").await;
        assert_eq!((late.status, late.sets_any()), (503, false), "{path}");
        assert!(ann.get("/exists").await.text.starts_with("true"), "{path}");
    }
}

// C4.8, C8.2
#[tokio::test]
async fn an_ended_session_is_not_logged_in_again_by_its_cookie() {
    let world = World::new();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    ann.get("/login").await;
    let id = world.store.client_ids().verify(&ann.cookies[ID]).unwrap();
    assert_eq!(world.store.end(id.key()).unwrap(), 1);
    assert_eq!(ann.clone().get("/exists").await.text, "false None");
    assert_eq!(ann.clone().read("seen").await, "");
}

#[tokio::test]
async fn a_session_that_expired_in_the_store_leaves_the_cookie_without_its_owner() {
    let world = World::new();
    let container = world.store.container("seen").unwrap();
    let settings = container.settings().unwrap().timeout(600 * MINUTE);
    container.configure(settings).unwrap();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    ann.get("/login").await;
    world.clock.advance(61 * MINUTE);
    assert_eq!(ann.get("/exists").await.text, "true None");
    assert_eq!(ann.read("seen").await, "tea");
}

// C1.9
#[tokio::test]
async fn what_was_rotated_outside_the_request_loses_the_cookie() {
    let world = World::new();
    let mut ann = world.browser();
    ann.get("/both?value=tea").await;
    let id = world.store.client_ids().verify(&ann.cookies[ID]).unwrap();
    let txn = world.store.begin().unwrap();
    let new = txn.session(&id).unwrap().rotate().unwrap();
    txn.commit().unwrap();
    ann.cookies.insert(ID.into(), new.as_str().into());
    assert_eq!(
        (ann.read("seen").await, ann.read("cart").await),
        (String::new(), "tea".into())
    );
}

// C2.5
#[tokio::test]
async fn what_is_rolled_back_moves_no_session() {
    let world = World::new();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    let before = ann.clone();
    let answer = ann.get("/rolled-back?value=milk").await;
    assert!(answer.set(SEEN).is_some() && answer.set(ID).is_none());
    let read = (ann.read("seen").await, ann.read("cart").await);
    assert_eq!(read, ("milk".into(), String::new()));
    let answer = before.clone().get("/put?pkg=cart&value=1").await;
    assert!(answer.set(ID).is_some());
}

// C4.8
#[tokio::test]
async fn a_late_access_sends_no_id_that_was_ended_meanwhile() {
    let world = World::new();
    let mut ann = world.long_lived();
    ann.put("seen", "tea").await;
    world.clock.advance(6 * MINUTE);
    let renewed = ann.clone().get("/read?pkg=seen").await;
    assert!(renewed.set(SEEN).is_some() && renewed.set(ID).is_some());
    let (mut late, mut other) = (ann.clone(), ann.clone());
    let rotates = async {
        world.gate.0.notified().await;
        assert!(other.get("/rotate").await.set(ID).is_some());
        world.gate.1.notify_one();
    };
    let (late, ()) = tokio::join!(late.get("/read-late?pkg=seen"), rotates);
    assert_eq!((late.status, &*late.text), (200, "tea"));
    assert!(!late.sets_any());
}

// C8.4
#[tokio::test]
async fn a_renewed_id_takes_the_cookie_along() {
    let world = World::new();
    let mut ann = world.browser();
    ann.get("/both?value=tea").await;
    let before = ann.clone();
    world.clock.advance(11 * MINUTE);
    let mut ann = ann.with(world.renewing());
    assert_eq!(ann.read("cart").await, "tea");
    assert_ne!(ann.cookies[ID], before.cookies[ID]);
    assert_ne!(ann.cookies[SEEN], before.cookies[SEEN]);
    assert_eq!(ann.read("seen").await, "tea");
    for packages in [["cart", "seen"], ["seen", "cart"]] {
        let mut late = before.clone().with(world.renewing());
        for package in packages {
            let is_stored = package == "cart";
            assert_eq!(late.read(package).await == "tea", is_stored);
        }
    }
    // The old id leads nowhere any more.
    world.clock.advance(MINUTE);
    let mut later = before.with(world.renewing());
    assert_eq!(later.read("seen").await, "");
    later.put("seen", "1").await;
    assert_eq!(later.read("seen").await, "1");
    assert_eq!(later.read("cart").await, "");

    let mut bob = world.browser().with(world.renewing());
    bob.put("seen", "milk").await;
    let id = bob.cookies[ID].clone();
    world.clock.advance(11 * MINUTE);
    assert_eq!(bob.read("seen").await, "milk");
    assert_eq!(bob.cookies[ID], id);
}

// C4.5
#[tokio::test]
async fn only_a_post_founds_a_session_in_a_cookie_where_that_is_the_rule() {
    let world = World::new();
    let settings = CookieSettings::new().post_only();
    let mut ann = Browser::new(world.app_with(settings));
    let refused = ann.get("/put?pkg=seen&value=tea").await;
    assert_eq!((refused.status, refused.sets_any()), (403, false));
    let founded = ann.send("POST", "/put?pkg=seen&value=tea").await;
    assert_eq!(founded.status, 200);
    assert_eq!(ann.put("seen", "milk").await.status, 200);
}

// C4.8: the tombstone is over, but the request came before the end.
#[tokio::test]
async fn a_request_that_was_under_way_does_not_bring_an_ended_session_back() {
    let world = World::new();
    for package in ["seen", "cart"] {
        let mut ann = world.browser();
        ann.put("seen", "tea").await;
        let mut late = ann.clone();
        let path = format!("/write-late?pkg={package}&value=late");
        let late = async move { late.get(&path).await };
        let meanwhile = async {
            world.gate.0.notified().await;
            ann.get("/logout").await;
            world.clock.advance(Duration::from_secs(15));
            world.gate.1.notify_one();
        };
        let (answer, ()) = tokio::join!(late, meanwhile);
        assert_eq!(answer.status, 503, "{package}");
        assert!(
            answer.set(SEEN).is_none() && answer.set(ID).is_none(),
            "{package}"
        );
    }
}

// C4.8
#[tokio::test]
async fn a_late_response_does_not_replace_the_cookie_of_the_session_after_a_login() {
    let world = World::new();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    let mut late = ann.clone();
    let late = async move { late.get("/answer-late?value=late").await };
    let meanwhile = async {
        world.gate.0.notified().await;
        let answer = ann.get("/login").await;
        assert!(answer.set(ID).is_some());
        world.gate.1.notify_one();
    };
    let (answer, ()) = tokio::join!(late, meanwhile);
    assert_eq!(answer.status, 200);
    assert!(answer.set(SEEN).is_none() && answer.set(ID).is_none());
}

// C4.9
#[tokio::test]
async fn a_dead_id_hides_no_session_that_lives_in_cookies_alone() {
    let world = World::new();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    let dead = world.store.client_ids().issue();
    let live = ann.cookies[ID].clone();
    for ids in [
        format!("{}; {ID}={live}", dead.as_str()),
        format!("{live}; {ID}={}", dead.as_str()),
    ] {
        let mut both = ann.clone();
        both.cookies.insert(ID.into(), ids);
        assert_eq!(both.read("seen").await, "tea");
        assert!(both.put("seen", "milk").await.set(ID).is_none());
    }
}

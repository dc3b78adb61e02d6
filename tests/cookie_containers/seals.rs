//! What a cookie holds, and whom it is for.

use super::{Browser, ID, MINUTE, SEEN, World};
use cloakroom::http::CookieSettings;
use cloakroom::{Clock, Store};

#[tokio::test]
async fn a_package_goes_to_the_browser_and_comes_back() {
    let world = World::new();
    let mut ann = world.browser();
    assert_eq!(ann.read("seen").await, "");
    let first = ann.put("seen", "tea").await;
    let cookie = first.set(SEEN).unwrap();
    for attribute in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(attribute), "{attribute}");
    }
    assert!(first.set(ID).is_some());
    assert_eq!(first.headers["cache-control"], "no-store");
    assert!(!cookie.contains("tea"));
    assert_eq!(ann.read("seen").await, "tea");
    let again = ann.put("seen", "milk").await;
    assert!(again.set(SEEN).is_some() && again.set(ID).is_none());
    assert_eq!(again.headers["cache-control"], "no-store");
    assert_eq!(ann.read("seen").await, "milk");
    // C2.12
    assert!(!ann.put("seen", "milk").await.sets_any());
}

#[tokio::test]
async fn no_row_is_written() {
    let world = World::new();
    let mut ann = world.browser();
    let before = world.stored();
    for n in 0..20 {
        ann.put("seen", &n.to_string()).await;
    }
    assert_eq!(ann.read("seen").await, "19");
    assert_eq!(world.stored(), before);
    assert_eq!(before.0, 0);
}

#[tokio::test]
async fn the_cookie_outlives_a_restart_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(super::NOON.parse().unwrap());
    let open = || {
        let store = Store::builder().clock(clock.clone());
        let store = store.open(folder.path().join("store")).unwrap();
        World::of(store, clock.clone())
    };
    let mut ann = {
        let world = open();
        let mut ann = world.browser();
        ann.put("seen", "tea").await;
        ann.cookies
    };
    let world = open();
    let mut again = world.browser();
    again.cookies.append(&mut ann);
    assert_eq!(again.read("seen").await, "tea");
}

#[tokio::test]
async fn the_cookie_of_another_visitor_reads_empty() {
    let world = World::new();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    let mut bob = world.browser();
    bob.put("seen", "milk").await;
    bob.cookies.insert(SEEN.into(), ann.cookies[SEEN].clone());
    assert_eq!(bob.read("seen").await, "");
    let mut nobody = world.browser();
    nobody
        .cookies
        .insert(SEEN.into(), ann.cookies[SEEN].clone());
    assert_eq!(nobody.read("seen").await, "");
}

#[tokio::test]
async fn the_cookie_of_another_container_reads_empty() {
    let world = World::new();
    let settings = world.store.container("seen").unwrap().settings().unwrap();
    world.store.register("shown", settings).unwrap();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    let sealed = ann.cookies.remove(SEEN).unwrap();
    ann.cookies.insert("__Host-id-shown".into(), sealed);
    assert_eq!(ann.read("shown").await, "");
}

#[tokio::test]
async fn a_changed_byte_anywhere_makes_it_empty() {
    let world = World::new();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    let sealed = ann.cookies[SEEN].clone();
    for at in 0..sealed.len() {
        let mut bytes = sealed.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let mut other = ann.clone();
        let changed = String::from_utf8(bytes).unwrap();
        other.cookies.insert(SEEN.into(), changed);
        assert_eq!(other.read("seen").await, "", "{at}");
    }
    assert_eq!(ann.read("seen").await, "tea");
}

#[tokio::test]
async fn it_expires_by_its_own_time_and_is_renewed_when_an_access_is_due() {
    let world = World::new();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    let first = ann.clone();
    world.clock.advance(4 * MINUTE);
    // C3.4
    assert!(!ann.get("/read?pkg=seen").await.sets_any());
    world.clock.advance(2 * MINUTE);
    let renewed = ann.get("/read?pkg=seen").await;
    assert!(renewed.set(SEEN).is_some() && renewed.set(ID).is_none());
    world.clock.advance(26 * MINUTE);
    assert_eq!(first.clone().read("seen").await, "");
    assert_eq!(ann.read("seen").await, "tea");
    world.clock.advance(31 * MINUTE);
    assert_eq!(ann.read("seen").await, "");
}

#[tokio::test]
async fn a_longer_timeout_revives_no_cookie() {
    let world = World::new();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    world.clock.advance(31 * MINUTE);
    let container = world.store.container("seen").unwrap();
    let settings = container.settings().unwrap().timeout(600 * MINUTE);
    container.configure(settings).unwrap();
    assert_eq!(ann.read("seen").await, "");
}

// C4.2
#[tokio::test]
async fn older_secrets_open_until_they_are_retired() {
    let world = World::new();
    let mut ann = world.browser();
    ann.put("seen", "tea").await;
    let old = ann.clone();
    let first = 0;
    world.store.rotate_secret().unwrap();
    assert_eq!(ann.read("seen").await, "tea");
    ann.put("seen", "milk").await;
    assert_ne!(ann.cookies[SEEN][..4], old.cookies[SEEN][..4]);
    // The id is of the old secret, so it goes with it.
    world.store.retire_secret(first).unwrap();
    assert_eq!(ann.read("seen").await, "");
}

/// A value that makes the field as long as a browser takes.
async fn longest(browser: &mut Browser) -> usize {
    for len in (2000..3000).rev() {
        let answer = browser
            .get(&format!("/put?pkg=seen&value={}", "x".repeat(len)))
            .await;
        if answer.status == 200 {
            return len;
        }
        assert_eq!(answer.status, 413);
        assert!(!answer.sets_any());
    }
    panic!("no value fits");
}

// C5.3
#[tokio::test]
async fn the_whole_field_has_4096_bytes_at_most() {
    let world = World::new();
    let mut ann = world.long_lived();
    ann.put("seen", "tea").await;
    let len = longest(&mut ann).await;
    let mut bob = world.long_lived();
    let fits = bob
        .get(&format!("/put?pkg=seen&value={}", "x".repeat(len)))
        .await;
    let field = fits.set(SEEN).unwrap();
    // Four characters of base64 are three bytes.
    assert!((4094..=4096).contains(&field.len()), "{}", field.len());
    let more = bob
        .get(&format!("/put?pkg=seen&value={}", "x".repeat(len + 1)))
        .await;
    assert_eq!((more.status, more.sets_any()), (413, false));
    let both = bob
        .get(&format!("/both?value={}", "x".repeat(len + 1)))
        .await;
    assert_eq!((both.status, both.sets_any()), (413, false));
    assert_eq!(bob.read("cart").await, "");
    assert_eq!(bob.read("seen").await.len(), len);
}

#[tokio::test]
async fn it_follows_the_settings_of_the_session_cookie() {
    let world = World::new();
    let settings = CookieSettings::new().plain_http().path("/").unwrap();
    let mut ann = Browser::new(world.app_with(settings));
    let first = ann.put("seen", "tea").await;
    let field = first.set("id-seen").unwrap();
    assert!(!field.contains("Secure"));
    assert_eq!(ann.read("seen").await, "tea");
}

#[tokio::test]
async fn the_cookie_of_another_store_with_the_same_secret_reads_empty() {
    let shared = || {
        let clock = Clock::manual(super::NOON.parse().unwrap());
        let store = Store::builder().clock(clock.clone()).secret([7; 32]);
        World::of(store.in_memory().unwrap(), clock)
    };
    let (here, there) = (shared(), shared());
    let mut ann = here.browser();
    ann.put("seen", "tea").await;
    assert!(there.store.client_ids().verify(&ann.cookies[ID]).is_some());
    let mut moved = ann.clone().with(there.app_with(CookieSettings::new()));
    assert_eq!(moved.read("seen").await, "");
    assert_eq!(ann.read("seen").await, "tea");
}

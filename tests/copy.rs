//! A store copied into another one, on the same engine or another: the same sessions, found by the same ids (C1.6, C4.2,
//! C8.4, C10.1).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "support/mod.rs"]
mod support;

use cloakroom::{
    ClientId, Clock, ContainerSettings, Copied, ErrorKind, Session, Store, StoreBuilder,
};
use std::ops::ControlFlow;
use std::time::Duration;
use support::clock::{HOUR, MINUTE, clock, secs};
use support::engine::needs_files;
use support::store::{builder, place};
use support::visitors::with;

/// A store with sessions of all kinds, and their ids.
fn original(clock: &Clock) -> (Store, Vec<ClientId>) {
    let store = builder(clock).in_memory().unwrap();
    let settings = |timeout| ContainerSettings::new().timeout(timeout);
    store.register("gone", settings(HOUR)).unwrap();
    store.register("cart", settings(2 * HOUR)).unwrap();
    store.register("quick", settings(HOUR).in_memory()).unwrap();
    store.unregister("gone").unwrap();
    store.register_alias("wishes", "cart").unwrap();
    store.rotate_secret().unwrap();
    let ids: Vec<_> = (0..300).map(|_| store.client_ids().issue()).collect();
    for (n, id) in ids.iter().enumerate() {
        clock.advance(Duration::from_millis(7));
        with(&store, id, |session| {
            session.pkg("visits").insert("count", n as u64)?;
            session.pkg("cart").insert("tea", n)?;
            session.pkg("wishes").insert("cup", "ü".repeat(n))?;
            if n % 3 == 0 {
                session.set_owner(Some(&format!("user {}", n % 9)))?;
                session.set_label("a \u{1f980} phone")?;
            }
            if n % 5 == 0 {
                session.set_timeout(Some(secs(5000 + n as u64)))?;
                session.set_expires_at(Some(clock.now() + chrono::TimeDelta::hours(1)))?;
            }
            Ok(())
        });
    }
    (store, ids)
}

/// All that an administrator sees of a session.
fn seen(store: &Store, id: &ClientId) -> String {
    let mut entry = store.entry(id.key()).unwrap().unwrap();
    // The rows of an encrypted store are longer.
    let packages = entry.parts.iter_mut().flat_map(|part| &mut part.packages);
    packages.for_each(|package| package.bytes = 0);
    let mut seen = format!("{entry:?}");
    for part in &entry.parts {
        for package in &part.packages {
            let values = store.entry_values(id.key(), &part.container, &package.name);
            seen += &format!("{:?}", values.unwrap());
        }
    }
    seen
}

fn assert_same(original: &Store, copy: &Store, ids: &[ClientId]) {
    for id in ids {
        assert_eq!(copy.client_ids().verify(id.as_str()).as_ref(), Some(id));
        assert_eq!(seen(original, id), seen(copy, id));
    }
    assert_eq!(original.identity(), copy.identity());
    for container in original.containers() {
        let there = copy.container(container.name()).unwrap();
        assert_eq!(container.settings().unwrap(), there.settings().unwrap());
        assert_eq!(container.names().unwrap(), there.names().unwrap());
    }
    let owned = |store: &Store| store.sessions_of("user 3").unwrap().len();
    assert!(owned(original) > 20);
    assert_eq!(owned(original), owned(copy));
}

/// A builder of the copy of a store.
fn copy_of(original: &Store, clock: &Clock) -> StoreBuilder {
    builder(clock).copy_of(original).unwrap()
}

fn counted(copied: Copied) -> (u64, u64, u64, u64, bool) {
    let Copied {
        sessions,
        skipped,
        damaged,
        verified,
        is_complete,
        ..
    } = copied;
    (sessions, skipped, damaged, verified, is_complete)
}

#[test]
fn a_copy_has_the_same_sessions_under_the_same_ids() {
    let clock = clock();
    let (original, ids) = original(&clock);
    let in_memory = original.client_ids().issue();
    with(&original, &in_memory, |it| it.pkg("quick").insert("n", 1));
    let (_folder, path) = place();
    let copy = copy_of(&original, &clock).open(&path).unwrap();
    let copied = original.copy_to(&copy).unwrap();
    assert_eq!(counted(copied), (600, 0, 0, 600, true));
    assert_same(&original, &copy, &ids);
    assert!(copy.entry(in_memory.key()).unwrap().is_none());
    copy.close().unwrap();

    // And from there into another one.
    let copy = builder(&clock).open(&path).unwrap();
    let again = copy_of(&copy, &clock).in_memory().unwrap();
    assert!(copy.copy_to(&again).unwrap().is_complete);
    assert_same(&original, &again, &ids);
    assert_eq!(copy.check().unwrap().findings.len(), 0);
    // New containers get numbers that no other had.
    let settings = ContainerSettings::new;
    again.register("new", settings()).unwrap();
    with(&again, &ids[0], |it| it.pkg("new").insert("n", 1));
    assert_eq!(with(&again, &ids[0], |it| it.pkg("new").keys()), ["n"]);
}

#[test]
fn a_copy_that_was_broken_off_goes_on() {
    let clock = clock();
    let (original, ids) = original(&clock);
    let copy = copy_of(&original, &clock).in_memory().unwrap();
    let stop_after = |calls: u32| {
        let mut calls = calls;
        original.copy_to_with(&copy, move |_| {
            calls -= 1;
            match calls {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })
    };
    let first = stop_after(6).unwrap();
    assert!(!first.is_complete && first.verified == 0);
    assert!((256..600).contains(&first.sessions), "{first:?}");
    // Broken off while it verifies.
    let second = stop_after(12).unwrap();
    let (written, verified) = (second.sessions, second.verified);
    assert_eq!(
        (written, second.skipped),
        (600 - first.sessions, first.sessions)
    );
    assert!((1..600).contains(&verified) && !second.is_complete);
    let last = original.copy_to(&copy).unwrap();
    assert_eq!(counted(last), (0, 600, 0, 600, true));
    assert_same(&original, &copy, &ids);
}

#[test]
fn only_a_copy_takes_sessions_and_other_contents_are_refused() {
    let clock = clock();
    let (original, ids) = original(&clock);
    let other = builder(&clock).in_memory().unwrap();
    let error = original.copy_to(&other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");

    let copy = copy_of(&original, &clock).in_memory().unwrap();
    original.copy_to(&copy).unwrap();
    with(&copy, &ids[7], |it| it.pkg("visits").insert("count", 1000));
    let error = original.copy_to(&copy).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("other contents"), "{error}");
    let count = with(&copy, &ids[7], |it| it.pkg("visits").get("count"));
    assert_eq!(count, Some(1000), "it stays as it is");

    // A session that only the copy has.
    let copy = copy_of(&original, &clock).in_memory().unwrap();
    let id = copy.client_ids().issue();
    with(&copy, &id, |it| it.pkg("visits").insert("count", 1));
    let error = original.copy_to(&copy).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("differ"), "{error}");

    // Containers that came after the copy was made.
    let copy = copy_of(&original, &clock).in_memory().unwrap();
    original.register("late", ContainerSettings::new()).unwrap();
    let error = original.copy_to(&copy).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn a_store_that_is_there_is_opened_only_if_it_is_the_copy() {
    needs_files!("stores in files");
    let clock = clock();
    let (original, _) = original(&clock);
    let (_folder, path) = place();
    builder(&clock).open(&path).unwrap().close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let error = copy_of(&original, &clock).open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(bytes == std::fs::read(&path).unwrap(), "it is not changed");
    builder(&clock).open(&path).unwrap();

    let (_folder, path) = place();
    for _ in 0..2 {
        let copy = copy_of(&original, &clock).open(&path).unwrap();
        assert_eq!(copy.identity(), original.identity());
        copy.close().unwrap();
    }
}

// C2.11
#[test]
fn an_unfinished_copy_serves_nobody_and_a_finished_one_takes_nothing_more() {
    let clock = clock();
    let (original, ids) = original(&clock);
    let (_folder, path) = place();
    let copy = copy_of(&original, &clock).open(&path).unwrap();
    let copied = original.copy_to_with(&copy, |_| ControlFlow::Break(()));
    assert!(!copied.unwrap().is_complete);
    copy.close().unwrap();
    let error = builder(&clock).open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("unfinished copy"), "{error}");

    let copy = copy_of(&original, &clock).open(&path).unwrap();
    assert!(original.copy_to(&copy).unwrap().is_complete);
    copy.close().unwrap();
    let used = builder(&clock).open(&path).unwrap();
    used.end(ids[3].key()).unwrap();
    used.close().unwrap();
    // The session that has ended there would come back.
    let error = copy_of(&original, &clock).open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("no unfinished copy"), "{error}");
    let used = builder(&clock).open(&path).unwrap();
    assert!(used.entry(ids[3].key()).unwrap().is_none());
    assert!(used.entry(ids[4].key()).unwrap().is_some());
}

/// Sweeps a store's containers once the copy has begun to verify, an hour and a minute later.
fn swept_on_the_way(original: &Store, copy: &Store, clock: &Clock, swept: &Store) -> Copied {
    let mut removed = 0;
    let copied = original.copy_to_with(copy, |so_far| {
        if so_far.sessions == 600 && removed == 0 {
            clock.advance(HOUR + MINUTE);
            for container in swept.containers() {
                removed += container.sweep().unwrap().removed;
            }
        }
        ControlFlow::Continue(())
    });
    assert!(removed > 300, "{removed}");
    copied.unwrap()
}

#[test]
fn what_expires_on_the_way_may_be_swept_from_either_store() {
    let clock = clock();
    let (original, _) = original(&clock);
    let copy = copy_of(&original, &clock).in_memory().unwrap();
    let copied = swept_on_the_way(&original, &copy, &clock, &copy);
    // In the cart, 240 have the timeout of two hours. In both, 60 have a fixed end after one.
    assert!(copied.is_complete);
    assert!((240..400).contains(&copied.verified), "{copied:?}");

    let (original, _) = self::original(&clock);
    let copy = copy_of(&original, &clock).in_memory().unwrap();
    let copied = swept_on_the_way(&original, &copy, &clock, &original);
    assert!(copied.is_complete && copied.verified >= 240, "{copied:?}");
}

#[test]
fn what_has_expired_is_left_out() {
    let clock = clock();
    let (original, _) = original(&clock);
    clock.advance(HOUR + MINUTE);
    let copy = copy_of(&original, &clock).in_memory().unwrap();
    let copied = original.copy_to(&copy).unwrap();
    assert_eq!(counted(copied), (240, 0, 0, 240, true));
    clock.advance(3 * HOUR);
    let copy = copy_of(&original, &clock).in_memory().unwrap();
    let copied = original.copy_to(&copy).unwrap();
    assert_eq!(counted(copied), (0, 0, 0, 0, true));
}

#[test]
fn a_copy_goes_on_although_whole_pages_of_it_have_expired() {
    let clock = clock();
    let (original, _) = original(&clock);
    let last = original.client_ids().issue();
    with(&original, &last, |session| {
        session.set_timeout(Some(100 * HOUR))?;
        session.pkg("visits").insert("count", 1)
    });
    let copy = copy_of(&original, &clock).in_memory().unwrap();
    assert!(original.copy_to(&copy).unwrap().is_complete);
    clock.advance(5 * HOUR);
    let copied = original.copy_to(&copy).unwrap();
    assert_eq!(counted(copied), (0, 1, 0, 1, true));
}

#[test]
fn settings_that_were_changed_since_are_refused() {
    let clock = clock();
    let (original, _) = original(&clock);
    type Change = fn(&Store) -> cloakroom::Result<()>;
    let changes: [Change; 3] = [
        |store| store.rotate_secret().map(drop),
        |store| store.register_alias("more", "cart").map(drop),
        |store| {
            let cart = store.container("cart")?;
            cart.configure(ContainerSettings::new().timeout(3 * HOUR))
        },
    ];
    for change in changes {
        let copy = copy_of(&original, &clock).in_memory().unwrap();
        change(&original).unwrap();
        let error = original.copy_to(&copy).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

// C3.5
#[test]
fn times_that_lie_ahead_are_lowered_in_the_copy() {
    let ahead = clock();
    ahead.advance(500 * HOUR);
    let (original, ids) = original(&ahead);
    let (_folder, path) = place();
    let there = copy_of(&original, &ahead).open(&path).unwrap();
    assert!(original.copy_to(&there).unwrap().is_complete);
    there.close().unwrap();

    let clock = clock();
    let original = builder(&clock).open(&path).unwrap();
    let copy = copy_of(&original, &clock).in_memory().unwrap();
    let copied = original.copy_to(&copy).unwrap();
    assert_eq!(counted(copied), (600, 0, 0, 600, true));
    let entry = copy.entry(ids[0].key()).unwrap().unwrap();
    assert_eq!(entry.parts[0].created, Some(clock.now()));
}

#[cfg(feature = "encryption")]
#[test]
fn a_copy_can_be_encrypted_or_not() {
    needs_files!("encryption of a file");
    use cloakroom::KeyRing;
    let keys = || KeyRing::new(1, [9; 32]);
    let clock = clock();
    let (original, ids) = original(&clock);
    let (_folder, path) = place();
    let sealed = copy_of(&original, &clock).encryption(keys());
    let copy = sealed.open(&path).unwrap();
    assert!(original.copy_to(&copy).unwrap().is_complete);
    copy.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for text in ["a \u{1f980} phone", "user 3", "üüü"] {
        let text = text.as_bytes();
        assert!(!bytes.windows(text.len()).any(|it| it == text));
    }
    assert_eq!(
        builder(&clock).open(&path).unwrap_err().kind(),
        ErrorKind::WrongKey
    );
    let copy = builder(&clock).encryption(keys()).open(&path).unwrap();
    assert_same(&original, &copy, &ids);
    // And back into a plain one.
    let plain = copy_of(&copy, &clock).in_memory().unwrap();
    assert!(copy.copy_to(&plain).unwrap().is_complete);
    assert_same(&original, &plain, &ids);
}

#[tokio::test]
async fn an_id_that_was_renewed_leads_on_in_the_copy() {
    use axum::{Router, body::Body, routing::get};
    use cloakroom::http::SessionLayer;
    use tower::ServiceExt;

    let clock = clock();
    let original = builder(&clock).in_memory().unwrap();
    let copy = copy_of(&original, &clock).in_memory().unwrap();
    let count = |session: Session| async move {
        let count = session
            .pkg("visits")
            .update("count", |n: Option<u32>| n.unwrap_or(0) + 1);
        count.map(|count| count.to_string())
    };
    let app = |store: &Store| {
        let layer = SessionLayer::new(store.clone()).renew_after(MINUTE);
        Router::new()
            .route("/", get(count))
            .layer(layer.renew_grace(HOUR))
    };
    let visit = async |store: &Store, cookie: &str| {
        let request = axum::http::Request::get("/").header("cookie", cookie);
        let request = request.header("host", "a.example");
        let response = app(store)
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let set = response.headers().get("set-cookie").cloned();
        let cookie = set.map(|it| it.to_str().unwrap().split(';').next().unwrap().to_owned());
        let body = axum::body::to_bytes(response.into_body(), 99)
            .await
            .unwrap();
        (String::from_utf8(body.into()).unwrap(), cookie)
    };
    let (_, first) = visit(&original, "").await;
    let first = first.unwrap();
    clock.advance(2 * MINUTE);
    let (count, second) = visit(&original, &first).await;
    assert_eq!(count, "2");
    let second = second.expect("a new id");
    let copied = original.copy_to(&copy).unwrap();
    assert!(copied.is_complete);
    assert_eq!(visit(&copy, &first).await.0, "3");
    assert_eq!(visit(&copy, &second).await.0, "4");
}

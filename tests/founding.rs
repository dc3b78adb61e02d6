//! C8.1, C1.4: what founds a session, where it begins, and which id it has.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{ClientId, ContainerSettings, Result, Session, Store};
use std::time::Duration;
use support::clock::clock;
use support::runtime::block_on;
use support::store::keys_of;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The ids under which a visitor may come: none, a fresh one, and one that founds nothing itself.
fn visitors(store: &Store) -> [Option<ClientId>; 3] {
    let dead = store.client_ids().issue();
    let dead = store.client_ids().verify(dead.as_str()).unwrap();
    [None, Some(store.client_ids().issue()), Some(dead)]
}

/// What a visitor does in a transaction of its own, and the id that it has then.
fn comes(
    store: &Store,
    id: Option<&ClientId>,
    does: impl Fn(&Session) -> Result<()>,
) -> Option<ClientId> {
    let txn = store.begin().unwrap();
    let session = block_on(txn.visit(id)).unwrap();
    does(&session).unwrap();
    let told = session.client_id();
    assert_eq!(session.exists().unwrap(), told.is_some());
    assert_eq!(session.created_at().unwrap().is_some(), told.is_some());
    txn.commit().unwrap();
    if let Some(id) = &told {
        let txn = store.begin().unwrap();
        assert!(txn.session(id).unwrap().exists().unwrap());
    }
    let sessions = store.check().unwrap().sessions;
    assert_eq!(sessions, u64::from(told.is_some()));
    told
}

fn each_visitor(does: fn(&Session) -> Result<()>, founds: bool) {
    for n in 0..3 {
        let store = Store::in_memory().unwrap();
        let id = visitors(&store)[n].clone();
        let told = comes(&store, id.as_ref(), does);
        assert_eq!(told.is_some(), founds, "visitor {n}");
    }
}

// C8.1
#[test]
fn an_owner_or_a_timeout_founds_a_session() {
    each_visitor(|s| s.set_owner(Some("ann")), true);
    each_visitor(|s| s.set_timeout(Some(DAY)), true);
    each_visitor(|s| s.set_timeout(Some(Duration::ZERO)), true);
    each_visitor(|s| s.pkg("app").add("n", 1), true);
}

// C8.1: a login without an insert.
#[test]
fn a_login_needs_no_insert() {
    let login = |s: &Session| {
        s.rotate()?;
        s.set_owner(Some("ann"))?;
        s.set_timeout(Some(DAY))
    };
    each_visitor(login, true);
    let store = Store::in_memory().unwrap();
    comes(&store, None, login).unwrap();
    assert_eq!(store.sessions_of("ann").unwrap().len(), 1);
}

// C8.1, C1.4
#[test]
fn what_leaves_nothing_founds_nothing_and_tells_no_id() {
    each_visitor(|s| s.rotate().map(drop), false);
    each_visitor(Session::destroy, false);
    each_visitor(|s| s.pkg("app").clear(), false);
    each_visitor(
        |s| s.set_owner(None).and_then(|()| s.set_timeout(None)),
        false,
    );
    each_visitor(
        |s| {
            s.pkg("app").insert("n", 1)?;
            s.pkg("app").remove("n").map(drop)
        },
        false,
    );
    each_visitor(
        |s| {
            s.set_owner(Some("ann"))?;
            s.set_owner(None)
        },
        false,
    );
    each_visitor(
        |s| {
            let before = s.txn().savepoint()?;
            s.set_owner(Some("ann"))?;
            s.txn().rollback_to(&before)
        },
        false,
    );
    each_visitor(
        |s| {
            s.set_owner(Some("ann"))?;
            s.destroy()
        },
        false,
    );
}

// C8.1: after it was ended in the same transaction.
#[test]
fn an_owner_founds_another_session_after_one_was_destroyed() {
    let store = Store::in_memory().unwrap();
    let old = comes(&store, None, |s| s.set_owner(Some("ann"))).unwrap();
    let new = comes(&store, Some(&old), |s| {
        s.destroy()?;
        assert_eq!(s.client_id(), None);
        s.set_owner(Some("bob"))
    })
    .unwrap();
    assert_ne!(old, new);
    assert!(store.sessions_of("ann").unwrap().is_empty());
    assert_eq!(keys_of(&store, "bob"), [new.key()]);
}

// C8.1, C1.2: a session that lives only where it is not used would expire however busy it is.
#[test]
fn a_session_without_packages_begins_where_it_was_used() {
    let store = Store::in_memory().unwrap();
    store.register("cart", ContainerSettings::new()).unwrap();
    let begins = |does: fn(&Session) -> Result<()>| {
        let id = comes(&store, None, does).unwrap();
        let txn = store.begin().unwrap();
        let lives = ["", "cart"].map(|name| {
            let data = txn.container(name).unwrap().session_data(&id);
            data.unwrap().exists().unwrap()
        });
        txn.session(&id).unwrap().destroy().unwrap();
        txn.commit().unwrap();
        lives
    };
    assert_eq!(begins(|s| s.set_owner(Some("ann"))), [true, false]);
    let read = begins(|s| {
        s.set_owner(Some("ann"))?;
        s.pkg("cart").get::<u32>("n").map(drop)
    });
    assert_eq!(read, [false, true]);
    let wrote = begins(|s| {
        s.set_owner(Some("ann"))?;
        s.pkg("cart").insert("n", 1)
    });
    assert_eq!(wrote, [false, true]);
    let both = begins(|s| {
        s.pkg("cart").get::<u32>("n")?;
        s.pkg("app").get::<u32>("n")?;
        s.set_owner(Some("ann"))
    });
    assert_eq!(both, [true, false]);
}

// C8.1, C2.8: two that found one session merge.
#[test]
fn two_that_found_one_session_merge() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let (one, two) = (store.begin().unwrap(), store.begin().unwrap());
    one.session(&id).unwrap().set_owner(Some("ann")).unwrap();
    let of_two = two.session(&id).unwrap();
    of_two.pkg("app").insert("n", 1).unwrap();
    one.commit().unwrap();
    two.commit().unwrap();
    assert_eq!(store.sessions_of("ann").unwrap().len(), 1);
    let txn = store.begin().unwrap();
    let n: Option<u32> = txn.session(&id).unwrap().pkg("app").get("n").unwrap();
    assert_eq!(n, Some(1));
}

// C8.1, C3.8
#[test]
fn a_session_founded_by_its_timeout_lives_as_long() {
    let clock = clock();
    let builder = Store::builder().clock(clock.clone());
    let store = builder.implicit_sweeps(false).in_memory().unwrap();
    let id = comes(&store, None, |s| s.set_timeout(Some(DAY))).unwrap();
    clock.advance(DAY);
    let alive = || {
        let txn = store.begin().unwrap();
        txn.session(&id).unwrap().created_at().unwrap().is_some()
    };
    assert!(alive());
    clock.advance(Duration::from_secs(1));
    assert!(!alive());
}

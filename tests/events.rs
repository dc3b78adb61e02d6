//! C8.9: what the application is told of its sessions, after the commits that did it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{
    ClientId, ClientKey, ContainerSettings, EndReason, ErrorKind, Store, StoreBuilder, Txn,
};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use support::clock::clock;

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Created(ClientKey, Option<String>),
    Renewed {
        to: ClientKey,
        from: ClientKey,
        owner: Option<String>,
    },
    Ended(ClientKey, EndReason, Vec<String>, Option<String>),
}

fn told(builder: StoreBuilder) -> (StoreBuilder, Receiver<Told>) {
    let (tell, told): (Sender<Told>, _) = channel();
    let (renewed, ended) = (tell.clone(), tell.clone());
    let builder = builder
        .on_created(move |it| drop(tell.send(Told::Created(it.client, it.owner.clone()))))
        .on_renewed(move |it| {
            let (to, from, owner) = (it.client, it.former, it.owner.clone());
            drop(renewed.send(Told::Renewed { to, from, owner }));
        })
        .on_ended(move |it| {
            let (reason, containers) = (it.reason, it.containers.clone());
            let it = Told::Ended(it.client, reason, containers, it.owner.clone());
            drop(ended.send(it));
        });
    (builder, told)
}

fn in_memory() -> (Store, Receiver<Told>) {
    let (builder, told) = told(Store::builder());
    (builder.in_memory().unwrap(), told)
}

/// All that is told until the store is closed.
fn all(store: Store, told: &Receiver<Told>) -> Vec<Told> {
    drop(store);
    told.iter().collect()
}

fn insert(id: &ClientId) -> impl Fn(&Txn) -> cloakroom::Result<()> {
    |txn| txn.session(id)?.pkg("app").insert("n", 1)
}

/// C8.9
#[test]
fn a_session_is_told_of_when_it_begins_moves_and_ends() {
    let (store, told) = in_memory();
    store.register("cart", ContainerSettings::new()).unwrap();
    let id = store.client_ids().issue();
    store.transact(insert(&id)).unwrap();
    store.transact(insert(&id)).unwrap();
    let further = |txn: &Txn| txn.session(&id)?.pkg("cart").insert("n", 1);
    store.transact(further).unwrap();
    let new = store.transact(|txn| txn.session(&id)?.log_in("ann"));
    let new = new.unwrap();
    store.transact(|txn| txn.session(&new)?.log_out()).unwrap();
    let (old, new) = (id.key(), new.key());
    let owner = || Some("ann".to_owned());
    let containers = vec![String::new(), "cart".to_owned()];
    let expected = [
        Told::Created(old, None),
        Told::Renewed {
            to: new,
            from: old,
            owner: owner(),
        },
        Told::Ended(new, EndReason::Logout, containers, owner()),
    ];
    assert_eq!(all(store, &told), expected);
}

/// C8.9: however a session comes to its end.
#[test]
fn the_end_in_the_last_container_is_told() {
    for goes_on_first in [false, true] {
        let (store, told) = in_memory();
        store.register("cart", ContainerSettings::new()).unwrap();
        let id = store.client_ids().issue();
        store.transact(insert(&id)).unwrap();
        let end = |txn: &Txn| {
            let session = txn.session(&id)?;
            let cart = session.pkg("cart");
            if goes_on_first {
                cart.insert("n", 1)?;
            }
            session.data("")?.destroy()?;
            cart.clear()
        };
        store.transact(end).unwrap();
        let told = all(store, &told);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            matches!(&told[1], Told::Ended(key, ..) if *key == id.key()),
            "{told:?}"
        );
    }
}

/// C8.9: what leaves no trace is not told.
#[test]
fn what_is_not_committed_is_not_told() {
    let (store, told) = in_memory();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    insert(&id)(&txn).unwrap();
    txn.abort();
    store.transact(insert(&id)).unwrap();
    let conflicting = store.begin().unwrap();
    let session = conflicting.session(&id).unwrap();
    session.pkg("app").get::<u32>("n").unwrap();
    session.destroy().unwrap();
    store
        .transact(|txn| txn.session(&id)?.pkg("app").insert("n", 2))
        .unwrap();
    assert_eq!(
        conflicting.commit().unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(all(store, &told), [Told::Created(id.key(), None)]);
}

/// C8.9: two that found the same session: one creates it, and the other one joins.
#[test]
fn a_session_that_two_commits_found_is_told_of_once() {
    let (store, told) = in_memory();
    let id = store.client_ids().issue();
    let (one, two) = (store.begin().unwrap(), store.begin().unwrap());
    one.session(&id).unwrap().pkg("a").insert("n", 1).unwrap();
    two.session(&id).unwrap().pkg("b").insert("n", 1).unwrap();
    one.commit().unwrap();
    two.commit().unwrap();
    assert_eq!(all(store, &told), [Told::Created(id.key(), None)]);
}

/// C8.9: neither an adopted id nor the first request of a visitor tells which of two creates the session.
#[test]
fn a_session_under_an_adopted_id_that_two_commits_found_is_told_of_once() {
    let (store, told) = in_memory();
    let id = store.client_ids().adopt(b"front-7").unwrap();
    for n in 0..2 {
        let (one, two) = (store.begin().unwrap(), store.begin().unwrap());
        for (txn, package) in [(&one, "a"), (&two, "b")] {
            let session = txn.session(&id).unwrap();
            // A look that is no read.
            session.created_at().unwrap();
            session.pkg(package).insert("n", n).unwrap();
        }
        one.commit().unwrap();
        two.commit().unwrap();
    }
    assert_eq!(all(store, &told), [Told::Created(id.key(), None)]);
}

/// C8.9, C8.2
#[test]
fn the_reason_tells_who_ended_a_session() {
    let (store, told) = in_memory();
    let log_in = || {
        let id = store.client_ids().issue();
        store.transact(|txn| txn.session(&id)?.log_in("ann"))
    };
    let ids: Vec<_> = (0..4).map(|_| log_in().unwrap()).collect();
    store.end(ids[0].key()).unwrap();
    let keeping = |txn: &Txn| txn.session(&ids[1])?.end_others();
    assert_eq!(store.transact(keeping).unwrap(), 2);
    let again = |txn: &Txn| {
        let session = txn.session(&ids[1])?;
        session.destroy()?;
        session.pkg("app").insert("n", 1)?;
        Ok::<_, cloakroom::Error>(session.client_id().unwrap().key())
    };
    let next = store.transact(again).unwrap();
    assert_eq!(store.end_all().unwrap(), 1);
    let told = all(store, &told);
    let reason = |of: ClientKey| {
        let mut ended = told.iter().filter_map(|it| match it {
            Told::Ended(key, reason, ..) if *key == of => Some(*reason),
            _ => None,
        });
        let reason = ended.next();
        assert_eq!(ended.next(), None, "told of once");
        reason.unwrap()
    };
    assert_eq!(reason(ids[0].key()), EndReason::Revoked);
    assert_eq!(reason(ids[1].key()), EndReason::Replaced);
    assert_eq!(reason(ids[2].key()), EndReason::Revoked);
    assert_eq!(reason(ids[3].key()), EndReason::Revoked);
    assert_eq!(reason(next), EndReason::Revoked);
    assert!(told.contains(&Told::Created(next, None)));
}

/// C8.9, C3.7
#[test]
fn a_sweep_tells_of_the_sessions_that_it_removes() {
    let clock = clock();
    let builder = Store::builder().clock(clock.clone()).implicit_sweeps(false);
    let (builder, told) = told(builder);
    let store = builder.in_memory().unwrap();
    let (gone, live) = (store.client_ids().issue(), store.client_ids().issue());
    store
        .transact(|txn| txn.session(&gone)?.set_owner(Some("ann")))
        .unwrap();
    clock.advance(Duration::from_secs(3000));
    store.transact(insert(&live)).unwrap();
    clock.advance(Duration::from_secs(1000));
    let swept = store.container("").unwrap().sweep().unwrap();
    assert_eq!(swept.removed, 1);
    let owner = || Some("ann".to_owned());
    let expected = [
        Told::Created(gone.key(), owner()),
        Told::Created(live.key(), None),
        Told::Ended(gone.key(), EndReason::Expired, vec![String::new()], owner()),
    ];
    assert_eq!(all(store, &told), expected);
}

/// C8.9: a hook that does not return holds up no commit, and what it leaves waiting is bounded.
#[test]
fn a_hook_that_hangs_holds_up_nobody_and_the_events_beyond_the_queue_are_counted() {
    let (entered, has_entered) = channel();
    let (go, leave) = channel::<()>();
    let leave = std::sync::Mutex::new(leave);
    let store = Store::builder().on_created(move |_| {
        let _ = entered.send(());
        // Until the other end is gone.
        let _ = leave.lock().unwrap().recv();
    });
    let store = store.in_memory().unwrap();
    let create = |n: usize| {
        let txn = store.begin().unwrap();
        for _ in 0..n {
            let id = store.client_ids().issue();
            insert(&id)(&txn).unwrap();
        }
        txn.commit().unwrap();
    };
    create(1);
    has_entered.recv().unwrap();
    create(4096);
    let statistics = store.statistics().unwrap();
    assert_eq!(statistics.waiting_events(), 4096);
    assert_eq!(statistics.dropped_events(), 0);
    create(3);
    let statistics = store.statistics().unwrap();
    assert_eq!(statistics.waiting_events(), 4096);
    assert_eq!(statistics.dropped_events(), 3);
    drop(go);
}

/// C8.9, C2.6
#[test]
fn a_hook_that_panics_harms_no_other() {
    let (tell, told) = channel();
    let store = Store::builder()
        .on_created(|_| panic!("on purpose"))
        .on_created(move |it| tell.send(it.client).unwrap());
    let store = store.in_memory().unwrap();
    let ids = [store.client_ids().issue(), store.client_ids().issue()];
    for id in &ids {
        store.transact(insert(id)).unwrap();
    }
    drop(store);
    let told: Vec<_> = told.iter().collect();
    assert_eq!(told, ids.map(|id| id.key()));
}

/// C8.9, C1.6
#[test]
fn an_event_bears_no_id() {
    let (store, told) = in_memory();
    let id = store.client_ids().issue();
    store.transact(insert(&id)).unwrap();
    let new = store.transact(|txn| txn.session(&id)?.rotate()).unwrap();
    store.transact(|txn| txn.session(&new)?.destroy()).unwrap();
    let told = format!("{:?}", all(store, &told));
    assert!(!told.contains(id.as_str()) && !told.contains(new.as_str()));
    assert!(told.contains(&format!("{:?}", new.key())));
}

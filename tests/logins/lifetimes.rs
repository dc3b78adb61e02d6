//! C3.8, C8.1: how long a log-in lasts in a session that lives in several containers.

use super::{info, with};
use crate::support::clock::{HOUR, MOMENT, clock};
use crate::support::store::builder;
use cloakroom::{ClientId, Clock, ContainerSettings, Session, Store};
use std::time::Duration;

/// A store with two containers of these absolute lifetimes, in which nothing is idle for too long.
fn store(lifetimes: [Option<Duration>; 2]) -> (Clock, Store) {
    let clock = clock();
    let store = builder(&clock).in_memory().unwrap();
    for (name, lifetime) in ["", "cart"].into_iter().zip(lifetimes) {
        let settings = ContainerSettings::new().timeout(1000 * HOUR);
        store
            .register(name, settings.max_lifetime(lifetime))
            .unwrap();
    }
    (clock, store)
}

/// Writes into both containers, so that the session begins again where it had expired.
fn use_both(store: &Store, id: &ClientId, n: i64) {
    with(store, id, |session: &Session| {
        session.pkg("app").insert("n", n)?;
        session.pkg("cart").insert("n", n)
    });
}

fn owner(store: &Store, id: &ClientId) -> Option<String> {
    with(store, id, Session::owner)
}

/// The rows of the two containers are of different ages, and each begins anew while the other is live.
#[test]
fn a_login_ends_with_the_absolute_lifetime_whatever_begins_in_other_containers() {
    let (clock, store) = store([Some(12 * HOUR); 2]);
    let visitor = store.client_ids().issue();
    let id = with(&store, &visitor, |session| session.log_in("ann"));
    for n in 0..6 {
        clock.advance(2 * HOUR);
        assert_eq!(owner(&store, &id).as_deref(), Some("ann"), "{n}");
        if n >= 3 {
            use_both(&store, &id, n);
        }
    }
    clock.advance(MOMENT);
    use_both(&store, &id, 6);
    assert_eq!(owner(&store, &id), None);
    assert_eq!(with(&store, &id, Session::authenticated_at), None);
    assert_eq!(
        info(&store, &id).containers,
        ["", "cart"],
        "the data goes on"
    );

    // Another log-in counts from its own time.
    let id = with(&store, &id, |session| session.log_in("ann"));
    clock.advance(HOUR);
    assert_eq!(owner(&store, &id).as_deref(), Some("ann"));
}

/// What is said of such a container: the visitor is logged in as long as the session is live in it.
#[test]
fn a_container_without_an_absolute_lifetime_keeps_the_login() {
    let (clock, store) = store([Some(12 * HOUR), None]);
    let visitor = store.client_ids().issue();
    let id = with(&store, &visitor, |session| {
        session.pkg("cart").insert("n", 1)?;
        session.log_in("ann")
    });
    clock.advance(24 * HOUR);
    assert_eq!(owner(&store, &id).as_deref(), Some("ann"));
    store
        .register(
            "cart",
            ContainerSettings::new().max_lifetime(Some(12 * HOUR)),
        )
        .unwrap();
    assert_eq!(owner(&store, &id), None);
}

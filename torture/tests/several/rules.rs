//! C10.3: what one process decides is in force in all.

use crate::place::Place;
use crate::support::visitors::{again, get, put};
use crate::support::wait::until;
use cloakroom::{ClientId, ContainerSettings, Store};
use std::time::{Duration, Instant};

/// What is to be in force elsewhere within a second. The machine may be busy.
const SOON: Duration = Duration::from_secs(3);

fn two() -> Option<(Place, Store, Store)> {
    let place = Place::new()?;
    let (one, other) = (place.store(), place.store());
    Some((place, one, other))
}

fn exists(store: &Store, id: &ClientId) -> bool {
    let txn = store.begin().unwrap();
    txn.session(&again(store, id)).unwrap().exists().unwrap()
}

fn soon(what: &str, there: impl FnMut() -> bool) {
    let since = Instant::now();
    until(what, there);
    assert!(since.elapsed() < SOON, "{what} after {:?}", since.elapsed());
}

// C8.2: ends are in force at once.
#[test]
fn an_end_is_in_force_at_once() {
    let Some((_place, one, other)) = two() else {
        return;
    };
    let ids = [(); 3].map(|()| one.client_ids().issue());
    for id in &ids {
        put(&one, id, 1);
        one.transact(|txn| txn.session(id)?.set_owner(Some("somebody")))
            .unwrap();
        assert!(exists(&other, id));
    }
    let key = ids[0].key();
    assert!(one.end(key).unwrap() > 0);
    assert!(!exists(&other, &ids[0]));
    one.end_all_of("somebody").unwrap();
    assert!(ids.iter().all(|id| !exists(&other, id)));
}

// C1.8
#[test]
fn settings_are_in_force_in_a_process_that_reads() {
    let Some((_place, one, other)) = two() else {
        return;
    };
    let id = one.client_ids().issue();
    put(&one, &id, 1);
    let settings = ContainerSettings::new().timeout(Duration::from_secs(77));
    one.register("shop", settings).unwrap();
    soon("the container is known", || {
        assert_eq!(get(&other, &id), Some(1));
        other.container("shop").is_ok()
    });
    let settings = ContainerSettings::new().timeout(Duration::from_secs(99));
    one.register("shop", settings).unwrap();
    soon("the timeout is known", || {
        assert_eq!(get(&other, &id), Some(1));
        let settings = other.container("shop").unwrap().settings();
        settings.unwrap().timeout == Duration::from_secs(99)
    });
}

// C4.2
#[test]
fn a_secret_verifies_everywhere() {
    let Some((_place, one, other)) = two() else {
        return;
    };
    let old = one.client_ids().issue();
    put(&one, &old, 1);
    one.rotate_secret().unwrap();
    let new = one.client_ids().issue();
    put(&one, &new, 2);
    soon("the new secret verifies", || {
        other.verify(new.as_str()).unwrap().is_some()
    });
    assert_eq!(get(&other, &new), Some(2));
    assert_eq!(get(&other, &old), Some(1));
}

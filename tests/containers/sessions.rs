//! C1.9: a session is the client in all containers at once.

use super::{client_with, in_folder, in_ram, key_of, live_sessions, put, reopen};
use crate::support::clock::{HOUR, MINUTE};
use crate::support::store::{keys_of, timed};
use crate::support::visitors::with;
use chrono::{DateTime, Utc};
use cloakroom::{ClientId, Clock, ContainerSettings, Session, Store, Txn};
use std::sync::Mutex;
use std::time::Duration;

/// A client with a session in the unnamed container since 00:00, in "bank" since 00:20, both used
/// then, and in the RAM container "scratch" since 00:40.
fn spread() -> (Clock, Store, ClientId) {
    let (clock, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    store.register("scratch", in_ram()).unwrap();
    let id = client_with(&store, &["news"], 1);
    clock.advance(20 * MINUTE);
    put(&store, &id, &["news", "bank"], 2);
    clock.advance(20 * MINUTE);
    put(&store, &id, &["scratch"], 3);
    (clock, store, id)
}

fn at(text: &str) -> Option<DateTime<Utc>> {
    Some(format!("2026-01-01T{text}Z").parse().unwrap())
}

// C1.9
#[test]
fn a_session_was_created_with_its_earliest_and_last_used_with_its_latest_container() {
    let (_clock, store, id) = spread();
    with(&store, &id, |session| {
        assert_eq!(session.created_at()?, at("00:00:00"));
        assert_eq!(session.last_access()?, at("00:40:00"));
        Ok(())
    });
}

// C1.9
#[test]
fn session_data_is_one_container_alone() {
    let (_clock, store, id) = spread();
    let times = |container: &str| {
        let look = |txn: &Txn| {
            let data = txn.container(container)?.session_data(&id)?;
            Ok((data.exists()?, data.created_at()?, data.last_access()?))
        };
        store.transact::<_, cloakroom::Error>(look).unwrap()
    };
    store.register("empty", ContainerSettings::new()).unwrap();
    assert_eq!(times("bank"), (true, at("00:20:00"), at("00:20:00")));
    assert_eq!(times("scratch"), (true, at("00:40:00"), at("00:40:00")));
    assert_eq!(times("empty"), (false, None, None));
}

// C1.9
#[test]
fn a_session_exists_if_it_does_in_any_container() {
    let (_clock, store) = timed();
    store.register("scratch", in_ram()).unwrap();
    let id = client_with(&store, &["scratch"], 7);
    let unknown = store.client_ids().issue();
    assert!(with(&store, &id, Session::exists));
    assert!(!with(&store, &unknown, Session::exists));
}

// C1.9
#[test]
fn an_access_is_recorded_in_the_containers_used_alone() {
    let (clock, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["bank", "news"], 7);
    clock.advance(30 * MINUTE);
    assert_eq!(key_of(&store, &id, "bank"), Some(7));
    clock.advance(31 * MINUTE);
    assert_eq!(key_of(&store, &id, "bank"), Some(7));
    assert_eq!(key_of(&store, &id, "news"), None);
}

// C1.9, C4.7
#[test]
fn rotate_carries_everything_over_in_all_containers_in_one_commit() {
    let (clock, store, id) = spread();
    with(&store, &id, |session| {
        session.set_owner(Some("ann"))?;
        session.set_timeout(Some(3 * HOUR))
    });
    let commits = store.statistics().unwrap().commits();
    let new = with(&store, &id, Session::rotate);
    assert_eq!(store.statistics().unwrap().commits(), commits + 1);

    assert_ne!(new, id);
    assert!(!with(&store, &id, Session::exists));
    for package in ["news", "bank", "scratch"] {
        assert_eq!(key_of(&store, &id, package), None, "{package}");
    }
    with(&store, &new, |session| {
        assert_eq!(session.created_at()?, at("00:00:00"));
        assert_eq!(session.last_access()?, at("00:40:00"));
        Ok(())
    });
    assert_eq!(keys_of(&store, "ann"), [new.key()]);
    assert_eq!(key_of(&store, &new, "news"), Some(2));
    clock.advance(2 * HOUR);
    assert_eq!(key_of(&store, &new, "bank"), Some(2));
    assert_eq!(key_of(&store, &new, "scratch"), Some(3));
}

// C1.9
#[test]
fn rotate_carries_nothing_expired_over() {
    let (clock, store) = timed();
    let short = ContainerSettings::new().timeout(10 * MINUTE);
    store.register("bank", short).unwrap();
    let id = client_with(&store, &["bank", "news"], 7);
    clock.advance(11 * MINUTE);
    let new = with(&store, &id, Session::rotate);
    let forever = ContainerSettings::new().timeout(Duration::ZERO);
    store.register("bank", forever).unwrap();
    assert_eq!(key_of(&store, &new, "bank"), None);
    assert_eq!(key_of(&store, &id, "bank"), None);
    assert_eq!(key_of(&store, &new, "news"), Some(7));
}

// C1.9, C2.8
#[test]
fn rotate_carries_over_what_another_transaction_put_there_meanwhile() {
    let (_clock, store, id) = spread();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("bank").insert("mine", 1).unwrap();
    let new = session.rotate().unwrap();
    put(&store, &id, &["bank", "scratch", "late"], 9);
    txn.commit().unwrap();
    for package in ["bank", "scratch", "late"] {
        assert_eq!(key_of(&store, &new, package), Some(9), "{package}");
    }
    with(&store, &new, |session| {
        assert_eq!(session.pkg("bank").get::<u32>("mine")?, Some(1));
        Ok(())
    });
}

// C1.9
#[test]
fn rotating_twice_leaves_the_last_id_alone() {
    let (_clock, store, id) = spread();
    let (first, last) = with(&store, &id, |session| {
        Ok((session.rotate()?, session.rotate()?))
    });
    assert_eq!(key_of(&store, &last, "bank"), Some(2));
    for dead in [&id, &first] {
        assert_eq!(key_of(&store, dead, "bank"), None);
    }
}

// C1.9, C4.7
#[test]
fn destroy_ends_the_session_in_all_containers_in_one_commit() {
    let (_clock, store, id) = spread();
    with(&store, &id, |session| session.set_owner(Some("ann")));
    let commits = store.statistics().unwrap().commits();
    with(&store, &id, |session| {
        session.destroy()?;
        assert!(!session.exists()?);
        assert_eq!(session.created_at()?, None);
        assert_eq!(session.client_id(), None);
        assert_eq!(session.pkg("bank").get::<u32>("key")?, None);
        Ok(())
    });
    assert_eq!(store.statistics().unwrap().commits(), commits + 1);
    for container in ["", "bank", "scratch"] {
        let left = store.container(container).unwrap().statistics().unwrap();
        assert_eq!((left.live, left.expired), (0, 0), "{container:?}");
    }
    assert!(store.sessions_of("ann").unwrap().is_empty());
}

// C1.9
#[test]
fn what_is_inserted_after_destroy_founds_another_session() {
    let (_clock, store, id) = spread();
    with(&store, &id, |session| session.set_owner(Some("ann")));
    let new = with(&store, &id, |session| {
        session.destroy()?;
        session.pkg("bank").insert("key", 9)?;
        Ok(session.client_id().expect("a new id"))
    });
    assert_ne!(new, id);
    assert_eq!(key_of(&store, &new, "bank"), Some(9));
    assert_eq!(key_of(&store, &new, "news"), None);
    assert!(store.sessions_of("ann").unwrap().is_empty());
    assert!(!with(&store, &id, Session::exists));
}

// C1.9
#[test]
fn set_timeout_acts_on_all_containers() {
    let (clock, store, id) = spread();
    with(&store, &id, |session| session.set_timeout(Some(2 * HOUR)));
    clock.advance(90 * MINUTE);
    for container in ["", "bank", "scratch"] {
        assert_eq!(live_sessions(&store, container), 1, "{container:?}");
    }
    with(&store, &id, |session| session.set_timeout(None));
    assert!(!with(&store, &id, Session::exists));
}

// C1.9
#[test]
fn a_container_that_the_session_comes_to_later_gets_its_timeout_and_owner() {
    let (clock, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["news"], 1);
    with(&store, &id, |session| {
        session.set_owner(Some("ann"))?;
        session.set_timeout(Some(3 * HOUR))
    });
    put(&store, &id, &["bank"], 2);
    clock.advance(2 * HOUR);
    assert_eq!(key_of(&store, &id, "bank"), Some(2));
    store.container("").unwrap().sweep().unwrap();
    clock.advance(2 * HOUR);
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
    assert_eq!(live_sessions(&store, ""), 0);
}

// C1.9
#[test]
fn set_owner_finds_each_session_of_a_user_once() {
    let (_clock, store, id) = spread();
    let other = client_with(&store, &["bank"], 1);
    let stranger = client_with(&store, &["bank"], 1);
    for (id, owner) in [(&id, "ann"), (&other, "ann"), (&stranger, "bob")] {
        with(&store, id, |session| session.set_owner(Some(owner)));
    }
    let mut expected = [id.key(), other.key()];
    expected.sort();
    let mut found = keys_of(&store, "ann");
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(keys_of(&store, "bob"), [stranger.key()]);
    assert!(store.sessions_of("an").unwrap().is_empty());

    with(&store, &id, |session| session.set_owner(Some("bob")));
    assert_eq!(keys_of(&store, "ann"), [other.key()]);
    with(&store, &other, |session| session.set_owner(None));
    assert!(store.sessions_of("ann").unwrap().is_empty());
}

// C1.9, C3.2
#[test]
fn sessions_of_leaves_expired_ones_out() {
    let (clock, store) = timed();
    let id = client_with(&store, &["news"], 1);
    with(&store, &id, |session| session.set_owner(Some("ann")));
    clock.advance(61 * MINUTE);
    assert!(store.sessions_of("ann").unwrap().is_empty());
}

// C1.9
#[test]
fn sessions_of_survives_reopening() {
    let (folder, store) = in_folder();
    let id = client_with(&store, &["news"], 1);
    with(&store, &id, |session| session.set_owner(Some("ann")));
    store.close().unwrap();
    let store = reopen(folder.path());
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
}

// C1.9, C2.7
#[test]
fn settings_of_a_session_merge_with_changes_of_its_values() {
    let (_clock, store, id) = spread();
    let owned = store.begin().unwrap();
    let session = owned.session(&id).unwrap();
    session.set_owner(Some("ann")).unwrap();
    session.created_at().unwrap();
    put(&store, &id, &["bank", "late"], 9);
    owned.commit().unwrap();
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
    assert_eq!(key_of(&store, &id, "late"), Some(9));
}

// C1.9
#[test]
fn a_session_of_many_threads_is_counted_once_per_container() {
    let store = Store::in_memory().unwrap();
    let id = client_with(&store, &["news"], 0);
    let errors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (store, id, errors) = (&store, &id, &errors);
            scope.spawn(move || {
                let put = |txn: &Txn| txn.session(id)?.pkg(&format!("p{n}")).insert("key", n);
                if let Err(e) = store.transact::<_, cloakroom::Error>(put) {
                    errors.lock().unwrap().push(e);
                }
            });
        }
    });
    assert!(errors.into_inner().unwrap().is_empty());
    let counted = store.container("").unwrap().statistics().unwrap();
    assert_eq!((counted.live, counted.packages), (1, 5));
}

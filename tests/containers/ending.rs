//! C1.9: a session that ends in one container alone.

use super::{client_with, in_folder, in_ram, key_of, live_sessions, put, reopen};
use crate::support::clock::{HOUR, MINUTE};
use crate::support::damage::flip_packages;
use crate::support::engine::needs_files;
use crate::support::store::{file_builder, place, timed};
use crate::support::visitors::{again, with};
use cloakroom::{ClientId, ContainerSettings, ErrorKind, Session, Store, Txn};

/// A store with the containers "bank" and, in memory, "scratch", and a client in these and the unnamed one.
fn everywhere(store: &Store) -> ClientId {
    store.register("bank", ContainerSettings::new()).unwrap();
    store.register("scratch", in_ram()).unwrap();
    client_with(store, &["news", "bank", "scratch"], 1)
}

fn destroy(store: &Store, id: &ClientId, container: &str) {
    with(store, id, |session| session.data(container)?.destroy());
}

/// The id is refused, as after any end (C4.8).
fn assert_refused(store: &Store, id: &ClientId) {
    let late = store.transact(|txn| txn.session(id)?.pkg("news").insert("key", 1));
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn it_ends_there_and_goes_on_in_the_others() {
    let (folder, store) = in_folder();
    let id = everywhere(&store);
    with(&store, &id, |session| {
        session.set_owner(Some("ann"))?;
        session.data("bank")?.pkg("other").insert("key", 2)
    });
    for (container, left) in [("bank", [""; 1].as_slice()), ("scratch", &[""])] {
        destroy(&store, &id, container);
        assert_eq!(live_sessions(&store, container), 0, "{container}");
        assert_eq!(key_of(&store, &id, container), None);
        let info = store.session_info(id.key()).unwrap().unwrap();
        let names: Vec<_> = info.containers.iter().map(String::as_str).collect();
        assert!(left.iter().all(|it| names.contains(it)), "{names:?}");
        assert!(!names.contains(&container), "{names:?}");
    }
    assert_eq!(key_of(&store, &id, "news"), Some(1));
    assert_eq!(store.sessions_of("ann").unwrap()[0].containers, [""]);
    let other = with(&store, &id, |s| s.data("bank")?.pkg("other").is_empty());
    assert!(other);
    drop(store);
    if !crate::support::engine::is_remote() {
        let store = reopen(folder.path());
        assert_eq!(key_of(&store, &id, "bank"), None);
        assert_eq!(key_of(&store, &id, "news"), Some(1));
        assert!(store.check().unwrap().is_clean());
    }
}

#[test]
fn it_begins_anew_there_with_the_next_insert() {
    let (clock, store) = timed();
    let id = everywhere(&store);
    with(&store, &id, |session| session.set_owner(Some("ann")));
    clock.advance(20 * MINUTE);
    destroy(&store, &id, "bank");
    put(&store, &id, &["bank"], 2);
    with(&store, &id, |session| {
        let bank = session.data("bank")?;
        assert_eq!(bank.packages()?, ["bank"]);
        assert_eq!(bank.created_at()?, bank.last_access()?);
        assert_eq!(session.owner()?.as_deref(), Some("ann"));
        Ok(())
    });
    assert_eq!(store.sessions_of("ann").unwrap()[0].containers.len(), 3);
}

#[test]
fn in_its_last_container_the_session_ends() {
    for at_once in [true, false] {
        let (_clock, store) = timed();
        let id = everywhere(&store);
        let containers = ["scratch", "bank", ""];
        if at_once {
            with(&store, &id, |session| {
                containers
                    .iter()
                    .try_for_each(|it| session.data(it)?.destroy())?;
                assert!(!session.exists()?);
                assert!(session.client_id().is_none());
                Ok(())
            });
        } else {
            containers.iter().for_each(|it| destroy(&store, &id, it));
        }
        assert!(store.session_info(id.key()).unwrap().is_none());
        assert_refused(&store, &id);
    }
}

/// Both see the other container live. The later one conflicts, and finds the last container when it runs again.
#[test]
fn two_that_end_the_last_two_containers_end_the_session() {
    let (_clock, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["news", "bank"], 1);
    let mut runs = 0;
    let ends = store.transact::<_, cloakroom::Error>(|txn| {
        txn.session(&id)?.data("bank")?.destroy()?;
        runs += 1;
        if runs == 1 {
            destroy(&store, &id, "");
        }
        Ok(())
    });
    ends.unwrap();
    assert_eq!(runs, 2);
    assert!(store.session_info(id.key()).unwrap().is_none());
    assert_refused(&store, &id);
}

/// It was to go on in another container, and what was inserted there was removed again.
#[test]
fn a_session_that_is_left_in_no_container_has_ended() {
    let (_clock, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    for rotates in [false, true] {
        let id = client_with(&store, &["bank"], 1);
        with(&store, &id, |session| {
            session.pkg("news").insert("key", 2)?;
            session.data("bank")?.destroy()?;
            if rotates {
                session.rotate()?;
            }
            session.pkg("news").clear()?;
            assert!(!session.exists()?);
            assert!(session.client_id().is_none() && session.created_at()?.is_none());
            Ok(())
        });
        assert!(store.session_info(id.key()).unwrap().is_none());
        assert_refused(&store, &id);
    }
}

/// C2.7: that it is in no other container was read.
#[test]
fn a_session_that_is_left_in_no_container_conflicts_with_a_beginning_elsewhere() {
    let (_clock, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    store.register("cart", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["bank"], 1);
    let mut runs = 0;
    let ends = store.transact::<_, cloakroom::Error>(|txn| {
        let session = txn.session(&id)?;
        session.pkg("news").insert("key", 2)?;
        session.data("bank")?.destroy()?;
        session.pkg("news").clear()?;
        runs += 1;
        if runs == 1 {
            put(&store, &id, &["cart"], 2);
        }
        Ok(())
    });
    ends.unwrap();
    assert_eq!((runs, key_of(&store, &id, "cart")), (2, Some(2)));
    assert_eq!(key_of(&store, &id, "bank"), None);
}

/// C8.1: what it is given goes on with it.
#[test]
fn a_label_takes_a_session_on_that_has_ended_where_it_was() {
    let (_clock, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    store.register("cart", ContainerSettings::new()).unwrap();
    for labels_first in [false, true] {
        let id = client_with(&store, &["bank"], 1);
        with(&store, &id, |session| {
            session.set_owner(Some("ann"))?;
            if labels_first {
                session.set_label("phone")?;
            }
            session.pkg("cart").insert("key", 2)?;
            session.data("bank")?.destroy()?;
            session.pkg("cart").clear()?;
            session.set_label("phone")?;
            assert!(session.exists()? && session.client_id().is_some());
            assert!(session.created_at()?.is_some());
            assert!(!session.data("bank")?.exists()?);
            Ok(())
        });
        let info = store.session_info(id.key()).unwrap().unwrap();
        assert_eq!(
            (info.label.as_deref(), info.owner.as_deref()),
            (Some("phone"), Some("ann"))
        );
        assert_eq!(info.containers, ["cart"], "{labels_first}");
        assert_eq!(key_of(&store, &id, "bank"), None);
    }
}

// C2.11
#[test]
fn a_transaction_that_had_loaded_it_there_conflicts() {
    let (_clock, store) = timed();
    let id = everywhere(&store);
    for container in ["bank", "scratch"] {
        let txn = store.begin().unwrap();
        let bank = txn.session(&id).unwrap().pkg(container);
        assert_eq!(bank.get::<u32>("key").unwrap(), Some(1));
        bank.insert("key", 2).unwrap();
        destroy(&store, &id, container);
        assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(key_of(&store, &id, container), None);
    }
}

/// C2.7: packages that come meanwhile are not lost unseen.
#[test]
fn a_package_that_came_meanwhile_is_a_conflict() {
    let (_clock, store) = timed();
    let id = everywhere(&store);
    let txn = store.begin().unwrap();
    txn.session(&id)
        .unwrap()
        .data("bank")
        .unwrap()
        .destroy()
        .unwrap();
    with(&store, &id, |s| s.data("bank")?.pkg("new").insert("key", 1));
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(key_of(&store, &id, "bank"), Some(1));
}

// C2.4, C2.5
#[test]
fn it_is_seen_in_the_transaction_and_rolled_back_with_it() {
    let (_clock, store) = timed();
    let id = everywhere(&store);
    with(&store, &id, |session| {
        let bank = session.data("bank")?;
        let before = session.txn().savepoint()?;
        bank.destroy()?;
        assert!(!bank.exists()? && bank.pkg("bank").is_empty()? && session.exists()?);
        assert_eq!((bank.created_at()?, bank.packages()?.len()), (None, 0));
        assert!(session.client_id().is_some());
        session.txn().rollback_to(&before)?;
        assert!(bank.exists()?);
        assert_eq!(bank.pkg("bank").get("key")?, Some(1));
        bank.destroy()?;
        bank.pkg("other").insert("key", 3)?;
        assert!(bank.exists()?);
        Ok(())
    });
    with(&store, &id, |session| {
        let bank = session.data("bank")?;
        assert_eq!(bank.packages()?, ["other"]);
        Ok(())
    });
}

// C4.7
#[test]
fn it_goes_with_a_new_id() {
    let (_clock, store) = timed();
    let id = everywhere(&store);
    let renewed = with(&store, &id, |session| {
        session.data("bank")?.destroy()?;
        session.log_in("ann")
    });
    assert_eq!(
        store.sessions_of("ann").unwrap()[0].containers,
        ["", "scratch"]
    );
    assert_eq!(key_of(&store, &renewed, "bank"), None);
    assert_eq!(key_of(&store, &renewed, "news"), Some(1));
}

#[test]
fn where_there_is_no_session_nothing_ends() {
    let (clock, store) = timed();
    let id = everywhere(&store);
    store.register("empty", ContainerSettings::new()).unwrap();
    destroy(&store, &id, "empty");
    assert_eq!(key_of(&store, &id, "news"), Some(1));
    // What was inserted there in the transaction itself is not stored.
    with(&store, &id, |session: &Session| {
        session.pkg("empty").insert("key", 1)?;
        session.data("empty")?.destroy()
    });
    assert_eq!(live_sessions(&store, "empty"), 0);
    // One that has expired is none.
    clock.advance(2 * HOUR);
    destroy(&store, &id, "bank");
    let visitor = store.client_ids().issue();
    destroy(&store, &visitor, "bank");
    assert!(store.session_info(visitor.key()).unwrap().is_none());
    let nowhere = store.transact(|txn| txn.session(&id)?.data("nowhere").map(drop));
    assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::NoSuchContainer);
}

/// C2.7: a session that began elsewhere meanwhile is not lost: it goes on there.
#[test]
fn the_end_in_the_last_container_conflicts_with_a_beginning_elsewhere() {
    for other in ["", "scratch"] {
        let (_clock, store) = timed();
        store.register("bank", ContainerSettings::new()).unwrap();
        store.register("scratch", in_ram()).unwrap();
        let package = if other.is_empty() { "news" } else { other };
        let id = client_with(&store, &["bank"], 1);
        let mut runs = 0;
        let ends = store.transact::<_, cloakroom::Error>(|txn| {
            txn.session(&id)?.data("bank")?.destroy()?;
            runs += 1;
            if runs == 1 {
                put(&store, &id, &[package], 2);
            }
            Ok(())
        });
        ends.unwrap();
        assert_eq!(runs, 2, "{package}");
        assert_eq!(key_of(&store, &id, package), Some(2));
        assert_eq!(key_of(&store, &id, "bank"), None);
        let info = store.session_info(id.key()).unwrap().unwrap();
        assert_eq!(info.containers, [other]);
    }
}

/// C2.11: where it is ended and begins again in one transaction, it is another session.
#[test]
fn ended_and_begun_again_at_once_it_is_another_one() {
    let (clock, store) = timed();
    let id = everywhere(&store);
    with(&store, &id, |session| session.set_owner(Some("ann")));
    clock.advance(20 * MINUTE);
    for container in ["bank", "scratch"] {
        let loaded = store.begin().unwrap();
        let bank = loaded.session(&id).unwrap().pkg(container);
        assert_eq!(bank.get::<u32>("key").unwrap(), Some(1));
        let blind = store.begin().unwrap();
        let bank = blind.session(&id).unwrap();
        assert!(bank.data(container).unwrap().exists().unwrap());
        bank.pkg(container).add("n", 1).unwrap();
        let times = with(&store, &id, |session| {
            let bank = session.data(container)?;
            bank.destroy()?;
            bank.pkg("other").insert("old", 2)?;
            // The same value as before is no less a new one.
            bank.pkg(container).insert("key", 1)?;
            Ok((bank.created_at()?, bank.last_access()?))
        });
        with(&store, &id, |session| {
            let bank = session.data(container)?;
            assert_eq!((bank.created_at()?, bank.last_access()?), times);
            assert_eq!(bank.packages()?.len(), 2);
            assert_eq!(bank.pkg(container).get("key")?, Some(1));
            assert_eq!(session.owner()?.as_deref(), Some("ann"));
            Ok(())
        });
        loaded
            .session(&id)
            .unwrap()
            .pkg(container)
            .insert("key", 3)
            .unwrap();
        for late in [loaded, blind] {
            assert_eq!(late.commit().unwrap_err().kind(), ErrorKind::Conflict);
        }
    }
    assert!(store.check().unwrap().is_clean());
}

/// C2.7: what was read of it before must still be there.
#[test]
fn what_was_read_before_it_ends_there_is_validated() {
    let (_clock, store) = timed();
    let id = everywhere(&store);
    let ends = |begins: bool| {
        let txn = store.begin().unwrap();
        let bank = txn.session(&id).unwrap().data("bank").unwrap();
        let read = bank.pkg("bank").get::<u32>("key").unwrap();
        bank.destroy().unwrap();
        if begins {
            bank.pkg("bank").insert("new", 2).unwrap();
        }
        (txn, read)
    };
    for begins in [true, false] {
        put(&store, &id, &["bank"], 1);
        let (txn, read) = ends(begins);
        assert_eq!(read, Some(1));
        put(&store, &id, &["bank"], 2);
        assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
        let (txn, read) = ends(begins);
        assert_eq!(read, Some(2));
        txn.commit().unwrap();
        assert_eq!(key_of(&store, &id, "bank"), None);
    }
}

// C5.4
#[test]
fn packages_that_cannot_be_read_end_with_it() {
    needs_files!("it damages rows in the store's file");
    let (_folder, path) = place();
    let store = file_builder().open(&path).unwrap();
    store.register("bank", ContainerSettings::new()).unwrap();
    let ids = [(); 2].map(|()| client_with(&store, &["bank"], 1));
    store.close().unwrap();
    ids.iter().for_each(|id| flip_packages(&path, id.key()));
    let store = file_builder().open(&path).unwrap();
    store.register("bank", ContainerSettings::new()).unwrap();
    for (id, begins) in ids.iter().zip([false, true]) {
        let id = &again(&store, id);
        let read = |txn: &Txn| txn.session(id)?.pkg("bank").get::<u32>("key");
        assert_eq!(store.transact(read).unwrap_err().kind(), ErrorKind::Corrupt);
        with(&store, id, |session| {
            session.pkg("news").insert("key", 2)?;
            session.data("bank")?.destroy()?;
            match begins {
                true => session.pkg("bank").insert("new", 3),
                false => Ok(()),
            }
        });
        assert_eq!(key_of(&store, id, "news"), Some(2));
        assert_eq!(key_of(&store, id, "bank"), None);
        assert_eq!(with(&store, id, |s| s.data("bank")?.exists()), begins);
    }
    assert!(store.check().unwrap().is_clean());
}

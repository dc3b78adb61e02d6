//! What holds while a store reopens itself, and afterwards.

use super::{fault, get, open, prepare, put};
use crate::support::clock::clock;
use crate::support::store::file_builder;
use crate::support::wait::eventually;
use cloakroom::{ClientId, ContainerSettings, ErrorKind, Result, Store, Txn};
use cloakroom_torture::disk::{Call, Disk, EIO, ENOSPC, Failure, Fault};
use std::time::Duration;

// C7.1, C2.13: another process that finds the file free would leave this store locked out.
#[test]
fn the_file_stays_locked_while_the_store_reopens() {
    let disk = Disk::default();
    let rival = || file_builder().open_in(disk.folder(), "store").map(drop);
    let store = open(&disk);
    let id = store.client_ids().issue();
    put(&store, &id, 1).unwrap();
    assert_eq!(rival().unwrap_err().kind(), ErrorKind::Locked);
    disk.fail(fault(
        Call::changes,
        0,
        Fault::FOR_GOOD,
        Failure::Error(EIO),
    ));
    put(&store, &id, 2).unwrap_err();
    assert_eq!(
        put(&store, &id, 2).unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_eq!(rival().unwrap_err().kind(), ErrorKind::Locked);
    disk.heal();
    eventually(|| put(&store, &id, 2));
    assert_eq!(rival().unwrap_err().kind(), ErrorKind::Locked);
    store.close().unwrap();
    rival().unwrap();
}

/// A group over file and memory whose outcome is open when it fails.
fn mixed(store: &Store, id: &ClientId, n: u64) -> Result<()> {
    store.transact(|txn| {
        let session = txn.session(id)?;
        session.pkg("a").insert("n", n)?;
        session.pkg("in memory").insert("n", n)
    })
}

fn mixed_values(store: &Store, id: &ClientId) -> Result<(Option<u64>, Option<u64>)> {
    let txn = store.begin()?;
    let session = txn.session(id)?;
    let file = session.pkg("a").get("n")?;
    Ok((file, session.pkg("in memory").get("n")?))
}

// C1.7, C2.2
#[test]
fn a_commit_over_file_and_memory_is_in_both_or_in_neither_after_a_failure() {
    let prepared = prepare();
    let mut unknown = 0;
    for failure in [Failure::Error(EIO), Failure::Half(EIO)] {
        for after in 0.. {
            let (disk, store, id) = prepared.open();
            store
                .register("in memory", ContainerSettings::new().in_memory())
                .unwrap();
            mixed(&store, &id, 2).unwrap();
            disk.fail(fault(Call::changes, after, 1, failure));
            let answer = mixed(&store, &id, 3);
            disk.heal();
            let (file, memory) = eventually(|| mixed_values(&store, &id));
            assert_eq!(file, memory, "call {after}: {answer:?}");
            match answer {
                Ok(()) => {
                    assert_eq!(file, Some(3));
                    break;
                }
                Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {
                    assert!([Some(2), Some(3)].contains(&file));
                    unknown += 1;
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::NotWritten);
                    assert_eq!(file, Some(2));
                }
            }
            // The answer can come before the store reopens: it may have read what was there before.
            eventually(|| mixed(&store, &id, 4));
            let both = mixed_values(&store, &id).unwrap();
            assert_eq!(both, (Some(4), Some(4)));
        }
    }
    assert!(unknown > 0);
}

// C1.2, C2.13: the process and its file must agree on the containers.
#[test]
fn a_container_whose_removal_failed_keeps_what_is_committed_to_it() {
    let prepared = prepare();
    for failure in [Failure::Error(EIO), Failure::Half(EIO)] {
        for after in 0.. {
            let (disk, store, id) = prepared.open();
            store.register("kept", ContainerSettings::new()).unwrap();
            disk.fail(fault(Call::changes, after, 1, failure));
            let answer = store.unregister("kept");
            disk.heal();
            if answer.is_ok() {
                break;
            }
            eventually(|| store.begin().map(drop));
            store.container("kept").unwrap();
            let write = |txn: &Txn| txn.session(&id)?.pkg("kept").insert("n", 5);
            store.transact(write).unwrap();
            store.close().unwrap();
            let store = open(&disk.all_kept());
            let container = store.container("kept");
            assert!(container.is_ok(), "call {after}: {answer:?}");
            let txn = store.begin().unwrap();
            let session = txn.session(&prepared.id(&store)).unwrap();
            assert_eq!(session.pkg("kept").get("n").unwrap(), Some(5));
        }
    }
}

// C1.2, C2.13
#[test]
fn containers_whose_registration_failed_never_share_a_number() {
    let prepared = prepare();
    for after in 0.. {
        let (disk, store, id) = prepared.open();
        disk.fail(fault(Call::changes, after, 1, Failure::Error(EIO)));
        let answer = store.register("first", ContainerSettings::new());
        disk.heal();
        if answer.is_ok() {
            break;
        }
        eventually(|| store.begin().map(drop));
        store.register("second", ContainerSettings::new()).unwrap();
        let write = |txn: &Txn| txn.session(&id)?.pkg("second").insert("n", 5);
        store.transact(write).unwrap();
        store.close().unwrap();
        let store = open(&disk.all_kept());
        store.register("first", ContainerSettings::new()).unwrap();
        let second = store.container("second").unwrap().statistics().unwrap();
        let first = store.container("first").unwrap().statistics().unwrap();
        assert_eq!((first.live, second.live), (0, 1), "call {after}");
    }
}

// C2.13, C4.2: the process and its file must agree on the secrets.
#[test]
fn a_secret_whose_making_failed_is_not_in_use_after_a_restart_either() {
    let open = |disk: &Disk| Store::builder().open_in(disk.folder(), "store").unwrap();
    let new = Disk::default();
    open(&new).close().unwrap();
    let mut unknown = 0;
    for after in 0.. {
        let disk = Disk::holding("store", new.kept("store"));
        let store = open(&disk);
        disk.fail(fault(Call::changes, after, 1, Failure::Error(EIO)));
        let answer = store.rotate_secret();
        disk.heal();
        let Err(error) = answer else { break };
        unknown += u32::from(error.kind() == ErrorKind::OutcomeUnknown);
        eventually(|| store.begin().map(drop));
        let id = store.client_ids().issue();
        store.close().unwrap();
        let store = open(&disk.all_kept());
        assert!(store.client_ids().verify(id.as_str()).is_some());
        let first = store.retire_secret(0).unwrap_err();
        assert_eq!(first.kind(), ErrorKind::InvalidInput, "call {after}");
        assert_eq!(store.rotate_secret().unwrap(), 1, "call {after}");
    }
    assert!(unknown > 0);
}

// C7.3
#[test]
fn an_opening_that_fails_loses_nothing() {
    let prepared = prepare();
    for failure in [Failure::Error(EIO), Failure::Half(ENOSPC), Failure::Panic] {
        for after in 0.. {
            let disk = Disk::holding("store", prepared.image.clone());
            disk.fail(fault(Call::changes, after, Fault::FOR_GOOD, failure));
            let opened = file_builder().open_in(disk.folder(), "store").map(drop);
            let struck = disk.heal();
            assert_eq!(prepared.found_in(&disk.all_kept()), 1, "call {after}");
            assert_eq!(prepared.found_in(&disk.after_kill()), 1, "call {after}");
            if opened.is_ok() && !struck {
                break;
            }
        }
    }
}

// C4.8, C2.13: nobody knows whether the first commit founded a session.
#[test]
fn an_id_founds_no_second_session_after_a_commit_whose_outcome_is_unknown() {
    let prepared = prepare();
    for after in 0.. {
        let (disk, store, _) = prepared.open();
        let id = store.client_ids().issue();
        disk.fail(fault(Call::changes, after, 1, Failure::Half(EIO)));
        let answer = put(&store, &id, 2).map_err(|e| e.kind());
        disk.heal();
        eventually(|| store.begin().map(drop));
        let found = |store: &Store| {
            let txn = store.begin().unwrap();
            txn.session(&id).unwrap().exists().unwrap()
        };
        if found(&store) {
            let destroy = |txn: &Txn| txn.session(&id)?.destroy();
            store.transact(destroy).unwrap();
        }
        let again = store.begin().unwrap();
        let session = again.session(&id).unwrap();
        session.pkg("a").insert("n", 3).unwrap();
        let is_new = session.client_id().unwrap() != id;
        match answer {
            Ok(()) => {
                assert!(is_new, "a session was founded under it");
                break;
            }
            Err(ErrorKind::OutcomeUnknown) => assert!(is_new, "call {after}"),
            Err(_) => assert!(!is_new, "call {after}: nothing was written"),
        }
    }
}

// C3.4, C2.13: a request that reads while the file is away is an access all the same.
#[test]
fn an_access_while_the_store_reopens_is_recorded() {
    let disk = Disk::default();
    let clock = clock();
    let store = file_builder().clock(clock.clone());
    let store = store.open_in(disk.folder(), "store").unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1).unwrap();
    clock.advance(Duration::from_secs(1000));
    let reading = store.begin().unwrap();
    let n: Option<u64> = reading.session(&id).unwrap().pkg("a").get("n").unwrap();
    assert_eq!(n, Some(1));
    disk.fail(fault(
        Call::changes,
        0,
        Fault::FOR_GOOD,
        Failure::Error(EIO),
    ));
    put(&store, &store.client_ids().issue(), 1).unwrap_err();
    reading.commit().unwrap();
    disk.heal();
    let accessed = eventually(|| store.begin()?.session(&id)?.last_access());
    assert_eq!(accessed.unwrap(), clock.now());
}

// C7.4: the store reads its journal through its open file, not by name.
#[test]
fn a_store_whose_journals_were_replaced_comes_back_after_a_failed_sync() {
    let prepared = prepare();
    for leaves_others in [false, true] {
        let (disk, store, id) = prepared.open();
        put(&store, &id, 2).unwrap();
        let folder = disk.folder();
        for n in 1..=4 {
            let name = format!("store.journal-{n}");
            let renamed = folder.rename(name.as_ref(), format!("away-{n}").as_ref());
            if renamed.is_ok() && leaves_others {
                folder.make().unwrap().publish(name.as_ref()).unwrap();
            }
        }
        disk.fail(fault(|call| call == Call::Sync, 0, 1, Failure::Error(EIO)));
        let error = put(&store, &id, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
        assert!(disk.heal());
        let found = eventually(|| get(&store, &id));
        assert!([2, 3].contains(&found), "{found}");
        put(&store, &id, 4).unwrap();
        store.close().unwrap();
        assert_eq!(prepared.found_in(&disk), 4);
    }
}

/// The first sync that comes fails.
fn fail_a_sync(disk: &Disk, store: &Store, id: &ClientId) {
    disk.fail(fault(|call| call == Call::Sync, 0, 1, Failure::Error(EIO)));
    let error = put(store, id, 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    assert!(disk.heal());
}

// C7.4: a copy has the identity of its original.
#[test]
fn a_store_that_reopens_leaves_the_journals_of_its_own_copy_alone() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    put(&store, &id, 2).unwrap();
    let folder = disk.folder();
    for name in disk.names() {
        let name = name.to_str().unwrap();
        let content = disk.seen(name);
        let old = format!("old-{name}");
        folder.rename(name.as_ref(), old.as_ref()).unwrap();
        let made = folder.make().unwrap();
        made.disk().unwrap().write(0, &content).unwrap();
        made.disk().unwrap().sync_data().unwrap();
        made.publish(name.as_ref()).unwrap();
    }
    for round in 0..3 {
        fail_a_sync(&disk, &store, &id);
        eventually(|| put(&store, &id, 10 + round));
    }
    store.close().unwrap();
    assert_eq!(prepared.found_in(&disk), 2);
    let old = Disk::holding("store", disk.seen("old-store"));
    assert_eq!(prepared.found_in(&old), 12);
}

// C7.4, C2.13: what bears the names of its journals does not keep a store away.
#[test]
fn a_store_beside_the_journals_of_one_that_is_open_comes_back_after_a_failed_sync() {
    let prepared = prepare();
    for other_is_older in [false, true] {
        let (disk, store, id) = prepared.open();
        put(&store, &id, 2).unwrap();
        let folder = disk.folder();
        for name in disk.names() {
            let old = format!("old-{}", name.display());
            folder.rename(&name, old.as_ref()).unwrap();
        }
        let mut other = open(&disk);
        if other_is_older {
            other.close().unwrap();
            other = open(&disk);
        }
        let other_id = other.client_ids().issue();
        put(&other, &other_id, 7).unwrap();
        fail_a_sync(&disk, &store, &id);
        eventually(|| put(&store, &id, 4));
        store.close().unwrap();
        put(&other, &other_id, 8).unwrap();
        let killed = open(&disk.after_kill());
        let other_id = killed.client_ids().verify(other_id.as_str()).unwrap();
        assert_eq!(get(&killed, &other_id).unwrap(), 8);
        let old = Disk::holding("store", disk.seen("old-store"));
        assert_eq!(prepared.found_in(&old), 4);
    }
}

//! Whole backups.

use super::support::clock::{HOUR, MINUTE, clock, secs};
use super::support::engine::needs_files;
use super::support::files::names;
use super::{Place, Shown, builder, go_on, set, shown};
use cloakroom::{Backup, BackupPhase, ClientId, ContainerSettings, ErrorKind, Store, Txn};
use std::ops::ControlFlow;

/// Sessions of every kind, some in the file and some in the journal alone.
fn fill(store: &Store) -> Vec<ClientId> {
    let settings = ContainerSettings::new()
        .timeout(2 * HOUR)
        .resolution(MINUTE);
    store.register("big", settings).unwrap();
    let ids: Vec<_> = (0..600).map(|_| store.client_ids().issue()).collect();
    for (n, id) in ids.iter().enumerate() {
        let put = |txn: &Txn| {
            let session = txn.session(id)?;
            session.pkg("app").insert("n", n)?;
            if n % 3 == 0 {
                session.pkg("big").insert("text", "x".repeat(1000))?;
                session.set_owner(Some("ann"))?;
            }
            if n % 7 == 0 {
                session.set_label("phone")?;
            }
            Ok::<_, cloakroom::Error>(())
        };
        store.transact(put).unwrap();
        if n == 300 {
            store.checkpoint().unwrap();
        }
    }
    for id in &ids[295..305] {
        let end = |txn: &Txn| txn.session(id)?.destroy();
        store.transact(end).unwrap();
    }
    ids
}

// C9.1
#[test]
fn a_restored_store_shows_what_the_store_showed() {
    needs_files!("backups are of files");
    let place = Place::new();
    let store = place.store();
    let ids = fill(&store);
    let expected: Vec<_> = ids.iter().map(|id| shown(&store, id)).collect();
    assert_eq!(
        expected.iter().filter(|it| **it == Shown::Refused).count(),
        10
    );
    let path = place.at("one.backup");
    let backup = store.backup(&path, go_on).unwrap();
    assert!(backup.is_whole());
    assert_eq!(backup.sessions, 590 + 197);
    assert_eq!(backup.bytes, std::fs::metadata(&path).unwrap().len());
    assert_eq!(Backup::verify(&path).unwrap(), backup);
    // What comes later is not part of it.
    set(&store, &ids[0], "late", true);
    let restored = place.restore(&[&path]);
    let found: Vec<_> = ids.iter().map(|id| shown(&restored, id)).collect();
    assert_eq!(found, expected);
    assert_eq!(
        restored.sessions_of("ann").unwrap().len(),
        store.sessions_of("ann").unwrap().len()
    );
    let settings = |store: &Store| format!("{:?}", store.container("big").unwrap().settings());
    assert_eq!(settings(&restored), settings(&store));
    // A new container gets a number that no other has.
    restored.register("new", ContainerSettings::new()).unwrap();
    set(&restored, &ids[1], "late", true);
    assert_ne!(shown(&restored, &ids[1]), expected[1]);
}

// C9.1, C3.4: accesses that wait in memory.
#[test]
fn accesses_that_are_not_written_yet_are_part_of_a_backup() {
    needs_files!("backups are of files");
    let place = Place::new();
    let clock = clock();
    let store = super::support::store::builder(&clock)
        .open(place.at("store"))
        .unwrap();
    let id = store.client_ids().issue();
    set(&store, &id, "n", 1);
    clock.advance(30 * MINUTE);
    let path = place.at("one.backup");
    let txn = store.begin().unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
    txn.commit().unwrap();
    store.backup(&path, go_on).unwrap();
    Store::restore([&path], place.at("copy"), go_on).unwrap();
    clock.advance(45 * MINUTE);
    let copy = super::support::store::builder(&clock)
        .open(place.at("copy"))
        .unwrap();
    let txn = copy.begin().unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
}

// C2.14
#[test]
fn a_backup_outlives_the_age_of_snapshots_and_is_shown() {
    needs_files!("backups are of files");
    let place = Place::new();
    let clock = clock();
    let store = super::support::store::builder(&clock)
        .snapshot_max_age(secs(1))
        .open(place.at("store"))
        .unwrap();
    let ids = fill(&store);
    assert_eq!(store.statistics().unwrap().maintenance_snapshots(), 0);
    let mut calls = 0;
    let expected = shown(&store, &ids[599]);
    let backup = store.backup(place.at("one.backup"), |so_far| {
        clock.advance(secs(2));
        for n in 0..3 {
            set(&store, &ids[599], "late", calls * 3 + n);
        }
        store.checkpoint().unwrap();
        calls += 1;
        if so_far.phase == BackupPhase::Writing {
            let statistics = store.statistics().unwrap();
            assert_eq!(statistics.maintenance_snapshots(), 1);
            assert!(statistics.oldest_maintenance_snapshot().unwrap() >= secs(2));
        }
        ControlFlow::Continue(())
    });
    backup.unwrap();
    assert!(calls > 3);
    assert_eq!(store.statistics().unwrap().maintenance_snapshots(), 0);
    let restored = place.restore(&[place.at("one.backup")]);
    assert_eq!(shown(&restored, &ids[599]), expected);
}

// C9.4
#[test]
fn a_backup_that_is_broken_off_leaves_nothing() {
    needs_files!("backups are of files");
    let place = Place::new();
    let store = place.store();
    fill(&store);
    let before = names(place.0.path());
    for stop in 0..8 {
        let mut calls = 0;
        let error = store.backup(place.at("one.backup"), |_| {
            calls += 1;
            if calls > stop {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(names(place.0.path()), before, "{stop}");
    }
    let path = place.at("one.backup");
    store.backup(&path, go_on).unwrap();
    let stop = |_| ControlFlow::Break(());
    let error = Store::restore([&path], place.at("restored"), stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(!place.at("restored").exists());
    let error = Backup::verify_with(&path, stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

// C9.1
#[test]
fn nothing_that_is_there_is_replaced() {
    needs_files!("backups are of files");
    let place = Place::new();
    let store = place.store();
    let path = place.at("one.backup");
    std::fs::write(&path, "mine").unwrap();
    let error = store.backup(&path, go_on).unwrap_err();
    assert_eq!(
        error.io_error().unwrap().kind(),
        std::io::ErrorKind::AlreadyExists
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    let other = place.at("other.backup");
    store.backup(&other, go_on).unwrap();
    let error = Store::restore([&other], &path, go_on).unwrap_err();
    assert_eq!(
        error.io_error().unwrap().kind(),
        std::io::ErrorKind::AlreadyExists
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    let error = store
        .backup(place.at("store.journal-7"), go_on)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[cfg(unix)]
#[test]
fn only_its_owner_can_read_a_backup() {
    use std::os::unix::fs::PermissionsExt;
    needs_files!("backups are of files");
    let place = Place::new();
    let path = place.at("one.backup");
    place.store().backup(&path, go_on).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_backup_goes_to_any_writer_and_comes_from_any_reader() {
    needs_files!("backups are of files");
    let place = Place::new();
    let store = place.store();
    let ids = fill(&store);
    let mut bytes = Vec::new();
    let backup = store.backup_to(&mut bytes, go_on).unwrap();
    assert_eq!(Backup::verify_from(&*bytes).unwrap(), backup);
    let (again, other) = pollster::block_on(store.backup_to_async(Vec::new(), go_on)).unwrap();
    assert_eq!(
        (again.commit, again.sessions),
        (backup.commit, backup.sessions)
    );
    assert_eq!(other.len(), bytes.len());
    std::fs::write(place.at("copy.backup"), &bytes).unwrap();
    let restored = place.restore(&[place.at("copy.backup")]);
    assert_eq!(shown(&restored, &ids[9]), shown(&store, &ids[9]));
    let path = place.at("async.backup");
    let last = pollster::block_on(store.backup_async(&path, go_on)).unwrap();
    assert_eq!(Backup::verify(&path).unwrap(), last);
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = store.backup_to(Full, go_on).unwrap_err();
    assert_eq!(
        error.io_error().unwrap().kind(),
        std::io::ErrorKind::StorageFull
    );
}

#[test]
fn a_store_in_memory_is_backed_up_into_a_file() {
    needs_files!("backups are of files");
    let place = Place::new();
    let store = builder().in_memory().unwrap();
    let id = store.client_ids().issue();
    set(&store, &id, "n", 7);
    let path = place.at("one.backup");
    store.backup(&path, go_on).unwrap();
    let restored = place.restore(&[&path]);
    assert_eq!(shown(&restored, &id), shown(&store, &id));
}

// C1.2: the rows of a container that was unregistered may not be removed yet.
#[test]
fn the_rows_of_an_unregistered_container_are_left_out() {
    needs_files!("backups are of files");
    let place = Place::new();
    let store = place.store();
    fill(&store);
    store.unregister("big").unwrap();
    let path = place.at("one.backup");
    let backup = store.backup(&path, go_on).unwrap();
    assert_eq!(backup.sessions, 590);
    let restored = place.restore(&[&path]);
    assert!(restored.container("big").is_err());
    assert!(
        restored
            .sessions_of("ann")
            .unwrap()
            .iter()
            .all(|it| it.containers == [""])
    );
}

// C10: an engine that keeps no files here.
#[cfg(feature = "torture")]
#[test]
fn another_engine_says_that_it_makes_no_backups() {
    use super::support::engine::is_remote;
    if is_remote() {
        let place = Place::new();
        let error = place
            .store()
            .backup(place.at("one.backup"), go_on)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(!place.at("one.backup").exists());
    }
}

#[cfg(feature = "encryption")]
#[test]
fn a_backup_of_an_encrypted_store_is_encrypted_and_needs_the_same_keys() {
    use cloakroom::KeyRing;
    needs_files!("backups are of files");
    let place = Place::new();
    let keys = || KeyRing::new(1, [7; 32]);
    let open = |name: &str| builder().encryption(keys()).open(place.at(name));
    let store = open("store").unwrap();
    let id = store.client_ids().issue();
    set(&store, &id, "card", "4111-1111-1111-1111");
    let own = |txn: &Txn| txn.session(&id)?.set_owner(Some("ann@example.org"));
    store.transact(own).unwrap();
    let path = place.at("one.backup");
    store.backup(&path, go_on).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for secret in ["4111", "ann@", "card"] {
        let is_there = bytes
            .windows(secret.len())
            .any(|it| it == secret.as_bytes());
        assert!(!is_there, "{secret}");
    }
    // No key is needed to verify and to restore it.
    Backup::verify(&path).unwrap();
    Store::restore([&path], place.at("restored"), go_on).unwrap();
    let error = builder().open(place.at("restored")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    let restored = open("restored").unwrap();
    assert_eq!(shown(&restored, &id), shown(&store, &id));
    assert_eq!(restored.sessions_of("ann@example.org").unwrap().len(), 1);
    assert!(restored.check().unwrap().is_clean());
}

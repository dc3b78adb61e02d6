//! Incremental backups: a chain shows what the store showed, whatever came in between.

use super::support::clock::{HOUR, clock};
use super::support::engine::needs_files;
use super::{Place, Shown, builder, go_on, set, shown};
use cloakroom::{
    Backup, BackupMark, BackupPhase, ClientId, ContainerSettings, Error, ErrorKind, Store, Txn,
};
use std::ops::ControlFlow;
use std::path::PathBuf;

const SESSIONS: usize = 1000;

/// A store and the chain of its backups.
struct House {
    place: Place,
    store: Option<Store>,
    ids: Vec<ClientId>,
    chain: Vec<PathBuf>,
}

impl House {
    fn new() -> Self {
        let place = Place::new();
        let store = place.store();
        let ids: Vec<_> = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
        for some in ids.chunks(100) {
            let put = |txn: &Txn| {
                for id in some {
                    let session = txn.session(id)?;
                    session.pkg("app").insert("text", "x".repeat(400))?;
                    session.set_owner(Some("ann"))?;
                }
                Ok::<_, Error>(())
            };
            store.transact(put).unwrap();
        }
        let mut house = Self {
            place,
            store: Some(store),
            ids,
            chain: Vec::new(),
        };
        let path = house.next();
        house.store().backup(&path, go_on).unwrap();
        house.chain.push(path);
        house
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn next(&self) -> PathBuf {
        self.place.at(&format!("{}.backup", self.chain.len()))
    }

    fn back_up(&mut self) -> Backup {
        let path = self.next();
        let backup = self
            .store()
            .backup_since(&self.chain, &path, go_on)
            .unwrap();
        assert_eq!(Backup::verify(&path).unwrap(), backup);
        self.chain.push(path);
        backup
    }

    fn reopen(&mut self) {
        self.store.take().unwrap().close().unwrap();
        self.store = Some(self.place.store());
    }

    /// The chain so far shows what the store shows.
    fn assert_same(&self) {
        let restored = self.place.restore(&self.chain);
        for (n, id) in self.ids.iter().enumerate() {
            assert_eq!(shown(&restored, id), shown(self.store(), id), "{n}");
        }
        let owned = |store: &Store| store.sessions_of("ann").unwrap().len();
        assert_eq!(owned(&restored), owned(self.store()));
    }

    /// Some changes of every kind.
    fn change(&mut self, seed: usize) {
        let store = self.store.as_ref().unwrap();
        let id = |n: usize| &self.ids[(seed * 37 + n) % SESSIONS];
        for n in 0..5 {
            set(store, id(n), "n", seed);
        }
        let end = |txn: &Txn| txn.session(id(5))?.destroy();
        store.transact(end).unwrap();
        let change = |txn: &Txn| {
            if txn.session(id(6))?.exists()? {
                txn.session(id(6))?.set_owner(None)?;
                txn.session(id(6))?.pkg("app").remove("text")?;
            }
            txn.session(id(7))?.pkg("other").insert("n", seed)
        };
        store.transact(change).unwrap();
        let new = store.client_ids().issue();
        set(store, &new, "n", seed);
        self.ids.push(new);
    }
}

// C9.1
#[test]
fn a_chain_shows_what_the_store_shows_over_checkpoints_and_restarts() {
    needs_files!("backups are of files");
    let mut house = House::new();
    for step in 0..12 {
        house.change(step);
        match step % 4 {
            1 => house.store().checkpoint().unwrap(),
            2 => house.reopen(),
            3 => {
                house.store().checkpoint().unwrap();
                house.change(step + 100);
            }
            _ => {}
        }
        let backup = house.back_up();
        assert!(backup.sessions < 40 && backup.bytes < 60_000, "{backup:?}");
    }
    house.assert_same();
    // Nothing was changed.
    assert_eq!(house.back_up().sessions, 0);
    house.reopen();
    let backup = house.back_up();
    assert_eq!(
        (backup.sessions, backup.packages, backup.removed),
        (0, 0, 0)
    );
    house.assert_same();
}

// C9.1: it can be broken off, and leaves the processor to commits.
#[test]
fn progress_is_told_of_rows_that_are_gone() {
    needs_files!("backups are of files");
    let mut house = House::new();
    for some in house.ids.chunks(100) {
        let end = |txn: &Txn| some.iter().try_for_each(|id| txn.session(id)?.destroy());
        house.store().transact(end).unwrap();
    }
    house.reopen();
    let mut calls = 0;
    let path = house.next();
    let backup = house.store().backup_since(&house.chain, &path, |so_far| {
        calls += u32::from(so_far.phase != BackupPhase::Verifying);
        ControlFlow::Continue(())
    });
    assert_eq!(backup.unwrap().removed, 3 * SESSIONS as u64);
    // Of the 3000 rows that are gone, and of the tombstones.
    assert!(calls >= 3000 / 256 + 3, "{calls}");
}

#[test]
fn ids_that_are_refused_no_more_are_left_out() {
    needs_files!("backups are of files");
    let place = Place::new();
    let clock = clock();
    let builder = || super::support::store::builder(&clock);
    let store = builder().open(place.at("store")).unwrap();
    let ids: Vec<_> = (0..1000).map(|_| store.client_ids().issue()).collect();
    for id in &ids {
        set(&store, id, "k", 1);
    }
    store.end_all().unwrap();
    let [whole, early, late] = ["whole", "early", "late"].map(|name| place.at(name));
    let before = store.backup(&whole, go_on).unwrap().bytes;
    assert!(before > 30_000, "{before}");
    let early = store.backup_since([&whole], &early, go_on).unwrap();
    assert!(early.bytes > 30_000, "{early:?}");
    clock.advance(HOUR);
    let ended = store.client_ids().issue();
    set(&store, &ended, "k", 1);
    store.end(ended.key()).unwrap();
    let after = store.backup_since([&whole], &late, go_on).unwrap();
    assert!(after.bytes < 5_000, "{after:?}");
    store.close().unwrap();

    let restored = place.at("restored");
    Store::restore([&whole, &late], &restored, go_on).unwrap();
    let restored = builder().open(&restored).unwrap();
    assert!(restored.check().unwrap().is_clean());
    assert_eq!(shown(&restored, &ended), Shown::Refused);
    assert_eq!(shown(&restored, &ids[0]), Shown::None);
}

#[test]
fn only_the_last_backup_is_read_while_the_store_remembers_what_changed() {
    needs_files!("backups are of files");
    let mut house = House::new();
    house.change(0);
    house.back_up();
    house.change(1);
    let last = house.chain.last().unwrap().clone();
    let path = house.next();
    let backup = house.store().backup_since([&last], &path, go_on).unwrap();
    house.chain.push(path);
    assert_eq!(
        backup.previous.unwrap().id,
        Backup::verify(&last).unwrap().id
    );
    house.assert_same();
    // After a restart it needs all of them.
    house.reopen();
    let last = house.chain.last().unwrap();
    let error = house.store().backup_since([last], house.next(), go_on);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("whole chain"), "{error}");
    assert!(!house.next().exists());
    house.back_up();
    house.assert_same();
}

#[test]
fn settings_and_secrets_are_those_of_the_last_backup() {
    needs_files!("backups are of files");
    let mut house = House::new();
    let store = house.store();
    let settings = ContainerSettings::new().timeout(2 * HOUR);
    store.register("big", settings.clone()).unwrap();
    let id = store.client_ids().issue();
    let put = |txn: &Txn| {
        let session = txn.session(&id)?;
        session.pkg("big").insert("n", 1)?;
        session.set_owner(Some("ann"))
    };
    store.transact(put).unwrap();
    house.ids.push(id);
    house.back_up();
    house.assert_same();
    house.store().unregister("big").unwrap();
    house.store().register("late", settings).unwrap();
    house.store().rotate_secret().unwrap();
    let id = house.store().client_ids().issue();
    set(house.store(), &id, "n", 1);
    house.ids.push(id);
    house.back_up();
    let restored = house.place.restore(&house.chain);
    assert!(restored.container("big").is_err());
    assert!(restored.container("late").is_ok());
    drop(restored);
    house.assert_same();
}

#[test]
fn a_wrong_chain_is_refused() {
    needs_files!("backups are of files");
    let mut house = House::new();
    for step in 0..3 {
        house.change(step);
        house.back_up();
    }
    let other = Place::new();
    let whole = other.at("other.backup");
    other.store().backup(&whole, go_on).unwrap();
    let [a, b, c, d] = [0, 1, 2, 3].map(|n| house.chain[n].clone());
    let other_store = other.at("increment.backup");
    let store = other.store();
    store.backup_since([&whole], &other_store, go_on).unwrap();
    let cases: [(&[&PathBuf], &str); 9] = [
        (&[], "no backup"),
        (&[&b], "incremental"),
        (&[&b, &a], "incremental"),
        (&[&a, &c], "missing"),
        (&[&a, &c, &b], "missing"),
        (&[&a, &b, &d], "missing"),
        (&[&a, &b, &b], "twice"),
        (&[&a, &whole], "whole"),
        (&[&a, &b, &other_store], "another store"),
    ];
    let to = house.place.at("restored");
    for (chain, why) in cases {
        let error = Store::restore(chain, &to, go_on).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert!(!to.exists());
    }
    let path = house.next();
    for chain in [&[&whole][..], &[]] {
        let error = house.store().backup_since(chain, &path, go_on).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(!path.exists());
    }
    Store::restore([&a, &b], &to, go_on).unwrap();
}

// C9.1: ended sessions stay ended, whatever their container's number was meanwhile.
#[test]
fn sessions_do_not_come_back_with_their_container() {
    needs_files!("backups are of files");
    let place = Place::new();
    let store = place.store();
    let id = store.client_ids().issue();
    set(&store, &id, "n", 1);
    let chain = ["0", "1", "2"].map(|name| place.at(name));
    store.backup(&chain[0], go_on).unwrap();
    let end = |txn: &Txn| txn.session(&id)?.destroy();
    store.transact(end).unwrap();
    let settings = ContainerSettings::new().timeout(HOUR);
    store.register("", settings.clone().in_memory()).unwrap();
    store.backup_since(&chain[..1], &chain[1], go_on).unwrap();
    store.register("", settings).unwrap();
    store.backup_since(&chain[..2], &chain[2], go_on).unwrap();
    let restored = place.restore(&chain);
    assert!(restored.session_info(id.key()).unwrap().is_none());
    assert_eq!(shown(&restored, &id), Shown::Refused);
}

// C9.1: a store that is restored from a part of the chain gives the numbers again that the lost one had given.
#[test]
fn a_container_does_not_get_the_sessions_of_a_lost_one_with_its_number() {
    needs_files!("backups are of files");
    let place = Place::new();
    let store = place.store();
    let settings = ContainerSettings::new().timeout(HOUR);
    let chain = ["0", "1", "2", "3"].map(|name| place.at(name));
    store.backup(&chain[0], go_on).unwrap();
    store.register("lost", settings.clone()).unwrap();
    let id = store.client_ids().issue();
    let put = |txn: &Txn| txn.session(&id)?.pkg("lost").insert("n", 1);
    store.transact(put).unwrap();
    store.backup_since(&chain[..1], &chain[1], go_on).unwrap();
    store.close().unwrap();
    let copy = place.at("copy");
    Store::restore(&chain[..1], &copy, go_on).unwrap();
    let store = builder().open(&copy).unwrap();
    store.backup_since(&chain[..2], &chain[2], go_on).unwrap();
    store.register("new", settings).unwrap();
    store.backup_since(&chain[..3], &chain[3], go_on).unwrap();
    let restored = place.restore(&chain);
    assert!(restored.container("new").is_ok());
    assert!(restored.session_info(id.key()).unwrap().is_none());
}

// C9.1: the restored store is another one from there on.
#[test]
fn the_chain_goes_on_in_the_restored_store_and_in_the_salvaged_one() {
    needs_files!("backups are of files");
    let mut house = House::new();
    house.change(0);
    house.back_up();
    // What this opening commits from here on is lost.
    house.change(1);
    let lost = shown(house.store(), &house.ids[37]);
    drop(house.store.take());
    let restored = house.place.restore(&house.chain);
    assert_ne!(shown(&restored, &house.ids[37]), lost);
    house.store = Some(restored);
    house.change(2);
    house.back_up();
    house.change(3);
    house.store.take().unwrap().close().unwrap();
    let (from, to) = (house.place.at("restored"), house.place.at("salvaged"));
    assert!(builder().salvage(&from, &to).unwrap().is_whole());
    house.store = Some(builder().open(&to).unwrap());
    house.change(4);
    house.back_up();
    house.assert_same();
}

#[cfg(feature = "encryption")]
#[test]
fn a_chain_goes_on_over_the_encryption_of_a_store() {
    use cloakroom::KeyRing;
    needs_files!("backups are of files");
    let mut house = House::new();
    let open = |path: PathBuf| {
        let keys = KeyRing::new(1, [7; 32]);
        builder().encryption(keys).open(path).unwrap()
    };
    house.change(0);
    house.store.take().unwrap().close().unwrap();
    house.store = Some(open(house.place.at("store")));
    house.change(1);
    house.back_up();
    let goes_on = |_| ControlFlow::Continue(());
    assert!(house.store().reseal(goes_on).unwrap().is_complete);
    house.change(2);
    house.back_up();
    let to = house.place.at("encrypted");
    Store::restore(&house.chain, &to, go_on).unwrap();
    let restored = open(to);
    assert!(restored.check().unwrap().is_clean());
    for id in &house.ids {
        assert_eq!(shown(&restored, id), shown(house.store(), id));
    }
    assert_eq!(
        restored.sessions_of("ann").unwrap().len(),
        house.store().sessions_of("ann").unwrap().len()
    );
}

// C3.4: accesses that are written, and sessions that a sweep removes.
#[test]
fn accesses_and_sweeps_are_changes() {
    needs_files!("backups are of files");
    let place = Place::new();
    let clock = clock();
    let open = || {
        super::support::store::builder(&clock)
            .open(place.at("store"))
            .unwrap()
    };
    let store = open();
    let ids: Vec<_> = (0..20).map(|_| store.client_ids().issue()).collect();
    ids.iter().for_each(|id| set(&store, id, "n", 1));
    let [a, b, c] = ["a", "b", "c"].map(|name| place.at(name));
    store.backup(&a, go_on).unwrap();
    clock.advance(HOUR / 2);
    let txn = store.begin().unwrap();
    assert!(txn.session(&ids[0]).unwrap().exists().unwrap());
    txn.commit().unwrap();
    let backup = store.backup_since([&a], &b, go_on).unwrap();
    assert_eq!((backup.sessions, backup.packages), (1, 0));
    clock.advance(HOUR * 3 / 4);
    assert_eq!(store.container("").unwrap().sweep().unwrap().removed, 19);
    store.close().unwrap();
    let store = open();
    let backup = store.backup_since([&a, &b], &c, go_on).unwrap();
    assert_eq!((backup.sessions, backup.removed), (0, 38));
    Store::restore([&a, &b, &c], place.at("copy"), go_on).unwrap();
    let copy = super::support::store::builder(&clock)
        .open(place.at("copy"))
        .unwrap();
    assert!(matches!(shown(&copy, &ids[0]), Shown::Session { .. }));
    assert_eq!(shown(&copy, &ids[1]), shown(&store, &ids[1]));
    assert!(copy.check().unwrap().is_clean());
}

// C9.1: where the chain is not beside the store.
#[test]
fn a_chain_goes_on_with_backups_that_are_fetched_from_elsewhere() {
    needs_files!("backups are of files");
    let mut house = House::new();
    for step in 0..4 {
        house.change(step);
        match step {
            1 => house.store().checkpoint().unwrap(),
            2 => house.reopen(),
            _ => {}
        }
        let mark = BackupMark::of(house.chain.last().unwrap()).unwrap();
        assert!(mark.as_bytes().len() < 400);
        let mark = BackupMark::from_bytes(mark.as_bytes()).unwrap();
        let mut fetched = Vec::new();
        let backup = house.store().backup_to_since(&mark, &mut fetched, go_on);
        let backup = backup.unwrap();
        assert_eq!(Backup::verify_from(&*fetched).unwrap(), backup);
        // The store remembers what changed since the last backup, until a checkpoint or a restart.
        assert_eq!(backup.is_whole(), [1, 2].contains(&step), "{step}");
        let (path, whole) = (house.next(), house.place.at("fetched"));
        if backup.is_whole() {
            std::fs::write(&whole, fetched).unwrap();
            let made = Backup::make_incremental(&house.chain, &whole, &path, go_on).unwrap();
            assert!(made.sessions < 40, "{made:?}");
            assert_eq!(made.previous.as_ref().unwrap().id, mark.id);
            assert_eq!(Backup::verify(&path).unwrap(), made);
        } else {
            assert_eq!(backup.previous.unwrap().id, mark.id);
            std::fs::write(&path, fetched).unwrap();
        }
        house.chain.push(path);
        house.assert_same();
    }
}

#[test]
fn no_increment_is_made_of_what_does_not_continue_the_chain() {
    needs_files!("backups are of files");
    let mut house = House::new();
    house.change(0);
    house.back_up();
    let other = Place::new();
    let (theirs, to) = (other.at("theirs"), house.place.at("to"));
    let store = other.store();
    store.backup(&theirs, go_on).unwrap();
    let error = store.backup_to_since(
        &BackupMark::of(&house.chain[0]).unwrap(),
        &mut Vec::new(),
        go_on,
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    let (whole, increment) = (&house.chain[0], &house.chain[1]);
    for (wrong, says) in [
        (&theirs, "another store"),
        (increment, "not a whole one"),
        (whole, "older"),
    ] {
        let made = Backup::make_incremental(&house.chain, wrong, &to, go_on);
        let error = made.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(says), "{error}");
        assert!(!to.exists());
    }
    let start = std::fs::read(whole).unwrap();
    for wrong in [&b""[..], b"cloakroom backup", &start[..60], &[7; 100]] {
        assert!(BackupMark::from_bytes(wrong).is_err());
    }
}

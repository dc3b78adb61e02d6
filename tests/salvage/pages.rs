//! C5.4: damaged pages of the file, and the rows that are salvaged in spite of them.

use super::{House, PAGE, SESSIONS, builder, clock, contains, open_salvaged, value};
use cloakroom::{ClientId, ClientKey, ContainerSettings, ErrorKind, Store};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_healthy_store_is_salvaged_whole() {
    let house = House::new();
    let report = house.salvage(&house.image);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.sessions, 2 * (SESSIONS as u64 - 1));
    assert_eq!(report.packages, 2 * (SESSIONS as u64 - 1));
    assert_eq!(report.mended_pages, 0);
    let old = builder().open(house.place("old", &house.image)).unwrap();
    let new = open_salvaged(&house);
    assert_eq!(new.identity(), old.identity());
    assert_eq!(house.read(&new).len(), SESSIONS - 1);
    let settings = |store: &Store| store.container("short").unwrap().settings().unwrap();
    assert_eq!(settings(&new), settings(&old));
    let owned = |store: &Store| {
        let owned = store.sessions_of("ann").unwrap().into_iter();
        let mut keys: Vec<_> = owned.map(|info| info.client).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(owned(&new), owned(&old));
    assert_eq!(owned(&new).len(), SESSIONS / 2);
    // The tombstone: a late request under the ended id writes nothing.
    let id = new.client_ids().verify(&house.ended).unwrap();
    let txn = new.begin().unwrap();
    txn.session(&id).unwrap().pkg("app").insert("n", 1).unwrap();
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    // Later commits have later numbers.
    let id = new.client_ids().verify(&house.ids[0]).unwrap();
    let put = |txn: &cloakroom::Txn| txn.session(&id)?.pkg("app").insert("n", 1);
    new.transact(put).unwrap();
    assert!(new.check().unwrap().is_clean());
}

#[test]
fn one_flipped_bit_in_a_page_is_mended() {
    let house = House::new();
    let text = value(7);
    let image = house.with(|page| contains(page, text.as_bytes()), |page| page[4] ^= 1);
    let report = house.salvage(&image);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.mended_pages, 1);
    assert_eq!(house.read(&open_salvaged(&house)).len(), SESSIONS - 1);
}

#[test]
fn a_lost_page_takes_its_rows_along_and_each_is_named() {
    let house = House::new();
    let text = value(7);
    let image = house.with(|page| contains(page, text.as_bytes()), |page| page.fill(0));
    let report = house.salvage(&image);
    assert_eq!(report.damaged_pages, 1, "{report:?}");
    let store = open_salvaged(&house);
    let there = house.read(&store);
    assert!(!there.contains(&7) && there.len() > SESSIONS / 2);
    for n in (0..SESSIONS - 1).filter(|n| !there.contains(n)) {
        let key = store.client_ids().verify(&house.ids[n]).unwrap().key();
        let named = |d: &cloakroom::Damage| {
            (d.client, d.container.as_deref(), d.package.as_deref())
                == (Some(key), Some(""), Some("app"))
        };
        assert!(report.losses.iter().any(named), "{report:?}");
        // Its other package is there.
        let id = store.client_ids().verify(&house.ids[n]).unwrap();
        let txn = store.begin().unwrap();
        let short = txn.session(&id).unwrap().pkg("short");
        assert_eq!(short.get::<usize>("n").unwrap(), Some(n));
    }
}

/// Only its record tells a container's name, so the sessions in it are named without.
#[test]
fn without_the_list_of_containers_each_session_of_theirs_is_named() {
    let house = House::new();
    let lists = |page: &[u8]| page[0] == 1 && page[2..4] == [2, 0] && contains(page, b"short");
    let image = house.with(lists, |page| page.fill(0));
    let report = house.salvage(&image);
    let named: BTreeSet<ClientKey> = report
        .losses
        .iter()
        .filter(|loss| loss.container.is_none() && loss.package.as_deref() == Some("short"))
        .filter_map(|loss| loss.client)
        .collect();
    let sessions = house.ids.len();
    let verified = open_salvaged(&house);
    let keys = house.ids.iter().map(|id| {
        let id = verified.client_ids().verify(id).unwrap();
        id.key()
    });
    assert_eq!(named, keys.collect());
    assert_eq!(house.read(&verified).len(), sessions);
}

const CURRENT_COMMIT: u8 = 1;
const TWO_PHASES: u8 = 4;

fn with_header_flipped(house: &House, bit: u8) -> Vec<u8> {
    let mut image = house.image.clone();
    image[9] ^= bit;
    image
}

/// redb would fall back to an older commit without a word.
#[test]
fn a_header_that_says_one_phase_is_refused() {
    let house = House::new();
    let image = with_header_flipped(&house, TWO_PHASES);
    let path = house.place("damaged", &image);
    let error = builder().open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), image);
    let to = house.folder.path().join("to");
    let report = builder().salvage(&path, to).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

/// A store that was closed ends with a commit of redb's own, so that both hold the same rows.
#[test]
fn a_header_that_names_the_last_commit_but_one_serves_the_same() {
    let house = House::new();
    let counted = |image: &[u8], name: &str| {
        let store = builder().open(house.place(name, image)).unwrap();
        let check = store.check().unwrap();
        assert!(check.is_clean(), "{check:?}");
        (check.sessions, check.packages)
    };
    let image = with_header_flipped(&house, CURRENT_COMMIT);
    assert_eq!(counted(&image, "damaged"), counted(&house.image, "whole"));
}

#[test]
fn a_session_whose_row_is_lost_is_named_by_what_is_left() {
    let house = House::new();
    let key = house.key(7);
    let row = [&[0, 0, 0, 0], &key.as_bytes()[..]].concat();
    // Session keys stand one after the other, without the packages' ids between them.
    let is_row = |page: &[u8]| {
        page[0] == 1 && contains(page, &row) && !contains(page, b"the value of session") && {
            let at = (0..PAGE - 20)
                .find(|at| page[*at..].starts_with(&row))
                .unwrap();
            page[at + 20..at + 24] == [0, 0, 0, 0] || page[at - 20..at - 16] == [0, 0, 0, 0]
        }
    };
    let image = house.with(is_row, |page| page.fill(0));
    let path = house.place("damaged", &image);
    // Where redb is built for debugging, it refuses such a file when it is opened.
    if let Ok(store) = builder().open(&path) {
        let check = store.check().unwrap();
        let named =
            |d: &cloakroom::Damage| (d.client, d.container.as_deref()) == (Some(key), Some(""));
        assert!(check.findings.iter().any(named), "{check:?}");
    }
    let report = builder().salvage(&path, house.to()).unwrap();
    let named = |d: &cloakroom::Damage| (d.client, d.container.as_deref()) == (Some(key), Some(""));
    assert!(report.losses.iter().any(named), "{report:?}");
    assert!(!house.read(&open_salvaged(&house)).contains(&7));
}

/// It has no journal yet.
#[test]
fn a_store_of_format_1_is_salvaged() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1.redb");
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    let report = builder().salvage(&fixture, &to).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.sessions, report.packages), (4, 5));
    assert!(builder().open(&to).unwrap().check().unwrap().is_clean());
}

#[test]
fn a_check_of_a_busy_store_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let store = builder()
        .clock(clock.clone())
        .open(folder.path().join("busy"))
        .unwrap();
    let minute = ContainerSettings::new().timeout(Duration::from_secs(60));
    let memory = ContainerSettings::new().in_memory();
    let over = AtomicBool::new(false);
    let going = || !over.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for worker in 0..2_u64 {
            let (store, going) = (&store, &going);
            scope.spawn(move || {
                let mut ids: Vec<ClientId> = Vec::new();
                let mut n = worker;
                while going() {
                    n += 1;
                    let id = store.client_ids().issue();
                    let put = |txn: &cloakroom::Txn| {
                        let session = txn.session(&id)?;
                        session.set_owner(Some(&format!("owner {}", n % 5)))?;
                        session.pkg("memory").insert("n", n)?;
                        session.pkg("short").insert("n", n)?;
                        session
                            .pkg("app")
                            .insert("text", "x".repeat(n as usize % 6000))
                    };
                    // The containers come and go.
                    if store.transact(put).is_ok() {
                        ids.push(id);
                    }
                    // The store stays small, however many commits there are between two checks.
                    if n.is_multiple_of(3) && !ids.is_empty() || ids.len() > 100 {
                        let id = ids.swap_remove(n as usize % ids.len());
                        let are_many = ids.len() > 99;
                        let end = |txn: &cloakroom::Txn| match n % 2 {
                            1 if !are_many => txn.session(&id)?.rotate().map(Some),
                            _ => txn.session(&id)?.destroy().map(|()| None),
                        };
                        ids.extend(store.transact(end).ok().flatten());
                    }
                }
            });
        }
        scope.spawn(|| {
            while going() {
                store.register("short", minute.clone()).unwrap();
                store.register("memory", memory.clone()).unwrap();
                clock.advance(Duration::from_secs(40));
                store.container("").unwrap().sweep().unwrap();
                store.container("short").unwrap().sweep().unwrap();
                store.unregister("short").unwrap();
                store.unregister("memory").unwrap();
            }
        });
        let mut most = 0;
        for _ in 0..60 {
            let check = store.check();
            if !check.as_ref().is_ok_and(cloakroom::Check::is_clean) {
                over.store(true, Ordering::Relaxed);
            }
            let check = check.unwrap();
            assert!(check.is_clean(), "{check:?}");
            most = most.max(check.sessions);
        }
        over.store(true, Ordering::Relaxed);
        assert!(most > 0);
    });
}

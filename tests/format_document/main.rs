//! docs/format.md: a reader that is written by that document's numbers alone finds all that a store holds. It uses redb
//! for the tables, and nothing else of this crate. The fixture is a store that was killed, with a part of its rows in the
//! journal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod backup;
mod journal;
mod records;
mod state;

use records::{Container, Session};
use redb::Database;
use state::State;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Copies a store and its journal into a folder, for redb repairs what it opens.
fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folder = tempfile::tempdir().unwrap();
    for suffix in ["", ".journal-1", ".journal-2", ".journal-3", ".journal-4"] {
        let file = format!("{name}{suffix}");
        if fixtures.join(&file).exists() {
            fs::copy(fixtures.join(&file), folder.path().join(&file)).unwrap();
        }
    }
    let path = folder.path().join(name);
    (folder, path)
}

/// 2026-01-01 00:00:00 UTC.
const FOUNDED: i64 = 1_767_225_600_000;

/// When it was opened again: 20 minutes later.
const CHANGED: i64 = FOUNDED + 1_200_000;

/// The ids in the fixture.
const ANN: &str = "h8_654bycgZcLGnuB4TDY3sdAN8viw_Sbv5_p76U34WRA4mEqK5KsIfHYKjxW4n4Rlu0";
const BEN: &str = "eYBJtS8DVrZboaR9ZJy0EzBJAFUb3oq3CJ9mn-Q18y-LWwzGDWWrfLC5LbPSvylgAdUs";
const CAT: &str = "1mG4LT2IRhBiaHgovq_IpOH6Ack2372meUSd6kuBLm9AZBC9L9Mgoz4ohM-tknWi07X6";
const DAN: &str = "kg1Lnn7ir55Y0seO0Y7raPjYAKQVfyTFyiIsCxufxkJDhpdfJUSaDAh-p7U0KuNo8ZyF";

/// How the fixture was made. Not a test: it does something only where the environment names a file to write, and prints
/// the ids to be put above:
///
/// ```sh
/// CLOAKROOM_WRITE_FIXTURE=tests/fixtures/document.redb \
///     cargo test --test format_document write_the_fixture -- --nocapture
/// ```
#[test]
fn write_the_fixture() {
    use cloakroom::{Clock, ContainerSettings, Store, Txn};
    use std::time::Duration;

    let Some(target) = std::env::var_os("CLOAKROOM_WRITE_FIXTURE") else {
        return;
    };
    let target = PathBuf::from(target);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(target.file_name().unwrap());
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let open = || {
        let builder = Store::builder().clock(clock.clone()).implicit_sweeps(false);
        builder.open(&path).unwrap()
    };
    let store = open();
    let (ann, ben, dan) = {
        let ids = store.client_ids();
        (ids.issue(), ids.issue(), ids.issue())
    };
    let shop = ContainerSettings::new()
        .timeout(Duration::from_secs(7200))
        .resolution(Duration::from_secs(300))
        .max_lifetime(Some(Duration::from_secs(2_592_000)))
        .implicit_sweeps(false);
    store.register("shop", shop).unwrap();
    store.register("gone", ContainerSettings::new()).unwrap();
    let found = |txn: &Txn| {
        let session = txn.session(&ann)?;
        session.set_owner(Some("ann@example.org"))?;
        session.pkg("greeter").insert("name", "Ann")?;
        session.pkg("greeter").insert("visits", 3_u64)?;
        session.pkg("shop").insert("cart", ["tea", "cake"])?;
        session.pkg("gone").insert("left", true)?;
        txn.session(&ben)?
            .set_timeout(Some(Duration::from_secs(5400)))?;
        txn.session(&ben)?.pkg("greeter").insert("name", "Ben")?;
        txn.session(&dan)?.set_owner(Some("dan@example.org"))?;
        txn.session(&dan)?.pkg("greeter").insert("name", "Dan")
    };
    store.transact(found).unwrap();
    store.unregister("gone").unwrap();
    store.close().unwrap();
    // Nothing but its size changes.
    Database::open(&path).unwrap().compact().unwrap();

    clock.advance(Duration::from_secs(20 * 60));
    let store = open();
    store.rotate_secret().unwrap();
    let cat = store.client_ids().issue();
    let change = |txn: &Txn| {
        let session = txn.session(&ann)?;
        session.pkg("greeter").insert("visits", 4_u64)?;
        session.pkg("shop").remove("cart")?;
        session.pkg("long").insert("text", "long ".repeat(1000))
    };
    store.transact(change).unwrap();
    let change = |txn: &Txn| txn.session(&ben)?.set_owner(Some("ben@example.org"));
    store.transact(change).unwrap();
    let change = |txn: &Txn| txn.session(&dan)?.destroy();
    store.transact(change).unwrap();
    let change = |txn: &Txn| {
        let session = txn.session(&cat)?;
        session.pkg("greeter").insert("name", "Cat")?;
        session.set_label("telephone")?;
        session.log_in("cat@example.org")
    };
    let cat = store.transact(change).unwrap();
    for (name, id) in [("ANN", &ann), ("BEN", &ben), ("CAT", &cat), ("DAN", &dan)] {
        println!("const {name}: &str = {:?};", id.as_str());
    }
    for entry in fs::read_dir(folder.path()).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, target.with_file_name(from.file_name().unwrap())).unwrap();
    }
}

/// What a package holds, with MessagePack written out.
fn values(values: &[(&str, &[u8])]) -> Option<Vec<(String, Vec<u8>)>> {
    let values = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.to_vec()));
    Some(values.collect())
}

#[test]
fn a_killed_store_is_read_by_the_document_alone() {
    let (_folder, path) = copy("document.redb");
    let state = State::read(&path).unwrap();
    state.assert_goes_together();
    let meta = &state.meta;
    assert_eq!((meta.format, meta.epoch, meta.next_container), (2, 2, 3));
    assert!(meta.is_open && state.frames >= 4, "{meta:?}");
    assert_eq!(meta.secrets.len(), 2);
    assert!([ANN, BEN, CAT, DAN].iter().all(|id| state.has_signed(id)));
    let container = |number, timeout, resolution, longest_lifetime, implicit_sweeps| Container {
        number,
        timeout,
        resolution,
        longest_lifetime,
        implicit_sweeps,
        aliases: Vec::new(),
    };
    let unnamed = container(0, 3_600_000, 600_000, None, true);
    let shop = container(1, 7_200_000, 300_000, Some(2_592_000_000), false);
    let containers = BTreeMap::from([(String::new(), unnamed), ("shop".into(), shop)]);
    assert_eq!(state.containers, containers);
    assert_eq!(state.retired, BTreeSet::from([2]));

    let session = |owner: &str, packages: &[&str]| Session {
        created: FOUNDED,
        last_access: CHANGED,
        timeout: None,
        owner: Some(owner.to_owned()),
        founded_in: 1,
        packages: packages.iter().map(|id| (*id).to_owned()).collect(),
        id_issued: FOUNDED,
        is_id_confirmed: true,
        label: None,
        logged_in: None,
        ends_at: None,
    };
    let ann = session("ann@example.org", &["greeter", "long"]);
    assert_eq!(state.session(0, ANN), Some(ann));
    let greeter = values(&[("name", b"\xA3Ann"), ("visits", b"\x04")]);
    assert_eq!(state.package(0, ANN, "greeter"), greeter);
    let long = [&b"\xDA\x13\x88"[..], &b"long ".repeat(1000)].concat();
    assert_eq!(state.package(0, ANN, "long"), values(&[("text", &long)]));
    assert_eq!(state.package(1, ANN, "shop"), None);
    let ben = Session {
        last_access: FOUNDED,
        is_id_confirmed: false,
        timeout: Some(5_400_000),
        ..session("ben@example.org", &["greeter"])
    };
    assert_eq!(state.session(0, BEN), Some(ben));
    let cat = Session {
        created: CHANGED,
        founded_in: 2,
        id_issued: CHANGED,
        is_id_confirmed: false,
        label: Some("telephone".into()),
        logged_in: Some(CHANGED),
        ..session("cat@example.org", &["greeter"])
    };
    assert_eq!(state.session(0, CAT), Some(cat));
    assert_eq!(
        state.package(0, CAT, "greeter"),
        values(&[("name", b"\xA3Cat")])
    );
    assert_eq!(state.session(0, DAN), None);
    assert_eq!(state.package(0, DAN, "greeter"), None);
    assert!(state.ended_until(DAN) > Some(CHANGED));
    assert_eq!(state.ended_until(ANN), None);
}

/// Section 9.
#[test]
fn stores_of_earlier_forms_are_read_by_the_document() {
    for (name, frames) in [("format-2.redb", false), ("format-2-killed.redb", true)] {
        let (_folder, path) = copy(name);
        let state = State::read(&path).unwrap();
        state.assert_goes_together();
        assert_eq!(state.meta.format, 2);
        assert_eq!(state.frames > 0, frames, "{name}");
        assert_eq!(state.tables[0].len(), 5, "{name}");
    }
}

/// Section 4.1.
#[test]
fn the_ages_of_secrets_are_read_by_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let clock = cloakroom::Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let millis = |clock: &cloakroom::Clock| clock.now().timestamp_millis();
    let made = millis(&clock);
    let store = cloakroom::Store::builder().clock(clock.clone());
    let store = store.open(&path).unwrap();
    clock.advance(std::time::Duration::from_secs(1));
    store.rotate_secret().unwrap();
    store.close().unwrap();
    let state = State::read(&path).unwrap();
    assert_eq!(state.meta.secret_times, [(0, made), (1, millis(&clock))]);
}

/// Section 4.2.
#[test]
fn the_aliases_of_containers_are_read_by_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = cloakroom::Store::open(&path).unwrap();
    let quiet = cloakroom::ContainerSettings::new().implicit_sweeps(false);
    for (name, settings) in [
        ("quiet", quiet.clone()),
        ("shop", quiet.implicit_sweeps(true)),
    ] {
        store.register(name, settings).unwrap();
        for alias in ["stall", "kiosk"] {
            let alias = format!("{name}.{alias}");
            store.register_alias(&alias, name).unwrap();
        }
    }
    store.close().unwrap();
    let state = State::read(&path).unwrap();
    state.assert_goes_together();
    for (name, implicit_sweeps) in [("quiet", false), ("shop", true)] {
        let container = &state.containers[name];
        let aliases = ["kiosk", "stall"].map(|alias| format!("{name}.{alias}"));
        assert_eq!(container.aliases, aliases);
        assert_eq!(container.implicit_sweeps, implicit_sweeps);
    }
    assert!(state.containers[""].aliases.is_empty());
}

/// Where both are written to: the other tests have all rows in one.
#[test]
fn a_store_that_two_versions_of_redb_wrote_is_read_by_the_document() {
    for name in ["redb-4.5.0-4.6.0.redb", "redb-4.6.0-4.5.0.redb"] {
        let (_folder, path) = copy(name);
        let state = State::read(&path).unwrap();
        state.assert_goes_together();
        assert!(state.frames > 10 && state.tables[0].len() > 80, "{name}");
    }
}

/// Sections 5.2 and 5.4: torn frames are told from damaged ones.
#[test]
fn damage_to_the_journal_is_told_as_the_document_says() {
    // All rows are in the first file, whose four frames begin there.
    let frames = [8192, 13_824, 14_336, 14_848];
    let read = |flipped: &[usize]| {
        let (folder, path) = copy("document.redb");
        let journal = folder.path().join("document.redb.journal-1");
        let mut file = fs::read(&journal).unwrap();
        flipped.iter().for_each(|at| file[*at] ^= 1);
        fs::write(&journal, file).unwrap();
        State::read(&path).map(|state| state.frames)
    };
    assert_eq!(read(&[]), Ok(4));
    assert_eq!(read(&[frames[3] + 40]), Ok(3));
    for frame in &frames[..3] {
        let damaged = read(&[frame + 40]);
        assert_eq!(damaged, Err("a frame lies behind one that is not whole"));
    }
    assert_eq!(read(&[40]), Ok(4));
    assert_eq!(read(&[4096 + 40]), Ok(4));
    assert_eq!(read(&[40, 4096 + 40]), Err("no header is whole"));
}

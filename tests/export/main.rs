//! A store written as lines of JSON and read back: the same store (C1.6, C2.2, C9.4).
#![cfg(feature = "export")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../support/mod.rs"]
mod support;
mod target;

use cloakroom::{
    ClientId, ContainerSettings, Error, ErrorKind, ImportSettings, OnDuplicate, Store, Value,
};
use proptest::prelude::*;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;
use support::clock::{HOUR, MINUTE, clock};
use support::engine::{is_remote, needs_files};
use support::store::{builder, file_builder, place, timed};
use support::visitors::with;

/// All that an administrator sees of a store.
type Seen = BTreeMap<String, Vec<String>>;

fn seen(store: &Store) -> Seen {
    let mut seen = Seen::new();
    for container in store.containers() {
        let mut all = vec![format!("{:?}", container.settings().unwrap())];
        all.push(format!("{:?}", container.names().unwrap()));
        let mut after = None;
        loop {
            let page = container.sessions(&Default::default(), after, 7).unwrap();
            for session in page.sessions {
                let entry = store.entry(session.client).unwrap().unwrap();
                let parts = entry.parts.iter();
                let part = parts.clone().find(|it| it.container == container.name());
                all.push(format!("{session:?} {:?}", part.unwrap()));
                for package in &part.unwrap().packages {
                    let values =
                        store.entry_values(session.client, container.name(), &package.name);
                    all.push(format!("{:?}", values.unwrap()));
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        seen.insert(container.name().to_owned(), all);
    }
    seen
}

fn exported(store: &Store) -> String {
    let mut lines = Vec::new();
    assert!(store.export(&mut lines).unwrap().is_complete);
    String::from_utf8(lines).unwrap()
}

/// A store of some sessions.
fn filled(sessions: u32) -> (Store, Vec<ClientId>) {
    let (_, store) = timed();
    let ids: Vec<_> = (0..sessions)
        .map(|n| {
            let id = store.client_ids().issue();
            with(&store, &id, |session| {
                session.set_owner(Some(&format!("owner {}", n % 3)))?;
                session.pkg("cart").insert("n", n)
            });
            id
        })
        .collect();
    (store, ids)
}

fn empty() -> Store {
    builder(&clock()).in_memory().unwrap()
}

/// Values of each kind that can be stored.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[$a-c]{0,3}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A value as an application stores it, of those that JSON has and those that it has not.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Stored {
    Json(serde_json::Value),
    Bytes(#[serde(serialize_with = "as_bytes")] Vec<u8>),
    Single(f32),
    Unsigned(u128),
    Signed(i128),
    Char(char),
    Numbers(BTreeMap<i32, String>),
    SomeNone(Option<Option<u8>>),
}

fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn stored() -> impl Strategy<Value = Stored> {
    prop_oneof![
        6 => value().prop_map(Stored::Json),
        1 => any::<Vec<u8>>().prop_map(Stored::Bytes),
        1 => any::<f32>().prop_map(Stored::Single),
        1 => any::<u128>().prop_map(Stored::Unsigned),
        1 => any::<i128>().prop_map(Stored::Signed),
        1 => any::<char>().prop_map(Stored::Char),
        1 => prop::collection::btree_map(any::<i32>(), ".{0,4}", 0..3).prop_map(Stored::Numbers),
        1 => any::<Option<Option<u8>>>().prop_map(Stored::SomeNone),
    ]
}

/// How the owner of a session is set.
#[derive(Clone, Copy, Debug)]
enum Owned {
    Set,
    LoggedIn,
}

#[derive(Clone, Debug)]
struct Visitor {
    owner: Option<(String, Owned)>,
    label: Option<String>,
    timeout: Option<u64>,
    /// A fixed end, in seconds from then.
    end: Option<u64>,
    waits: u64,
    packages: BTreeMap<String, BTreeMap<String, Stored>>,
}

fn visitor() -> impl Strategy<Value = Visitor> {
    let packages = prop::collection::btree_map(
        prop_oneof![
            // A container, its alias, two that may be there, and names of none.
            prop::sample::select(vec!["shop", "stall", "c0", "c1"]).prop_map(str::to_owned),
            "\\PC{1,8}",
        ],
        prop::collection::btree_map("\\PC{0,8}", stored(), 1..4),
        0..4,
    );
    let how = prop_oneof![Just(Owned::Set), Just(Owned::LoggedIn)];
    let owner = prop::option::of(("\\PC{1,8}", how));
    let label = prop::option::of(".{1,8}");
    let times = (
        prop::option::of(0_u64..90_000),
        prop::option::of(1_u64..9_000),
        0_u64..900,
    );
    (owner, label, times, packages).prop_map(|(owner, label, times, packages)| {
        let (timeout, end, waits) = times;
        Visitor {
            owner,
            label,
            timeout,
            end,
            waits,
            packages,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_imported_export_gives_the_same_store(
        visitors in prop::collection::vec(visitor(), 0..6),
        timeout in 1800_u64..7200,
        others in prop::collection::vec((60_u64..90_000, any::<bool>()), 0..3),
    ) {
        let (clock, store) = timed();
        let shop = ContainerSettings::new().timeout(Duration::from_secs(timeout));
        store.register("shop", shop.max_lifetime(Some(HOUR)).implicit_sweeps(false)).unwrap();
        store.register_alias("stall", "shop").unwrap();
        for (n, (timeout, is_aliased)) in others.iter().enumerate() {
            let settings = ContainerSettings::new().timeout(Duration::from_secs(*timeout));
            store.register(&format!("c{n}"), settings).unwrap();
            if *is_aliased {
                store.register_alias(&format!("alias {n}"), &format!("c{n}")).unwrap();
            }
        }
        for visitor in &visitors {
            let id = store.client_ids().issue();
            with(&store, &id, |session| {
                for (package, values) in &visitor.packages {
                    for (key, value) in values {
                        session.pkg(package).insert(key, value)?;
                    }
                }
                match &visitor.owner {
                    None => {}
                    Some((owner, Owned::Set)) => session.set_owner(Some(owner))?,
                    Some((owner, Owned::LoggedIn)) => drop(session.log_in(owner)?),
                }
                if let Some(end) = visitor.end {
                    session.set_expires_at(Some(clock.now() + Duration::from_secs(end)))?;
                }
                if let Some(label) = &visitor.label {
                    session.set_label(label)?;
                }
                match visitor.timeout {
                    Some(timeout) => session.set_timeout(Some(Duration::from_secs(timeout))),
                    None => Ok(()),
                }
            });
            clock.advance(Duration::from_secs(visitor.waits));
        }
        let copy = builder(&clock).in_memory().unwrap();
        let lines = exported(&store);
        let imported = copy.import(lines.as_bytes(), OnDuplicate::Fail).unwrap();
        prop_assert!(imported.is_complete && imported.skipped == 0);
        prop_assert_eq!(seen(&copy), seen(&store));
        prop_assert!(copy.check().unwrap().is_clean());
        let again = exported(&copy);
        let (one, other) = (again.lines().skip(1), lines.lines().skip(1));
        prop_assert!(one.eq(other), "the second export differs:\n{}\n{}", again, lines);
    }
}

#[test]
fn values_that_json_does_not_have_come_back() {
    let (_, store) = timed();
    let id = store.client_ids().issue();
    with(&store, &id, |session| {
        let package = session.pkg("p");
        package.insert("bytes", serde_bytes(&[0, 159, 146, 150]))?;
        package.insert("nan", f64::NAN)?;
        package.insert("infinite", f32::NEG_INFINITY)?;
        package.insert("negative zero", -0.0_f64)?;
        package.insert("single", 0.1_f32)?;
        package.insert("whole", 1.0_f64)?;
        package.insert("largest", u64::MAX)?;
        package.insert("smallest", i64::MIN)?;
        package.insert("huge", u128::MAX)?;
        package.insert("tiny", i128::MIN)?;
        package.insert("some none", Some(None::<u8>))?;
        package.insert("numbers", BTreeMap::from([(1, "a"), (2, "b")]))?;
        package.insert("a tag", BTreeMap::from([("$bytes", "x")]))?;
        package.insert("deep", deep(100))
    });
    let copy = empty();
    let lines = exported(&store);
    copy.import(lines.as_bytes(), OnDuplicate::Fail).unwrap();
    let values = |store: &Store| store.entry_values(id.key(), "", "p").unwrap();
    assert_eq!(
        format!("{:?}", values(&copy)),
        format!("{:?}", values(&store))
    );
    let of = |key: &str| {
        let values = values(&copy).into_iter();
        values.clone().find(|(it, _)| it == key).unwrap().1
    };
    assert_eq!(of("bytes"), Value::Bytes(vec![0, 159, 146, 150]));
    assert_eq!(of("huge"), Value::Unsigned(u128::MAX));
    assert_eq!(of("whole"), Value::Double(1.0));
    assert_eq!(of("some none"), Value::SomeNull(1));
    assert!(matches!(of("deep"), Value::Raw(_)));
    assert_eq!(exported(&copy).lines().nth(2), lines.lines().nth(2));
}

fn serde_bytes(bytes: &'static [u8]) -> impl serde::Serialize {
    struct Bytes(&'static [u8]);
    impl serde::Serialize for Bytes {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
    Bytes(bytes)
}

fn deep(levels: usize) -> serde_json::Value {
    (0..levels).fold(serde_json::Value::Null, |inner, _| vec![inner].into())
}

// C1.6, C4.2
#[test]
fn an_export_has_neither_ids_nor_secrets_and_ids_go_on_with_the_same_secrets() {
    let open = |secret| builder(&clock()).secret(secret).in_memory().unwrap();
    let store = open([7; 32]);
    let id = store.client_ids().issue();
    with(&store, &id, |session| session.pkg("cart").insert("tea", 2));
    let lines = exported(&store);
    assert!(!lines.contains(id.as_str()) && lines.contains(&id.key().to_string()));
    assert!(!lines.to_lowercase().contains("secret"));

    let (same, other) = (open([7; 32]), open([8; 32]));
    for store in [&same, &other] {
        store.import(lines.as_bytes(), OnDuplicate::Fail).unwrap();
        assert!(store.entry(id.key()).unwrap().is_some());
    }
    let found = same.client_ids().verify(id.as_str()).unwrap();
    let tea = same.transact(|txn| txn.session(&found)?.pkg("cart").get::<u8>("tea"));
    assert_eq!(tea.unwrap(), Some(2));
    assert!(other.client_ids().verify(id.as_str()).is_none());
}

// C2.2
#[test]
fn what_is_in_a_file_is_known_to_be_there() {
    needs_files!("a store is opened again");
    let (store, ids) = filled(3);
    let lines = exported(&store);
    let (_folder, path) = place();
    let open = || file_builder().open(&path).unwrap();
    let target = open();
    target.import(lines.as_bytes(), OnDuplicate::Fail).unwrap();
    target.close().unwrap();
    let target = open();
    let error = target.import(lines.as_bytes(), OnDuplicate::Fail);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    let skipped = target.import(lines.as_bytes(), OnDuplicate::Skip).unwrap();
    assert_eq!((skipped.sessions, skipped.skipped), (0, 3));
    let replaced = target.import(lines.as_bytes(), OnDuplicate::Replace);
    assert_eq!(replaced.unwrap().sessions, 3);
    target.close().unwrap();
    let target = open();
    assert!(target.check().unwrap().is_clean());
    assert_eq!(target.sessions_of("owner 0").unwrap().len(), 1);
    assert!(target.entry(ids[2].key()).unwrap().is_some());
}

// C9.4
#[test]
fn a_wrong_line_is_named_and_nothing_of_its_batch_is_written() {
    let (store, _) = filled(300);
    let lines = exported(&store);
    let all: Vec<_> = lines.lines().collect();
    let rubbish = [
        "rubbish",
        "{}",
        "{\"session\":{}}",
        "{\"unknown\":{}}",
        all[0],
        &all[290].replace("\"client\":\"", "\"client\":\"x"),
        &all[290].replace("\"container\":\"\"", "\"container\":\"nowhere\""),
        &all[290].replace("\"n\":", "\"n\":{\"$bytes\":3},\"m\":"),
        all[280],
    ];
    for wrong in rubbish {
        let target = empty();
        let mut lines = all.clone();
        lines[290] = wrong;
        let error = target
            .import(lines.join("\n").as_bytes(), OnDuplicate::Fail)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}: {error}");
        let text = error.to_string();
        assert!(text.contains("line 291 of"), "{wrong}: {text}");
        assert!(text.contains("up to 258 are"), "{wrong}: {text}");
        assert_eq!(
            target.container("").unwrap().statistics().unwrap().live,
            256
        );
    }
}

#[test]
fn an_export_that_is_cut_short_or_of_a_newer_version_is_refused() {
    let (store, _) = filled(3);
    let lines = exported(&store);
    let all: Vec<_> = lines.lines().collect();
    let import = |lines: &str| {
        empty()
            .import(lines.as_bytes(), OnDuplicate::Fail)
            .unwrap_err()
    };
    let cut = all[..4].join("\n");
    assert!(import(&cut).to_string().contains("cut short"));
    let target = empty();
    let error = target.import(cut.as_bytes(), OnDuplicate::Fail);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("up to 1 are imported")
    );
    assert_eq!(target.container("").unwrap().statistics().unwrap().live, 0);
    let missing = [&all[..3], &all[4..]].concat().join("\n");
    assert!(
        import(&missing)
            .to_string()
            .contains("the end counts others")
    );
    let newer = lines.replace("\"version\":1", "\"version\":2");
    assert_eq!(import(&newer).kind(), ErrorKind::TooNew);
    for foreign in ["", "\n", "PK\u{3}\u{4}", "{\"a\":1}", all[1]] {
        let error = import(foreign);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{foreign}: {error}");
        assert!(
            error.to_string().contains("no export of cloakroom"),
            "{error}"
        );
    }
}

// C9.4
#[test]
fn an_import_that_was_broken_off_goes_on_where_it_ended() {
    let (store, _) = filled(600);
    let lines = exported(&store);
    let target = empty();
    let settings = ImportSettings::new(OnDuplicate::Fail);
    let begun = target.import_with(lines.as_bytes(), settings, |_| ControlFlow::Break(()));
    let begun = begun.unwrap();
    assert_eq!((begun.sessions, begun.is_complete), (256, false));
    let mut told = Vec::new();
    let settings = settings.after_line(begun.lines);
    let rest = target.import_with(lines.as_bytes(), settings, |imported| {
        told.push(imported.sessions);
        ControlFlow::Continue(())
    });
    let rest = rest.unwrap();
    assert_eq!(
        (rest.sessions, rest.is_complete, told),
        (344, true, vec![256])
    );
    assert_eq!(seen(&target), seen(&store));
    let import = |after| {
        let settings = ImportSettings::new(OnDuplicate::Fail).after_line(after);
        target.import_with(lines.as_bytes(), settings, |_| ControlFlow::Continue(()))
    };
    assert!(import(rest.lines).unwrap().is_complete);
    let error = import(rest.lines + 1).unwrap_err();
    assert!(
        error.to_string().contains("ends before the line"),
        "{error}"
    );
}

#[test]
fn a_line_is_as_long_as_the_import_says() {
    let (store, _) = filled(1);
    let lines = exported(&store);
    let longest = lines.lines().map(str::len).max().unwrap() + 1;
    let import = |bytes| {
        let settings = ImportSettings::new(OnDuplicate::Fail).max_line(bytes);
        empty().import_with(lines.as_bytes(), settings, |_| ControlFlow::Continue(()))
    };
    assert_eq!(import(longest).unwrap().sessions, 1);
    let error = import(longest - 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("line 3 of"), "{error}");
}

#[test]
fn an_export_that_is_broken_off_has_no_end() {
    let (store, _) = filled(100);
    let mut lines = Vec::new();
    let mut calls = 0;
    let exported = store.export_with(&mut lines, |exported| {
        calls += 1;
        assert_eq!(exported.sessions, 64);
        ControlFlow::Break(())
    });
    assert!(!exported.unwrap().is_complete);
    let error = empty().import(&*lines, OnDuplicate::Fail).unwrap_err();
    assert!(error.to_string().contains("cut short"), "{error}");
    assert_eq!(calls, 1);
}

/// Writes until it is full.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_fails_ends_the_export() {
    let (store, _) = filled(100);
    let error: Error = store.export(Full(10_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

// C2.14
#[test]
fn an_export_has_the_state_of_one_commit_however_long_it_takes() {
    let clock = clock();
    let store = builder(&clock).snapshot_max_age(MINUTE);
    let store = store.in_memory().unwrap();
    let ids: Vec<_> = (0..200)
        .map(|n| {
            let id = store.client_ids().issue();
            with(&store, &id, |session| session.pkg("p").insert("n", n));
            id
        })
        .collect();
    let mut lines = Vec::new();
    let mut at = 0;
    let exported = store.export_with(&mut lines, |_| {
        assert!(is_remote() || store.statistics().unwrap().maintenance_snapshots() == 1);
        // One session changes, one ends and one begins while a page is written.
        with(&store, &ids[at], |session| {
            session.pkg("p").insert("n", 999)
        });
        store.end(ids[at + 100].key()).unwrap();
        let id = store.client_ids().issue();
        with(&store, &id, |session| session.pkg("p").insert("n", 0));
        clock.advance(2 * MINUTE);
        at += 1;
        ControlFlow::Continue(())
    });
    let exported = exported.unwrap();
    assert!(exported.is_complete && at >= 3, "{exported:?}");
    assert_eq!(store.statistics().unwrap().maintenance_snapshots(), 0);
    let copy = builder(&clock).in_memory().unwrap();
    let imported = copy.import(&*lines, OnDuplicate::Fail).unwrap();
    assert_eq!(imported.sessions, 200);
    let text = String::from_utf8(lines).unwrap();
    assert!(!text.contains("\"n\":999"));
}

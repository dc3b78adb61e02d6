//! C7.2: every build opens the files of all formats that ever were. One small store of each lies in
//! `fixtures`, written once and never changed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom::{ClientId, Clock, ContainerSettings, ErrorKind, Session, Store, Txn};
use redb::{Database, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The format of a file is the highest number here; a new format needs a new file.
const FIXTURES: [&str; 1] = ["format-1.redb"];

/// The ids under which the file holds its sessions: what `write_the_fixture` printed.
mod ids {
    /// Issued under the first secret. Owned, with packages in two containers.
    pub(super) const ANN: &str =
        "qQDlOuPXxMGuvjkbDhNNiEZOAM7jiHyUt47kqtjEg2pWITYREhUgjUTmf5EJsLACjeim";
    /// Issued under the first secret. With a timeout of its own.
    pub(super) const BEN: &str =
        "5n1GjLwOv0S7A64Iz5rvN-yrAACzkiQ7OI1-2ZVfeoS1R4xScaXrjsqeZQCU_y6bCYIE";
    /// Issued under the second secret.
    pub(super) const CAT: &str =
        "PnVmuDGvvLniYsdxyesPf_gvASQyai8wwK35sed8TukSsGN2kpGroRe8BHcS_a1wxC-m";
    /// Destroyed a moment before the file was closed.
    pub(super) const DAN: &str =
        "Wxc8PMGCUrECCBVfOLle6hvKAG5vlqn_rwwPTeDjVzX64A78tI7yQ_lA4OUQgJyYZxJj";
}

const OWNER: &str = "ann@example.org";
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    name: String,
    count: u32,
    gift: Option<String>,
}

fn cart() -> Vec<Item> {
    let tea = Item {
        name: "tea".into(),
        count: 3,
        gift: None,
    };
    let cake = Item {
        name: "cake – süß".into(),
        count: 1,
        gift: Some("ribbon".into()),
    };
    vec![tea, cake]
}

fn shop() -> ContainerSettings {
    ContainerSettings::new()
        .timeout(2 * HOUR)
        .resolution(Duration::from_secs(300))
        .max_lifetime(Some(720 * HOUR))
}

fn clock() -> Clock {
    Clock::manual("2026-01-01T00:00:00Z".parse().unwrap())
}

fn open(path: &Path, clock: &Clock) -> Store {
    Store::builder()
        .clock(clock.clone())
        .implicit_sweeps(false)
        .verify_on_open(true)
        .open(path)
        .unwrap()
}

/// A copy of the file, opened a while after it was written.
struct Fixture {
    folder: TempDir,
    clock: Clock,
    store: Store,
}

impl Fixture {
    fn open(after: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FIXTURES[0]);
        fs::copy(fixtures().join(FIXTURES[0]), &path).unwrap();
        let clock = clock();
        clock.advance(after);
        let store = open(&path, &clock);
        Self {
            folder,
            clock,
            store,
        }
    }

    fn reopen(self) -> Self {
        self.store.close().unwrap();
        let store = open(&self.folder.path().join(FIXTURES[0]), &self.clock);
        Self { store, ..self }
    }

    fn id(&self, id: &str) -> ClientId {
        self.store.client_ids().verify(id).unwrap()
    }

    fn see<T>(&self, id: &str, see: impl Fn(&Session) -> cloakroom::Result<T>) -> T {
        let id = self.id(id);
        let see = |txn: &Txn| see(&txn.session(&id)?);
        self.store.transact(see).unwrap()
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// How the file was made. Not a test: it does something only where the environment names a file to
/// write, and prints the ids to be put above:
///
/// ```sh
/// CLOAKROOM_WRITE_FIXTURE=tests/fixtures/format-N.redb \
///     cargo test --test migrations write_the_fixture -- --nocapture
/// ```
#[test]
fn write_the_fixture() {
    let Some(path) = std::env::var_os("CLOAKROOM_WRITE_FIXTURE") else {
        return;
    };
    let path = PathBuf::from(path);
    let store = open(&path, &clock());
    let issue = || store.client_ids().issue();
    let (ann, ben, dan) = (issue(), issue(), issue());
    store.register("shop", shop()).unwrap();
    store.register("gone", ContainerSettings::new()).unwrap();
    let fill = |txn: &Txn| {
        let session = txn.session(&ann)?;
        session.pkg("greeter").insert("name", "Ann")?;
        session.pkg("greeter").insert("visits", 3_u64)?;
        session.pkg("greeter").insert("", [1.5_f64, -0.0])?;
        session.pkg("seen").insert("last", b"\x00\xff")?;
        session.pkg("shop").insert("cart", cart())?;
        session.pkg("gone").insert("left", true)?;
        session.set_owner(Some(OWNER))?;
        let session = txn.session(&ben)?;
        session.pkg("greeter").insert("name", "Ben")?;
        session.set_timeout(Some(2160 * HOUR))?;
        txn.session(&dan)?.pkg("greeter").insert("name", "Dan")
    };
    store.transact(fill).unwrap();
    store.unregister("gone").unwrap();
    store.rotate_secret().unwrap();
    let cat = store.client_ids().issue();
    let last = |txn: &Txn| {
        txn.session(&cat)?.pkg("greeter").insert("name", "Cat")?;
        txn.session(&dan)?.destroy()
    };
    store.transact(last).unwrap();
    for (name, id) in [("ANN", &ann), ("BEN", &ben), ("CAT", &cat), ("DAN", &dan)] {
        println!("{name} {}", id.as_str());
    }
    store.close().unwrap();
    // Nothing but its size changes.
    Database::open(&path).unwrap().compact().unwrap();
}

// C7.2
#[test]
fn every_format_has_its_file() {
    const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
    let format = |path: &Path| {
        let database = Database::open(path).unwrap();
        let meta = database.begin_read().unwrap().open_table(META).unwrap();
        let format = meta.get("format").unwrap().unwrap();
        format.value().to_vec()
    };
    let folder = tempfile::tempdir().unwrap();
    for (i, name) in FIXTURES.iter().enumerate() {
        let copy = folder.path().join(name);
        fs::copy(fixtures().join(name), &copy).unwrap();
        let number = u32::try_from(i + 1).unwrap();
        let written = [b"cloakroom".as_slice(), &number.to_le_bytes()].concat();
        assert_eq!(format(&copy), written);
    }
    let (old, new) = (
        folder.path().join(FIXTURES[FIXTURES.len() - 1]),
        folder.path().join("new.redb"),
    );
    open(&new, &clock()).close().unwrap();
    assert_eq!(format(&new), format(&old), "this format has no file yet");
}

// C7.2, C5.4
#[test]
fn every_value_is_found() {
    let fixture = Fixture::open(Duration::from_secs(5));
    assert!(fixture.store.check().unwrap().is_clean());
    fixture.see(ids::ANN, |session| {
        let greeter = session.pkg("greeter");
        assert_eq!(greeter.keys()?, ["", "name", "visits"]);
        assert_eq!(greeter.get("name")?, Some("Ann".to_owned()));
        assert_eq!(greeter.get("visits")?, Some(3_u64));
        assert_eq!(greeter.get("")?, Some([1.5_f64, -0.0]));
        assert_eq!(session.pkg("seen").get("last")?, Some([0_u8, 255]));
        assert_eq!(session.pkg("shop").get("cart")?, Some(cart()));
        assert!(session.pkg("gone").is_empty()?);
        Ok(())
    });
    for (id, name) in [(ids::BEN, "Ben"), (ids::CAT, "Cat")] {
        let found = fixture.see(id, |session| session.pkg("greeter").get::<String>("name"));
        assert_eq!(found.as_deref(), Some(name));
    }
}

// C7.2, C1.8
#[test]
fn the_containers_are_found_with_their_settings() {
    let fixture = Fixture::open(Duration::from_secs(5));
    let container = |name| fixture.store.container(name);
    assert_eq!(container("shop").unwrap().settings().unwrap(), shop());
    let unnamed = container("").unwrap();
    assert_eq!(unnamed.settings().unwrap(), ContainerSettings::new());
    assert_eq!(unnamed.statistics().unwrap().live, 3);
    assert_eq!(container("shop").unwrap().statistics().unwrap().live, 1);
    let gone = container("gone").unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NoSuchContainer);
}

// C7.2, C1.9
#[test]
fn an_owner_is_found() {
    let fixture = Fixture::open(Duration::from_secs(5));
    let found = fixture.store.sessions_of(OWNER).unwrap();
    assert_eq!(found, [fixture.id(ids::ANN).key()]);
}

// C7.2, C3.2, C3.8
#[test]
fn the_times_are_found() {
    let fixture = Fixture::open(Duration::from_secs(5));
    let founded = clock().now();
    for id in [ids::ANN, ids::BEN, ids::CAT] {
        fixture.see(id, |session| {
            assert_eq!(session.created_at()?, Some(founded));
            assert_eq!(session.last_access()?, Some(founded));
            Ok(())
        });
    }
    let exists = |after, id| Fixture::open(after).see(id, Session::exists);
    let timeout = HOUR + Duration::from_secs(1);
    assert!(exists(HOUR, ids::CAT) && !exists(timeout, ids::CAT));
    // The other container's timeout is longer, a session's own longer still.
    assert!(exists(timeout, ids::ANN) && !exists(2 * timeout, ids::ANN));
    assert!(exists(2160 * HOUR, ids::BEN) && !exists(2161 * HOUR, ids::BEN));
}

// C7.2, C4.8
#[test]
fn an_ended_id_stays_dead() {
    let fixture = Fixture::open(Duration::from_secs(5));
    assert!(!fixture.see(ids::DAN, Session::exists));
    let id = fixture.id(ids::DAN);
    let txn = fixture.store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let written = session.pkg("greeter").insert("name", "Dan");
    let refused = written.and_then(|()| txn.commit()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
}

// C7.2, C4.2
#[test]
fn both_secrets_are_found() {
    let fixture = Fixture::open(Duration::from_secs(5));
    let ids = fixture.store.client_ids();
    let late = ids.issue();
    assert!(
        [ids::ANN, ids::CAT, late.as_str()]
            .iter()
            .all(|id| ids.verify(id).is_some())
    );
    fixture.store.retire_secret(0).unwrap();
    assert!(ids.verify(ids::ANN).is_none() && ids.verify(ids::BEN).is_none());
    assert!(ids.verify(ids::CAT).is_some() && ids.verify(late.as_str()).is_some());
}

// C7.2
#[test]
fn it_can_be_written_to() {
    let fixture = Fixture::open(Duration::from_secs(5));
    let id = fixture.store.client_ids().issue();
    let change = |txn: &Txn| {
        let ann = txn.session(&fixture.id(ids::ANN))?;
        ann.pkg("greeter").add("visits", 1)?;
        ann.pkg("shop").remove("cart")?;
        ann.set_owner(Some("new owner"))?;
        txn.session(&id)?.pkg("gone").insert("n", 1)
    };
    fixture.store.transact(change).unwrap();
    fixture.store.register("gone", shop()).unwrap();
    fixture.store.rotate_secret().unwrap();
    let swept = fixture.store.container("").unwrap().sweep().unwrap();
    assert_eq!(swept.removed, 0);

    let fixture = fixture.reopen();
    assert!(fixture.store.check().unwrap().is_clean());
    fixture.see(ids::ANN, |session| {
        assert_eq!(session.pkg("greeter").get("visits")?, Some(4_u64));
        assert_eq!(session.pkg("greeter").get("name")?, Some("Ann".to_owned()));
        assert!(session.pkg("shop").is_empty()?);
        Ok(())
    });
    assert!(fixture.store.sessions_of(OWNER).unwrap().is_empty());
    assert_eq!(fixture.store.sessions_of("new owner").unwrap().len(), 1);
    // What a container of this name held before it was unregistered is not seen again.
    fixture.see(id.as_str(), |session| session.pkg("gone").is_empty());
    let gone = fixture.store.container("gone").unwrap();
    assert_eq!(gone.statistics().unwrap().live, 0);
}

//! C7.2: every build opens the files of all formats that ever were. One small store of each lies in
//! `fixtures`, written once and never changed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ClientId, Clock, ContainerSettings, ErrorKind, Session, Store, Txn};
use redb::{Database, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::clock::{HOUR, clock};
use support::store::{builder, keys_of};
use tempfile::TempDir;

/// The ids under which a file holds its sessions: what `write_the_fixture` printed.
struct Ids {
    /// Issued under the first secret. Owned, with packages in two containers.
    ann: &'static str,
    /// Issued under the first secret. With a timeout of its own.
    ben: &'static str,
    /// Issued under the second secret.
    cat: &'static str,
    /// Destroyed a moment before the file was closed.
    dan: &'static str,
}

/// Each file with its format; a new format needs a new file.
static FIXTURES: [(&str, u32, Ids); 3] = [
    (
        "format-1.redb",
        1,
        Ids {
            ann: "qQDlOuPXxMGuvjkbDhNNiEZOAM7jiHyUt47kqtjEg2pWITYREhUgjUTmf5EJsLACjeim",
            ben: "5n1GjLwOv0S7A64Iz5rvN-yrAACzkiQ7OI1-2ZVfeoS1R4xScaXrjsqeZQCU_y6bCYIE",
            cat: "PnVmuDGvvLniYsdxyesPf_gvASQyai8wwK35sed8TukSsGN2kpGroRe8BHcS_a1wxC-m",
            dan: "Wxc8PMGCUrECCBVfOLle6hvKAG5vlqn_rwwPTeDjVzX64A78tI7yQ_lA4OUQgJyYZxJj",
        },
    ),
    (
        "format-2.redb",
        2,
        Ids {
            ann: "gZSmDbkg0r5rZudrVP41khngAPQy5vXfNPVhZXBzaws5uGiGsmY7GOsN7OgaU4a8Ee-f",
            ben: "WvS7KVIPJGB8hQgmunoIe1e9AEllknFLYxUB1DQtyej5C-OiHDFHnMba5rihTfujH7uA",
            cat: "fleH_D1haZxOFSpBYfEq98JfAfp-z08jO6LA-v1k0xKYRUys91X7qXt2XUV2G7lYXjBF",
            dan: "CAWv2guCYqlpBIUO_-KxQNDSAAxbA0m_SRY6CONDIbtlx06V4O9i_z1_OYUY4PsFgZDT",
        },
    ),
    // Killed, with all its sessions in a journal.
    (
        "format-2-killed.redb",
        2,
        Ids {
            ann: "sZZJoBD_OTVVmURS16IbXyEzAM9wPaQ0x9nOJhPDMCxNarUwd3Wx49F07gawrz2MU4Tw",
            ben: "izQVA-Vtg7lCUkkDy4tl5CWjAK9ZGnMU59dnzeqZOcocETv9fSMYZfnZ3luv00zQxDac",
            cat: "guaGcIXIIkRLxBQ1B98NFEwdAWKsOLq3RG4nKMrllpxwtsIuu86kzyE0h9wYWO-lsc1S",
            dan: "vmfA7erNbmWmqkcpMsYTTz-nAHtkLNHcD0yHKKhBG_tgRp-OQRWy4O2TF3cYPWP8_qMW",
        },
    ),
];

const OWNER: &str = "ann@example.org";
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

fn open(path: &Path, clock: &Clock) -> Store {
    builder(clock).verify_on_open(true).open(path).unwrap()
}

/// A copy of a file, opened a while after it was written.
struct Fixture {
    folder: TempDir,
    clock: Clock,
    store: Store,
    ids: &'static Ids,
}

impl Fixture {
    fn open((name, _, ids): &'static (&str, u32, Ids), after: Duration) -> Self {
        println!("{name}");
        let folder = tempfile::tempdir().unwrap();
        let path = copy(name, &folder);
        let clock = clock();
        clock.advance(after);
        let store = open(&path, &clock);
        Self {
            folder,
            clock,
            store,
            ids,
        }
    }

    /// All the files, a moment later.
    fn all() -> impl Iterator<Item = Self> {
        let after = Duration::from_secs(5);
        FIXTURES.iter().map(move |file| Self::open(file, after))
    }

    fn reopen(self) -> Self {
        self.store.close().unwrap();
        let store = open(&self.folder.path().join(STORE), &self.clock);
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

const STORE: &str = "sessions.redb";

/// Copies a file, and the journal beside it if there is one.
fn copy(name: &str, to: &TempDir) -> PathBuf {
    for suffix in ["", ".journal-1", ".journal-2", ".journal-3", ".journal-4"] {
        let from = fixtures().join(format!("{name}{suffix}"));
        if from.exists() {
            fs::copy(from, to.path().join(format!("{STORE}{suffix}"))).unwrap();
        }
    }
    to.path().join(STORE)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// How the files were made. Not a test: it does something only where the environment names a file to
/// write, and prints the ids to be put above. A name with `killed` in it gets the store as a kill leaves it:
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
    let target = PathBuf::from(path);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(target.file_name().unwrap());
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
    for (name, id) in [("ann", &ann), ("ben", &ben), ("cat", &cat), ("dan", &dan)] {
        println!("{name}: {:?},", id.as_str());
    }
    if !target.to_string_lossy().contains("killed") {
        store.close().unwrap();
        // Nothing but its size changes.
        Database::open(&path).unwrap().compact().unwrap();
    }
    for entry in fs::read_dir(folder.path()).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, target.with_file_name(from.file_name().unwrap())).unwrap();
    }
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
    let mut last = Vec::new();
    for (name, number, _) in &FIXTURES {
        let written = [b"cloakroom".as_slice(), &number.to_le_bytes()].concat();
        last = format(&copy(name, &folder));
        assert_eq!(last, written, "{name}");
    }
    let new = folder.path().join("new.redb");
    open(&new, &clock()).close().unwrap();
    assert_eq!(format(&new), last, "this format has no file yet");
}

// C7.2, C5.4
#[test]
fn every_value_is_found() {
    for fixture in Fixture::all() {
        assert!(fixture.store.check().unwrap().is_clean());
        fixture.see(fixture.ids.ann, |session| {
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
        for (id, name) in [(fixture.ids.ben, "Ben"), (fixture.ids.cat, "Cat")] {
            let found = fixture.see(id, |session| session.pkg("greeter").get::<String>("name"));
            assert_eq!(found.as_deref(), Some(name));
        }
    }
}

// C7.2, C1.8
#[test]
fn the_containers_are_found_with_their_settings() {
    for fixture in Fixture::all() {
        let container = |name| fixture.store.container(name);
        assert_eq!(container("shop").unwrap().settings().unwrap(), shop());
        let unnamed = container("").unwrap();
        assert_eq!(unnamed.settings().unwrap(), ContainerSettings::new());
        assert_eq!(unnamed.statistics().unwrap().live, 3);
        assert_eq!(container("shop").unwrap().statistics().unwrap().live, 1);
        let gone = container("gone").unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NoSuchContainer);
    }
}

// C7.2, C1.9
#[test]
fn an_owner_is_found() {
    for fixture in Fixture::all() {
        let found = keys_of(&fixture.store, OWNER);
        assert_eq!(found, [fixture.id(fixture.ids.ann).key()]);
    }
}

// C7.2, C3.2, C3.8
#[test]
fn the_times_are_found() {
    let founded = clock().now();
    for fixture in Fixture::all() {
        for id in [fixture.ids.ann, fixture.ids.ben, fixture.ids.cat] {
            fixture.see(id, |session| {
                assert_eq!(session.created_at()?, Some(founded));
                assert_eq!(session.last_access()?, Some(founded));
                Ok(())
            });
        }
    }
    let timeout = HOUR + Duration::from_secs(1);
    for file in &FIXTURES {
        let Ids { ann, ben, cat, .. } = file.2;
        let exists = |after, id| Fixture::open(file, after).see(id, Session::exists);
        assert!(exists(HOUR, cat) && !exists(timeout, cat));
        // The other container's timeout is longer, a session's own longer still.
        assert!(exists(timeout, ann) && !exists(2 * timeout, ann));
        assert!(exists(2160 * HOUR, ben) && !exists(2161 * HOUR, ben));
    }
}

// C7.2, C4.8
#[test]
fn an_ended_id_stays_dead() {
    for fixture in Fixture::all() {
        assert!(!fixture.see(fixture.ids.dan, Session::exists));
        let id = fixture.id(fixture.ids.dan);
        let txn = fixture.store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        let written = session.pkg("greeter").insert("name", "Dan");
        let refused = written.and_then(|()| txn.commit()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
    }
}

// C7.2, C4.2
#[test]
fn both_secrets_are_found() {
    for fixture in Fixture::all() {
        let ids = fixture.store.client_ids();
        let late = ids.issue();
        assert!(
            [fixture.ids.ann, fixture.ids.cat, late.as_str()]
                .iter()
                .all(|id| ids.verify(id).is_some())
        );
        fixture.store.retire_secret(0).unwrap();
        assert!(ids.verify(fixture.ids.ann).is_none() && ids.verify(fixture.ids.ben).is_none());
        assert!(ids.verify(fixture.ids.cat).is_some() && ids.verify(late.as_str()).is_some());
    }
}

// C7.2
#[test]
fn it_can_be_written_to() {
    for fixture in Fixture::all() {
        let id = fixture.store.client_ids().issue();
        let change = |txn: &Txn| {
            let ann = txn.session(&fixture.id(fixture.ids.ann))?;
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
        fixture.see(fixture.ids.ann, |session| {
            assert_eq!(session.pkg("greeter").get("visits")?, Some(4_u64));
            assert_eq!(session.pkg("greeter").get("name")?, Some("Ann".to_owned()));
            assert!(session.pkg("shop").is_empty()?);
            Ok(())
        });
        assert!(fixture.store.sessions_of(OWNER).unwrap().is_empty());
        assert_eq!(fixture.store.sessions_of("new owner").unwrap().len(), 1);
        // Data that a container of this name held before it was unregistered stays hidden.
        fixture.see(id.as_str(), |session| session.pkg("gone").is_empty());
        let gone = fixture.store.container("gone").unwrap();
        assert_eq!(gone.statistics().unwrap().live, 0);
    }
}

// C7.2
#[test]
fn a_store_of_an_older_format_that_is_not_to_be_migrated_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy("format-1.redb", &folder);
    let before = fs::read(&path).unwrap();
    let open = |migrate| builder(&clock()).migrate_older(migrate).open(&path);
    let error = open(false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("format 1"), "{error}");
    assert!(fs::read(&path).unwrap() == before);
    open(true).unwrap().close().unwrap();
    open(false).unwrap();
}

//! C9.4: a compacted store is the same one in a smaller file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{
    ClientId, Compaction, ContainerSettings, Error, ErrorKind, Store, StoreBuilder, Txn,
};
use std::ops::ControlFlow;
use std::path::Path;
use support::clock::{HOUR, clock};
use support::engine::needs_files;
use support::files::{image, names};
use support::store::place;

fn builder() -> StoreBuilder {
    support::store::builder(&clock()).cache_size(4 << 20)
}

fn go_on(_: Compaction) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A store from which most sessions were ended.
fn fill(path: &Path) -> (Store, Vec<ClientId>) {
    let store = builder().open(path).unwrap();
    let settings = ContainerSettings::new().timeout(2 * HOUR);
    store.register("big", settings).unwrap();
    let ids: Vec<_> = (0..2000).map(|_| store.client_ids().issue()).collect();
    for some in ids.chunks(250) {
        let put = |txn: &Txn| {
            for id in some {
                let session = txn.session(id)?;
                session.pkg("big").insert("text", "x".repeat(2000))?;
                session.set_owner(Some("ann"))?;
            }
            Ok::<_, Error>(())
        };
        store.transact(put).unwrap();
    }
    store.checkpoint().unwrap();
    for some in ids[100..].chunks(100) {
        let end = |txn: &Txn| some.iter().try_for_each(|id| txn.session(id)?.destroy());
        store.transact(end).unwrap();
    }
    (store, ids)
}

fn assert_same(store: &Store, ids: &[ClientId]) {
    assert!(store.check().unwrap().is_clean());
    assert_eq!(store.sessions_of("ann").unwrap().len(), 100);
    let txn = store.begin().unwrap();
    for (n, id) in ids.iter().enumerate() {
        let id = store.client_ids().verify(id.as_str()).unwrap();
        let text: Option<String> = txn.session(&id).unwrap().pkg("big").get("text").unwrap();
        assert_eq!(text.is_some(), n < 100, "{n}");
    }
    let settings = store.container("big").unwrap().settings().unwrap();
    assert!(format!("{settings:?}").contains("7200"), "{settings:?}");
}

#[test]
fn a_compacted_store_is_the_same_in_a_smaller_file() {
    needs_files!("it compacts a file");
    let (folder, path) = place();
    let (store, ids) = fill(&path);
    store.close().unwrap();
    let before = std::fs::metadata(&path).unwrap().len();
    let mut told = Vec::new();
    let done = builder()
        .compact(&path, |so_far| {
            told.push(so_far.rows);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(done.bytes_before, before);
    assert_eq!(done.bytes_after, std::fs::metadata(&path).unwrap().len());
    assert!(done.bytes_after < before / 3, "{done:?}");
    assert_eq!((done.rows, done.of), (300, 300));
    assert!(told.is_sorted() && told.len() > 2);
    assert_eq!(names(folder.path()), ["store"]);
    let store = builder().verify_on_open(true).open(&path).unwrap();
    assert_same(&store, &ids);
}

// C7.3
#[test]
fn the_journal_of_a_killed_store_belongs_to_the_compacted_one() {
    needs_files!("it compacts a file");
    let (folder, path) = place();
    let (store, ids) = fill(&path);
    // Nothing is under way: a kill would leave this.
    let killed = image(folder.path());
    assert_eq!(killed.len(), 3);
    let error = builder().compact(&path, go_on).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    store.close().unwrap();
    support::files::restore(folder.path(), &killed);
    builder().compact(&path, go_on).unwrap();
    assert_same(&builder().open(&path).unwrap(), &ids);
}

// C9.4
#[test]
fn a_compaction_that_is_broken_off_or_refused_changes_nothing() {
    needs_files!("it compacts a file");
    let (folder, path) = place();
    let (store, ids) = fill(&path);
    store.close().unwrap();
    let before = names(folder.path());
    let len = std::fs::metadata(&path).unwrap().len();
    for stop in 0..3 {
        let mut calls = 0;
        let error = builder().compact(&path, |_| {
            calls += 1;
            match calls > stop {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(names(folder.path()), before);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
    }
    let missing = folder.path().join("missing");
    let error = builder().compact(&missing, go_on).unwrap_err();
    assert_eq!(
        error.io_error().unwrap().kind(),
        std::io::ErrorKind::NotFound
    );
    std::fs::write(&missing, "").unwrap();
    let error = builder().compact(&missing, go_on).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAStore);
    std::fs::write(&missing, "text").unwrap();
    let error = builder().compact(&missing, go_on).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAStore);
    assert_eq!(std::fs::read(&missing).unwrap(), b"text");
    #[cfg(unix)]
    {
        std::fs::hard_link(&path, folder.path().join("second")).unwrap();
        let error = builder().compact(&path, go_on).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_same(&builder().verify_on_open(true).open(&path).unwrap(), &ids);
}

// C9.4: what is damaged can be mended or salvaged, so it is not replaced by a copy with right checksums.
#[test]
fn a_damaged_store_is_not_compacted() {
    needs_files!("it compacts a file");
    let (folder, path) = place();
    let store = builder().open(&path).unwrap();
    let id = store.client_ids().issue();
    let put = |txn: &Txn| {
        let session = txn.session(&id)?;
        session.pkg("big").insert("text", "x".repeat(200))?;
        session.set_owner(Some("ann"))
    };
    store.transact(put).unwrap();
    store.close().unwrap();
    let sound = std::fs::read(&path).unwrap();
    let key = id.key();
    let key = key.as_bytes();
    // Keys in the tables of sessions, packages and owners, and in pages that were given up.
    let places = (0..sound.len() - 16).filter(|at| sound[*at..].starts_with(key));
    let mut in_use = 0;
    for at in places {
        let mut damaged = sound.clone();
        damaged[at + 5] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        if builder().verify_on_open(true).open(&path).is_ok() {
            continue;
        }
        in_use += 1;
        let error = builder().compact(&path, go_on).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
        assert_eq!(names(folder.path()), ["store"]);
    }
    assert!(in_use >= 3, "{in_use}");
}

// C7.2
#[test]
fn a_store_of_an_older_format_is_left_as_it_is() {
    needs_files!("it compacts a file");
    let (folder, path) = place();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1.redb");
    std::fs::copy(fixture, &path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = builder().compact(&path, go_on).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(names(folder.path()), ["store"]);
    builder().open(&path).unwrap().close().unwrap();
    builder().compact(&path, go_on).unwrap();
}

#[cfg(unix)]
#[test]
fn the_compacted_file_has_the_owner_and_the_permissions_of_the_old_one() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    needs_files!("it compacts a file");
    let (_folder, path) = place();
    builder().open(&path).unwrap().close().unwrap();
    let permissions = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(&path, permissions).unwrap();
    // Only an administrator may do this.
    let _ = chown(&path, Some(12_345), Some(23_456));
    let of = |path: &Path| {
        let metadata = std::fs::metadata(path).unwrap();
        (metadata.mode(), metadata.uid(), metadata.gid())
    };
    let before = of(&path);
    builder().compact(&path, go_on).unwrap();
    assert_eq!(of(&path), before);
}

#[cfg(feature = "encryption")]
#[test]
fn an_encrypted_store_is_compacted_with_its_keys_alone() {
    use cloakroom::KeyRing;
    needs_files!("it compacts a file");
    let (_folder, path) = place();
    let keyed = || builder().encryption(KeyRing::new(1, [7; 32]));
    let store = keyed().open(&path).unwrap();
    let id = store.client_ids().issue();
    let put = |txn: &Txn| txn.session(&id)?.pkg("a").insert("n", 1);
    store.transact(put).unwrap();
    store.close().unwrap();
    let error = builder().compact(&path, go_on).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    keyed().compact(&path, go_on).unwrap();
    let store = keyed().verify_on_open(true).open(&path).unwrap();
    let txn = store.begin().unwrap();
    let n: Option<u8> = txn.session(&id).unwrap().pkg("a").get("n").unwrap();
    assert_eq!(n, Some(1));
}

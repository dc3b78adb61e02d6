//! What an import meets in the store that it writes to.

use super::support::store::{builder, timed};
use super::support::visitors::with;
use super::{HOUR, clock, empty, exported, filled, seen};
use cloakroom::{
    ClientId, ClientKey, Clock, ContainerSettings, ErrorKind, OnDuplicate, Residence, Store,
};

/// A store of one session in the container `shop`, whose alias is `wishlist`, and of one in the unnamed container.
fn with_alias() -> (Store, ClientId) {
    let (_, store) = timed();
    store.register("shop", ContainerSettings::new()).unwrap();
    store.register_alias("wishlist", "shop").unwrap();
    let id = store.client_ids().issue();
    with(&store, &id, |session| {
        session.pkg("wishlist").insert("kettle", 1)?;
        session.pkg("other").insert("k", 2)
    });
    (store, id)
}

// C9.4, C1.2
#[test]
fn aliases_come_along() {
    let (store, id) = with_alias();
    let lines = exported(&store);
    assert!(lines.contains("\"aliases\":[\"wishlist\"]"), "{lines}");
    let target = empty();
    target.import(lines.as_bytes(), OnDuplicate::Fail).unwrap();
    let names = target.container("shop").unwrap().names().unwrap();
    assert_eq!(names, ["shop", "wishlist"]);
    let values = target.entry_values(id.key(), "shop", "wishlist").unwrap();
    assert_eq!(values.len(), 1);
    assert_eq!(target.container_for("wishlist").unwrap().name(), "shop");

    // Again, and into a container that has sessions and keeps its settings: its other names come too.
    target.import(lines.as_bytes(), OnDuplicate::Skip).unwrap();
    target.unregister("wishlist").unwrap();
    target.import(lines.as_bytes(), OnDuplicate::Skip).unwrap();
    assert_eq!(target.container_for("wishlist").unwrap().name(), "shop");
    assert_eq!(seen(&target), seen(&store));

    let older = lines.replace(",\"aliases\":[\"wishlist\"]", "");
    assert_ne!(older, lines);
    empty().import(older.as_bytes(), OnDuplicate::Fail).unwrap();
}

// C1.7
#[test]
fn an_import_moves_no_container() {
    let (store, ids) = filled(1);
    let lines = exported(&store);
    for on_duplicate in [OnDuplicate::Skip, OnDuplicate::Replace, OnDuplicate::Fail] {
        let target = empty();
        let memory = ContainerSettings::new().timeout(2 * HOUR).in_memory();
        target.register("", memory).unwrap();
        let error = target.import(lines.as_bytes(), on_duplicate).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(
            text.contains("line 3 of") && text.contains("does not live in the file"),
            "{text}"
        );
        let settings = target.container("").unwrap().settings().unwrap();
        assert_eq!(settings.residence, Residence::Memory, "{on_duplicate:?}");
        assert!(target.entry(ids[0].key()).unwrap().is_none());
    }
}

// C1.7
#[test]
fn a_container_in_memory_without_sessions_in_the_export_is_no_obstacle() {
    let (_, store) = timed();
    store.register("shop", ContainerSettings::new()).unwrap();
    let lines = exported(&store);
    let target = empty();
    let shop = target
        .register("shop", ContainerSettings::new().in_memory())
        .unwrap();
    target
        .import(lines.as_bytes(), OnDuplicate::Replace)
        .unwrap();
    assert_eq!(shop.settings().unwrap().residence, Residence::Memory);
}

// C3.2
#[test]
fn an_expired_session_is_not_there_and_leaves_no_package() {
    for on_duplicate in [OnDuplicate::Skip, OnDuplicate::Replace, OnDuplicate::Fail] {
        let clock = clock();
        let target = builder(&clock).implicit_sweeps(false).in_memory().unwrap();
        let (old, live) = (target.client_ids().issue(), target.client_ids().issue());
        with(&target, &old, |session| session.pkg("old").insert("k", 1));
        clock.advance(2 * HOUR);
        with(&target, &live, |session| session.pkg("new").insert("k", 1));
        let gone = old.key();
        let late = store_at(&clock, gone);
        let imported = target.import(late.as_bytes(), on_duplicate).unwrap();
        assert_eq!((imported.sessions, imported.skipped), (1, 0));
        let entry = target.entry(gone).unwrap().unwrap();
        let names: Vec<_> = entry.parts[0].packages.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["cart"], "{on_duplicate:?}");
        assert!(target.check().unwrap().is_clean());

        let again = store_at(&clock, live.key());
        let skipped = target.import(again.as_bytes(), OnDuplicate::Skip).unwrap();
        assert_eq!((skipped.sessions, skipped.skipped), (0, 1));
    }
}

/// The export of a store that has a session of this client.
fn store_at(clock: &Clock, client: ClientKey) -> String {
    let store = builder(clock).in_memory().unwrap();
    let id = store.client_ids().issue();
    with(&store, &id, |session| session.pkg("cart").insert("n", 1));
    exported(&store).replace(&id.key().to_string(), &client.to_string())
}

// C1.2
#[test]
fn a_container_is_not_merged_into_one_that_has_its_name_as_an_alias() {
    let (_, store) = timed();
    let id = store.client_ids().issue();
    for name in ["shop", "wishlist"] {
        store.register(name, ContainerSettings::new()).unwrap();
        with(&store, &id, |session| session.pkg(name).insert("k", 1));
    }
    let lines = exported(&store);
    let session_alone: Vec<_> = lines
        .lines()
        .filter(|line| !line.starts_with("{\"container\":{\"name\":\"wishlist\""))
        .collect();
    for lines in [lines.clone(), session_alone.join("\n")] {
        let target = empty();
        target.register("shop", ContainerSettings::new()).unwrap();
        target.register_alias("wishlist", "shop").unwrap();
        let error = target
            .import(lines.as_bytes(), OnDuplicate::Replace)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(
            error.to_string().contains("another name of a container"),
            "{error}"
        );
        assert!(target.entry(id.key()).unwrap().is_none());
    }
    // The other way round, an alias of the export is a container here.
    let (store, _) = with_alias();
    let target = empty();
    target
        .register("wishlist", ContainerSettings::new())
        .unwrap();
    let error = target
        .import(exported(&store).as_bytes(), OnDuplicate::Replace)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error.to_string().contains("a container of its own"),
        "{error}"
    );
}

#[test]
fn sessions_that_are_there_are_skipped_or_replaced_or_end_the_import() {
    let (store, ids) = filled(3);
    let lines = exported(&store);
    let target = empty();
    target.import(lines.as_bytes(), OnDuplicate::Fail).unwrap();
    // One of them goes on here, and one ends.
    let (changed, ended) = (ids[0].key(), ids[1].key());
    let id = &ids[0];
    target
        .transact(|txn| {
            let session = txn.session(id)?;
            session.pkg("other").insert("k", 1)?;
            session.set_owner(Some("new"))
        })
        .unwrap_or_else(|error| panic!("{error}"));
    target.end(ended).unwrap();

    let error = target
        .import(lines.as_bytes(), OnDuplicate::Fail)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error
            .to_string()
            .contains("the store has this session already"),
        "{error}"
    );
    assert!(
        target.entry(ended).unwrap().is_none(),
        "a part of the batch was written"
    );

    let skipped = target.import(lines.as_bytes(), OnDuplicate::Skip).unwrap();
    assert_eq!((skipped.sessions, skipped.skipped), (1, 2));
    assert_eq!(target.sessions_of("new").unwrap().len(), 1);

    let replaced = target
        .import(lines.as_bytes(), OnDuplicate::Replace)
        .unwrap();
    assert_eq!((replaced.sessions, replaced.skipped), (3, 0));
    assert!(target.sessions_of("new").unwrap().is_empty());
    let entry = target.entry(changed).unwrap().unwrap();
    assert_eq!(entry.parts[0].packages.len(), 1, "{entry:?}");
    assert_eq!(seen(&target), seen(&store));
    assert!(target.check().unwrap().is_clean());
}

// C3.2
#[test]
fn containers_with_sessions_keep_their_settings_unless_they_are_replaced() {
    let (store, _) = filled(1);
    let own = ContainerSettings::new().timeout(2 * HOUR);
    store.container("").unwrap().configure(own.clone()).unwrap();
    let lines = exported(&store);
    let (target, _) = filled(1);
    let timeout = || target.container("").unwrap().settings().unwrap().timeout;
    target.import(lines.as_bytes(), OnDuplicate::Skip).unwrap();
    assert_eq!(timeout(), HOUR);
    target
        .import(lines.as_bytes(), OnDuplicate::Replace)
        .unwrap();
    assert_eq!(timeout(), own.timeout);
    let fresh = empty();
    fresh.import(lines.as_bytes(), OnDuplicate::Fail).unwrap();
    assert_eq!(fresh.container("").unwrap().settings().unwrap(), own);
}

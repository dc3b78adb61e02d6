//! What whoever administers a store sees of its sessions: pages, one session, measures. Keys, never ids (C1.6, C8.2, C9.2).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{
    ClientKey, ContainerSettings, ErrorKind, SessionFilter, SessionList, Store, Value,
};
use pollster::block_on;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::clock::{HOUR, MINUTE, secs};
use support::damage::{flip_packages, flip_session};
use support::engine::needs_files;
use support::log::Lines;
use support::store::{file_builder, place, timed};
use support::visitors::with;

/// Sessions of owners `ann` and `bob` in turn, one a minute, each a little larger than the one before. The first is the
/// oldest.
fn filled(sessions: u32) -> (cloakroom::Clock, Store, Vec<ClientKey>) {
    let (clock, store) = timed();
    let mut keys = Vec::new();
    for n in 0..sessions {
        let id = store.client_ids().issue();
        with(&store, &id, |session| {
            session.set_owner(Some(if n % 2 == 0 { "ann" } else { "bob" }))?;
            session.set_label(&format!("device {n}"))?;
            session
                .pkg("p")
                .insert("text", "x".repeat(100 * n as usize))
        });
        keys.push(id.key());
        clock.advance(MINUTE);
    }
    (clock, store, keys)
}

fn page(
    store: &Store,
    filter: &SessionFilter,
    after: Option<ClientKey>,
    limit: usize,
) -> SessionList {
    store
        .container("")
        .unwrap()
        .sessions(filter, after, limit)
        .unwrap()
}

fn keys_in(list: &SessionList) -> Vec<ClientKey> {
    list.sessions.iter().map(|session| session.client).collect()
}

#[track_caller]
fn check(store: &Store, filter: &SessionFilter, expected: &[ClientKey]) {
    let found: BTreeSet<_> = keys_in(&page(store, filter, None, 100))
        .into_iter()
        .collect();
    assert_eq!(found, expected.iter().copied().collect(), "{filter:?}");
}

// C8.2
#[test]
fn pages_have_each_session_once_in_the_order_of_the_keys() {
    let (_, store, mut keys) = filled(23);
    keys.sort_unstable();
    let (mut found, mut after) = (Vec::new(), None);
    for _ in 0..6 {
        let page = page(&store, &SessionFilter::new(), after, 5);
        assert!(page.sessions.len() <= 5);
        found.extend(keys_in(&page));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found, after), (keys, None));
    let first = &block_on(store.container("").unwrap().sessions_async(
        &SessionFilter::new(),
        None,
        1,
    ));
    let first = &first.as_ref().unwrap().sessions[0];
    assert!(first.bytes > 0 && first.packages == 1 && first.error.is_none());
    assert!(
        first.expires.unwrap() - first.last_access.unwrap()
            == chrono::TimeDelta::milliseconds(3_600_001)
    );
}

#[test]
fn a_filter_takes_the_sessions_that_are_so() {
    let (_, store, keys) = filled(6);
    let all = SessionFilter::new;
    check(&store, &all(), &keys);
    check(&store, &all().owner("ann"), &[keys[0], keys[2], keys[4]]);
    check(&store, &all().owner("an"), &[]);
    check(&store, &all().label("ice 3"), &keys[3..4]);
    // They were founded six minutes to one minute ago.
    check(&store, &all().age_at_least(4 * MINUTE), &keys[..3]);
    check(&store, &all().age_at_most(4 * MINUTE), &keys[2..]);
    check(&store, &all().idle_at_most(MINUTE), &keys[5..]);
    check(&store, &all().idle_at_least(6 * MINUTE).owner("bob"), &[]);
    check(&store, &all().bytes_at_least(400), &keys[4..]);
    check(&store, &all().bytes_at_most(200), &keys[..2]);
    let whole = keys[2].to_string();
    check(&store, &all().key_prefix(&whole).unwrap(), &keys[2..3]);
    check(
        &store,
        &all().key_prefix(&whole[..31].to_uppercase()).unwrap(),
        &keys[2..3],
    );
    check(&store, &all().key_prefix("").unwrap(), &keys);
    for wrong in ["g", "+1", &format!("{whole}0")] {
        let error = all().key_prefix(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn sessions_that_have_expired_are_listed_on_asking_alone() {
    let (clock, store, keys) = filled(3);
    clock.advance(HOUR - 2 * MINUTE);
    check(&store, &SessionFilter::new(), &keys[1..]);
    let all = SessionFilter::new().with_expired();
    check(&store, &all, &keys);
    check(&store, &all.clone().owner("bob"), &keys[1..2]);
    for session in page(&store, &all, None, 10).sessions {
        assert_eq!(session.is_expired, session.client == keys[0]);
        assert_eq!(session.is_expired, session.expires.unwrap() <= store.now());
    }
    clock.advance(HOUR);
    check(&store, &SessionFilter::new(), &[]);
    check(
        &store,
        &all.clone().key_prefix(&keys[2].to_string()).unwrap(),
        &keys[2..],
    );
    store.container("").unwrap().sweep().unwrap();
    check(&store, &all, &[]);
}

// C5.5
#[test]
fn a_filter_that_takes_nothing_examines_a_bounded_number_and_tells_where_to_go_on() {
    let (_, store) = timed();
    store
        .transact(|txn| {
            for _ in 0..5000 {
                txn.session(&store.client_ids().issue())?
                    .set_owner(Some("ann"))?;
            }
            Ok::<_, cloakroom::Error>(())
        })
        .unwrap();
    let nobodys = SessionFilter::new().owner("nobody");
    let first = page(&store, &nobodys, None, 10);
    assert!(first.sessions.is_empty() && first.next.is_some());
    assert!(first.examined <= 4096, "{}", first.examined);
    let second = page(&store, &nobodys, first.next, 10);
    assert_eq!(
        (first.examined + second.examined, second.next),
        (5000, None)
    );
}

// C5.4
#[test]
fn damage_is_shown_as_damage_and_hides_nothing_else() {
    needs_files!("the damage is done to a file");
    let (_folder, path) = place();
    let store = file_builder().open(&path).unwrap();
    let ids: Vec<_> = (0..3).map(|_| store.client_ids().issue()).collect();
    for id in &ids {
        with(&store, id, |session| session.pkg("p").insert("k", 1));
    }
    store.close().unwrap();
    flip_session(&path, ids[0].key());
    flip_packages(&path, ids[1].key());

    let store = file_builder().open(&path).unwrap();
    let list = page(&store, &SessionFilter::new().owner("nobody"), None, 10);
    assert_eq!(keys_in(&list), [ids[0].key()], "it may be anybody's");
    let entry = |n: usize| store.entry(ids[n].key()).unwrap().unwrap();
    let error = entry(0).parts[0].error.clone().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let package = &entry(1).parts[0].packages[0];
    assert_eq!(package.error.as_ref().unwrap().kind(), ErrorKind::Corrupt);
    let values = |n: usize| store.entry_values(ids[n].key(), "", "p");
    assert_eq!(values(1).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(entry(2).parts[0].packages[0].error.is_none());
    assert_eq!(values(2).unwrap(), [("k".to_owned(), Value::Unsigned(1))]);
    let measures = store
        .container("")
        .unwrap()
        .measure(|_| ControlFlow::Continue(()));
    let measures = measures.unwrap();
    assert_eq!((measures.live, measures.unreadable), (2, 1));
}

// C9.2
#[test]
fn an_entry_has_times_and_sizes_and_the_values_only_on_asking_which_is_logged() {
    let (clock, store) = timed();
    let id = store.client_ids().issue();
    with(&store, &id, |session| {
        session.set_owner(Some("ann"))?;
        session.set_timeout(Some(2 * HOUR))?;
        session.pkg("cart").insert("tea", "green")?;
        session.pkg("cart").insert("milk", 1)
    });
    clock.advance(secs(90));
    let entry = store.entry(id.key()).unwrap().unwrap();
    let [part] = &entry.parts[..] else {
        panic!("{entry:?}")
    };
    assert_eq!(
        (part.owner.as_deref(), part.timeout),
        (Some("ann"), Some(2 * HOUR))
    );
    assert_eq!(part.created, part.last_access);
    assert!(!part.is_expired);
    let keys: Vec<_> = part.packages[0]
        .keys
        .iter()
        .map(|key| (&*key.name, key.bytes))
        .collect();
    assert_eq!(keys, [("milk", 1), ("tea", 6)]);
    assert!(!format!("{entry:?}").contains("green"));
    assert!(!format!("{entry:?}").contains(id.as_str()));

    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = lines.clone();
    let subscriber = Lines::of(|_| true, move |_, line| log.lock().unwrap().push(line));
    let values = tracing::subscriber::with_default(subscriber, || {
        store.entry(id.key()).unwrap();
        assert!(lines.lock().unwrap().is_empty());
        store.entry_values(id.key(), "", "cart")
    });
    assert_eq!(
        values.unwrap()[1],
        ("tea".to_owned(), Value::Text("green".into()))
    );
    let lines = lines.lock().unwrap().join("\n");
    assert!(
        lines.contains("were asked for") && lines.contains(&id.key().to_string()),
        "{lines}"
    );
    assert!(
        !lines.contains("green") && !lines.contains(id.as_str()),
        "{lines}"
    );

    assert!(
        store
            .entry_values(id.key(), "", "other")
            .unwrap()
            .is_empty()
    );
    let nowhere = store.entry_values(id.key(), "nowhere", "cart").unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NoSuchContainer);
    let nobody = store.client_ids().issue().key();
    assert!(block_on(store.entry_async(nobody)).unwrap().is_none());
    assert!(
        block_on(store.entry_values_async(nobody, "", "cart"))
            .unwrap()
            .is_empty()
    );
}

// C3.4
#[test]
fn looking_at_sessions_is_no_access() {
    let (clock, store) = timed();
    let id = store.client_ids().issue();
    with(&store, &id, |session| session.pkg("p").insert("k", 1));
    clock.advance(30 * MINUTE);
    page(&store, &SessionFilter::new(), None, 10);
    store.entry(id.key()).unwrap();
    store.entry_values(id.key(), "", "p").unwrap();
    let measure = |_: &_| ControlFlow::Continue(());
    assert_eq!(
        store.container("").unwrap().measure(measure).unwrap().live,
        1
    );
    assert_eq!(store.statistics().unwrap().touches(), 0);
    clock.advance(31 * MINUTE);
    let entry = store.entry(id.key()).unwrap().unwrap();
    assert!(entry.parts[0].is_expired);
    assert!(
        page(&store, &SessionFilter::new(), None, 10)
            .sessions
            .is_empty()
    );
}

#[test]
fn measures_count_ages_and_sizes_and_can_be_broken_off() {
    let (_, store, _) = filled(6);
    let container = store.container("").unwrap();
    let measures = block_on(container.measure_async(|_| ControlFlow::Continue(()))).unwrap();
    assert_eq!(
        (measures.live, measures.owned, measures.packages),
        (6, 6, 6)
    );
    assert!(measures.is_complete && measures.bytes >= 1500);
    let ages: Vec<_> = measures.age_histogram.ranges().collect();
    // 60, 120, 180, 240, 300 and 360 seconds.
    assert_eq!(ages, [(64, 1), (128, 1), (256, 2), (512, 2)]);
    assert_eq!(measures.bytes_histogram.total(), 6);
    store
        .transact(|txn| {
            for _ in 0..2000 {
                txn.session(&store.client_ids().issue())?
                    .set_owner(Some("ann"))?;
            }
            Ok::<_, cloakroom::Error>(())
        })
        .unwrap();
    let broken_off = container.measure(|_| ControlFlow::Break(())).unwrap();
    assert!(!broken_off.is_complete && broken_off.live < 1000);
}

// C1.7
#[test]
fn sessions_of_containers_in_memory_are_listed_too() {
    let (_, store) = timed();
    let memory = cloakroom::ContainerSettings::new()
        .in_memory()
        .timeout(Duration::ZERO);
    store.register("m", memory).unwrap();
    let id = store.client_ids().issue();
    with(&store, &id, |session| session.pkg("m").insert("k", true));
    let list = store
        .container("m")
        .unwrap()
        .sessions(&SessionFilter::new(), None, 10)
        .unwrap();
    assert_eq!(keys_in(&list), [id.key()]);
    assert_eq!(list.sessions[0].expires, None);
    let values = store.entry_values(id.key(), "m", "m").unwrap();
    assert_eq!(values, [("k".to_owned(), Value::Bool(true))]);
}

// C5.5, C8.2
#[test]
fn the_pages_of_an_owner_have_each_session_once_in_the_order_of_keys() {
    let (_clock, store, _) = filled(25);
    store.register("cart", ContainerSettings::new()).unwrap();
    store
        .register("fast", ContainerSettings::new().in_memory())
        .unwrap();
    store.register("gone", ContainerSettings::new()).unwrap();
    for package in ["cart", "fast", "gone"].repeat(6) {
        let id = store.client_ids().issue();
        with(&store, &id, |session| {
            session.set_owner(Some("ann"))?;
            session.pkg(package).insert("k", 1)?;
            session.pkg("cart").insert("k", 1)
        });
    }
    store.unregister("gone").unwrap();
    let mut expected = store.sessions_of("ann").unwrap();
    expected.sort_by_key(|info| info.client);
    assert_eq!(expected.len(), 13 + 18);
    let expected: Vec<_> = expected
        .into_iter()
        .map(|it| (it.client, it.containers))
        .collect();
    for limit in [1, 2, 7, 30, 31, 32, 1000] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.owner_sessions("ann", after, limit).unwrap();
            assert!(page.sessions.len() <= limit);
            found.extend(
                page.sessions
                    .into_iter()
                    .map(|it| (it.client, it.containers)),
            );
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "{limit}");
    }
    assert!(
        store
            .owner_sessions("nobody", None, 10)
            .unwrap()
            .sessions
            .is_empty()
    );
}

// C5.4, C9.4
#[test]
fn a_check_tells_its_progress_and_returns_what_it_found_when_it_is_broken_off() {
    let (_clock, store, _) = filled(300);
    let mut told = Vec::new();
    let check = store.check_with(|so_far| {
        told.push(so_far);
        ControlFlow::Continue(())
    });
    let check = check.unwrap();
    assert!(check.is_complete && check.is_clean());
    assert_eq!((check.sessions, check.packages), (300, 300));
    assert_eq!(told[0].rows, 0);
    assert!(told.windows(2).all(|two| two[0].rows <= two[1].rows));
    if !support::engine::is_remote() {
        // A session, a package and an entry of its owner each.
        assert!(
            told.len() > 3 && told[1..].iter().all(|it| it.of == 900),
            "{told:?}"
        );
    }
    for calls in 0..told.len() {
        let mut left = calls;
        let check = store.check_with(|_| match left.checked_sub(1) {
            Some(fewer) => {
                left = fewer;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        });
        let check = check.unwrap();
        assert!(!check.is_complete && check.is_clean() && check.sessions <= 300);
    }
    let check = block_on(store.check_with_async(|_| ControlFlow::Break(()))).unwrap();
    assert!(!check.is_complete);
    assert_eq!(store.check().unwrap().sessions, 300);
}

// C3.7, C9.4
#[test]
fn a_sweep_that_is_broken_off_keeps_what_it_removed() {
    let (clock, store, _) = filled(700);
    clock.advance(700 * MINUTE);
    let container = store.container("").unwrap();
    let swept = container.sweep_with(|_| ControlFlow::Break(())).unwrap();
    assert_eq!(
        (swept.scanned, swept.removed, swept.is_complete),
        (0, 0, false)
    );

    let mut told = Vec::new();
    let swept = container.sweep_with(|so_far| {
        told.push(so_far);
        match so_far.scanned >= 512 {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    let swept = swept.unwrap();
    assert!(!swept.is_complete && swept.scanned == 512);
    assert!(told.len() >= 3 && told.iter().all(|it| !it.is_complete));
    assert!(
        (256..512).contains(&(swept.removed as usize)) || swept.removed == 512,
        "{swept:?}"
    );
    let left = store.check().unwrap().sessions;
    assert_eq!(left, 700 - swept.removed);

    let swept = block_on(container.sweep_with_async(|_| ControlFlow::Continue(()))).unwrap();
    assert!(swept.is_complete && swept.removed == left);
    assert_eq!(store.check().unwrap().sessions, 0);
}

// C5.4
#[test]
fn a_check_tells_how_much_of_the_file_is_in_use() {
    needs_files!("it is about the file");
    let (_folder, path) = place();
    let store = file_builder().open(&path).unwrap();
    for _ in 0..50 {
        let id = store.client_ids().issue();
        with(&store, &id, |session| {
            session.pkg("p").insert("k", "x".repeat(20_000))
        });
    }
    let in_use = || {
        // Pages are free two commits after they were last needed.
        for _ in 0..3 {
            store.checkpoint().unwrap();
            let id = store.client_ids().issue();
            with(&store, &id, |session| session.pkg("p").insert("k", 1));
        }
        let check = store.check().unwrap();
        assert!(check.is_clean());
        assert!(check.bytes_in_use <= store.statistics().unwrap().file_len());
        check.bytes_in_use
    };
    let before = in_use();
    assert!(before > 1_000_000, "{before}");
    store.end_all().unwrap();
    let after = in_use();
    assert!(after < 200_000, "{after}");
    assert!(store.statistics().unwrap().file_len() > 1_000_000);
}

//! C3.7, C10.3: what a sweep reads on a server, and which of several processes sweeps.

use crate::held::{Gate, is_sleeping, is_waited_for, waiting, while_held};
use crate::place::{Place, connect};
use crate::support::visitors::{again, put};
use crate::support::wait::until;
use cloakroom::{ClientId, Clock, ContainerSettings, PostgresSettings, Store};
use cloakroom_postgres_server::{Proxy, database, shared};
use std::thread;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn clock() -> Clock {
    Clock::manual("2026-01-01T00:00:00Z".parse().unwrap())
}

fn visitors(store: &Store, count: usize) -> Vec<ClientId> {
    let ids: Vec<_> = (0..count).map(|_| store.client_ids().issue()).collect();
    for id in &ids {
        put(store, id, 1);
    }
    ids
}

#[test]
fn a_sweep_reads_only_the_sessions_that_may_be_over() {
    let Some(database) = database() else {
        return;
    };
    let clock = clock();
    let builder = Store::builder().clock(clock.clone()).implicit_sweeps(false);
    let store = connect(builder, &database.url());
    let container = store.container("").unwrap();
    let sweep = || {
        let swept = container.sweep().unwrap();
        (swept.scanned, swept.removed)
    };
    let ids = visitors(&store, 300);
    assert_eq!(sweep(), (300, 0), "the first one reads all");
    assert_eq!(sweep(), (0, 0));
    clock.advance(50 * MINUTE);
    for id in &ids[..20] {
        put(&store, id, 2);
    }
    assert_eq!(sweep(), (0, 0));
    clock.advance(20 * MINUTE);
    assert_eq!(sweep(), (280, 280));
    assert_eq!(sweep(), (0, 0));
    // The rows were written by other settings.
    let short = ContainerSettings::new().timeout(10 * MINUTE);
    container.configure(short).unwrap();
    assert_eq!(sweep(), (20, 20));
    let left = "SELECT count(*) FROM cloakroom_client WHERE body IS NOT NULL";
    assert_eq!(database.sql(left).trim(), "0");
}

// C3.7: each session whole, and rechecked at commit.
#[test]
fn a_session_that_comes_back_after_a_sweep_has_read_it_stays_and_the_others_of_its_commit_go() {
    let Some(database) = database() else {
        return;
    };
    let clock = clock();
    let settings = PostgresSettings::new().deadline(MINUTE / 2);
    let builder = Store::builder().clock(clock.clone()).implicit_sweeps(false);
    let store = connect(builder.postgres(settings), &database.url());
    let container = store.container("").unwrap();
    container.sweep().unwrap();
    let ids = visitors(&store, 3);
    fill(&store, &ids[1], "large", &"large".repeat(1000));
    // What another process writes as the first session is used.
    let client = format!("client = '{}'", ids[0].key());
    let save =
        |name| format!("CREATE TABLE {name} AS SELECT seen FROM cloakroom_client WHERE {client}");
    let set = |name| {
        format!("UPDATE cloakroom_client SET seen = (SELECT seen FROM {name}) WHERE {client}")
    };
    database.sql(&save("earlier"));
    clock.advance(50 * MINUTE);
    until("the access is recorded", || {
        let recorded = format!(
            "SELECT count(*) FROM earlier e JOIN cloakroom_client c ON {client} AND c.seen <> e.seen"
        );
        let txn = store.begin().unwrap();
        assert_eq!(
            txn.session(&ids[0]).unwrap().pkg("p").get("n").unwrap(),
            Some(1)
        );
        txn.commit().unwrap();
        database.sql(&recorded).trim() == "1"
    });
    database.sql(&format!("{}; {}", save("later"), set("earlier")));
    clock.advance(20 * MINUTE);
    let change = format!("{}; {}", set("later"), Gate::wait());
    let swept = thread::scope(|scope| {
        let gate = Gate::new(&database);
        scope.spawn(|| database.sql(&change));
        until("the row changes", || is_sleeping(&database));
        let sweeping = scope.spawn(|| container.sweep().unwrap());
        until("the sweep has read it", || is_waited_for(&database));
        gate.open();
        sweeping.join().unwrap()
    });
    assert_eq!((swept.scanned, swept.removed), (3, 2));
    assert!(
        store
            .begin()
            .unwrap()
            .session(&ids[0])
            .unwrap()
            .exists()
            .unwrap()
    );
    let left = "SELECT (SELECT count(*) FROM cloakroom_package), (SELECT count(*) FROM cloakroom_client WHERE body IS NOT NULL)";
    assert_eq!(database.sql(left).trim(), "0|1");
}

// C5.5: large packages may take more than there is memory, or time.
#[test]
fn a_sweep_reads_no_large_package() {
    let Some(database) = database() else {
        return;
    };
    let clock = clock();
    let open = |url: &str| {
        let builder = Store::builder().clock(clock.clone()).implicit_sweeps(false);
        connect(builder, url)
    };
    let store = open(&database.url());
    for id in visitors(&store, 3) {
        fill(&store, &id, "large", &"large".repeat(1000));
    }
    let role = database.role();
    let sweeping = open(&role.url());
    let name = role.name();
    database.sql(&format!(
        "REVOKE SELECT ON cloakroom_package FROM {name};
         GRANT SELECT (client, place) ON cloakroom_package TO {name}"
    ));
    clock.advance(70 * MINUTE);
    assert_eq!(sweeping.container("").unwrap().sweep().unwrap().removed, 3);
    let left = "SELECT (SELECT count(*) FROM cloakroom_package), (SELECT count(*) FROM cloakroom_client WHERE body IS NOT NULL)";
    assert_eq!(database.sql(left).trim(), "0|0");
}

#[test]
fn a_sweep_meets_a_session_of_a_clock_that_was_ahead() {
    let Some(place) = Place::new() else {
        return;
    };
    let (right, wrong) = (clock(), clock());
    wrong.advance(100 * 60 * MINUTE);
    let open = |clock: &Clock| {
        let builder = Store::builder().clock(clock.clone());
        place.open(builder.implicit_sweeps(false))
    };
    let (store, ahead) = (open(&right), open(&wrong));
    let container = store.container("").unwrap();
    container.sweep().unwrap();
    let ids = visitors(&ahead, 1);
    let large = "large".repeat(1000);
    fill(&ahead, &ids[0], "large", &large);
    assert_eq!(container.sweep().unwrap().removed, 0);
    // What the sweep has written without reading it is whole.
    for store in [&store, &open(&right)] {
        let txn = store.begin().unwrap();
        let package = txn.session(&again(store, &ids[0])).unwrap().pkg("large");
        assert!(package.get::<String>("n").unwrap() == Some(large.clone()));
        txn.abort();
    }
    // It was lowered, and ends a timeout later.
    right.advance(61 * MINUTE);
    assert_eq!(container.sweep().unwrap().removed, 1);
}

#[test]
fn one_process_at_a_time_sweeps_by_itself_until_it_ends() {
    let Some(database) = database() else {
        return;
    };
    let clock = clock();
    let open = || {
        let builder = Store::builder().clock(clock.clone());
        connect(builder, &database.url())
    };
    let holder = || database.sql("SELECT holder FROM cloakroom_lease");
    let swept = |what: &str| {
        until(what, || {
            clock.advance(20 * MINUTE);
            let left = "SELECT count(*) FROM cloakroom_client WHERE body IS NOT NULL";
            database.sql(left).trim() == "0"
        });
    };
    let one = open();
    visitors(&one, 3);
    swept("the first process sweeps");
    let first = holder();
    let other = open();
    for _ in 0..3 {
        visitors(&other, 3);
        swept("one of two sweeps");
        assert_eq!(holder(), first);
    }
    one.close().unwrap();
    visitors(&other, 3);
    swept("the other one sweeps in its place");
    assert_ne!(holder(), first);
}

/// Puts something into the container that is named like the package.
fn fill(store: &Store, id: &ClientId, package: &str, value: &str) {
    let filled = store.transact(|txn| txn.session(id)?.pkg(package).insert("n", value));
    filled.unwrap();
}

// C1.1, C2.2
#[test]
fn a_container_that_is_registered_during_a_search_keeps_its_sessions() {
    let Some(database) = database() else {
        return;
    };
    let open = || connect(Store::builder().implicit_sweeps(false), &database.url());
    let (sweeping, other) = (open(), open());
    sweeping.register("old", ContainerSettings::new()).unwrap();
    let mut ids: Vec<_> = (0..2).map(|_| other.client_ids().issue()).collect();
    ids.sort_by_key(ClientId::key);
    for id in &ids {
        put(&sweeping, id, 1);
        fill(&sweeping, id, "old", "1");
    }
    sweeping.unregister("old").unwrap();
    let hold = "SELECT FROM cloakroom_client ORDER BY client LIMIT 1 FOR UPDATE";
    thread::scope(|scope| {
        while_held(&database, hold, || {
            scope.spawn(|| sweeping.container("").unwrap().sweep().unwrap());
            until("the search is at the first session", || {
                is_waited_for(&database)
            });
            other.register("carts", ContainerSettings::new()).unwrap();
            fill(&other, &again(&other, &ids[1]), "carts", "2");
            until("the sweeping process knows the container", || {
                drop(sweeping.begin().unwrap());
                sweeping.container("carts").is_ok()
            });
        });
    });
    let txn = other.begin().unwrap();
    let carts = txn.session(&again(&other, &ids[1])).unwrap().pkg("carts");
    assert_eq!(carts.get::<String>("n").unwrap().as_deref(), Some("2"));
    // What the search is for goes, with the next sweep at the latest: the sessions are the same then.
    sweeping.container("").unwrap().sweep().unwrap();
    fill(&other, &again(&other, &ids[0]), "carts", "2");
    let lengths = "SELECT count(DISTINCT length(body)), count(*) FROM cloakroom_client";
    assert_eq!(database.sql(lengths).trim(), "1|2");
}

// C5.4
#[test]
fn a_row_that_changes_during_a_search_loses_no_package_that_it_lists() {
    let Some(database) = database() else {
        return;
    };
    let store = connect(Store::builder().implicit_sweeps(false), &database.url());
    store.register("old", ContainerSettings::new()).unwrap();
    let id = store.client_ids().issue();
    fill(&store, &id, "p", "1");
    fill(&store, &id, "old", &"large".repeat(1000));
    store.unregister("old").unwrap();
    let change = "UPDATE cloakroom_client SET version = version + 1; SELECT pg_sleep(3)";
    thread::scope(|scope| {
        scope.spawn(|| database.sql(change));
        until("the row changes", || is_sleeping(&database));
        store.container("").unwrap().sweep().unwrap();
    });
    let left = "SELECT (SELECT count(*) FROM cloakroom_package), (SELECT sum(spilled) FROM cloakroom_client)";
    assert_eq!(database.sql(left).trim(), "0|0");
}

// C3.5
#[test]
fn a_tombstone_of_a_clock_that_was_ahead_is_found_among_many() {
    let Some(database) = database() else {
        return;
    };
    let (right, wrong) = (clock(), clock());
    wrong.advance(100 * 60 * MINUTE);
    let open = |clock: &Clock| {
        let builder = Store::builder().clock(clock.clone());
        connect(builder.implicit_sweeps(false), &database.url())
    };
    let end = |store: &Store| {
        let ids = visitors(store, 1);
        let ended = store.transact(|txn| txn.session(&ids[0])?.destroy());
        ended.unwrap();
    };
    let store = open(&right);
    end(&store);
    database.sql(
        "INSERT INTO cloakroom_client (client, version, past, seen, ended, sweep_at, spilled)
         SELECT gen_random_uuid(), version, past, seen, ended, sweep_at, spilled
         FROM cloakroom_client, generate_series(1, 1100)",
    );
    end(&open(&wrong));
    let last = || -> i64 {
        let last = database.sql("SELECT max(sweep_at) FROM cloakroom_client");
        last.trim().parse().unwrap()
    };
    let before = last();
    store.container("").unwrap().sweep().unwrap();
    assert!(last() < before);
}

#[test]
fn a_process_that_sweeps_does_not_keep_others_from_it_for_longer_than_any_container_bears() {
    let Some(database) = database() else {
        return;
    };
    let clock = clock();
    let store = connect(Store::builder().clock(clock.clone()), &database.url());
    let slow = ContainerSettings::new().timeout(24 * 60 * MINUTE);
    let slow = slow.resolution(12 * 60 * MINUTE);
    store.container("").unwrap().configure(slow).unwrap();
    let fast = ContainerSettings::new().timeout(MINUTE);
    store.register("carts", fast).unwrap();
    let lasts = "SELECT until - (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM cloakroom_lease";
    let mut longest = 0;
    let mut rounds = 0;
    until("it sweeps", || {
        clock.advance(13 * 60 * MINUTE);
        if let Ok(lasts) = database.sql(lasts).trim().parse::<i64>() {
            (longest, rounds) = (longest.max(lasts), rounds + 1);
        }
        rounds == 5
    });
    assert!(longest < 120_000, "{longest} ms");
}

// C3.7, C10.2: the rows are gone, and so are the versions by which the commit is looked up.
#[test]
fn a_removal_whose_answer_is_lost_is_looked_up() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let proxy = Proxy::start(server.address());
    let clock = clock();
    let builder = Store::builder()
        .clock(clock.clone())
        .implicit_sweeps(false)
        .postgres(PostgresSettings::new().deadline(MINUTE / 2));
    let store = connect(builder, &server.url_at(proxy.address(), database.name()));
    visitors(&store, 2);
    // The commit waits when all of it is done.
    database.sql(
        "CREATE TABLE gate (n int); INSERT INTO gate VALUES (1);
         CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         PERFORM n FROM gate FOR UPDATE; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER pass AFTER DELETE ON cloakroom_client
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pass()",
    );
    clock.advance(600 * MINUTE);
    let container = store.container("").unwrap();
    thread::scope(|scope| {
        let mut sweeping = None;
        while_held(&database, "SELECT n FROM gate FOR UPDATE", || {
            sweeping = Some(scope.spawn(|| container.sweep()));
            until("the commit waits", || is_waited_for(&database));
            proxy.renew();
            until("it is looked up", || waiting(&database) > 1);
        });
        let swept = sweeping.unwrap().join().unwrap().unwrap();
        assert_eq!(swept.removed, 2);
    });
    let left = database.sql("SELECT count(*) FROM cloakroom_client");
    assert_eq!(left.trim(), "0");
}

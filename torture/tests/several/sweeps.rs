//! C3.7, C10.3: what a sweep reads on a server, and which of several processes sweeps.

use crate::place::{Place, connect};
use crate::support::visitors::put;
use crate::support::wait::until;
use cloakroom::{ClientId, Clock, ContainerSettings, Store};
use cloakroom_postgres_server::database;
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
    visitors(&ahead, 1);
    assert_eq!(container.sweep().unwrap().removed, 0);
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

//! Backups while commits go on.

use super::support::engine::needs_files;
use super::support::wait::{SetOnDrop, until};
use super::{Place, go_on};
use cloakroom::{ClientId, Error, Store, Txn};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const PAIRS: usize = 300;

/// Moves a coin between two sessions, in two packages of each, and counts in a third session.
fn transfer(store: &Store, pair: &[ClientId; 2], counter: &ClientId) -> u64 {
    let body = |txn: &Txn| {
        let [from, to] = [txn.session(&pair[0])?, txn.session(&pair[1])?];
        let left: i64 = from.pkg("purse").get("coins")?.unwrap_or(0);
        from.pkg("purse").insert("coins", left - 1)?;
        from.pkg("log").insert("last", left - 1)?;
        to.pkg("purse").add("coins", 1)?;
        let own = txn.session(counter)?;
        let done: u64 = own.pkg("count").get("done")?.unwrap_or(0);
        own.pkg("count").insert("done", done + 1)?;
        Ok::<_, Error>(done + 1)
    };
    store.transact(body).unwrap()
}

// C9.1
#[test]
fn each_backup_under_load_shows_one_commit_and_all_that_was_acknowledged() {
    needs_files!("backups are of files");
    let place = Place::new();
    let store = super::builder()
        .journal_size(1 << 20)
        .open(place.at("store"))
        .unwrap();
    let new = || store.client_ids().issue();
    let pairs: Vec<[ClientId; 2]> = (0..PAIRS).map(|_| [new(), new()]).collect();
    let counters = [new(), new()];
    for pair in &pairs {
        transfer(&store, pair, &counters[0]);
    }
    let acknowledged = [AtomicU64::new(0), AtomicU64::new(0)];
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (n, counter) in counters.iter().enumerate() {
            let (store, pairs) = (&store, &pairs);
            let (acknowledged, is_over) = (&acknowledged[n], &is_over);
            scope.spawn(move || {
                let mine = pairs.iter().skip(n).step_by(2);
                for pair in mine.cycle() {
                    let done = transfer(store, pair, counter);
                    acknowledged.store(done, Ordering::SeqCst);
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                }
            });
        }
        let mut chain = Vec::new();
        for round in 0..6 {
            let before = acknowledged.each_ref().map(|it| it.load(Ordering::SeqCst));
            let path = place.at(&format!("{round}.backup"));
            match chain.is_empty() {
                true => store.backup(&path, go_on).unwrap(),
                false => store.backup_since(&chain, &path, go_on).unwrap(),
            };
            chain.push(path);
            let restored = place.restore(&chain);
            let txn = restored.begin().unwrap();
            let pkg = |id: &ClientId, pkg: &str| txn.session(id).unwrap().pkg(pkg);
            for pair in &pairs {
                let coins = |id| pkg(id, "purse").get::<i64>("coins").unwrap().unwrap();
                assert_eq!(coins(&pair[0]) + coins(&pair[1]), 0, "round {round}");
                let last = pkg(&pair[0], "log").get::<i64>("last").unwrap();
                assert_eq!(last, Some(coins(&pair[0])), "round {round}");
            }
            for (counter, before) in counters.iter().zip(before) {
                let done = pkg(counter, "count").get::<u64>("done").unwrap();
                assert!(done.unwrap_or(0) >= before, "round {round}");
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
}

// C9.1: one each second.
#[test]
fn a_backup_each_second_under_load_has_all_that_was_acknowledged_before_it() {
    needs_files!("backups are of files");
    let place = Place::new();
    let clock = super::support::clock::clock();
    let store = super::support::store::builder(&clock)
        .open(place.at("store"))
        .unwrap();
    let new = || store.client_ids().issue();
    let (pair, counter) = ([new(), new()], new());
    transfer(&store, &pair, &counter);
    let acknowledged = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let mut chain = vec![place.at("0.backup")];
    store.backup(&chain[0], go_on).unwrap();
    let least = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let done = transfer(&store, &pair, &counter);
                acknowledged.store(done, Ordering::SeqCst);
            }
        });
        let _over = SetOnDrop(&is_over);
        let mut least = Vec::new();
        until("a transfer", || acknowledged.load(Ordering::SeqCst) > 0);
        for second in 1..20 {
            clock.advance(super::support::clock::secs(1));
            // Then the store does not remember all that changed.
            if second % 4 == 0 {
                store.checkpoint().unwrap();
            }
            least.push(acknowledged.load(Ordering::SeqCst));
            let path = place.at(&format!("{second}.backup"));
            store.backup_since(&chain, &path, go_on).unwrap();
            chain.push(path);
        }
        least
    });
    for (n, least) in least.into_iter().enumerate().step_by(6) {
        let restored = place.restore(&chain[..n + 2]);
        let txn = restored.begin().unwrap();
        let pkg = |id: &ClientId, pkg: &str| txn.session(id).unwrap().pkg(pkg);
        let done = pkg(&counter, "count").get::<u64>("done").unwrap().unwrap();
        assert!(done >= least, "{n}: {done} of {least}");
        let coins = |id| pkg(id, "purse").get::<i64>("coins").unwrap().unwrap();
        assert_eq!(
            (coins(&pair[0]), coins(&pair[1])),
            (-(done as i64), done as i64)
        );
    }
}

//! C2.1, C2.7: the anomalies of the Hermitage suite (<https://github.com/ept/hermitage>), each of
//! them impossible, on a file and in memory, within one package and across everything there is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{
    ClientId, ContainerSettings, ErrorKind, PkgData, Result, Session, Store, Transaction, Txn,
};
use std::time::Duration;
use support::engine::{is_postgres, looks_move};
use support::runtime::{block_on, without_blocking};

/// Where a row of Hermitage's table is kept.
struct ValueKey {
    client: ClientId,
    package: &'static str,
    key: &'static str,
}

/// Hermitage's table: a first row that holds 10, and a second that holds 20.
struct Table {
    store: Store,
    rows: [ValueKey; 2],
    /// Whether there is a checkpoint after each commit, so that the next is validated against rows in redb.
    checkpoints: bool,
    calls: Calls,
    /// For the message of a failure.
    what: String,
}

/// By which calls the store is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    Blocking,
    /// On a runtime of one thread, which no call blocks.
    Asynchronous,
}

impl Table {
    fn begin(&self) -> Transaction {
        match self.calls {
            Calls::Blocking => self.store.begin().unwrap(),
            Calls::Asynchronous => block_on(self.store.begin_async()).unwrap(),
        }
    }

    fn commit(&self, txn: Transaction) -> Result<()> {
        let outcome = match self.calls {
            Calls::Blocking => txn.commit(),
            Calls::Asynchronous => block_on(txn.commit_async()),
        };
        if self.checkpoints {
            self.store.checkpoint().unwrap();
        }
        outcome
    }

    fn session(&self, txn: &Txn, row: usize) -> Session {
        let client = &self.rows[row].client;
        match self.calls {
            Calls::Blocking => txn.session(client).unwrap(),
            Calls::Asynchronous => block_on(txn.session_async(client)).unwrap(),
        }
    }

    fn pkg(&self, txn: &Txn, row: usize) -> PkgData {
        self.of(self.session(txn, row), row)
    }

    fn get(&self, txn: &Txn, row: usize) -> Option<i64> {
        let (pkg, key) = (self.pkg(txn, row), self.rows[row].key);
        match self.calls {
            Calls::Blocking => pkg.get(key).unwrap(),
            Calls::Asynchronous => without_blocking(|| pkg.get(key)).unwrap(),
        }
    }

    fn set(&self, txn: &Txn, row: usize, value: i64) {
        let (pkg, key) = (self.pkg(txn, row), self.rows[row].key);
        match self.calls {
            Calls::Blocking => pkg.insert(key, value).unwrap(),
            Calls::Asynchronous => without_blocking(|| pkg.insert(key, value)).unwrap(),
        }
    }

    /// Reads a row after a commit has changed the other one, which was read. `None`: the transaction conflicts at this look,
    /// if the rows are of two clients and the engine's looks move.
    fn get_late(&self, txn: &Txn, row: usize) -> Option<Option<i64>> {
        let (client, key) = (&self.rows[row].client, self.rows[row].key);
        let value = match self.calls {
            Calls::Blocking => txn.session(client).and_then(|it| self.of(it, row).get(key)),
            Calls::Asynchronous => block_on(txn.session_async(client))
                .and_then(|it| without_blocking(|| self.of(it, row).get(key))),
        };
        match value {
            Err(error) if self.may_conflict_at_looks() => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{}", self.what);
                None
            }
            value => Some(value.unwrap()),
        }
    }

    fn of(&self, session: Session, row: usize) -> PkgData {
        session.pkg(self.rows[row].package)
    }

    fn may_conflict_at_looks(&self) -> bool {
        looks_move() && self.rows[0].client != self.rows[1].client
    }

    fn both(&self, txn: &Txn) -> [Option<i64>; 2] {
        [0, 1].map(|row| self.get(txn, row))
    }

    fn now(&self) -> [Option<i64>; 2] {
        self.both(&self.begin())
    }

    /// Both rows are unchanged; for a table without a commit.
    fn is_untouched(&self) {
        assert_eq!(self.now(), [Some(10), Some(20)], "{}", self.what);
    }

    fn conflicts(&self, outcome: Result<()>) {
        let error = outcome.expect_err(&self.what);
        assert_eq!(error.kind(), ErrorKind::Conflict, "{}", self.what);
    }
}

/// The name of a layout; of either row the client, the package and the key.
type Layout = (
    &'static str,
    [usize; 2],
    [&'static str; 2],
    [&'static str; 2],
);

/// The two rows in one package, across packages, across containers (of which the second lives in
/// memory), across clients.
const LAYOUTS: [Layout; 5] = [
    ("one package", [0, 0], ["shop", "shop"], ["one", "two"]),
    ("two packages", [0, 0], ["shop", "cart"], ["one", "one"]),
    ("two containers", [0, 0], ["shop", "bank"], ["one", "one"]),
    ("file and memory", [0, 0], ["bank", "cache"], ["one", "one"]),
    ("two clients", [0, 1], ["shop", "shop"], ["one", "one"]),
];

fn everywhere(test: impl Fn(&Table)) {
    let places = [
        (false, false, Calls::Blocking),
        (false, true, Calls::Blocking),
        (true, false, Calls::Blocking),
        (true, true, Calls::Blocking),
        (true, false, Calls::Asynchronous),
    ];
    // On a server, a store has the same place with a file and in memory, and no checkpoints.
    let differs = |on_file: bool, checkpoints: bool| !is_postgres() || (on_file && !checkpoints);
    let mut places = places.to_vec();
    places.retain(|(on_file, checkpoints, _)| differs(*on_file, *checkpoints));
    for (on_file, checkpoints, calls) in places {
        for (layout, clients, packages, keys) in LAYOUTS {
            let folder = tempfile::tempdir().unwrap();
            // Without tombstones nothing but the incarnation keeps an ended session from coming back.
            let builder = Store::builder().tombstone_lifetime(Duration::ZERO);
            let store = if on_file {
                builder.open(folder.path().join("store")).unwrap()
            } else {
                builder.in_memory().unwrap()
            };
            store.register("bank", ContainerSettings::new()).unwrap();
            let in_memory = ContainerSettings::new().in_memory();
            store.register("cache", in_memory).unwrap();
            let ids = [(); 2].map(|()| store.client_ids().issue());
            let rows = [0, 1].map(|row| ValueKey {
                client: ids[clients[row]].clone(),
                package: packages[row],
                key: keys[row],
            });
            let place = if on_file { "a file" } else { "memory" };
            let between = if checkpoints { "with" } else { "without" };
            let what = format!("{layout}, in {place}, {between} checkpoints, {calls:?}");
            let table = Table {
                store,
                rows,
                checkpoints,
                calls,
                what,
            };
            let txn = table.begin();
            table.set(&txn, 0, 10);
            table.set(&txn, 1, 20);
            table.commit(txn).unwrap();
            test(&table);
        }
    }
}

// G0, write cycles. C2.2, C2.8: of two blind writers the later commit wins, in every row.
#[test]
fn blind_writers_of_two_rows_never_leave_one_of_each() {
    everywhere(|table| {
        for one_is_first in [true, false] {
            let (one, two) = (table.begin(), table.begin());
            table.set(&one, 0, 11);
            table.set(&two, 0, 12);
            table.set(&two, 1, 22);
            table.set(&one, 1, 21);
            let ((first, last), expected) = if one_is_first {
                ((one, two), [Some(12), Some(22)])
            } else {
                ((two, one), [Some(11), Some(21)])
            };
            table.commit(first).unwrap();
            table.commit(last).unwrap();
            assert_eq!(table.now(), expected, "{}", table.what);
        }
    });
}

// G1a, aborted reads. C2.4, C2.7: changes that are aborted, dropped, doomed or refused are never seen.
#[test]
fn a_change_that_is_not_committed_is_never_read() {
    let endings: [fn(&Table, Transaction); 4] = [
        |_, txn| txn.abort(),
        |_, txn| drop(txn),
        |table, txn| {
            txn.doom();
            table.commit(txn).unwrap_err();
        },
        |table, txn| {
            // Another transaction changes the row that was read, and puts it back after the refusal.
            table.get(&txn, 1);
            let change = |value| {
                let other = table.begin();
                table.set(&other, 1, value);
                table.commit(other).unwrap();
            };
            change(21);
            table.conflicts(table.commit(txn));
            change(20);
        },
    ];
    everywhere(|table| {
        for ending in endings {
            let (writer, reader) = (table.begin(), table.begin());
            table.set(&writer, 0, 101);
            assert_eq!(table.get(&reader, 0), Some(10), "{}", table.what);
            ending(table, writer);
            assert_eq!(table.get(&reader, 0), Some(10), "{}", table.what);
            table.commit(reader).unwrap();
            table.is_untouched();
        }
    });
}

// G1b, intermediate reads. C2.1, C2.5: only the last value of a transaction is ever seen.
#[test]
fn a_value_that_was_overwritten_before_its_commit_is_never_read() {
    everywhere(|table| {
        let (writer, reader) = (table.begin(), table.begin());
        table.set(&writer, 0, 101);
        assert_eq!(table.get(&reader, 0), Some(10), "{}", table.what);
        table.set(&writer, 0, 11);
        let savepoint = writer.savepoint().unwrap();
        table.set(&writer, 0, 102);
        table.set(&writer, 1, 102);
        writer.rollback_to(&savepoint).unwrap();
        table.commit(writer).unwrap();
        assert_eq!(table.get(&reader, 0), Some(10), "{}", table.what);
        table.commit(reader).unwrap();
        assert_eq!(table.now(), [Some(11), Some(20)], "{}", table.what);
    });
}

// G1c, circular information flow. C2.7: two that miss each other's write cannot both commit.
#[test]
fn two_that_read_what_the_other_writes_never_both_commit() {
    everywhere(|table| {
        let (one, two) = (table.begin(), table.begin());
        table.set(&one, 0, 11);
        table.set(&two, 1, 22);
        assert_eq!(table.get(&one, 1), Some(20), "{}", table.what);
        assert_eq!(table.get(&two, 0), Some(10), "{}", table.what);
        table.commit(one).unwrap();
        table.conflicts(table.commit(two));
        assert_eq!(table.now(), [Some(11), Some(20)], "{}", table.what);
    });
}

// OTV, observed transaction vanishes. C2.1, C2.2: a transaction that has seen a commit sees it whole, to the end.
#[test]
fn a_transaction_once_observed_never_vanishes() {
    everywhere(|table| {
        let (one, two) = (table.begin(), table.begin());
        table.set(&one, 0, 11);
        table.set(&one, 1, 19);
        table.set(&two, 0, 12);
        table.commit(one).unwrap();
        let reader = table.begin();
        assert_eq!(table.get(&reader, 0), Some(11), "{}", table.what);
        table.set(&two, 1, 18);
        assert_eq!(table.get(&reader, 1), Some(19), "{}", table.what);
        table.commit(two).unwrap();
        let seen = table.both(&reader);
        assert_eq!(seen, [Some(11), Some(19)], "{}", table.what);
        table.commit(reader).unwrap();
        assert_eq!(table.now(), [Some(12), Some(18)], "{}", table.what);
    });
}

/// Asks a question of the first row's package, or of its session; the answer is in words.
type Question = fn(&Table, &Txn) -> String;

const QUESTIONS: [Question; 3] = [
    |table, txn| format!("{:?}", table.pkg(txn, 0).keys()),
    |table, txn| format!("{:?}", table.pkg(txn, 0).len()),
    |table, txn| format!("{:?}", table.pkg(txn, 0).is_empty()),
];

/// Ways to change what a listing of the first row's package tells.
const CHANGES: [fn(&Table, &Txn); 3] = [
    |table, txn| table.pkg(txn, 0).insert("three", 30).unwrap(),
    |table, txn| table.pkg(txn, 0).clear().unwrap(),
    |table, txn| {
        table.pkg(txn, 0).remove(table.rows[0].key).unwrap();
    },
];

// PMP, predicate-many-preceders. C2.1: asked again, a listing tells the same.
#[test]
fn a_listing_tells_the_same_until_the_transaction_ends() {
    for question in QUESTIONS {
        for change in CHANGES {
            everywhere(|table| {
                let reader = table.begin();
                let before = question(table, &reader);
                let writer = table.begin();
                change(table, &writer);
                table.commit(writer).unwrap();
                assert_eq!(question(table, &reader), before, "{}", table.what);
                table.commit(reader).unwrap();
            });
        }
    }
}

// PMP with a write predicate. C2.7: a transaction that writes by a listing conflicts if the listing changed.
#[test]
fn who_writes_by_a_listing_that_changed_conflicts() {
    for question in QUESTIONS {
        for change in CHANGES {
            everywhere(|table| {
                let (one, two) = (table.begin(), table.begin());
                question(table, &one);
                table.pkg(&one, 1).insert("mark", 1).unwrap();
                change(table, &two);
                table.commit(two).unwrap();
                table.conflicts(table.commit(one));
                let after = table.begin();
                let marked = table.pkg(&after, 1).contains_key("mark").unwrap();
                assert!(!marked, "{}", table.what);
            });
        }
    }
}

// PMP over the existence of sessions. C2.7: `exists` reads it; it came, or it went.
#[test]
fn who_writes_by_an_existence_that_changed_conflicts() {
    everywhere(|table| {
        let visitor = table.store.client_ids().issue();
        for comes in [true, false] {
            let (one, two) = (table.begin(), table.begin());
            let session = one.session(&visitor).unwrap();
            assert_eq!(session.exists().unwrap(), !comes, "{}", table.what);
            table.set(&one, 1, 21);
            let theirs = two.session(&visitor).unwrap();
            if comes {
                theirs.pkg(table.rows[0].package).insert("one", 1).unwrap();
            } else {
                theirs.destroy().unwrap();
            }
            table.commit(two).unwrap();
            assert_eq!(session.exists().unwrap(), !comes, "{}", table.what);
            table.conflicts(table.commit(one));
            table.is_untouched();
        }
    });
}

// P4, lost update. C2.7: of two that read a row and write it, one conflicts.
#[test]
fn no_update_is_lost() {
    everywhere(|table| {
        let (one, two) = (table.begin(), table.begin());
        for txn in [&one, &two] {
            assert_eq!(table.get(txn, 0), Some(10), "{}", table.what);
        }
        table.set(&one, 0, 11);
        table.set(&two, 0, 12);
        table.commit(one).unwrap();
        table.conflicts(table.commit(two));
        assert_eq!(table.now(), [Some(11), Some(20)], "{}", table.what);
    });
}

// P4 on a row that is not there yet. C2.7: a row that was absent must still be absent.
#[test]
fn of_two_that_found_a_row_absent_and_made_it_one_conflicts() {
    everywhere(|table| {
        let (one, two) = (table.begin(), table.begin());
        for (txn, value) in [(&one, 1), (&two, 2)] {
            let rows = table.pkg(txn, 1);
            assert_eq!(rows.get::<i64>("new").unwrap(), None, "{}", table.what);
            rows.insert("new", value).unwrap();
        }
        table.commit(one).unwrap();
        table.conflicts(table.commit(two));
        let new = table.pkg(&table.begin(), 1).get::<i64>("new").unwrap();
        assert_eq!(new, Some(1), "{}", table.what);
    });
}

// P4 of neighbours. C2.8: changes to different rows merge, and neither is lost.
#[test]
fn no_update_of_another_row_is_lost() {
    everywhere(|table| {
        let (one, two) = (table.begin(), table.begin());
        for (row, txn) in [&one, &two].into_iter().enumerate() {
            let value = table.get(txn, row).unwrap();
            table.set(txn, row, value + 1);
        }
        table.commit(one).unwrap();
        table.commit(two).unwrap();
        assert_eq!(table.now(), [Some(11), Some(21)], "{}", table.what);
    });
}

// P4 without reading. C2.9: `add` and `commute` work on the value that is current at commit.
#[test]
fn no_update_that_read_nothing_is_lost() {
    everywhere(|table| {
        let both = [table.begin(), table.begin()];
        for txn in &both {
            table.pkg(txn, 0).add(table.rows[0].key, 1).unwrap();
            let twice = |n: Option<i64>| n.unwrap() * 2;
            table.pkg(txn, 1).commute(table.rows[1].key, twice).unwrap();
        }
        for txn in both {
            table.commit(txn).unwrap();
        }
        assert_eq!(table.now(), [Some(12), Some(80)], "{}", table.what);
    });
}

// P4 of a whole session. C2.11: a blind write never undoes that the session was ended.
#[test]
fn an_end_of_a_session_is_not_lost() {
    everywhere(|table| {
        for row in [0, 1] {
            let id = table.store.client_ids().issue();
            let package = table.rows[row].package;
            let founding = table.begin();
            let session = founding.session(&id).unwrap();
            session.pkg(package).insert("one", 1).unwrap();
            table.commit(founding).unwrap();
            let (one, two) = (table.begin(), table.begin());
            let session = one.session(&id).unwrap();
            session.pkg(package).insert("two", 2).unwrap();
            two.session(&id).unwrap().destroy().unwrap();
            table.commit(two).unwrap();
            table.conflicts(table.commit(one));
            let after = table.begin();
            let there = after.session(&id).unwrap().exists().unwrap();
            assert!(!there, "{}", table.what);
        }
    });
}

// G-single, read skew. C2.1: the rows of a transaction are of one moment.
#[test]
fn a_reader_never_sees_half_of_a_commit() {
    everywhere(|table| {
        let (reader, writer) = (table.begin(), table.begin());
        assert_eq!(table.get(&reader, 0), Some(10), "{}", table.what);
        let seen = table.both(&writer);
        assert_eq!(seen, [Some(10), Some(20)], "{}", table.what);
        table.set(&writer, 0, 12);
        table.set(&writer, 1, 18);
        table.commit(writer).unwrap();
        match table.get_late(&reader, 1) {
            Some(late) => {
                assert_eq!(late, Some(20), "{}", table.what);
                table.commit(reader).unwrap();
            }
            None => table.conflicts(table.commit(reader)),
        }
    });
}

// G-single with a write. C2.7: a row that was read and has changed is a conflict, wherever is written.
#[test]
fn who_read_before_a_commit_never_writes_after_it() {
    everywhere(|table| {
        let (one, two) = (table.begin(), table.begin());
        assert_eq!(table.get(&one, 0), Some(10), "{}", table.what);
        table.set(&two, 0, 12);
        table.set(&two, 1, 18);
        table.commit(two).unwrap();
        if !table.may_conflict_at_looks() || table.get_late(&one, 1).is_some() {
            table.set(&one, 1, 21);
        }
        table.conflicts(table.commit(one));
        assert_eq!(table.now(), [Some(12), Some(18)], "{}", table.what);
    });
}

// G2-item, write skew. C2.7: two that read both rows and write one each cannot both commit.
#[test]
fn there_is_no_write_skew_on_rows() {
    everywhere(|table| {
        let (one, two) = (table.begin(), table.begin());
        for txn in [&one, &two] {
            let seen = table.both(txn);
            assert_eq!(seen, [Some(10), Some(20)], "{}", table.what);
        }
        table.set(&one, 0, 11);
        table.set(&two, 1, 21);
        table.commit(one).unwrap();
        table.conflicts(table.commit(two));
        assert_eq!(table.now(), [Some(11), Some(20)], "{}", table.what);
    });
}

// G2, anti-dependency cycles over predicates. C2.7: a listing observes absent keys, too.
#[test]
fn there_is_no_write_skew_on_listings() {
    everywhere(|table| {
        let (one, two) = (table.begin(), table.begin());
        for txn in [&one, &two] {
            for row in [0, 1] {
                assert!(!table.pkg(txn, row).keys().unwrap().contains(&"new".into()));
            }
        }
        table.pkg(&one, 0).insert("new one", 30).unwrap();
        table.pkg(&two, 1).insert("new two", 42).unwrap();
        table.commit(one).unwrap();
        table.conflicts(table.commit(two));
    });
}

// G2 with a reader (Fekete's). C2.7: a reader between two commits fixes their order.
#[test]
fn a_reader_between_two_writers_fixes_their_order() {
    everywhere(|table| {
        let slow = table.begin();
        let seen = table.both(&slow);
        assert_eq!(seen, [Some(10), Some(20)], "{}", table.what);
        let quick = table.begin();
        table.set(&quick, 1, 25);
        table.commit(quick).unwrap();
        let reader = table.begin();
        let seen = table.both(&reader);
        assert_eq!(seen, [Some(10), Some(25)], "{}", table.what);
        table.commit(reader).unwrap();
        table.set(&slow, 0, 0);
        table.conflicts(table.commit(slow));
        assert_eq!(table.now(), [Some(10), Some(25)], "{}", table.what);
    });
}

//! Commits that wait while others are on their way are written together. Each takes place or not by itself.

use crate::place::connect;
use crate::support::visitors::{again, get, put};
use crate::support::wait::until;
use cloakroom::{ClientId, Error, ErrorKind, PostgresSettings, Session, Store, Transaction};
use cloakroom_postgres_server::{Database, Passage, Proxy, shared};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

/// So many connections write batches.
const WRITERS: usize = 4;
/// How long answers are on their way that are to be lost.
const SLOW: Duration = Duration::from_secs(1);

/// What became of commits.
type Results = Vec<Result<(), Error>>;

/// A store that reaches its server through a proxy.
struct Remote {
    database: Database,
    proxy: Proxy,
    store: Store,
}

impl Remote {
    fn new() -> Option<Self> {
        let server = shared()?;
        let database = server.database();
        let proxy = Proxy::start(server.address());
        // All connections are in use by those that write batches.
        let settings = PostgresSettings::new().connections(WRITERS);
        let builder = Store::builder().implicit_sweeps(false).postgres(settings);
        let store = connect(builder, &server.url_at(proxy.address(), database.name()));
        let remote = Self {
            database,
            proxy,
            store,
        };
        // Afterwards they have prepared their statements.
        for _ in 0..2 {
            let warm = remote.visitors(3 * WRITERS);
            let changes = warm.iter().map(|id| remote.change(id, add_one));
            all_well(&remote.batch(changes.collect(), open));
        }
        Some(remote)
    }

    /// Another process.
    fn other(&self) -> Store {
        connect(
            Store::builder().implicit_sweeps(false),
            &self.database.url(),
        )
    }

    /// Visitors with a session, as their requests bring the ids.
    fn visitors(&self, count: usize) -> Vec<ClientId> {
        let ids = (0..count).map(|_| {
            let id = self.store.client_ids().issue();
            put(&self.store, &id, 0);
            again(&self.store, &id)
        });
        ids.collect()
    }

    /// A transaction that has changed a session and is not committed.
    fn change(&self, id: &ClientId, change: impl Fn(&Session) -> Result<(), Error>) -> Transaction {
        let txn = self.store.begin().unwrap();
        let session = txn.session(id).unwrap();
        // Looks now: the commit must not have to.
        session.exists().unwrap();
        change(&session).unwrap();
        txn
    }

    /// Commits transactions while all connections that write batches wait for an answer. `then` lets the answers through,
    /// and gets a function that waits until those connections have theirs.
    fn batch(&self, txns: Vec<Transaction>, then: impl FnOnce(&Proxy, &dyn Fn())) -> Results {
        let (ended, first) = self.batch_after(txns, then);
        all_well(&first);
        ended
    }

    /// As [`batch`](Self::batch). Gives the results of the commits before the batch, too.
    fn batch_after(
        &self,
        txns: Vec<Transaction>,
        then: impl FnOnce(&Proxy, &dyn Fn()),
    ) -> (Results, Results) {
        let busy = self.visitors(WRITERS);
        let busy: Vec<_> = busy.iter().map(|id| self.change(id, add_one)).collect();
        self.proxy.answers(Passage::Held);
        let wait_for = |count: usize| {
            let waiting = || self.store.statistics().unwrap().waiting_commits();
            until("all commits wait", || waiting() == count);
        };
        let all = txns.len() + WRITERS;
        thread::scope(|scope| {
            let commit = |txn: Transaction| scope.spawn(move || txn.commit());
            let busy = busy.into_iter().enumerate().map(|(n, txn)| {
                let running = commit(txn);
                wait_for(n + 1);
                running
            });
            let busy: Vec<_> = busy.collect();
            let running: Vec<_> = txns.into_iter().map(commit).collect();
            wait_for(all);
            then(&self.proxy, &|| {
                until("the first commits have answers", || {
                    busy.iter().all(ScopedJoinHandle::is_finished)
                });
            });
            let results = |running: Vec<ScopedJoinHandle<'_, _>>| {
                running.into_iter().map(|it| it.join().unwrap()).collect()
            };
            (results(running), results(busy))
        })
    }
}

fn add_one(session: &Session) -> Result<(), Error> {
    session.pkg("p").add("n", 1)
}

fn open(proxy: &Proxy, _: &dyn Fn()) {
    proxy.open();
}

#[track_caller]
fn all_well(ended: &[Result<(), Error>]) {
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
}

// C2.10
#[test]
fn commits_that_wait_are_written_together() {
    let Some(remote) = Remote::new() else { return };
    let ids = remote.visitors(12);
    let new = [(); 4].map(|()| remote.store.client_ids().issue());
    let changes = ids.iter().chain(&new).map(|id| {
        remote.change(id, |session| {
            session.set_owner(Some("anna"))?;
            add_one(session)
        })
    });
    let changes = changes.collect();
    let groups = || remote.store.statistics().unwrap().groups();
    let before = groups();
    all_well(&remote.batch(changes, open));
    // Those that make other commits wait are a visit and a change each.
    let written = (groups() - before).saturating_sub(2 * WRITERS as u64);
    assert!(written <= 8, "{written} for 16 commits");
    let other = remote.other();
    for id in ids.iter().chain(&new) {
        assert_eq!(get(&other, id), Some(1));
    }
    assert_eq!(other.end_all_of("anna").unwrap(), 16);
}

// C2.7, C2.9: each is computed on top of the one before.
#[test]
fn several_changes_of_a_client_in_one_batch_are_all_kept() {
    let Some(remote) = Remote::new() else { return };
    let ids = remote.visitors(2);
    let mut changes = Vec::new();
    for n in 0..20_usize {
        changes.push(remote.change(&ids[n % 2], |session| {
            add_one(session)?;
            session.pkg("p").insert(&n.to_string(), n)
        }));
    }
    all_well(&remote.batch(changes, open));
    let other = remote.other();
    for id in &ids {
        assert_eq!(get(&other, id), Some(10));
        let txn = other.begin().unwrap();
        let package = txn.session(&again(&other, id)).unwrap();
        assert_eq!(package.pkg("p").len().unwrap(), 11);
    }
}

// C2.7
#[test]
fn of_two_changes_of_a_client_that_read_the_same_one_is_refused() {
    let Some(remote) = Remote::new() else { return };
    let id = remote.visitors(1).remove(0);
    let changes = [(); 6].map(|()| {
        remote.change(&id, |session| {
            let n: Option<u64> = session.pkg("p").get("n")?;
            session.pkg("p").insert("n", n.unwrap() + 1)
        })
    });
    let ended = remote.batch(changes.into(), open);
    let refused: Vec<_> = ended.iter().filter_map(|it| it.as_ref().err()).collect();
    assert_eq!(refused.len(), 5);
    assert!(refused.iter().all(|error| error.is_conflict()));
    assert_eq!(get(&remote.other(), &id), Some(1));
}

// C2.7: each reads both sessions and writes its own, while others are written by batches.
#[test]
fn write_skew_over_two_clients_is_refused_beside_batches() {
    let Some(remote) = Remote::new() else { return };
    for _ in 0..10 {
        let ids = remote.visitors(12);
        let mut changes: Vec<_> = ids[2..]
            .iter()
            .map(|id| remote.change(id, add_one))
            .collect();
        for n in 0..2 {
            let txn = remote.store.begin().unwrap();
            let both = [&ids[n], &ids[1 - n]].map(|id| txn.session(id).unwrap());
            let free = both
                .iter()
                .all(|it| it.pkg("p").get("n").unwrap() == Some(0));
            assert!(free);
            both[0].pkg("p").insert("n", 1).unwrap();
            changes.insert(5 * n, txn);
        }
        let ended = remote.batch(changes, open);
        let (well, refused): (Vec<_>, Vec<_>) = ended.iter().partition(|it| it.is_ok());
        assert_eq!((well.len(), refused.len()), (11, 1), "{refused:?}");
        let taken = ids[..2].iter().map(|id| get(&remote.store, id).unwrap());
        assert_eq!(taken.sum::<u64>(), 1);
    }
}

// C2.13: what the server refuses of one leaves no trace in the others.
#[test]
fn a_change_that_the_server_refuses_leaves_the_others_alone() {
    let Some(remote) = Remote::new() else { return };
    let ids = remote.visitors(12);
    let bound = "ALTER TABLE cloakroom_client ADD CHECK (octet_length(body) < 600)";
    remote.database.sql(bound);
    let changes = ids.iter().enumerate().map(|(n, id)| {
        let len = if n == 5 { 700 } else { 7 };
        remote.change(id, |session| {
            session.pkg("p").insert("text", "x".repeat(len))
        })
    });
    let changes = changes.collect();
    let ended = remote.batch(changes, open);
    for (n, ended) in ended.iter().enumerate() {
        match (n, ended) {
            (5, Err(error)) => assert_eq!(error.kind(), ErrorKind::Io),
            (5, Ok(())) => panic!("it was acknowledged"),
            (_, ended) => assert!(ended.is_ok(), "{n}: {ended:?}"),
        }
    }
    let other = remote.other();
    for (n, id) in ids.iter().enumerate() {
        let txn = other.begin().unwrap();
        let session = txn.session(&again(&other, id)).unwrap();
        let text: Option<String> = session.pkg("p").get("text").unwrap();
        assert_eq!(text.is_some(), n != 5);
    }
}

// C10.2: the server has written a batch, and its answer is lost.
#[test]
fn a_batch_whose_answer_is_lost_is_looked_up() {
    let Some(remote) = Remote::new() else { return };
    let ids = remote.visitors(8);
    let other = remote.other();
    let twice = ids.iter().chain(&ids[..4]);
    let changes = twice.map(|id| remote.change(id, add_one)).collect();
    let ended = remote.batch(changes, |proxy, first_are_done| {
        proxy.answers(Passage::Delayed(SLOW));
        first_are_done();
        until("the batch is written", || get(&other, &ids[7]) == Some(1));
        proxy.cut();
        proxy.open();
    });
    all_well(&ended);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(get(&other, id), Some(if n < 4 { 2 } else { 1 }));
    }
}

// C10.2: a batch is lost on its way. It is fenced, and written again.
#[test]
fn a_batch_that_does_not_arrive_is_written_again() {
    // If a connection has a statement to prepare for the commits before the batch, that is what is lost.
    let took_place = (0..20).any(|_| loses_a_batch());
    assert!(took_place, "the commits before the batch were lost, too");
}

/// Gives whether the batch alone was lost.
fn loses_a_batch() -> bool {
    let Some(remote) = Remote::new() else {
        return true;
    };
    let ids = remote.visitors(8);
    let twice = ids.iter().chain(&ids[..4]);
    let changes = twice.map(|id| remote.change(id, add_one)).collect();
    let (ended, first) = remote.batch_after(changes, |proxy, first_are_done| {
        proxy.requests(Passage::Swallowed);
        proxy.answers(Passage::Open);
        first_are_done();
        until("the batch is sent", || proxy.swallowed_requests() > 0);
        proxy.reset();
        proxy.open();
    });
    if first.iter().any(Result::is_err) {
        return false;
    }
    all_well(&ended);
    let other = remote.other();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(get(&other, id), Some(if n < 4 { 2 } else { 1 }));
    }
    true
}

// C2.7, C10.2: many sessions are read by one statement, each as it is.
#[test]
fn loads_that_wait_together_get_each_its_own_session() {
    let Some(remote) = Remote::new() else { return };
    let ids = remote.visitors(24);
    for (n, id) in ids.iter().enumerate() {
        put(&remote.store, id, n as u64);
    }
    let absent = remote.store.client_ids().issue();
    remote.proxy.answers(Passage::Held);
    let read = |id: &ClientId| {
        let txn = remote.store.begin()?;
        let n: Option<u64> = txn.session(id)?.pkg("p").get("n")?;
        Ok::<_, Error>(n)
    };
    thread::scope(|scope| {
        let all = ids.iter().chain([&absent]);
        let running: Vec<_> = all.map(|id| scope.spawn(move || read(id))).collect();
        thread::sleep(Duration::from_millis(100));
        remote.proxy.open();
        for (n, running) in running.into_iter().enumerate() {
            let expected = (n < ids.len()).then_some(n as u64);
            assert_eq!(running.join().unwrap().unwrap(), expected);
        }
    });
}

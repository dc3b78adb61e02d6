//! Commits that wait while others are on their way are written together. Each takes place or not by itself.

use crate::held::{is_waited_for, while_held};
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
    /// All connections are in use by those that write batches.
    fn new() -> Option<Self> {
        Self::with(PostgresSettings::new().connections(WRITERS))
    }

    fn with(settings: PostgresSettings) -> Option<Self> {
        let server = shared()?;
        let database = server.database();
        let proxy = Proxy::start(server.address());
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
    eventually_loses_a_batch(|| {
        let remote = Remote::new()?;
        let ids = remote.visitors(8);
        let twice = ids.iter().chain(&ids[..4]).cloned().collect();
        Some((remote, twice))
    });
}

// C10.2: more commits of the client wait than a row names versions. They go on only when it is known what became of those
// that were lost.
#[test]
fn lost_commits_are_looked_up_before_many_others_of_their_client_go_on() {
    eventually_loses_a_batch(|| {
        let remote = Remote::with(PostgresSettings::new().connections(24))?;
        let id = remote.visitors(1).remove(0);
        Some((remote, vec![id; 200]))
    });
}

/// Loses a batch on its way that adds to the sessions of these visitors, and looks whether each change takes place once.
fn eventually_loses_a_batch(prepare: impl Fn() -> Option<(Remote, Vec<ClientId>)>) {
    // If a connection has a statement to prepare for the commits before the batch, that is what is lost.
    let took_place = (0..20).any(|_| loses_a_batch(prepare()));
    assert!(took_place, "the commits before the batch were lost, too");
}

/// Gives whether the batch alone was lost.
fn loses_a_batch(prepared: Option<(Remote, Vec<ClientId>)>) -> bool {
    let Some((remote, ids)) = prepared else {
        return true;
    };
    let changes = ids.iter().map(|id| remote.change(id, add_one)).collect();
    let (ended, first) = remote.batch_after(changes, |proxy, first_are_done| {
        proxy.requests(Passage::Swallowed);
        proxy.answers(Passage::Open);
        first_are_done();
        until("the batch is sent", || proxy.swallowed_requests() > 0);
        proxy.renew();
    });
    if first.iter().any(Result::is_err) {
        return false;
    }
    all_well(&ended);
    let other = remote.other();
    for id in &ids {
        let times = ids.iter().filter(|it| *it == id).count();
        assert_eq!(get(&other, id), Some(times as u64));
    }
    true
}

// C10.2: each waits for the server until its own deadline, also together with one whose deadline comes sooner.
#[test]
fn a_commit_that_came_later_waits_for_the_server_for_longer() {
    let settings = PostgresSettings::new().deadline(Duration::from_secs(20));
    let Some(remote) = Remote::with(settings.connections(WRITERS)) else {
        return;
    };
    let ids = remote.visitors(WRITERS + 2);
    let changes: Vec<_> = ids.iter().map(|id| remote.change(id, add_one)).collect();
    let mut changes = changes.into_iter();
    remote.proxy.close();
    thread::scope(|scope| {
        let mut commit_after = |pause: u64| {
            thread::sleep(Duration::from_millis(pause));
            let txn = changes.next().unwrap();
            scope.spawn(move || txn.commit())
        };
        // Each of the first takes one of those that write batches. The last two wait for these.
        let mut first: Vec<_> = (0..WRITERS).map(|_| commit_after(100)).collect();
        first.push(commit_after(1_000));
        let last = commit_after(9_000);
        for ended in first {
            let error = ended.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        remote.proxy.open();
        last.join().unwrap().unwrap();
    });
    assert_eq!(get(&remote.other(), &ids[WRITERS + 1]), Some(1));
}

// C10.2: many commits of two clients wait for the locks of their rows. They keep no other visitor's from a connection.
#[test]
fn commits_that_wait_for_a_lock_leave_connections_to_others() {
    let settings = PostgresSettings::new().deadline(Duration::from_secs(20));
    let Some(remote) = Remote::with(settings.connections(WRITERS)) else {
        return;
    };
    let locked = remote.visitors(2);
    let held = "SELECT client FROM cloakroom_client FOR UPDATE";
    while_held(&remote.database, held, || {
        let free = remote.visitors(1).remove(0);
        let of_free = remote.change(&free, add_one);
        let all = locked.iter().flat_map(|id| [id; 40]);
        let changes = all.map(|id| remote.change(id, add_one)).collect();
        remote.batch(changes, |proxy, first_are_done| {
            proxy.open();
            first_are_done();
            until("a lock is waited for", || is_waited_for(&remote.database));
            of_free.commit().unwrap();
        });
        assert_eq!(get(&remote.other(), &free), Some(1));
    });
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

//! C10.2: a server that goes away, answers late, or whose answers are lost. What was acknowledged is there once, what was
//! refused is not, no session is read as empty, and no call hangs.

use crate::held::{Gate, is_sleeping, is_waited_for};
use crate::place::connect;
use crate::support::wait::{eventually, until};
use cloakroom::{Error, ErrorKind, PostgresSettings, Store, Txn};
use cloakroom_postgres_server::{Passage, Proxy, Server, is_available, shared};
use cloakroom_torture::load::{Load, Told, Verdict};
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// Within this time each call is answered, whatever the server does: a transaction reads and commits, each within the
/// deadline, and its commit is looked up for the same time once more. The rest is for a busy machine.
const ANSWERED: Duration = Duration::from_secs(30);
/// A busy machine may take so long for a few commits. Only their number counts, not how fast they come.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many threads commit.
const WRITERS: usize = 8;

fn store(url: &str) -> Store {
    connect(Store::builder().implicit_sweeps(false), url)
}

/// Ends a load, and looks at what is there.
fn settle(load: Load, url: &str) -> Told {
    assert!(load.goes_on(20, PATIENCE), "no commit after the outage");
    let told = load.end();
    assert_eq!(told.verify(&store(url)).unwrap(), Verdict::default());
    let longest = told.longest_call();
    assert!(longest.time < ANSWERED, "{longest:?}");
    println!(
        "acknowledged {}, unknown {}, {:?}, without a commit {:?}",
        told.acknowledged(),
        told.unknown(),
        told.failures(),
        told.longest_gap()
    );
    told
}

#[test]
fn a_server_that_is_restarted_under_load_costs_only_time() {
    if !is_available() {
        return;
    }
    let server = Server::start();
    let url = server.url();
    let stores = [store(&url), store(&url)];
    let load = Load::start(&stores, WRITERS);
    for end in [Server::stop, Server::kill, Server::kill] {
        assert!(load.goes_on(20, PATIENCE));
        end(&server);
        thread::sleep(Duration::from_millis(300));
        server.start_again();
    }
    let told = settle(load, &url);
    for kind in told.failures().keys() {
        let allowed = [
            "Unavailable",
            "OutcomeUnknown",
            "NotWritten",
            "Conflict",
            "SnapshotTooOld",
        ];
        assert!(allowed.contains(&kind.as_str()), "{kind}");
    }
}

#[test]
fn a_server_that_is_gone_is_said_to_be_unavailable_in_time() {
    if !is_available() {
        return;
    }
    let server = Server::start();
    let store = store(&server.url());
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().pkg("p").insert("n", 1).unwrap();
    txn.commit().unwrap();
    server.kill();
    let since = Instant::now();
    let read = store.begin().and_then(|txn| {
        let read: Option<i64> = txn.session(&id)?.pkg("p").get("n")?;
        Ok(read)
    });
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(since.elapsed() < ANSWERED);
    server.start_again();
    let since = Instant::now();
    loop {
        let read = store
            .begin()
            .and_then(|txn| txn.session(&id)?.pkg("p").get("n"));
        match read {
            Ok(value) => {
                assert_eq!(value, Some(1));
                return;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
        assert!(since.elapsed() < ANSWERED, "it is not found again");
    }
}

#[test]
fn a_server_that_falls_silent_hangs_nobody() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let proxy = Proxy::start(server.address());
    let url = server.url_at(proxy.address(), database.name());
    let store = store(&url);
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().pkg("p").insert("n", 1).unwrap();
    txn.commit().unwrap();
    for silence in [Proxy::answers, Proxy::requests] {
        let txn = eventually(|| {
            let txn = store.begin()?;
            txn.session(&id)?.pkg("p").insert("n", 2)?;
            Ok::<_, Error>(txn)
        });
        silence(&proxy, Passage::Held);
        let since = Instant::now();
        let committed = txn.commit().unwrap_err();
        assert!(since.elapsed() < ANSWERED);
        let honest = [
            ErrorKind::OutcomeUnknown,
            ErrorKind::Unavailable,
            ErrorKind::NotWritten,
        ];
        assert!(honest.contains(&committed.kind()), "{committed}");
        let since = Instant::now();
        let read = store.begin().and_then(|txn| {
            let read: Option<i64> = txn.session(&id)?.pkg("p").get("n")?;
            Ok(read)
        });
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(since.elapsed() < ANSWERED);
        proxy.open();
        proxy.cut();
    }
}

// C10.2: a read waits for one deadline, not for one of each part of it.
#[test]
fn a_read_asks_a_silent_server_once() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let proxy = Proxy::start(server.address());
    let settings = PostgresSettings::new().poll_interval(Duration::from_secs(3600));
    let builder = Store::builder().implicit_sweeps(false).postgres(settings);
    let store = connect(builder, &server.url_at(proxy.address(), database.name()));
    let id = store.client_ids().issue();
    let found = |txn: &Txn| txn.session(&id)?.pkg("p").insert("n", 1);
    eventually(|| store.transact(found));
    let txn = store.begin().unwrap();
    let package = txn.session(&id).unwrap().pkg("p");
    proxy.answers(Passage::Held);
    let before = proxy.accepted();
    let read = package.get::<i64>("n").unwrap_err();
    assert_eq!(read.kind(), ErrorKind::Unavailable);
    // A second question would come over another connection.
    assert_eq!(proxy.accepted(), before);
}

// The commit reaches the server and the answer does not come back, or the commit is lost on its way, or late.
#[test]
fn what_is_acknowledged_over_a_bad_network_is_there_once() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let proxies = [(); 2].map(|()| Proxy::start(server.address()));
    let url = |proxy: &Proxy| server.url_at(proxy.address(), database.name());
    let stores = [store(&url(&proxies[0])), store(&url(&proxies[1]))];
    let load = Load::start(&stores, WRITERS);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(6) {
        thread::sleep(Duration::from_millis(chance.u64(20..150)));
        disturb(&proxies[chance.usize(..2)], &mut chance);
    }
    let lost: u64 = proxies.iter().map(Proxy::swallowed_answers).sum();
    assert!(lost > 0, "no answer was lost");
    settle(load, &database.url());
}

/// One disturbance, after which everything passes again.
fn disturb(proxy: &Proxy, chance: &mut fastrand::Rng) {
    let kind = chance.u32(..6);
    let mut moment = |most: u64| thread::sleep(Duration::from_millis(chance.u64(..most)));
    match kind {
        0 => proxy.cut(),
        1 => proxy.reset(),
        2 => {
            proxy.answers(Passage::Swallowed);
            moment(40);
            proxy.cut();
        }
        3 => {
            proxy.requests(Passage::Swallowed);
            moment(40);
            proxy.reset();
        }
        4 => {
            proxy.requests(Passage::Delayed(Duration::from_millis(15)));
            proxy.answers(Passage::Delayed(Duration::from_millis(15)));
            moment(80);
            proxy.cut();
        }
        _ => {
            proxy.close();
            moment(80);
        }
    }
    proxy.open();
}

/// Drops a store on the thread that wakes it.
struct DropsStore(Mutex<Option<Store>>, mpsc::Sender<()>);

impl Wake for DropsStore {
    fn wake(self: Arc<Self>) {
        let store = self.0.lock().unwrap().take();
        drop(store);
        let _ = self.1.send(());
    }
}

#[test]
fn a_store_that_is_dropped_by_the_engines_own_thread_ends() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let store = store(&database.url());
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().pkg("p").insert("n", 1).unwrap();
    let mut commit = pin!(txn.commit_async());
    let (told, dropped) = mpsc::channel();
    let waker = Waker::from(Arc::new(DropsStore(Mutex::new(Some(store)), told)));
    let polled = commit.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Pending));
    dropped.recv_timeout(ANSWERED).unwrap();
    let mut ended = None;
    until("it has committed", || {
        if let Poll::Ready(end) = commit
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            ended = Some(end);
        }
        ended.is_some()
    });
    ended.unwrap().unwrap();
    // No connection is left behind.
    let connected = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cloakroom'
                     AND datname = current_database()";
    until("it is closed", || database.sql(connected).trim() == "0");
}

// C10.2: a change with a large package is one statement that writes to both tables. It is made once, whether the first attempt
// took place or not.
#[test]
fn a_change_of_a_large_package_whose_answer_is_lost_is_made_once() {
    for takes_place in [true, false] {
        let Some(server) = shared() else { return };
        let database = server.database();
        let proxy = Proxy::start(server.address());
        let url = server.url_at(proxy.address(), database.name());
        let settings = PostgresSettings::new().deadline(ANSWERED);
        let builder = Store::builder().implicit_sweeps(false);
        let store = connect(builder.postgres(settings), &url);
        let id = store.client_ids().issue();
        let change = |text: &str| {
            let large = text.repeat(5000);
            store.transact(|txn| {
                let session = txn.session(&id)?;
                session.pkg("large").insert("text", large.clone())?;
                session.pkg("p").add("n", 1)
            })
        };
        change("a").unwrap();
        thread::scope(|scope| {
            // The statement is done, and does not end.
            let gate = Gate::new(&database).stops(
                "CONSTRAINT TRIGGER",
                "AFTER INSERT OR UPDATE ON cloakroom_package DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
            );
            let changing = scope.spawn(|| change("b"));
            until("the statement is done", || is_sleeping(&database));
            proxy.renew();
            until("it is looked up", || is_waited_for(&database));
            if !takes_place {
                let ended = database.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'cloakroom'
                     AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock'",
                );
                assert_eq!(ended.trim(), "t");
            }
            gate.open();
            changing.join().unwrap().unwrap();
        });
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        assert_eq!(session.pkg("p").get("n").unwrap(), Some(2));
        let text: String = session.pkg("large").get("text").unwrap().unwrap();
        assert!(text == "b".repeat(5000), "takes_place: {takes_place}");
    }
}

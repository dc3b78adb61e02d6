//! C2.1, C2.7: what several threads read in one transaction is of one moment, while other processes commit.

use crate::place::connect;
use crate::support::visitors::again;
use cloakroom::{ClientId, Error, ErrorKind, Store, Txn};
use cloakroom_postgres_server::{Passage, Proxy, shared};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a request is on its way.
const DELAY: Duration = Duration::from_millis(700);

fn write(store: &Store, id: &ClientId, n: u64) {
    let written = store.transact(|txn| {
        let session = txn.session(id)?;
        session.pkg("p").insert("n", n)?;
        session.pkg("q").insert("n", n)
    });
    written.unwrap();
}

fn read(txn: &Txn, id: &ClientId, package: &str) -> Result<Option<u64>, Error> {
    txn.session(id)?.pkg(package).get("n")
}

/// What was read of both packages is of one commit, or the transaction says that it is not.
fn judge(read: [Result<Option<u64>, Error>; 2], committed: Result<(), Error>) {
    let all: Result<Vec<_>, Error> = read.into_iter().collect();
    match all.and_then(|all| committed.map(|()| all)) {
        Ok(all) => assert_eq!(all[0], all[1], "two moments"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
    }
}

#[test]
fn two_threads_that_load_the_same_session_see_it_at_one_moment() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let proxy = Proxy::start(server.address());
    let url = server.url_at(proxy.address(), database.name());
    let builder = || Store::builder().implicit_sweeps(false);
    let (store, other) = (
        connect(builder(), &url),
        connect(builder(), &database.url()),
    );
    let id = other.client_ids().issue();
    write(&other, &id, 1);
    let id = again(&store, &id);
    let txn = store.begin().unwrap();
    // The connections are there, and their statements are prepared.
    read(&store.begin().unwrap(), &store.client_ids().issue(), "p").unwrap();
    proxy.requests(Passage::Delayed(DELAY));
    let (told, answers) = mpsc::channel();
    let both = thread::scope(|scope| {
        for package in ["p", "q"] {
            let (txn, id, told) = (&txn, &id, told.clone());
            scope.spawn(move || told.send(read(txn, id, package)));
        }
        let answer = || answers.recv_timeout(Duration::from_secs(60)).unwrap();
        let first = answer();
        write(&other, &again(&other, &id), 2);
        [first, answer()]
    });
    proxy.open();
    judge(both, txn.commit());
}

#[test]
fn what_is_read_while_another_session_is_loaded_is_of_the_same_moment() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let proxy = Proxy::start(server.address());
    let url = server.url_at(proxy.address(), database.name());
    let builder = || Store::builder().implicit_sweeps(false);
    let (store, other) = (
        connect(builder(), &url),
        connect(builder(), &database.url()),
    );
    let [a, b] = [(); 2].map(|()| other.client_ids().issue());
    for id in [&a, &b] {
        write(&other, id, 1);
    }
    let [a, b] = [&a, &b].map(|id| again(&store, id));
    let prepared = store.begin().unwrap();
    for id in [&a, &b] {
        read(&prepared, id, "p").unwrap();
    }
    let txn = store.begin().unwrap();
    // It is loaded, and no package of it is read.
    assert!(txn.session(&a).unwrap().pkg("none").is_empty().unwrap());
    proxy.requests(Passage::Delayed(DELAY));
    let both = thread::scope(|scope| {
        let loading = scope.spawn(|| read(&txn, &b, "p").map(drop));
        thread::sleep(DELAY / 2);
        write(&other, &again(&other, &a), 2);
        // The load has found the session changed and read it anew, and asks again.
        thread::sleep(DELAY * 2);
        let first = read(&txn, &a, "p");
        let loaded = loading.join().unwrap();
        let second = loaded.and_then(|()| read(&txn, &a, "q"));
        [first, second]
    });
    proxy.open();
    judge(both, txn.commit());
}

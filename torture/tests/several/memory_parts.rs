//! C1.7, C10.2: commits to containers on the server and in memory whose outcome is not known in time. Both parts show
//! afterwards, or none, and nobody sees one without the other meanwhile.

use crate::held::{is_waited_for, while_held};
use crate::place::connect;
use crate::support::visitors::{again, get};
use crate::support::wait::{SetOnDrop, eventually, until};
use cloakroom::{
    ClientId, ContainerSettings, Error, ErrorKind, PostgresSettings, Store, Transaction,
};
use cloakroom_postgres_server::{Database, Passage, Proxy, shared};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A visitor with a number on the server and one in memory. The server is behind a proxy.
struct Both {
    database: Database,
    proxy: Proxy,
    store: Store,
    other: Store,
    id: ClientId,
}

impl Both {
    fn new(settings: PostgresSettings) -> Option<Self> {
        let server = shared()?;
        let database = server.database();
        let proxy = Proxy::start(server.address());
        let builder = Store::builder()
            .implicit_sweeps(false)
            .postgres(settings.deadline(Duration::from_secs(1)));
        let store = connect(builder, &server.url_at(proxy.address(), database.name()));
        let in_memory = ContainerSettings::new().in_memory();
        eventually(|| store.register("quick", in_memory.clone()));
        let other = connect(Store::builder().implicit_sweeps(false), &database.url());
        let id = store.client_ids().issue();
        eventually(|| write(&store, &id, 0));
        Some(Self {
            id: again(&store, &id),
            database,
            proxy,
            store,
            other,
        })
    }

    /// What both parts are.
    fn read(&self) -> Result<[Option<u64>; 2], Error> {
        read(&self.store.begin()?, &self.id)
    }

    /// A transaction that has changed both numbers from zero and is not committed. The statements that commit it are
    /// prepared.
    fn changed(&self, n: u64) -> Transaction {
        self.proxy.renew();
        for n in [9, 0] {
            eventually(|| write(&self.store, &self.id, n));
        }
        eventually(|| {
            let txn = self.store.begin()?;
            // Looks now: the commit must not have to.
            read(&txn, &self.id)?;
            put(&txn, &self.id, n)?;
            Ok::<_, Error>(txn)
        })
    }

    fn is_on_server(&self, n: u64) -> bool {
        get(&self.other, &self.id) == Some(n)
    }

    /// Commits a number while the network is so, until the outcome is unknown and the server has `found`. If a connection
    /// has a statement to prepare, that is what is lost.
    fn commit_while(&self, n: u64, network: impl Fn(&Proxy), found: u64) {
        eventually(|| {
            let txn = self.changed(n);
            network(&self.proxy);
            match txn.commit() {
                Err(error) if is_unknown(&error) && self.is_on_server(found) => Ok(()),
                other => Err(other),
            }
        });
        self.proxy.renew();
    }

    /// Commits 1 to both parts. The answer is lost, and a lock keeps the store from finding out what became of the commit
    /// until `meanwhile` has ended.
    fn commit_locked(&self, meanwhile: impl Fn()) {
        let happened = (0..20).any(|_| self.commits_locked(&meanwhile));
        assert!(happened, "the commit was never written without an answer");
    }

    fn commits_locked(&self, meanwhile: impl Fn()) -> bool {
        let txn = self.changed(1);
        self.proxy.answers(Passage::Held);
        thread::scope(|scope| {
            let committing = scope.spawn(move || txn.commit());
            until("the commit is written, or given up", || {
                self.is_on_server(1) || committing.is_finished()
            });
            let mut happened = false;
            while_held(
                &self.database,
                "SELECT client FROM cloakroom_client FOR UPDATE",
                || {
                    self.proxy.renew();
                    let ended = committing.join().unwrap();
                    happened = ended.is_err_and(|it| is_unknown(&it)) && self.is_on_server(1);
                    if happened {
                        meanwhile();
                    }
                },
            );
            happened
        })
    }

    /// A visitor whose rows nobody locks.
    fn visitor(&self) -> ClientId {
        let id = self.store.client_ids().issue();
        eventually(|| write(&self.store, &id, 5));
        again(&self.store, &id)
    }
}

fn is_unknown(error: &Error) -> bool {
    error.kind() == ErrorKind::OutcomeUnknown
}

fn write(store: &Store, id: &ClientId, n: u64) -> Result<(), Error> {
    let txn = store.begin()?;
    put(&txn, id, n)?;
    txn.commit()
}

fn put(txn: &Transaction, id: &ClientId, n: u64) -> Result<(), Error> {
    let session = txn.session(id)?;
    session.pkg("p").insert("n", n)?;
    session.pkg("quick").insert("n", n)
}

fn read(txn: &Transaction, id: &ClientId) -> Result<[Option<u64>; 2], Error> {
    let session = txn.session(id)?;
    Ok([session.pkg("p").get("n")?, session.pkg("quick").get("n")?])
}

#[test]
fn both_parts_of_a_commit_show_or_none() {
    let Some(both) = Both::new(PostgresSettings::new()) else {
        return;
    };
    both.commit_while(1, |it| it.answers(Passage::Held), 1);
    assert_eq!(eventually(|| both.read()), [Some(1); 2]);
    both.commit_while(2, |it| it.requests(Passage::Swallowed), 0);
    assert_eq!(eventually(|| both.read()), [Some(0); 2]);
    eventually(|| write(&both.store, &both.id, 3));
    assert_eq!(eventually(|| both.read()), [Some(3); 2]);
}

#[test]
fn no_part_shows_before_the_other_and_nobody_else_waits() {
    let Some(both) = Both::new(PostgresSettings::new()) else {
        return;
    };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                if let Ok([on_server, in_memory]) = both.read() {
                    assert_eq!(on_server, in_memory);
                }
            }
        });
        let end = SetOnDrop(&ended);
        both.commit_locked(|| {
            until("the commit is looked up", || is_waited_for(&both.database));
            match both.read() {
                Ok([on_server, in_memory]) => assert_eq!(on_server, in_memory),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
            let free = both.visitor();
            let seen = eventually(|| read(&both.store.begin()?, &free));
            assert_eq!(seen, [Some(5); 2]);
        });
        assert_eq!(eventually(|| both.read()), [Some(1); 2]);
        drop(end);
        reading.join().unwrap();
    });
}

#[test]
fn a_transaction_that_looked_before_sees_both_parts_or_none() {
    let looks = [
        PostgresSettings::new(),
        PostgresSettings::new().keep_first_look(),
    ];
    for settings in looks {
        let Some(both) = Both::new(settings) else {
            return;
        };
        let free = both.visitor();
        let looked = std::cell::RefCell::new(None);
        both.commit_locked(|| {
            let txn = eventually(|| {
                let txn = both.store.begin()?;
                read(&txn, &free)?;
                Ok::<_, Error>(txn)
            });
            looked.replace(Some(txn));
        });
        assert_eq!(eventually(|| both.read()), [Some(1); 2]);
        let txn = looked.take().unwrap();
        let [on_server, in_memory] = read(&txn, &both.id).unwrap();
        assert_eq!(on_server, in_memory);
    }
}

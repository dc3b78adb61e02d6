//! C2.2, C10.2: rows that other transactions lock, and processes that fall silent while they hold locks.

use crate::place::connect;
use crate::support::visitors::{again, get, put};
use crate::support::wait::{eventually, until};
use cloakroom::{ClientId, Clock, Error, ErrorKind, PostgresSettings, Store};
use cloakroom_postgres_server::{Database, Passage, Proxy, Server, is_available, shared};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(60);

/// A database, and a store that reaches it through a proxy.
struct Remote {
    proxy: Proxy,
    store: Store,
    database: Arc<Database>,
}

impl Remote {
    fn new(deadline: Duration) -> Option<Self> {
        let server = shared()?;
        let database = Arc::new(server.database());
        let proxy = Proxy::start(server.address());
        let url = server.url_at(proxy.address(), database.name());
        Some(Self {
            store: store(&url, deadline),
            proxy,
            database,
        })
    }

    /// Another process.
    fn other(&self) -> Store {
        store(&self.database.url(), Duration::from_secs(5))
    }

    /// A visitor with a session.
    fn visitor(&self) -> ClientId {
        let id = self.store.client_ids().issue();
        put(&self.store, &id, 0);
        again(&self.store, &id)
    }

    /// How many connections to the database are so.
    fn backends(&self, which: &str) -> u64 {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND {which}"
        );
        self.database.sql(&count).trim().parse().unwrap()
    }

    fn waits_for_a_lock(&self) {
        until("a lock is waited for", || {
            self.backends("wait_event_type = 'Lock'") == 1
        });
    }
}

fn store(url: &str, deadline: Duration) -> Store {
    let settings = PostgresSettings::new().deadline(deadline);
    let builder = Store::builder().implicit_sweeps(false);
    connect(builder.postgres(settings), url)
}

/// A transaction that locks all rows there are.
struct HeldRows<'a> {
    remote: &'a Remote,
    holding: Option<JoinHandle<String>>,
}

impl<'a> HeldRows<'a> {
    fn new(remote: &'a Remote) -> Self {
        remote.database.sql("CREATE TABLE gate (is_open boolean)");
        let hold = "SELECT client FROM cloakroom_client FOR UPDATE;
             DO $$ BEGIN FOR n IN 1..18000 LOOP
             EXIT WHEN EXISTS (SELECT FROM gate); PERFORM pg_sleep(0.01);
             END LOOP; END $$";
        let database = remote.database.clone();
        let holding = thread::spawn(move || database.sql(hold));
        until("the rows are locked", || {
            remote.backends("wait_event = 'PgSleep'") == 1
        });
        Self {
            remote,
            holding: Some(holding),
        }
    }

    fn release(&mut self) {
        if let Some(holding) = self.holding.take() {
            self.remote.database.sql("INSERT INTO gate VALUES (true)");
            holding.join().unwrap();
        }
    }
}

impl Drop for HeldRows<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

/// Changes two sessions at once, which needs both rows.
fn change_both(store: &Store, first: &ClientId, second: &ClientId) -> Result<(), Error> {
    let txn = store.begin()?;
    txn.session(first)?.pkg("both").insert("n", 1_u64)?;
    txn.session(second)?.pkg("both").insert("n", 1_u64)?;
    txn.commit()
}

fn both(store: &Store, id: &ClientId) -> Option<u64> {
    let txn = store.begin().unwrap();
    let session = txn.session(&again(store, id)).unwrap();
    session.pkg("both").get("n").unwrap()
}

// C2.2, C2.7: a row is founded after the commit has locked those that were there, and before it reads them.
#[test]
fn a_row_that_came_after_the_locks_is_not_written_without_a_lock() {
    let Some(remote) = Remote::new(LONG) else {
        return;
    };
    let other = remote.other();
    let known = remote.visitor();
    let new = remote.store.client_ids().issue();
    let mut held = HeldRows::new(&remote);
    thread::scope(|scope| {
        let committing = scope.spawn(|| change_both(&remote.store, &known, &new));
        remote.waits_for_a_lock();
        put(&other, &new, 1);
        remote.proxy.answers(Passage::Held);
        held.release();
        until("the rows are read", || {
            remote.backends("state = 'idle in transaction'") == 1
        });
        put(&other, &again(&other, &new), 2);
        remote.proxy.open();
        committing.join().unwrap().unwrap();
    });
    assert_eq!(get(&other, &new), Some(2));
    assert_eq!(
        both(&other, &new),
        Some(1),
        "an acknowledged change is lost"
    );
    assert_eq!(both(&other, &known), Some(1));
}

// C10.2: the process is gone, its connection is not.
#[test]
fn the_locks_of_a_silent_process_end() {
    let Some(remote) = Remote::new(Duration::from_secs(2)) else {
        return;
    };
    let other = remote.other();
    let [first, second] = [(); 2].map(|()| remote.visitor());
    let mut held = HeldRows::new(&remote);
    thread::scope(|scope| {
        let committing = scope.spawn(|| change_both(&remote.store, &first, &second));
        remote.waits_for_a_lock();
        remote.proxy.requests(Passage::Held);
        held.release();
        eventually(|| {
            let txn = other.begin()?;
            txn.session(&again(&other, &first))?
                .pkg("p")
                .insert("n", 5_u64)?;
            txn.commit()
        });
        let ended = committing.join().unwrap().unwrap_err();
        let honest = [ErrorKind::OutcomeUnknown, ErrorKind::Unavailable];
        assert!(honest.contains(&ended.kind()), "{ended}");
        remote.proxy.open();
        remote.proxy.cut();
    });
    assert_eq!(get(&other, &first), Some(5));
}

// C10.2: the statement of a commit that was given up arrives when nobody waits for it any more.
#[test]
fn a_statement_that_arrives_late_writes_nothing() {
    let Some(remote) = Remote::new(Duration::from_secs(1)) else {
        return;
    };
    let id = remote.visitor();
    remote.database.sql(
        "CREATE SEQUENCE arrived;
         CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         PERFORM nextval('arrived'); RETURN NULL; END $$;
         CREATE TRIGGER tell AFTER UPDATE ON cloakroom_client
         FOR EACH STATEMENT EXECUTE FUNCTION tell()",
    );
    // If the connection has the statement to prepare, that is what is late.
    let is_late = (0..20).any(|_| arrives_late(&remote, &id));
    assert!(is_late, "no statement came late");
}

/// Commits while the network holds what is sent, and lets it through afterwards. Gives whether a statement came then.
fn arrives_late(remote: &Remote, id: &ClientId) -> bool {
    let txn = eventually(|| {
        let txn = remote.store.begin()?;
        txn.session(id)?.pkg("p").insert("n", 1_u64)?;
        txn.commit()?;
        let txn = remote.store.begin()?;
        let session = txn.session(id)?;
        // Looks now: the commit must not have to.
        session.exists()?;
        session.pkg("p").insert("n", 100_u64)?;
        Ok::<_, Error>(txn)
    });
    remote.database.sql("SELECT setval('arrived', 1, false)");
    let before = remote.database.sql("SELECT clock_timestamp()");
    remote.proxy.requests(Passage::Held);
    txn.commit().unwrap_err();
    remote.proxy.requests(Passage::Open);
    let old = format!("backend_start < '{}'", before.trim());
    until("the connections of before have ended", || {
        remote.backends(&format!("application_name = 'cloakroom' AND {old}")) == 0
    });
    assert_eq!(get(&remote.other(), id), Some(1));
    let is_called = "SELECT is_called FROM arrived";
    remote.database.sql(is_called).trim() == "t"
}

// C10.2: four rows that stay locked would keep all connections that write batches.
#[test]
fn only_a_commit_that_is_by_itself_waits_for_a_lock() {
    if !is_available() {
        return;
    }
    // The server tells of each wait that is longer than this.
    let settings = [("log_lock_waits", "on"), ("deadlock_timeout", "4s")];
    let server = settings
        .iter()
        .fold(Server::builder(), |server, (name, value)| {
            server.set(name, value)
        });
    let server = server.start();
    let database = Arc::new(server.database());
    let remote = Remote {
        proxy: Proxy::start(server.address()),
        store: store(&database.url(), LONG),
        database,
    };
    let id = remote.visitor();
    let mut held = HeldRows::new(&remote);
    thread::scope(|scope| {
        let committing = scope.spawn(|| put(&remote.store, &id, 1));
        let told = || {
            let log = server.log();
            let told: Vec<_> = log.match_indices("still waiting for").collect();
            let waits = told.into_iter().map(|(at, _)| &log[at..]);
            waits.map(str::to_owned).collect::<Vec<_>>()
        };
        until("the server tells of a wait", || {
            told().iter().any(|it| it.contains("FOR UPDATE"))
        });
        let first = told().remove(0);
        let statement = first.lines().find(|it| it.contains("STATEMENT"));
        held.release();
        committing.join().unwrap();
        assert!(statement.unwrap().contains("FOR UPDATE"), "{statement:?}");
    });
}

// C10.2: otherwise a row that stays locked costs the server a connection with each attempt to change it.
#[test]
fn a_commit_that_is_given_up_waits_for_no_lock_at_the_server() {
    let Some(remote) = Remote::new(Duration::from_secs(1)) else {
        return;
    };
    let id = remote.visitor();
    let mut held = HeldRows::new(&remote);
    let txn = remote.store.begin().unwrap();
    txn.session(&id)
        .unwrap()
        .pkg("p")
        .insert("n", 1_u64)
        .unwrap();
    let error = txn.commit().unwrap_err();
    let known = [ErrorKind::Conflict, ErrorKind::Unavailable];
    assert!(
        known.contains(&error.kind()),
        "its outcome is known: {error}"
    );
    until("nobody waits", || {
        remote.backends("wait_event_type = 'Lock'") == 0
    });
    held.release();
    assert_eq!(get(&remote.store, &id), Some(0));
}

// C10.2
#[test]
fn an_access_to_a_locked_row_delays_no_other() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let builder = Store::builder().clock(clock.clone());
    let store = connect(builder.implicit_sweeps(false), &database.url());
    let remote = Remote {
        proxy: Proxy::start(server.address()),
        store,
        database: Arc::new(database),
    };
    let locked = remote.visitor();
    let mut held = HeldRows::new(&remote);
    let free = remote.visitor();
    clock.advance(Duration::from_secs(1200));
    let recorded = || remote.store.statistics().unwrap().touches();
    let before = recorded();
    for id in [&locked, &free] {
        let txn = remote.store.begin().unwrap();
        assert!(txn.session(id).unwrap().exists().unwrap());
        txn.commit().unwrap();
    }
    until("one is recorded", || recorded() == before + 1);
    held.release();
    until("the other is recorded", || recorded() == before + 2);
    assert_eq!(remote.store.statistics().unwrap().lost_touches(), 0);
}

// C10.2
#[test]
fn a_commit_that_the_server_refuses_is_repeated_with_pauses() {
    let Some(remote) = Remote::new(Duration::from_secs(3)) else {
        return;
    };
    let id = remote.visitor();
    remote.database.sql(
        "CREATE SEQUENCE attempts;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         PERFORM nextval('attempts'); RAISE EXCEPTION USING ERRCODE = '40001'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON cloakroom_client
         FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    let since = Instant::now();
    let txn = remote.store.begin().unwrap();
    txn.session(&id)
        .unwrap()
        .pkg("p")
        .insert("n", 1_u64)
        .unwrap();
    txn.commit().unwrap_err();
    let attempts: u128 = remote
        .database
        .sql("SELECT last_value FROM attempts")
        .trim()
        .parse()
        .unwrap();
    // A commit and an access time, each with pauses of 100 ms after the first ones.
    let most = 20 + since.elapsed().as_millis() / 50;
    assert!(
        (3..most).contains(&attempts),
        "{attempts} attempts in {:?}",
        since.elapsed()
    );
}

// C10.2: the server waits for a standby, as long as there is none.
#[test]
fn commits_that_are_given_up_keep_no_more_connections_than_are_allowed() {
    if !is_available() {
        return;
    }
    const CONNECTIONS: usize = 8;
    let server = Server::start();
    let database = Arc::new(server.database());
    let settings = PostgresSettings::new()
        .connections(CONNECTIONS)
        .deadline(Duration::from_millis(500));
    let builder = Store::builder().implicit_sweeps(false).postgres(settings);
    let remote = Remote {
        proxy: Proxy::start(server.address()),
        store: connect(builder, &database.url()),
        database,
    };
    let ids = [(); 12].map(|()| remote.visitor());
    set(&server, "synchronous_standby_names = 'missing'");
    let change = |id: &ClientId| {
        let txn = remote.store.begin()?;
        txn.session(id)?.pkg("p").insert("n", 1_u64)?;
        txn.commit()
    };
    let ended: Vec<Result<(), Error>> = ids.iter().map(change).collect();
    let waiting = remote.backends("wait_event = 'SyncRep'");
    let read = remote.store.begin().and_then(|txn| {
        let n: Option<u64> = txn.session(&ids[0])?.pkg("p").get("n")?;
        Ok(n)
    });
    // Before anything is asserted: the database is not dropped while its commits wait.
    set(&server, "synchronous_standby_names = ''");
    assert!(ended.iter().all(Result::is_err), "{ended:?}");
    assert!((2..CONNECTIONS as u64).contains(&waiting), "{waiting}");
    assert!(read.unwrap().is_some(), "reads go on");
    eventually(|| {
        let txn = remote.store.begin()?;
        let id = again(&remote.store, &ids[0]);
        txn.session(&id)?.pkg("p").insert("n", 2_u64)?;
        txn.commit()
    });
    assert_eq!(get(&remote.store, &ids[0]), Some(2));
}

/// Changes a setting of a running server.
fn set(server: &Server, setting: &str) {
    // Not in one transaction.
    server.sql(&format!("ALTER SYSTEM SET {setting}"));
    server.sql("SELECT pg_reload_conf()");
    let (name, value) = setting.split_once(" = ").unwrap();
    let value = value.trim_matches('\'');
    until("the setting is in force", || {
        server.sql(&format!("SHOW {name}")).trim() == value
    });
}

// C10.2: the server has become one that only reads, while its connections are open.
#[test]
fn a_server_that_only_reads_is_said_to_be_unavailable() {
    if !is_available() {
        return;
    }
    let server = Server::start();
    let database = Arc::new(server.database());
    let remote = Remote {
        proxy: Proxy::start(server.address()),
        store: store(&database.url(), Duration::from_secs(1)),
        database,
    };
    let [first, second] = [(); 2].map(|()| remote.visitor());
    set(&server, "default_transaction_read_only = 'on'");
    let error = change_both(&remote.store, &first, &second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    set(&server, "default_transaction_read_only = 'off'");
    eventually(|| change_both(&remote.store, &first, &second));
}

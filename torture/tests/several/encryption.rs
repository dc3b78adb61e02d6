//! Encryption at rest on a server: what its tables show, and which keys a process needs.

use crate::place::connect;
use crate::support::visitors::{again, visitor, with};
use crate::support::wait::{SetOnDrop, until};
use cloakroom::{ClientId, ErrorKind, KeyRing, Store, StoreBuilder};
use cloakroom_postgres_server::{Database, database};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Texts that a session holds, and that must not be found.
const SECRETS: [&str; 4] = [
    "Zwetschgenkuchen",
    "Lieblingsfarbe",
    "frau.holle",
    "Spindel-Telefon",
];

fn key(number: u8) -> [u8; 32] {
    [number; 32]
}

fn builder(keys: Option<KeyRing>) -> StoreBuilder {
    let builder = Store::builder().implicit_sweeps(false);
    match keys {
        Some(keys) => builder.encryption(keys),
        None => builder,
    }
}

fn ring(number: u8) -> Option<KeyRing> {
    Some(KeyRing::new(number.into(), key(number)))
}

/// A session with a small package and a large one, which has a row of its own.
fn fill(store: &Store) -> ClientId {
    let id = store.client_ids().issue();
    store
        .transact(|txn| {
            let session = txn.session(&id)?;
            session.set_owner(Some(SECRETS[2]))?;
            session.set_label(SECRETS[3])?;
            session
                .pkg("large")
                .insert("text", SECRETS[0].repeat(200))?;
            session.pkg("taste").insert(SECRETS[1], SECRETS[0])
        })
        .unwrap();
    id
}

fn taste(store: &Store, id: &ClientId) -> Option<String> {
    let txn = store.begin().unwrap();
    let session = txn.session(&again(store, id)).unwrap();
    session.pkg("taste").get(SECRETS[1]).unwrap()
}

/// How many rows hold a text.
fn shown(database: &Database, secret: &str) -> u32 {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let search = format!(
        "SELECT (SELECT count(*) FROM cloakroom_client c WHERE strpos(c::text, '{hex}') > 0) + \
         (SELECT count(*) FROM cloakroom_package p WHERE strpos(p::text, '{hex}') > 0)"
    );
    database.sql(&search).trim().parse().unwrap()
}

#[test]
fn the_tables_of_an_encrypted_store_show_nothing_of_its_sessions() {
    let Some(database) = database() else {
        return;
    };
    let shown = |secret: &str| shown(&database, secret);
    let plain = connect(builder(None), &database.url());
    fill(&plain);
    assert!(SECRETS.iter().take(2).all(|secret| shown(secret) > 0));
    plain.close().unwrap();
    database.sql("TRUNCATE cloakroom_client, cloakroom_package");

    let store = connect(builder(ring(1)), &database.url());
    let id = fill(&store);
    assert_eq!(taste(&store, &id).as_deref(), Some(SECRETS[0]));
    assert_eq!(store.sessions_of(SECRETS[2]).unwrap().len(), 1);
    for secret in SECRETS {
        assert_eq!(shown(secret), 0, "{secret}");
    }
}

#[test]
fn a_store_is_encrypted_again_while_it_is_used() {
    let Some(database) = database() else {
        return;
    };
    let old = connect(builder(ring(1)), &database.url());
    let filled = [(); 3].map(|()| fill(&old));
    // More than one step looks at.
    let counting: Vec<_> = (0..300).map(|_| visitor(&old)).collect();
    old.close().unwrap();
    let both = KeyRing::new(2, key(2)).with_older(1, key(1));
    let store = connect(builder(Some(both)), &database.url());
    let counting: Vec<_> = counting.iter().map(|id| again(&store, id)).collect();

    let begun = store.reseal(|_| ControlFlow::Break(())).unwrap();
    assert!(!begun.is_complete && begun.records >= 256 && begun.of == 303);
    let stop = AtomicBool::new(false);
    let count = thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut count = 0;
            for id in counting.iter().cycle() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                with(&store, id, |it| it.pkg("app").add("n", 1));
                count += 1;
            }
            count
        });
        let ends = SetOnDrop(&stop);
        let done = store.reseal(|_| ControlFlow::Continue(())).unwrap();
        assert!(done.is_complete && done.sessions == 303 && done.unreadable == 0);
        assert!(done.records > 0);
        drop(ends);
        changing.join().unwrap()
    });
    let rest = store.reseal(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!(rest.records, 0, "nothing is left");
    store.close().unwrap();

    let refused = pollster::block_on(builder(ring(1)).connect(&database.url()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::WrongKey);
    let new = connect(builder(ring(2)), &database.url());
    let numbers = counting.iter().map(|id| {
        let txn = new.begin().unwrap();
        let session = txn.session(&again(&new, id)).unwrap();
        session.pkg("app").get::<i64>("n").unwrap().unwrap()
    });
    assert_eq!(numbers.sum::<i64>(), 300 + count);
    for id in &filled {
        assert_eq!(taste(&new, id).as_deref(), Some(SECRETS[0]));
    }
    assert_eq!(new.end_all_of(SECRETS[2]).unwrap(), 3);
}

// A damaged record can be encrypted again by nobody. It must not bind the store to one key for ever.
#[test]
fn after_damage_was_met_another_key_may_come() {
    let Some(database) = database() else {
        return;
    };
    let old = connect(builder(ring(1)), &database.url());
    let [damaged, whole] = [(); 2].map(|()| fill(&old));
    old.close().unwrap();
    let is_damaged = format!("replace(client::text, '-', '') = '{}'", damaged.key());
    database.sql(&format!(
        "UPDATE cloakroom_client SET body = set_byte(body, length(body) - 1, get_byte(body, length(body) - 1) # 1) \
         WHERE {is_damaged}"
    ));
    let second = KeyRing::new(2, key(2)).with_older(1, key(1));
    let store = connect(builder(Some(second)), &database.url());
    let met = store.reseal(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!((met.unreadable, met.is_complete), (1, false));
    store.close().unwrap();

    let third = KeyRing::new(3, key(3))
        .with_older(2, key(2))
        .with_older(1, key(1));
    let store = connect(builder(Some(third)), &database.url());
    assert_eq!(taste(&store, &whole).as_deref(), Some(SECRETS[0]));
    database.sql(&format!(
        "DELETE FROM cloakroom_client WHERE {is_damaged}; DELETE FROM cloakroom_package WHERE {is_damaged}"
    ));
    let done = store.reseal(|_| ControlFlow::Continue(())).unwrap();
    assert!(done.is_complete);
    store.close().unwrap();
    let store = connect(builder(ring(3)), &database.url());
    assert_eq!(taste(&store, &whole).as_deref(), Some(SECRETS[0]));
}

#[test]
fn a_store_that_was_plain_is_encrypted_as_a_whole() {
    let Some(database) = database() else {
        return;
    };
    let plain = connect(builder(None), &database.url());
    let id = fill(&plain);
    plain.close().unwrap();
    assert!(SECRETS.iter().take(2).all(|it| shown(&database, it) > 0));
    let store = connect(builder(ring(1)), &database.url());
    let done = store.reseal(|_| ControlFlow::Continue(())).unwrap();
    assert!(done.is_complete);
    for secret in SECRETS {
        assert_eq!(shown(&database, secret), 0, "{secret}");
    }
    store.close().unwrap();
    let store = connect(builder(ring(1)), &database.url());
    assert_eq!(taste(&store, &id).as_deref(), Some(SECRETS[0]));
    assert_eq!(store.sessions_of(SECRETS[2]).unwrap().len(), 1);
}

// A process whose current key is another one would go on writing with that.
#[test]
fn no_process_with_another_current_key_writes_while_a_store_is_encrypted_again() {
    let Some(database) = database() else {
        return;
    };
    let first = || KeyRing::new(1, key(1)).with_older(2, key(2));
    let second = || KeyRing::new(2, key(2)).with_older(1, key(1));
    let plain = connect(builder(None), &database.url());
    let of_plain = visitor(&plain);
    let old = connect(builder(Some(first())), &database.url());
    let of_old = fill(&old);
    let new = connect(builder(Some(second())), &database.url());
    // Both still write.
    with(&plain, &again(&plain, &of_plain), |it| {
        it.pkg("app").insert("n", 2)
    });
    with(&old, &again(&old, &of_old), |it| {
        it.pkg("app").insert("n", 2)
    });

    new.reseal(|_| ControlFlow::Break(())).unwrap();
    let refused = |store: &Store, id: &ClientId| {
        let written = store.transact(|txn| txn.session(id)?.pkg("app").insert("n", 3));
        written.unwrap_err().kind()
    };
    assert_eq!(refused(&old, &of_old), ErrorKind::WrongKey);
    assert_eq!(refused(&plain, &of_plain), ErrorKind::WrongKey);
    let opened = pollster::block_on(builder(Some(first())).connect(&database.url()));
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::WrongKey);
    assert!(
        new.reseal(|_| ControlFlow::Continue(()))
            .unwrap()
            .is_complete
    );
    assert_eq!(refused(&old, &of_old), ErrorKind::WrongKey);
    assert_eq!(refused(&plain, &of_plain), ErrorKind::WrongKey);
    let later = visitor(&new);
    new.close().unwrap();

    let new = connect(builder(ring(2)), &database.url());
    let number = |id| with(&new, &again(&new, id), |it| it.pkg("app").get::<i64>("n"));
    assert_eq!(number(&of_plain), Some(2));
    assert_eq!(number(&of_old), Some(2));
    assert_eq!(number(&later), Some(1));
    assert!(new.check().unwrap().findings.is_empty());
    // Another ring is as good as before.
    new.close().unwrap();
    let old = connect(builder(Some(first())), &database.url());
    with(&old, &again(&old, &of_old), |it| {
        it.pkg("app").insert("n", 4)
    });
    assert_eq!(taste(&old, &of_old).as_deref(), Some(SECRETS[0]));
}

// What looked at the number of the settings before it changed may still write.
#[test]
fn a_commit_that_began_before_is_waited_for_and_encrypted_again() {
    let Some(database) = database() else {
        return;
    };
    let old = connect(builder(ring(1)), &database.url());
    let late = visitor(&old);
    database.sql(
        "CREATE TABLE saved AS SELECT client, version, past, seen, body, ended, owners, sweep_at, spilled
         FROM cloakroom_client;
         DELETE FROM cloakroom_client;
         CREATE TABLE released (one int)",
    );
    let early = visitor(&old);
    old.close().unwrap();
    let both = KeyRing::new(2, key(2)).with_older(1, key(1));
    let store = connect(builder(Some(both)), &database.url());
    thread::scope(|scope| {
        scope.spawn(|| {
            database.sql(
                "INSERT INTO cloakroom_client
                 (client, version, past, seen, body, ended, owners, sweep_at, spilled) SELECT * FROM saved;
                 DO $$ BEGIN
                 FOR n IN 1..6000 LOOP EXIT WHEN EXISTS (SELECT FROM released); PERFORM pg_sleep(0.01); END LOOP;
                 END $$",
            )
        });
        let is_there = |what: &str| database.sql(&format!("SELECT count(*) {what}")).trim() != "0";
        until("a commit is under way", || {
            is_there(
                "FROM pg_locks WHERE mode = 'RowExclusiveLock' AND relation = 'cloakroom_client'::regclass",
            )
        });
        let resealing = scope.spawn(|| store.reseal(|_| ControlFlow::Continue(())).unwrap());
        until("it is waited for", || {
            resealing.is_finished()
                || is_there(
                    "FROM pg_stat_activity WHERE application_name = 'cloakroom' AND query LIKE '%pg_locks l%'",
                )
        });
        database.sql("INSERT INTO released VALUES (1)");
        let done = resealing.join().unwrap();
        assert!(done.is_complete);
        assert_eq!((done.sessions, done.records), (2, 4));
    });
    store.close().unwrap();
    let new = connect(builder(ring(2)), &database.url());
    for id in [&early, &late] {
        let number = with(&new, &again(&new, id), |it| it.pkg("app").get::<i64>("n"));
        assert_eq!(number, Some(1));
    }
}

#[test]
fn two_processes_may_encrypt_again_with_the_same_key_at_the_same_time() {
    let Some(database) = database() else {
        return;
    };
    let old = connect(builder(ring(1)), &database.url());
    let ids: Vec<_> = (0..300).map(|_| visitor(&old)).collect();
    old.close().unwrap();
    let both = || {
        connect(
            builder(Some(KeyRing::new(2, key(2)).with_older(1, key(1)))),
            &database.url(),
        )
    };
    let (store, other) = (both(), both());
    let mut steps = 0;
    let done = store.reseal(|_| {
        steps += 1;
        if steps == 1 {
            let third = KeyRing::new(3, key(3))
                .with_older(2, key(2))
                .with_older(1, key(1));
            let refused = pollster::block_on(builder(Some(third)).connect(&database.url()));
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::WrongKey, "not yet");
            let done = other.reseal(|_| ControlFlow::Continue(())).unwrap();
            assert!(done.is_complete);
        }
        ControlFlow::Continue(())
    });
    assert!(done.unwrap().is_complete && steps > 1);
    drop((store, other));
    let new = connect(builder(ring(2)), &database.url());
    for id in &ids {
        let number = with(&new, &again(&new, id), |it| it.pkg("app").get::<i64>("n"));
        assert_eq!(number, Some(1));
    }
}

#[test]
fn each_process_needs_the_keys_and_a_new_key_leaves_the_old_one_of_use() {
    let Some(database) = database() else {
        return;
    };
    let store = connect(builder(ring(1)), &database.url());
    let id = fill(&store);
    for keys in [None, ring(2)] {
        let refused = pollster::block_on(builder(keys).connect(&database.url()));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::WrongKey);
    }
    let both = KeyRing::new(2, key(2)).with_older(1, key(1));
    let newer = connect(builder(Some(both)), &database.url());
    assert_eq!(taste(&newer, &id).as_deref(), Some(SECRETS[0]));
    // Rows of the new key need it.
    let refused = pollster::block_on(builder(ring(1)).connect(&database.url()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::WrongKey);
}

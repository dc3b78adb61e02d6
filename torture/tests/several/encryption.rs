//! Encryption at rest on a server: what its tables show, and which keys a process needs.

use crate::place::connect;
use crate::support::visitors::again;
use cloakroom::{ClientId, ErrorKind, KeyRing, Store, StoreBuilder};
use cloakroom_postgres_server::database;

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

#[test]
fn the_tables_of_an_encrypted_store_show_nothing_of_its_sessions() {
    let Some(database) = database() else {
        return;
    };
    let shown = |secret: &str| {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let search = format!(
            "SELECT (SELECT count(*) FROM cloakroom_client c WHERE strpos(c::text, '{hex}') > 0) + \
             (SELECT count(*) FROM cloakroom_package p WHERE strpos(p::text, '{hex}') > 0)"
        );
        database.sql(&search).trim().parse::<u32>().unwrap()
    };
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

//! C10.3: settings that another process changes. The tests change them in the engine, past the store.

use super::*;
use crate::clock::Clock;
use crate::container::ContainerSettings;
use crate::storage::{ContainerHome, ContainerSpec};
use std::time::Duration;

fn secrets(store: &Store) -> Vec<SecretRecord> {
    let settings = store.inner.env.storage.settings().wait();
    settings.unwrap().secrets.clone()
}

/// Another process adds a secret.
fn add(store: &Store, name: u8) {
    store.add_secret_elsewhere(name, [name; 32]);
}

fn names(store: &Store) -> Vec<u8> {
    secrets(store).iter().map(|secret| secret.0).collect()
}

// C4.2
#[test]
fn a_rotation_keeps_the_secret_that_another_process_adds_meanwhile() {
    let store = Store::in_memory().unwrap();
    let mut attempts = 0;
    let rotated = change(&store.inner.env, |secrets, _| {
        attempts += 1;
        if attempts == 1 {
            add(&store, 77);
        }
        secrets.push(SecretRecord(88, [88; 32], None));
        Ok(())
    });
    block_on(rotated).unwrap();
    assert_eq!(attempts, 2);
    assert_eq!(names(&store)[1..], [77, 88]);
}

// C4.2
#[test]
fn secrets_that_others_change_without_end_are_a_conflict() {
    let store = Store::builder().max_attempts(3).in_memory().unwrap();
    let mut attempts = 0;
    let rotated = change(&store.inner.env, |secrets, _| {
        attempts += 1;
        add(&store, attempts);
        secrets.push(SecretRecord(88, [88; 32], None));
        Ok(())
    });
    assert_eq!(block_on(rotated).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(attempts, 3);
    assert_eq!(names(&store)[1..], [1, 2, 3]);
}

#[test]
fn the_next_transaction_knows_the_secrets_and_containers_of_another_process() {
    let store = Store::in_memory().unwrap();
    add(&store, 77);
    let signed = ClientIds::new(Secret::from_key(77, [77; 32]), Vec::new()).issue();
    let change = SettingsChange::PutContainer(ContainerSpec {
        name: "cart".into(),
        home: ContainerHome::Durable,
        timeout_ms: 5000,
        resolution_ms: 0,
        max_lifetime_ms: None,
        implicit_sweeps: true,
    });
    let storage = &store.inner.env.storage;
    storage.configure(change).wait().unwrap();
    assert!(store.client_ids().verify(signed.as_str()).is_none());
    assert!(store.container("cart").is_err());
    for begun in [store.begin(), block_on(store.begin_async())] {
        begun.unwrap().container("cart").unwrap();
    }
    assert!(store.client_ids().verify(signed.as_str()).is_some());
    let settings = store.container("cart").unwrap().settings().unwrap();
    assert_eq!(settings.timeout, Duration::from_secs(5));
}

#[test]
fn older_settings_never_replace_newer_ones() {
    let store = Store::in_memory().unwrap();
    let env = &store.inner.env;
    let older = env.storage.settings().wait().unwrap();
    store.register("cart", ContainerSettings::new()).unwrap();
    env.show_settings(&older).unwrap();
    assert_eq!(store.container("cart").unwrap().name(), "cart");
}

#[test]
fn unknown_secrets_are_asked_for_once_a_second() {
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let learn = || block_on(store.learn_secrets()).unwrap();
    assert!(!learn(), "there is nothing new");
    add(&store, 77);
    assert!(!learn(), "the engine was asked just now");
    clock.advance(Duration::from_secs(1));
    assert!(learn());
    let signed = ClientIds::new(Secret::from_key(77, [77; 32]), Vec::new()).issue();
    assert!(store.client_ids().verify(signed.as_str()).is_some());
}

#[test]
fn verifying_an_id_learns_of_the_secret_that_another_process_made() {
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let signed_by = |name| {
        add(&store, name);
        ClientIds::new(Secret::from_key(name, [name; 32]), Vec::new()).issue()
    };
    let id = signed_by(77);
    assert!(store.client_ids().verify(id.as_str()).is_none());
    assert_eq!(store.verify(id.as_str()).unwrap(), Some(id.clone()));
    assert_eq!(store.client_ids().verify(id.as_str()), Some(id));
    let id = signed_by(78);
    let too_early = store.verify(id.as_str()).unwrap();
    assert_eq!(too_early, None, "the engine was asked just now");
    clock.advance(Duration::from_secs(1));
    let verified = block_on(store.verify_async(id.as_str())).unwrap();
    assert_eq!(verified, Some(id));
}

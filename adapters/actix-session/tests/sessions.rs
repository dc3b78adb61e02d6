//! The rules of sessions that are saved, updated, loaded and deleted.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use actix_session::storage::{
    LoadError, SessionKey, SessionStore as _, UpdateError, generate_session_key,
};
use actix_session_cloakroom::CloakroomSessionStore;
use actix_web::cookie::time;
use cloakroom::{Clock, Store};
use std::collections::HashMap;
use std::time::Duration;

const PACKAGE: &str = "actix-session";
const MINUTE: time::Duration = time::Duration::minutes(1);
const HOUR: time::Duration = time::Duration::hours(1);

type State = HashMap<String, String>;

struct House {
    clock: Clock,
    store: CloakroomSessionStore,
}

impl House {
    fn new() -> Self {
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
        Self {
            store: CloakroomSessionStore::new(store).unwrap(),
            clock,
        }
    }

    async fn saved(&self, entries: &[(&str, &str)]) -> SessionKey {
        self.store.save(state(entries), &HOUR).await.unwrap()
    }

    async fn load(&self, key: &SessionKey) -> Option<State> {
        self.store.load(key).await.unwrap()
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn bytes_written(&self) -> u64 {
        self.store.store().statistics().unwrap().bytes_written()
    }

    /// Changes the session as a transaction of cloakroom does.
    fn natively<T>(
        &self,
        key: &SessionKey,
        work: impl Fn(&cloakroom::Session) -> cloakroom::Result<T>,
    ) -> T {
        let store = self.store.store();
        let id = store.client_ids().verify(key.as_ref()).unwrap();
        store.transact(|txn| work(&txn.session(&id)?)).unwrap()
    }
}

fn state(entries: &[(&str, &str)]) -> State {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    entries.iter().map(owned).collect()
}

fn again(key: &SessionKey) -> SessionKey {
    key.as_ref().to_owned().try_into().unwrap()
}

#[actix_web::test]
async fn a_state_comes_back_as_it_was() {
    let house = House::new();
    for entries in [&[][..], &[("a", "1"), ("", ""), ("é", "{\"b\": [1e400]}")]] {
        let key = house.saved(entries).await;
        assert_eq!(house.load(&key).await, Some(state(entries)));
    }
}

#[actix_web::test]
async fn update_makes_the_state_what_it_is_given() {
    let house = House::new();
    let key = house
        .saved(&[("keep", "1"), ("change", "1"), ("remove", "1")])
        .await;
    let after = state(&[("keep", "1"), ("change", "2"), ("add", "3")]);
    let updated = house
        .store
        .update(again(&key), after.clone(), &HOUR)
        .await
        .unwrap();
    assert_eq!(updated, key);
    assert_eq!(house.load(&key).await, Some(after));
}

#[actix_web::test]
async fn loading_writes_nothing() {
    let house = House::new();
    let key = house.saved(&[("a", "1")]).await;
    let before = house.bytes_written();
    house.load(&key).await;
    assert_eq!(house.bytes_written(), before);
}

#[actix_web::test]
async fn a_session_ends_after_exactly_its_lifetime() {
    let house = House::new();
    let key = house
        .store
        .save(state(&[("a", "1")]), &MINUTE)
        .await
        .unwrap();
    house.advance(59);
    assert!(house.load(&key).await.is_some());
    house.store.update_ttl(&key, &MINUTE).await.unwrap();
    house.clock.advance(Duration::from_millis(59_999));
    assert!(house.load(&key).await.is_some());
    house.clock.advance(Duration::from_millis(1));
    assert!(house.load(&key).await.is_none());
    // One that has ended is not brought back by that.
    house.store.update_ttl(&key, &MINUTE).await.unwrap();
    assert!(house.load(&key).await.is_none());
}

#[actix_web::test]
async fn a_longer_lifetime_is_as_long_as_it_says() {
    let house = House::new();
    let key = house
        .store
        .save(state(&[("a", "1")]), &time::Duration::MAX)
        .await
        .unwrap();
    house.advance(100 * 365 * 24 * 3600);
    assert!(house.load(&key).await.is_some());
}

#[actix_web::test]
async fn a_session_that_expired_while_a_request_ran_is_saved_under_a_new_key() {
    let house = House::new();
    let key = house.saved(&[("a", "1"), ("b", "2")]).await;
    house.advance(3601);
    let after = state(&[("a", "3"), ("b", "2")]);
    let updated = house
        .store
        .update(again(&key), after.clone(), &HOUR)
        .await
        .unwrap();
    assert_ne!(updated, key);
    assert_eq!(house.load(&updated).await, Some(after));
    assert_eq!(house.load(&key).await, None);
}

#[actix_web::test]
async fn update_does_not_bring_a_deleted_session_back() {
    let house = House::new();
    let key = house.saved(&[("a", "1")]).await;
    house.store.delete(&key).await.unwrap();
    for late in [state(&[("a", "2")]), state(&[])] {
        let error = house
            .store
            .update(again(&key), late, &HOUR)
            .await
            .unwrap_err();
        assert!(matches!(error, UpdateError::Other(_)));
    }
    house.store.update_ttl(&key, &HOUR).await.unwrap();
    assert_eq!(house.load(&key).await, None);
    let statistics = house.store.store().container(PACKAGE).unwrap().statistics();
    assert_eq!(statistics.unwrap().live, 0);
}

#[actix_web::test]
async fn keys_that_are_not_signed_lead_nowhere() {
    let house = House::new();
    let key = house.saved(&[("a", "1")]).await;
    let forged = key
        .as_ref()
        .replacen(key.as_ref().get(..1).unwrap(), "-", 1);
    let rubbish = [
        "",
        "x",
        "\u{0}",
        "é",
        "../../etc/passwd",
        &"x".repeat(4064),
        &forged,
    ];
    for text in rubbish {
        let key: SessionKey = text.to_owned().try_into().unwrap();
        assert_eq!(house.load(&key).await, None, "{text:?}");
        house.store.update_ttl(&key, &HOUR).await.unwrap();
        house.store.delete(&key).await.unwrap();
        let updated = house
            .store
            .update(again(&key), state(&[("b", "1")]), &HOUR)
            .await
            .unwrap();
        assert_ne!(updated, key);
        assert_eq!(house.load(&key).await, None, "{text:?}");
    }
    assert_eq!(house.load(&generate_session_key()).await, None);
    assert_eq!(house.load(&key).await, Some(state(&[("a", "1")])));
}

// One store of two keys that are never the same.
#[actix_web::test]
async fn of_two_updates_at_one_moment_both_succeed_and_one_of_them_stands_whole() {
    let house = House::new();
    let key = house.saved(&[("n", "0")]).await;
    for _ in 0..50 {
        let (left, right) = (state(&[("left", "1")]), state(&[("right", "1")]));
        let update = |state: &State| house.store.update(again(&key), state.clone(), &HOUR);
        let threads: Vec<_> = [left.clone(), right.clone()]
            .map(|state| {
                let (store, key) = (house.store.clone(), again(&key));
                std::thread::spawn(move || {
                    actix_web::rt::System::new().block_on(async {
                        store.update(key, state, &HOUR).await.unwrap();
                    });
                })
            })
            .into_iter()
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        let stands = house.load(&key).await.unwrap();
        assert!(stands == left || stands == right, "{stands:?}");
        update(&state(&[("n", "0")])).await.unwrap();
    }
}

#[actix_web::test]
async fn what_is_no_text_is_an_error_that_leaves_the_session() {
    let house = House::new();
    let key = house.saved(&[("a", "1")]).await;
    house.natively(&key, |session| session.pkg(PACKAGE).insert("b", 7));
    // After `Deserialization`, the middleware would replace it by an empty session.
    let loaded = house.store.load(&key).await;
    assert!(matches!(loaded, Err(LoadError::Other(_))), "{loaded:?}");
}

#[actix_web::test]
async fn what_is_too_large_is_refused_and_loses_nothing() {
    let house = House::new();
    let key = house.saved(&[("a", "1")]).await;
    let large = state(&[("a", &"x".repeat(1 << 21))]);
    let error = house
        .store
        .update(again(&key), large.clone(), &HOUR)
        .await
        .unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("1048576"), "{source}");
    assert!(house.store.save(large, &HOUR).await.is_err());
    assert_eq!(house.load(&key).await, Some(state(&[("a", "1")])));
}

#[actix_web::test]
async fn packages_of_others_stay_and_end_with_the_session() {
    let house = House::new();
    let key = house.saved(&[("user", "\"ann\"")]).await;
    let user = |session: &cloakroom::Session| session.pkg(PACKAGE).get::<String>("user");
    assert_eq!(house.natively(&key, user).as_deref(), Some("\"ann\""));
    house.natively(&key, |session| session.pkg("cart").insert("tea", 2));
    house
        .store
        .update(again(&key), state(&[]), &HOUR)
        .await
        .unwrap();
    let tea = |session: &cloakroom::Session| session.pkg("cart").get::<u32>("tea");
    assert_eq!(house.natively(&key, tea), Some(2));
    house.store.delete(&key).await.unwrap();
    assert_eq!(house.natively(&key, tea), None);
}

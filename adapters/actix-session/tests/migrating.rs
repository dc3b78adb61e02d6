//! Moving sessions from another store, which fails when it is told to.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use actix_session::storage::{
    LoadError, SaveError, SessionKey, SessionStore, UpdateError, generate_session_key,
};
use actix_session_cloakroom::{CloakroomSessionStore, MigratingStore};
use actix_web::cookie::time::Duration;
use cloakroom::{Clock, Store};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

const HOUR: Duration = Duration::hours(1);

type State = HashMap<String, String>;

/// The old store. It deletes nothing while it is stubborn.
#[derive(Clone, Default)]
struct Old {
    sessions: Rc<RefCell<HashMap<String, State>>>,
    is_stubborn: Rc<Cell<bool>>,
}

impl Old {
    fn add(&self, state: &State) -> SessionKey {
        let key = generate_session_key();
        let mut sessions = self.sessions.borrow_mut();
        sessions.insert(key.as_ref().to_owned(), state.clone());
        key
    }

    fn has(&self, key: &SessionKey) -> bool {
        self.sessions.borrow().contains_key(key.as_ref())
    }
}

impl SessionStore for Old {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        Ok(self.sessions.borrow().get(key.as_ref()).cloned())
    }

    async fn save(&self, state: State, _: &Duration) -> Result<SessionKey, SaveError> {
        Ok(self.add(&state))
    }

    async fn update(
        &self,
        key: SessionKey,
        _: State,
        _: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        Ok(key)
    }

    async fn update_ttl(&self, _: &SessionKey, _: &Duration) -> Result<(), anyhow::Error> {
        Ok(())
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        anyhow::ensure!(!self.is_stubborn.get(), "not now");
        self.sessions.borrow_mut().remove(key.as_ref());
        Ok(())
    }
}

struct House {
    clock: Clock,
    old: Old,
    new: CloakroomSessionStore,
    store: MigratingStore<Old>,
}

impl House {
    fn new() -> Self {
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
        let (new, old) = (CloakroomSessionStore::new(store).unwrap(), Old::default());
        Self {
            clock,
            store: MigratingStore::new(new.clone(), old.clone(), HOUR),
            old,
            new,
        }
    }

    async fn load(&self, key: &SessionKey) -> Option<State> {
        self.store.load(key).await.unwrap()
    }
}

fn state(value: &str) -> State {
    [("user".to_owned(), value.to_owned())].into()
}

fn again(key: &SessionKey) -> SessionKey {
    key.as_ref().to_owned().try_into().unwrap()
}

#[actix_web::test]
async fn a_session_is_moved_when_it_is_loaded_and_keeps_its_key() {
    let house = House::new();
    let key = house.old.add(&state("ann"));
    assert_eq!(house.load(&key).await, Some(state("ann")));
    assert!(!house.old.has(&key));
    assert_eq!(house.load(&key).await, Some(state("ann")));
    let updated = house.store.update(again(&key), state("bob"), &HOUR).await;
    assert_eq!(updated.unwrap(), key);
    // When the old store is gone:
    let moved = house.new.clone().with_moved_keys();
    assert_eq!(moved.load(&key).await.unwrap(), Some(state("bob")));
    assert_eq!(house.new.load(&key).await.unwrap(), None);
}

#[actix_web::test]
async fn a_moved_session_lives_as_long_as_is_said() {
    let house = House::new();
    let key = house.old.add(&state("ann"));
    house.load(&key).await;
    house.clock.advance(std::time::Duration::from_secs(3599));
    assert!(house.load(&key).await.is_some());
    house.clock.advance(std::time::Duration::from_secs(1));
    assert!(house.load(&key).await.is_none());
}

#[actix_web::test]
async fn a_session_that_is_changed_unseen_is_moved_too() {
    let house = House::new();
    let key = house.old.add(&state("ann"));
    let updated = house.store.update(again(&key), state("bob"), &HOUR).await;
    assert_eq!(updated.unwrap(), key);
    assert!(!house.old.has(&key));
    assert_eq!(house.load(&key).await, Some(state("bob")));
    let other = house.old.add(&state("eve"));
    house
        .store
        .update_ttl(&other, &Duration::hours(2))
        .await
        .unwrap();
    assert!(!house.old.has(&other));
    house.clock.advance(std::time::Duration::from_secs(7199));
    assert_eq!(house.load(&other).await, Some(state("eve")));
}

#[actix_web::test]
async fn new_sessions_are_saved_in_the_new_store_only() {
    let house = House::new();
    let key = house.store.save(state("ann"), &HOUR).await.unwrap();
    assert!(house.old.sessions.borrow().is_empty());
    assert_eq!(house.new.load(&key).await.unwrap(), Some(state("ann")));
}

#[actix_web::test]
async fn what_the_old_store_did_not_delete_is_deleted_by_the_next_load() {
    let house = House::new();
    let key = house.old.add(&state("ann"));
    house.old.is_stubborn.set(true);
    for _ in 0..2 {
        assert!(house.load(&key).await.is_some());
        assert!(house.old.has(&key));
    }
    house.old.is_stubborn.set(false);
    assert!(house.load(&key).await.is_some());
    assert!(!house.old.has(&key));
}

#[actix_web::test]
async fn what_was_deleted_does_not_come_back_from_the_old_store() {
    let house = House::new();
    let key = house.old.add(&state("ann"));
    house.old.is_stubborn.set(true);
    assert!(house.store.delete(&key).await.is_err());
    assert!(house.old.has(&key));
    assert_eq!(house.load(&key).await, None);
    let late = house.store.update(again(&key), state("bob"), &HOUR).await;
    assert!(matches!(late, Err(UpdateError::Other(_))));
    house.old.is_stubborn.set(false);
    house.store.delete(&key).await.unwrap();
    assert!(!house.old.has(&key));
}

//! The rules of records that are created, saved, loaded and deleted.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use chrono::{DateTime, TimeDelta, Utc};
use cloakroom::{Clock, ContainerSettings, ErrorKind, Store};
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error, ExpiredDeletion};
use tower_sessions::{CachingSessionStore, MemoryStore, SessionStore};
use tower_sessions_cloakroom_store::CloakroomStore;

const PACKAGE: &str = "tower-sessions";

struct House {
    clock: Clock,
    store: CloakroomStore,
}

impl House {
    fn new() -> Self {
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
        Self {
            store: CloakroomStore::new(store).unwrap(),
            clock,
        }
    }

    fn in_an_hour(&self) -> OffsetDateTime {
        time_of(self.clock.now() + TimeDelta::hours(1))
    }

    fn record(&self, data: Value) -> Record {
        Record {
            id: Id::default(),
            data: serde_json::from_value(data).unwrap(),
            expiry_date: self.in_an_hour(),
        }
    }

    async fn created(&self, data: Value) -> Record {
        let mut record = self.record(data);
        self.store.create(&mut record).await.unwrap();
        record
    }

    async fn load(&self, record: &Record) -> Option<Record> {
        self.store.load(&record.id).await.unwrap()
    }

    fn commits(&self) -> u64 {
        self.store.store().statistics().unwrap().commits()
    }

    /// Changes the record's package as a layer of cloakroom would.
    fn natively<T>(
        &self,
        record: &Record,
        work: impl Fn(&cloakroom::Session) -> cloakroom::Result<T>,
    ) -> T {
        let store = self.store.store();
        let id = store.client_ids().adopt(record.id.to_string().as_bytes());
        let id = id.unwrap();
        store.transact(|txn| work(&txn.session(&id)?)).unwrap()
    }
}

fn time_of(time: DateTime<Utc>) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time.timestamp()).unwrap()
}

#[tokio::test]
async fn every_json_value_comes_back_as_it_was() {
    let house = House::new();
    let data = json!({
        "null": null, "yes": true, "big": u64::MAX, "small": i64::MIN, "real": 0.1, "whole": 1.0, "text": "é\u{0}",
        "list": [1, [], {}], "map": {"": {"a": [null]}}, "": "no name",
    });
    let record = house.created(data).await;
    assert_eq!(house.load(&record).await, Some(record));
}

#[tokio::test]
async fn a_record_without_data_is_there() {
    let house = House::new();
    let record = house.created(json!({})).await;
    assert_eq!(house.load(&record).await, Some(record));
    let saved = house.record(json!({}));
    house.store.save(&saved).await.unwrap();
    assert_eq!(house.load(&saved).await, Some(saved));
}

#[tokio::test]
async fn create_gives_another_id_where_one_is_live() {
    let house = House::new();
    let first = house.created(json!({"n": 1})).await;
    let mut second = Record {
        id: first.id,
        ..house.record(json!({"n": 2}))
    };
    house.store.create(&mut second).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(house.load(&first).await, Some(first));
    assert_eq!(house.load(&second).await, Some(second));
}

#[tokio::test]
async fn create_gives_another_id_where_one_was_just_deleted() {
    let house = House::new();
    let first = house.created(json!({"n": 1})).await;
    house.store.delete(&first.id).await.unwrap();
    let mut second = Record {
        id: first.id,
        ..house.record(json!({"n": 2}))
    };
    house.store.create(&mut second).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(house.load(&first).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_create_one_id_at_one_moment_each_gets_its_own() {
    let house = House::new();
    let template = house.record(json!({}));
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let store = house.store.clone();
            let mut record = template.clone();
            record.data.insert("n".to_owned(), n.into());
            tokio::spawn(async move {
                store.create(&mut record).await.unwrap();
                record
            })
        })
        .collect();
    let mut ids = std::collections::HashSet::new();
    for task in tasks {
        let record = task.await.unwrap();
        assert!(ids.insert(record.id));
        assert_eq!(house.load(&record).await, Some(record));
    }
    assert!(ids.contains(&template.id));
}

#[tokio::test]
async fn save_makes_the_record_what_it_is_given() {
    let house = House::new();
    let mut record = house
        .created(json!({"keep": 1, "change": 1, "remove": 1}))
        .await;
    record.data.remove("remove");
    record.data.insert("change".to_owned(), json!([2]));
    record.data.insert("add".to_owned(), json!("x"));
    record.expiry_date += time::Duration::hours(3);
    house.store.save(&record).await.unwrap();
    assert_eq!(house.load(&record).await, Some(record));
}

#[tokio::test]
async fn saving_what_is_stored_writes_nothing_and_neither_does_loading() {
    let house = House::new();
    let record = house.created(json!({"a": 1})).await;
    let written = |house: &House| house.store.store().statistics().unwrap().bytes_written();
    let before = (house.commits(), written(&house));
    house.store.save(&record).await.unwrap();
    house.load(&record).await;
    assert_eq!((house.commits(), written(&house)), before);
    let mut changed = record;
    changed.data.insert("a".to_owned(), json!(2));
    house.store.save(&changed).await.unwrap();
    assert_ne!(house.commits(), before.0);
}

#[tokio::test]
async fn save_does_not_bring_a_deleted_record_back() {
    let house = House::new();
    let record = house.created(json!({"a": 1})).await;
    house.store.delete(&record.id).await.unwrap();
    for data in [json!({"a": 2}), json!({})] {
        let late = Record {
            id: record.id,
            ..house.record(data)
        };
        let error = house.store.save(&late).await.unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "{error}");
    }
    assert_eq!(house.load(&record).await, None);
}

// A deletion that comes between the read and the commit of a save is met by the save's next attempt.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_save_and_a_deletion_at_one_moment_the_deletion_stands() {
    for _ in 0..50 {
        let house = House::new();
        let mut record = house.created(json!({"a": 1})).await;
        let (store, id) = (house.store.clone(), record.id);
        let deleting = tokio::spawn(async move { store.delete(&id).await.unwrap() });
        record.data.insert("a".to_owned(), json!(2));
        let _ = house.store.save(&record).await;
        deleting.await.unwrap();
        assert_eq!(house.load(&record).await, None);
    }
}

#[tokio::test]
async fn open_remembers_deletions_for_longer_than_a_request_takes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let store = CloakroomStore::open(&path).unwrap();
    let house = House::new();
    let mut record = house.record(json!({"a": 1}));
    record.expiry_date = OffsetDateTime::now_utc() + time::Duration::hours(2);
    store.create(&mut record).await.unwrap();
    store.delete(&record.id).await.unwrap();
    // The time of the system cannot be moved; the conflict says how long it lasts.
    let native = store.store().clone();
    let id = native
        .client_ids()
        .adopt(record.id.to_string().as_bytes())
        .unwrap();
    let error = native
        .transact(|txn| txn.session(&id)?.pkg(PACKAGE).insert("a", 1))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.retry_after().unwrap() > Duration::from_secs(3000));
}

#[tokio::test]
async fn a_record_ends_at_its_end_to_the_millisecond() {
    let house = House::new();
    let mut record = house.record(json!({"a": 1}));
    record.expiry_date += time::Duration::nanoseconds(7_999_999);
    house.store.create(&mut record).await.unwrap();
    assert_eq!(
        record.expiry_date,
        house.in_an_hour() + time::Duration::milliseconds(7)
    );
    house.clock.advance(Duration::from_millis(3_600_006));
    assert_eq!(house.load(&record).await, Some(record.clone()));
    house.clock.advance(Duration::from_millis(1));
    assert_eq!(house.load(&record).await, None);
}

#[tokio::test]
async fn a_record_whose_end_has_passed_is_not_there() {
    let house = House::new();
    let mut record = house.record(json!({"a": 1}));
    record.expiry_date -= time::Duration::hours(2);
    house.store.create(&mut record).await.unwrap();
    assert_eq!(house.load(&record).await, None);
    let mut record = house.created(json!({"a": 1})).await;
    record.expiry_date -= time::Duration::hours(2);
    house.store.save(&record).await.unwrap();
    assert_eq!(house.load(&record).await, None);
}

#[tokio::test]
async fn a_record_that_expired_while_a_request_ran_is_saved_whole() {
    let house = House::new();
    let mut record = house.created(json!({"a": 1, "b": 2})).await;
    house.clock.advance(Duration::from_secs(3601));
    record.data.insert("a".to_owned(), json!(3));
    record.expiry_date = house.in_an_hour();
    house.store.save(&record).await.unwrap();
    assert_eq!(house.load(&record).await, Some(record));
}

#[tokio::test]
async fn expired_records_are_deleted_and_no_others() {
    let house = House::new();
    for n in 0..100 {
        house.created(json!({"n": n})).await;
    }
    let mut lasting = house.record(json!({"n": 100}));
    lasting.expiry_date += time::Duration::hours(1);
    house.store.create(&mut lasting).await.unwrap();
    house.clock.advance(Duration::from_secs(3601));
    house.store.delete_expired().await.unwrap();
    let container = house.store.store().container(PACKAGE).unwrap();
    assert_eq!(container.sweep().unwrap().removed, 0);
    assert_eq!(house.load(&lasting).await, Some(lasting));
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_loses_nothing() {
    let house = House::new();
    let record = house.created(json!({"a": 1})).await;
    let long = "x".repeat(256);
    let many: serde_json::Map<_, _> = (0..1025).map(|n| (n.to_string(), json!(n))).collect();
    for data in [
        json!({long: 1}),
        json!({"a": "x".repeat(1 << 21)}),
        many.into(),
    ] {
        let large = Record {
            id: record.id,
            ..house.record(data.clone())
        };
        let error = house.store.save(&large).await.unwrap_err().to_string();
        assert!(
            error.contains("255") || error.contains("1024") || error.contains("1048576"),
            "{error}"
        );
        assert!(house.store.create(&mut house.record(data)).await.is_err());
    }
    assert_eq!(house.load(&record).await, Some(record));
}

#[tokio::test]
async fn what_is_no_json_is_an_error_and_no_empty_record() {
    let house = House::new();
    let record = house.created(json!({"a": 1})).await;
    let numbered = std::collections::BTreeMap::from([(7, "seven")]);
    house.natively(&record, |session| {
        session.pkg(PACKAGE).insert("by number", &numbered)
    });
    let loaded = house.store.load(&record.id).await;
    assert!(matches!(loaded, Err(Error::Decode(_))), "{loaded:?}");
}

#[tokio::test]
async fn a_layer_of_cloakroom_reads_and_writes_the_same_record() {
    let house = House::new();
    let mut record = house
        .created(json!({"user": {"id": 7, "name": "ann"}}))
        .await;
    #[derive(serde::Deserialize)]
    struct User {
        id: u32,
        name: String,
    }
    let user: User = house
        .natively(&record, |session| session.pkg(PACKAGE).get("user"))
        .unwrap();
    assert_eq!((user.id, &*user.name), (7, "ann"));
    house.natively(&record, |session| session.pkg(PACKAGE).insert("visits", 1));
    house.natively(&record, |session| session.pkg("cart").insert("tea", 2));
    record.data.insert("visits".to_owned(), json!(1));
    assert_eq!(house.load(&record).await, Some(record.clone()));
    // The packages of others stay when a record is saved, and end with it.
    record.data.clear();
    house.store.save(&record).await.unwrap();
    let tea =
        |house: &House| house.natively(&record, |session| session.pkg("cart").get::<u32>("tea"));
    assert_eq!(tea(&house), Some(2));
    house.store.delete(&record.id).await.unwrap();
    assert_eq!(tea(&house), None);
}

// A record without an end is only made by a layer of cloakroom.
#[tokio::test]
async fn a_session_without_an_end_is_loaded_and_saved() {
    let house = House::new();
    let mut record = house.created(json!({"a": 1})).await;
    house.natively(&record, |session| session.set_expires_at(None));
    let loaded = house.load(&record).await.unwrap();
    assert_eq!(loaded.expiry_date.year(), 9999);
    house.store.save(&loaded).await.unwrap();
    house.clock.advance(Duration::from_secs(7200));
    assert!(house.load(&record).await.is_some());
    record.expiry_date = house.in_an_hour();
    house.store.save(&record).await.unwrap();
    assert_eq!(house.load(&record).await, Some(record));
}

// A session that only a layer of cloakroom founded, under an id that the visitor brought, is nobody's record.
#[tokio::test]
async fn an_id_that_somebody_planted_leads_to_no_record() {
    let house = House::new();
    let planted = house.record(json!({}));
    house.natively(&planted, |session| session.pkg("cart").insert("tea", 2));
    assert_eq!(house.load(&planted).await, None);
}

#[tokio::test]
async fn an_idle_timeout_counts_the_loads() {
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    store.register(PACKAGE, ContainerSettings::new()).unwrap();
    let house = House {
        store: CloakroomStore::new(store).unwrap(),
        clock,
    };
    let mut record = house.record(json!({"a": 1}));
    record.expiry_date += time::Duration::days(1);
    house.store.create(&mut record).await.unwrap();
    for _ in 0..4 {
        house.clock.advance(Duration::from_secs(2000));
        assert!(house.load(&record).await.is_some());
    }
    house.clock.advance(Duration::from_secs(3601));
    assert_eq!(house.load(&record).await, None);
}

#[tokio::test]
async fn two_containers_of_one_store_are_two_stores() {
    let store = Store::in_memory().unwrap();
    let visitors = CloakroomStore::in_container(store.clone(), "visitors").unwrap();
    let staff = CloakroomStore::in_container(store, "staff").unwrap();
    let mut record = House::new().record(json!({"a": 1}));
    record.expiry_date = OffsetDateTime::now_utc() + time::Duration::hours(1);
    visitors.create(&mut record).await.unwrap();
    assert_eq!(staff.load(&record.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_cache_in_front_sees_what_is_behind() {
    let house = House::new();
    let cached = CachingSessionStore::new(MemoryStore::default(), house.store.clone());
    let mut record = house.record(json!({"a": 1}));
    record.expiry_date = OffsetDateTime::now_utc() + time::Duration::hours(1);
    cached.create(&mut record).await.unwrap();
    record.data.insert("a".to_owned(), json!(2));
    cached.save(&record).await.unwrap();
    assert_eq!(
        house.store.load(&record.id).await.unwrap(),
        cached.load(&record.id).await.unwrap()
    );
    cached.delete(&record.id).await.unwrap();
    assert_eq!(cached.load(&record.id).await.unwrap(), None);
}

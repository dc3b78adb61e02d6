//! Moving sessions from another store: one that fails when it is told to, and that of SQLite.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

#[cfg(feature = "core-014")]
#[path = "../examples/import_sqlite.rs"]
mod import_sqlite;

use async_trait::async_trait;
use cloakroom::Store;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use time::{Duration, OffsetDateTime};
use tokio::sync::Barrier;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error, Result};
use tower_sessions::{MemoryStore, SessionStore};
use tower_sessions_cloakroom_store::{CloakroomStore, MigratingStore};

/// The old store. It deletes nothing while it is stubborn, and of what was loaded it tells after the meeting.
#[derive(Clone, Debug, Default)]
struct Old {
    records: MemoryStore,
    is_stubborn: Arc<AtomicBool>,
    meeting: Option<Arc<Barrier>>,
}

#[async_trait]
impl SessionStore for Old {
    async fn save(&self, record: &Record) -> Result<()> {
        self.records.save(record).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let loaded = self.records.load(id).await;
        if let Some(meeting) = &self.meeting {
            meeting.wait().await;
        }
        loaded
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        if self.is_stubborn.load(Ordering::Relaxed) {
            return Err(Error::Backend("not now".to_owned()));
        }
        self.records.delete(id).await
    }
}

struct House {
    old: Old,
    new: CloakroomStore,
}

impl House {
    fn new() -> Self {
        Self {
            old: Old::default(),
            new: CloakroomStore::new(Store::in_memory().unwrap()).unwrap(),
        }
    }

    fn store(&self) -> MigratingStore<Old> {
        MigratingStore::new(self.new.clone(), self.old.clone())
    }

    async fn old_record(&self) -> Record {
        let record = record();
        self.old.records.save(&record).await.unwrap();
        record
    }

    async fn is_in_old(&self, record: &Record) -> bool {
        self.old.records.load(&record.id).await.unwrap().is_some()
    }

    async fn in_new(&self, record: &Record) -> Option<Record> {
        self.new.load(&record.id).await.unwrap()
    }
}

fn record() -> Record {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    Record {
        id: Id::default(),
        data: serde_json::from_value(json!({"user": "ann", "cart": [1, 2]})).unwrap(),
        expiry_date: now + Duration::hours(1),
    }
}

#[tokio::test]
async fn a_record_is_moved_whole_when_it_is_loaded() {
    let house = House::new();
    let record = house.old_record().await;
    let loaded = house.store().load(&record.id).await.unwrap();
    assert_eq!(loaded.as_ref(), Some(&record));
    assert!(!house.is_in_old(&record).await);
    assert_eq!(house.in_new(&record).await.as_ref(), Some(&record));
    assert_eq!(house.store().load(&record.id).await.unwrap(), Some(record));
    assert_eq!(house.store().load(&Id::default()).await.unwrap(), None);
}

#[tokio::test]
async fn new_records_are_created_in_the_new_store_only() {
    let house = House::new();
    let mut record = record();
    house.store().create(&mut record).await.unwrap();
    assert!(!house.is_in_old(&record).await);
    assert_eq!(house.in_new(&record).await, Some(record));
}

// Else the old store's copy would come back once the new one has expired.
#[tokio::test]
async fn a_record_that_is_saved_unseen_is_moved_too() {
    let house = House::new();
    let mut record = house.old_record().await;
    record.data.remove("cart");
    house.store().save(&record).await.unwrap();
    assert!(!house.is_in_old(&record).await);
    assert_eq!(house.in_new(&record).await, Some(record));
}

#[tokio::test]
async fn what_the_old_store_did_not_delete_is_deleted_by_the_next_load() {
    let house = House::new();
    let record = house.old_record().await;
    house.old.is_stubborn.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        assert!(house.store().load(&record.id).await.unwrap().is_some());
        assert!(house.is_in_old(&record).await);
    }
    house.old.is_stubborn.store(false, Ordering::Relaxed);
    assert!(house.store().load(&record.id).await.unwrap().is_some());
    assert!(!house.is_in_old(&record).await);
    // Once that is done, the old store is not asked again.
    house.old.records.save(&record).await.unwrap();
    assert!(house.store().load(&record.id).await.unwrap().is_some());
    assert!(house.is_in_old(&record).await);
}

#[tokio::test]
async fn a_deletion_that_the_old_store_refuses_is_an_error_and_leads_to_no_session() {
    let house = House::new();
    let record = house.old_record().await;
    house.old.is_stubborn.store(true, Ordering::Relaxed);
    assert!(house.store().delete(&record.id).await.is_err());
    assert_eq!(house.store().load(&record.id).await.unwrap(), None);
}

#[tokio::test]
async fn of_a_load_and_a_deletion_at_one_moment_the_deletion_stands() {
    let mut house = House::new();
    let record = house.old_record().await;
    let meeting = Arc::new(Barrier::new(2));
    house.old.meeting = Some(Arc::clone(&meeting));
    let (store, id) = (house.store(), record.id);
    // It has the record from the old store, and waits.
    let loading = tokio::spawn(async move { store.load(&id).await.unwrap() });
    tokio::task::yield_now().await;
    house.old.meeting = None;
    house.store().delete(&record.id).await.unwrap();
    meeting.wait().await;
    assert_eq!(loading.await.unwrap(), None);
    assert_eq!(house.in_new(&record).await, None);
}

#[tokio::test]
async fn of_two_loads_at_one_moment_both_find_the_record() {
    let mut house = House::new();
    let record = house.old_record().await;
    house.old.meeting = Some(Arc::new(Barrier::new(2)));
    let (left, right) = (house.store(), house.store());
    let (left, right) = tokio::join!(left.load(&record.id), right.load(&record.id));
    assert_eq!(left.unwrap().as_ref(), Some(&record));
    assert_eq!(right.unwrap().as_ref(), Some(&record));
    assert_eq!(house.in_new(&record).await, Some(record));
}

#[cfg(feature = "core-014")]
mod sqlite {
    use super::{CloakroomStore, MigratingStore, Store, import_sqlite};
    use time::{Duration, OffsetDateTime};
    use tower_sessions_014::SessionStore as _;
    use tower_sessions_014::session::{Id, Record};
    use tower_sessions_014::session_store::ExpiredDeletion as _;
    use tower_sessions_sqlx_store::{SqliteStore, sqlx::SqlitePool};

    async fn old(file: &std::path::Path) -> SqliteStore {
        let url = format!("sqlite://{}?mode=rwc", file.display());
        let store = SqliteStore::new(SqlitePool::connect(&url).await.unwrap());
        store.migrate().await.unwrap();
        store
    }

    fn record(user: &str, lives: Duration) -> Record {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
        Record {
            id: Id::default(),
            data: [("user".to_owned(), user.into())].into(),
            expiry_date: now + lives,
        }
    }

    #[tokio::test]
    async fn sessions_of_sqlite_are_moved_as_they_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let old = old(&folder.path().join("old.sqlite")).await;
        let mut ann = record("ann", Duration::hours(1));
        old.create(&mut ann).await.unwrap();
        let new = CloakroomStore::new(Store::in_memory().unwrap()).unwrap();
        let store = MigratingStore::new(new.clone(), old.clone());
        assert_eq!(store.load(&ann.id).await.unwrap().as_ref(), Some(&ann));
        assert_eq!(old.load(&ann.id).await.unwrap(), None);
        assert_eq!(new.load(&ann.id).await.unwrap(), Some(ann));
        store.delete_expired().await.unwrap();
    }

    #[tokio::test]
    async fn all_sessions_of_sqlite_are_imported_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (
            folder.path().join("old.sqlite"),
            folder.path().join("new.redb"),
        );
        let old = old(&from).await;
        let mut live = Vec::new();
        for n in 0..40 {
            let mut record = record(&n.to_string(), Duration::hours(1));
            old.create(&mut record).await.unwrap();
            live.push(record);
        }
        let mut expired = record("late", Duration::seconds(-5));
        old.create(&mut expired).await.unwrap();
        // As the program does it that is in the guide.
        let imported = import_sqlite::import(from.to_str().unwrap(), to.to_str().unwrap()).await;
        assert_eq!(imported.unwrap(), 40);
        let new = CloakroomStore::open(&to).unwrap();
        for record in live {
            assert_eq!(new.load(&record.id).await.unwrap().as_ref(), Some(&record));
            assert_eq!(old.load(&record.id).await.unwrap(), None);
        }
        assert_eq!(new.load(&expired.id).await.unwrap(), None);
    }
}

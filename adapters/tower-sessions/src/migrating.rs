//! Moving from another store.

use crate::CloakroomStore;

/// A store that takes records over from another one as they are used, so that nobody is logged out when an application
/// changes its store.
///
/// A record that is not here is looked for in the old store. If it is there, it is moved: it is stored here under the same
/// id, with the same data and the same end, and then deleted from the old store. New records are created here only.
/// Other requests, restarts and deletions may happen while a record is moved: it is never there twice. If the old store
/// refuses to delete a record, `delete` returns an error although the record has ended here. Repeat it: otherwise the old
/// store's copy comes back once the [`tombstone_lifetime`](cloakroom::StoreBuilder::tombstone_lifetime) has passed.
///
/// Once the longest lifetime of a session has passed, the old store holds nothing that is live. Then use
/// [`CloakroomStore`] alone. To move all records at once, load each id.
///
/// ```
/// use cloakroom::Store;
/// use tower_sessions::session::{Id, Record};
/// use tower_sessions::{MemoryStore, SessionStore};
/// use tower_sessions_cloakroom_store::{CloakroomStore, MigratingStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let old = MemoryStore::default(); // or that of SQLite, Postgres, Redis, …
/// let mut record = Record {
///     id: Id::default(),
///     data: [("user".to_owned(), "ann".into())].into(),
///     expiry_date: time::OffsetDateTime::now_utc() + time::Duration::weeks(2),
/// };
/// old.create(&mut record).await?;
///
/// let new = CloakroomStore::new(Store::in_memory()?)?;
/// let store = MigratingStore::new(new.clone(), old.clone());
/// let moved = store.load(&record.id).await?.unwrap();
/// assert_eq!(moved.data["user"], "ann");
/// assert!(new.load(&record.id).await?.is_some());
/// assert!(old.load(&record.id).await?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MigratingStore<Old> {
    pub(crate) store: CloakroomStore,
    pub(crate) old: Old,
}

impl<Old> MigratingStore<Old> {
    /// Moves records from `old` to `store` as they are used.
    pub fn new(store: CloakroomStore, old: Old) -> Self {
        Self { store, old }
    }
}

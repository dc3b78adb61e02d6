//! The two stores, and what is measured of them.

use super::place::Place;
use super::{TOWER, Work};
use crate::engines::tower_sessions::{id, record};
use crate::payload::{Dice, KEY, PACKAGES, Pick, sized_value};
use anyhow::{Context, Result, ensure};
use cloakroom::{ClientId, Store, Transaction};
use std::sync::Arc;
use std::time::Duration;
use tower_sessions::SessionStore;
use tower_sessions::session::Record;
use tower_sessions_sqlx_store::PostgresStore;
use tower_sessions_sqlx_store::sqlx::postgres::PgPoolOptions;

pub(super) const OURS: &str = "cloakroom-postgres";
/// Connections of either store: the default of ours.
pub(super) const CONNECTIONS: u32 = 16;
/// So many sessions are founded at once.
const FOUNDERS: usize = 64;

/// A store with its sessions.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) store: SideStore,
    pub(super) sessions: usize,
    bytes: usize,
}

#[derive(Clone)]
pub(super) enum SideStore {
    Ours(Store, Arc<Vec<ClientId>>),
    Tower(PostgresStore),
}

/// A change that is ready to be committed.
pub(super) enum PreparedChange {
    Ours(Transaction),
    Tower(PostgresStore, Record),
}

impl Side {
    /// Our store, with so many sessions.
    pub(super) async fn ours(place: &Place<'_>, sessions: usize, bytes: usize) -> Result<Self> {
        let store = place.builder()?.connect(&place.url()).await?;
        let founding = store.clone();
        let found = move |number| found(founding.clone(), number, bytes, None);
        let ids = Arc::new(fill(sessions, found).await?);
        Ok(Self {
            store: SideStore::Ours(store, ids),
            sessions,
            bytes,
        })
    }

    /// The store of tower-sessions, with so many sessions.
    pub(super) async fn tower(place: &Place<'_>, sessions: usize, bytes: usize) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS);
        let store = PostgresStore::new(pool.connect(&place.tower_url()).await?);
        store.migrate().await?;
        let saving = store.clone();
        let save = move |number| {
            let store = saving.clone();
            async move { Ok(store.save(&sized_record(number, bytes)).await?) }
        };
        fill(sessions, save).await?;
        Ok(Self {
            store: SideStore::Tower(store),
            sessions,
            bytes,
        })
    }

    pub(super) fn name(&self) -> &'static str {
        match self.store {
            SideStore::Ours(..) => OURS,
            SideStore::Tower(..) => TOWER,
        }
    }

    /// Opens a transaction on some session, reads what the work reads, and changes what it changes.
    pub(super) async fn prepare(&self, work: Work, dice: &mut Dice) -> Result<PreparedChange> {
        let [changed, _] = PACKAGES;
        let session = dice.pick(Pick::Uniform, self.sessions);
        let mut new = || sized_value_of(dice, self.bytes);
        match &self.store {
            SideStore::Ours(store, ids) => {
                let known = ids.get(session).context("no such session")?;
                let txn = store.begin_async().await?;
                let session = txn.session_async(known).await?;
                if work != Work::Commit {
                    for package in PACKAGES {
                        let value: Option<String> = session.pkg(package).get(KEY)?;
                        ensure!(value.is_some(), "a session without a package");
                    }
                }
                if work != Work::Load {
                    session.pkg(changed).insert(KEY, new())?;
                }
                Ok(PreparedChange::Ours(txn))
            }
            // A session of tower-sessions is loaded whole and saved whole.
            SideStore::Tower(store) => {
                let mut whole = match work {
                    Work::Commit => sized_record(session, self.bytes),
                    _ => {
                        let loaded = store.load(&id(session)).await?;
                        loaded.context("no such session")?
                    }
                };
                let packages = whole.data.len();
                ensure!(packages == PACKAGES.len(), "a session without a package");
                if work != Work::Load {
                    whole.data.insert(changed.to_owned(), new().into());
                }
                Ok(PreparedChange::Tower(store.clone(), whole))
            }
        }
    }
}

impl PreparedChange {
    pub(super) async fn finish(self, work: Work) -> Result<()> {
        match self {
            Self::Ours(txn) => Ok(txn.commit_async().await?),
            Self::Tower(..) if work == Work::Load => Ok(()),
            Self::Tower(store, record) => Ok(store.save(&record).await?),
        }
    }
}

/// A session as it is before anything is changed.
pub(super) fn sized_record(session: usize, bytes: usize) -> Record {
    let mut record = record(session);
    for (package, value) in &mut record.data {
        *value = first_value(session, package, bytes).into();
    }
    record
}

fn first_value(session: usize, package: &str, bytes: usize) -> String {
    let seed = session as u64 ^ ((package.len() as u64) << 40);
    sized_value(Dice::new(seed).roll(), bytes)
}

/// Some new value.
pub(super) fn sized_value_of(dice: &mut Dice, bytes: usize) -> String {
    sized_value(dice.roll(), bytes)
}

/// Founds a session, and gives its id as a later request brings it.
pub(super) async fn found(
    store: Store,
    number: usize,
    bytes: usize,
    timeout: Option<Duration>,
) -> Result<ClientId> {
    let id = store.client_ids().issue();
    let txn = store.begin_async().await?;
    let session = txn.session_async(&id).await?;
    for package in PACKAGES {
        let value = first_value(number, package, bytes);
        session.pkg(package).insert(KEY, value)?;
    }
    if timeout.is_some() {
        session.set_timeout(timeout)?;
    }
    txn.commit_async().await?;
    let known = store.client_ids().verify(id.as_str());
    known.context("an id of another store")
}

/// Makes sessions, many at once, and gives what came of each.
pub(super) async fn fill<T, F>(sessions: usize, make: impl Fn(usize) -> F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut made = Vec::with_capacity(sessions);
    let mut making = tokio::task::JoinSet::new();
    for number in 0..sessions {
        making.spawn(make(number));
        if making.len() == FOUNDERS {
            made.push(making.join_next().await.context("none is left")???);
        }
    }
    while let Some(one) = making.join_next().await {
        made.push(one??);
    }
    Ok(made)
}

//! Moving from another store.

use crate::{CloakroomSessionStore, State};
use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use actix_web::cookie::time::Duration;
use cloakroom::{ClientId, Result};

/// The package that notes that a session was moved here from another store, which may still have it.
const MOVED: &str = "moved";
/// Its only key.
const FROM: &str = "from";

/// A store that takes sessions over from another one as they are used, so that nobody is logged out when an application
/// changes its store.
///
/// A session that is not here is looked for in the old store. If it is there, it is moved: it is stored here under the same
/// key, and then deleted from the old store. New sessions are stored here only. The interface of actix-session does not
/// tell when a session of the old store ends, so a session that is moved lives as long as is given here, until it changes.
/// If the old store refuses to delete a session, `delete` returns an error although the session has ended here. Repeat it:
/// otherwise the old store's copy comes back once the [`tombstone_lifetime`](cloakroom::StoreBuilder::tombstone_lifetime)
/// has passed.
///
/// Once the longest lifetime of a session has passed, the old store holds nothing that is live. Then use
/// [`CloakroomSessionStore::with_moved_keys`] alone.
///
/// ```no_run
/// use actix_session::storage::RedisSessionStore;
/// use actix_session_cloakroom::{CloakroomSessionStore, MigratingStore};
/// use actix_web::cookie::time::Duration;
///
/// # async fn store() -> Result<(), Box<dyn std::error::Error>> {
/// let old = RedisSessionStore::new("redis://127.0.0.1:6379").await?;
/// let new = CloakroomSessionStore::open("sessions.redb")?;
/// let store = MigratingStore::new(new, old, Duration::days(1)); // the state_ttl of the middleware
/// # drop(store);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MigratingStore<Old> {
    store: CloakroomSessionStore,
    old: Old,
    ttl: Duration,
}

/// What became of moving a session.
#[derive(PartialEq, Eq)]
enum Move {
    Done,
    /// There is one already, or one that was deleted a moment ago.
    Taken,
}

impl<Old: SessionStore> MigratingStore<Old> {
    /// Moves sessions from `old` to `store` as they are used. A session that is moved lives for `ttl` from then on.
    pub fn new(store: CloakroomSessionStore, old: Old, ttl: Duration) -> Self {
        Self {
            store: store.with_moved_keys(),
            old,
            ttl,
        }
    }

    async fn move_here(&self, id: &ClientId, state: &State) -> Result<Move> {
        let (to, ttl) = (&self.store, &self.ttl);
        let moved = to
            .store
            .transact_async(move |txn| async move {
                let (held, package) = to.held(&txn, id).await?;
                if held.session().exists()? {
                    return Ok(Move::Taken);
                }
                for (key, value) in state {
                    package.insert(key, value)?;
                }
                held.pkg(MOVED).insert(FROM, true)?;
                held.session().set_expires_at(Some(to.end(ttl)))?;
                Ok::<_, cloakroom::Error>(Move::Done)
            })
            .await;
        match moved {
            Err(error) if error.is_conflict() => Ok(Move::Taken),
            moved => moved,
        }
    }

    /// Deletes what was moved from the old store. If that fails, the next load tries again.
    async fn finish(&self, id: &ClientId, key: &SessionKey) {
        if let Err(error) = self.old.delete(key).await {
            tracing::warn!(%error, "a session was moved, but could not be deleted from the old store");
            return;
        }
        let to = &self.store;
        let forgotten: Result<()> = to
            .store
            .transact_async(move |txn| async move {
                let (held, _) = to.held(&txn, id).await?;
                held.pkg(MOVED).remove(FROM)?;
                Ok(())
            })
            .await;
        if let Err(error) = forgotten {
            tracing::warn!(%error, "a session was moved, but that could not be noted");
        }
    }

    /// Whether the old store may still have a session that is here.
    async fn is_elsewhere(&self, id: &ClientId) -> Result<bool> {
        let txn = self.store.store.begin_async().await?;
        let (held, _) = self.store.held(&txn, id).await?;
        held.pkg(MOVED).contains_key(FROM)
    }
}

fn other(error: cloakroom::Error) -> LoadError {
    LoadError::Other(error.into())
}

impl<Old: SessionStore> SessionStore for MigratingStore<Old> {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        let Some(id) = self.store.client(key) else {
            return Ok(None);
        };
        if let Some(state) = self.store.read(&id).await.map_err(other)? {
            if self.is_elsewhere(&id).await.map_err(other)? {
                self.finish(&id, key).await;
            }
            return Ok(Some(state));
        }
        let Some(state) = self.old.load(key).await? else {
            return Ok(None);
        };
        if self.move_here(&id, &state).await.map_err(other)? == Move::Taken {
            // Another request has moved it, or has deleted it since.
            return self.store.load(key).await;
        }
        self.finish(&id, key).await;
        Ok(Some(state))
    }

    async fn save(&self, state: State, ttl: &Duration) -> Result<SessionKey, SaveError> {
        self.store.save(state, ttl).await
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        // Moves the session if it is still in the old store.
        let moved = self.load(&key).await;
        moved.map_err(|error| UpdateError::Other(error.into()))?;
        self.store.update(key, state, ttl).await
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> anyhow::Result<()> {
        self.load(key).await?;
        self.store.update_ttl(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        // Moves the session if it is still in the old store: a request that is moving it meets its end then.
        self.load(key).await?;
        self.store.delete(key).await?;
        self.old.delete(key).await
    }
}

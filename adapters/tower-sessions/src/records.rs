//! Records as sessions of a store. Knows no version of tower-sessions.

use crate::CloakroomStore;
use chrono::{DateTime, Utc};
use cloakroom::{ClientId, PkgData, Result, Session, SessionData, Txn};
use serde_json::Value;
use std::collections::HashMap;

/// What a record holds, in every version of tower-sessions.
pub(crate) type Data = HashMap<String, Value>;

/// The package that notes that a record was moved here from another store, which still has it.
const MOVED: &str = "moved";
/// Its only key.
const FROM: &str = "from";

/// A record without its id.
pub(crate) struct Contents {
    pub(crate) data: Data,
    pub(crate) end: Option<DateTime<Utc>>,
}

/// Whether a record could be put under its id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Creation {
    Done,
    /// The id has a session, or one that ended a moment ago.
    Taken,
}

/// Where else a record is that is created.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    New,
    OtherStore,
}

/// A record in a transaction.
struct Held {
    in_container: SessionData,
    package: PkgData,
}

impl Held {
    fn session(&self) -> &Session {
        self.in_container.session()
    }

    fn moved(&self) -> PkgData {
        self.in_container.pkg(MOVED)
    }

    /// Makes the session hold exactly these values, and end then. What is so already is not written.
    fn set(&self, data: &Data, end: DateTime<Utc>) -> Result<()> {
        // Before anything is changed, no other container is read for it.
        let ends_at = self.in_container.expires_at()?;
        self.package.replace(data)?;
        if ends_at != Some(end) {
            self.session().set_expires_at(Some(end))?;
        }
        Ok(())
    }
}

impl CloakroomStore {
    /// The text of an id, which is its cookie, is the client's id: so a layer of cloakroom finds the session by the same
    /// cookie.
    fn client(&self, id: &str) -> Result<ClientId> {
        self.store.client_ids().adopt(id.as_bytes())
    }

    async fn held(&self, txn: &Txn, id: &ClientId) -> Result<Held> {
        let container = txn.container(&self.container)?;
        let in_container = container.session_data_async(id).await?;
        Ok(Held {
            package: in_container.pkg(&self.container),
            in_container,
        })
    }

    /// Puts a record under its id, unless the id is taken.
    pub(crate) async fn create_contents(
        &self,
        id: &str,
        data: &Data,
        end: DateTime<Utc>,
        origin: Origin,
    ) -> Result<Creation> {
        let id = &self.client(id)?;
        let created: Result<_> = self
            .store
            .transact_async(move |txn| async move {
                let held = self.held(&txn, id).await?;
                if held.session().exists()? {
                    return Ok(Creation::Taken);
                }
                held.set(data, end)?;
                if origin == Origin::OtherStore {
                    held.moved().insert(FROM, true)?;
                }
                Ok(Creation::Done)
            })
            .await;
        match created {
            // It ended a moment ago, or others change it all the time.
            Err(error) if error.is_conflict() => Ok(Creation::Taken),
            created => created,
        }
    }

    /// Makes a record hold exactly this. A conflict if it was deleted a moment ago.
    pub(crate) async fn save_contents(
        &self,
        id: &str,
        data: &Data,
        end: DateTime<Utc>,
    ) -> Result<()> {
        let id = &self.client(id)?;
        let saved = self.store.transact_async(move |txn| async move {
            let held = self.held(&txn, id).await?;
            // An observation: a record that is deleted meanwhile does not come back.
            held.in_container.exists()?;
            held.set(data, end)
        });
        saved.await
    }

    pub(crate) async fn load_contents(&self, id: &str) -> Result<Option<Contents>> {
        let id = self.client(id)?;
        let txn = self.store.begin_async().await?;
        let held = self.held(&txn, &id).await?;
        let contents = if held.in_container.exists()? {
            Some(Contents {
                data: held.package.entries()?.into_iter().collect(),
                end: held.in_container.expires_at()?,
            })
        } else {
            None
        };
        // Where the session has a timeout too, this records the access.
        txn.commit_async().await?;
        Ok(contents)
    }

    pub(crate) async fn delete_session(&self, id: &str) -> Result<()> {
        let id = &self.client(id)?;
        let deleted = self.store.transact_async(move |txn| async move {
            let session = txn.session_async(id).await?;
            session.destroy()
        });
        deleted.await
    }

    /// Whether another store may still have a record that is here.
    pub(crate) async fn is_elsewhere(&self, id: &str) -> Result<bool> {
        let id = self.client(id)?;
        let txn = self.store.begin_async().await?;
        self.held(&txn, &id).await?.moved().contains_key(FROM)
    }

    /// Notes that no other store has the record any more.
    pub(crate) async fn forget_origin(&self, id: &str) -> Result<()> {
        let id = &self.client(id)?;
        let forgotten = self.store.transact_async(move |txn| async move {
            let held = self.held(&txn, id).await?;
            held.moved().remove(FROM)?;
            Ok(())
        });
        forgotten.await
    }

    pub(crate) async fn sweep(&self) -> Result<()> {
        let swept = self.store.container(&self.container)?.sweep_async().await?;
        if swept.unreadable > 0 {
            tracing::warn!(swept.unreadable, "damaged sessions were not swept");
        }
        Ok(())
    }
}

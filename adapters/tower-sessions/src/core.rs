//! The traits of tower-sessions, once for each version of its core.

use chrono::{DateTime, Utc};
use cloakroom::{Error, ErrorKind};
use time::{OffsetDateTime, PrimitiveDateTime};

/// How often an id is drawn for a record before its creation fails. Ids have 128 random bits.
const DRAWS: usize = 8;

/// What became of a call, in no version's terms.
pub(crate) enum Failure {
    Encode(String),
    Decode(String),
    Backend(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error.kind() {
            ErrorKind::NotSerializable => Self::Encode(text),
            ErrorKind::TypeMismatch | ErrorKind::Corrupt => Self::Decode(text),
            _ => Self::Backend(text),
        }
    }
}

/// The end of a record in whole milliseconds, never later than it says.
pub(crate) fn end_of(expiry_date: OffsetDateTime) -> DateTime<Utc> {
    let millis = expiry_date.unix_timestamp_nanos().div_euclid(1_000_000);
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The end as tower-sessions has it. A session without one, which only a layer of cloakroom makes, ends in the last
/// year that it knows.
pub(crate) fn expiry_date(end: Option<DateTime<Utc>>) -> OffsetDateTime {
    let nanos = end.map(|end| i128::from(end.timestamp_millis()) * 1_000_000);
    let date = nanos.and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok());
    date.unwrap_or(PrimitiveDateTime::MAX.assume_utc())
}

/// Implements the traits for one version.
macro_rules! implement {
    ($core:ident) => {
        use super::{DRAWS, Failure, end_of, expiry_date};
        use crate::records::{Contents, Creation, Origin};
        use crate::{CloakroomStore, MigratingStore};
        use $core::SessionStore;
        use $core::session::{Id, Record};
        use $core::session_store::{Error, ExpiredDeletion, Result};
        use async_trait::async_trait;

        impl From<Failure> for Error {
            fn from(failure: Failure) -> Self {
                match failure {
                    Failure::Encode(text) => Self::Encode(text),
                    Failure::Decode(text) => Self::Decode(text),
                    Failure::Backend(text) => Self::Backend(text),
                }
            }
        }

        fn failed(error: cloakroom::Error) -> Error {
            Failure::from(error).into()
        }

        fn record(id: &Id, contents: Contents) -> Record {
            Record {
                id: *id,
                data: contents.data,
                expiry_date: expiry_date(contents.end),
            }
        }

        #[async_trait]
        impl SessionStore for CloakroomStore {
            /// Never overwrites: where the id has a session, or one that was deleted a moment ago, the record gets
            /// another id. Its expiry date loses what is less than a millisecond.
            async fn create(&self, record: &mut Record) -> Result<()> {
                let end = end_of(record.expiry_date);
                for _ in 0..DRAWS {
                    let id = record.id.to_string();
                    let created = self.create_contents(&id, &record.data, end, Origin::New);
                    if created.await.map_err(failed)? == Creation::Done {
                        record.expiry_date = expiry_date(Some(end));
                        return Ok(());
                    }
                    record.id = Id::default();
                }
                Err(Error::Backend(format!("{DRAWS} new ids were all taken")))
            }

            /// Writes what differs from what is stored, and nothing if nothing does. A record that was deleted a moment
            /// ago is an error; one that is unknown is created.
            async fn save(&self, record: &Record) -> Result<()> {
                let (id, end) = (record.id.to_string(), end_of(record.expiry_date));
                let saved = self.save_contents(&id, &record.data, end);
                saved.await.map_err(failed)
            }

            async fn load(&self, id: &Id) -> Result<Option<Record>> {
                let loaded = self.load_contents(&id.to_string()).await;
                Ok(loaded.map_err(failed)?.map(|contents| record(id, contents)))
            }

            /// Ends the session, with all that other packages have in it.
            async fn delete(&self, id: &Id) -> Result<()> {
                self.delete_session(&id.to_string()).await.map_err(failed)
            }
        }

        #[async_trait]
        impl ExpiredDeletion for CloakroomStore {
            /// Removes expired records in small batches. The store does so by itself every ten minutes.
            async fn delete_expired(&self) -> Result<()> {
                self.sweep().await.map_err(failed)
            }
        }

        /// Deletes what was moved from the old store. If that fails, the next load tries again.
        async fn finish_move<Old: SessionStore>(from: &MigratingStore<Old>, id: &Id) {
            if let Err(error) = from.old.delete(id).await {
                tracing::warn!(%error, "a session was moved, but could not be deleted from the old store");
                return;
            }
            if let Err(error) = from.store.forget_origin(&id.to_string()).await {
                tracing::warn!(%error, "a session was moved, but that could not be noted");
            }
        }

        #[async_trait]
        impl<Old: SessionStore> SessionStore for MigratingStore<Old> {
            async fn create(&self, record: &mut Record) -> Result<()> {
                self.store.create(record).await
            }

            async fn save(&self, record: &Record) -> Result<()> {
                // Moves the record if it is still in the old store.
                self.load(&record.id).await?;
                self.store.save(record).await
            }

            async fn load(&self, id: &Id) -> Result<Option<Record>> {
                let text = id.to_string();
                let here = self.store.load_contents(&text).await.map_err(failed)?;
                if let Some(contents) = here {
                    if self.store.is_elsewhere(&text).await.map_err(failed)? {
                        finish_move(self, id).await;
                    }
                    return Ok(Some(record(id, contents)));
                }
                let Some(old) = self.old.load(id).await? else {
                    return Ok(None);
                };
                let end = end_of(old.expiry_date);
                let moved = self.store.create_contents(&text, &old.data, end, Origin::OtherStore);
                if moved.await.map_err(failed)? == Creation::Taken {
                    // Another request has moved it, or has deleted it since.
                    return self.store.load(id).await;
                }
                finish_move(self, id).await;
                Ok(Some(old))
            }

            async fn delete(&self, id: &Id) -> Result<()> {
                // Moves the record if it is still in the old store: a request that is moving it meets its end then.
                self.load(id).await?;
                self.store.delete(id).await?;
                self.old.delete(id).await
            }
        }

        #[async_trait]
        impl<Old: ExpiredDeletion> ExpiredDeletion for MigratingStore<Old> {
            async fn delete_expired(&self) -> Result<()> {
                self.store.delete_expired().await?;
                self.old.delete_expired().await
            }
        }
    };
}

mod v015 {
    implement!(tower_sessions_core);
}

#[cfg(feature = "core-014")]
mod v014 {
    implement!(tower_sessions_core_014);
}

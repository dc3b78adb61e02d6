//! The newest rows of an engine, together with the rows that another engine lends for one commit (C1.7).

use super::rows::CurrentRows;
use crate::client_id::{ClientKey, Freshness};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::record::{PackageRow, SessionRow, package_key};
use crate::storage::{ContainerId, ForeignRows, Mark};

/// The rows of an engine, and the rows that another engine lends.
pub(super) struct WithForeign<'a, R> {
    pub(super) own: &'a R,
    pub(super) foreign: &'a ForeignRows,
}

impl<R: CurrentRows> CurrentRows for WithForeign<'_, R> {
    fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
        read: Option<&SessionRow>,
    ) -> Result<Option<SessionRow>> {
        if container.is_in_memory() {
            return Ok(self.foreign.sessions.get(&(container, client)).cloned());
        }
        self.own.session(container, client, read)
    }

    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
        read: Option<&PackageRow>,
    ) -> Result<Option<PackageRow>> {
        if container.is_in_memory() {
            let key = package_key(container, client, package);
            return Ok(self.foreign.packages.get(&key).cloned());
        }
        self.own.package(container, client, package, read)
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        let foreign = self.foreign.tombstones.get(&client).copied();
        Ok(self.own.tombstone(client)?.max(foreign))
    }

    fn now(&self) -> Timestamp {
        self.own.now()
    }

    fn ended_since(&self, client: ClientKey, mark: Mark) -> bool {
        self.foreign.ended.contains(&client) || self.own.ended_since(client, mark)
    }

    fn expired_since(&self, client: ClientKey, time: Timestamp) -> bool {
        self.foreign.ended.contains(&client) || self.own.expired_since(client, time)
    }

    fn is_used(&self, client: ClientKey, founder: &Freshness) -> bool {
        self.foreign.used.contains(&client) || self.own.is_used(client, founder)
    }

    fn registry(&self) -> u64 {
        self.own.registry()
    }
}

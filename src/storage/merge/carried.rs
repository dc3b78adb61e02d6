//! The newest rows of an engine, together with the rows that came with the request (C8.6).

use super::rows::CurrentRows;
use crate::client_id::{ClientKey, Freshness};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::carried::CarriedRows;
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{ContainerId, Mark};

/// The rows of an engine, and those of containers in the visitor's cookie. Only the visitor's request changes the
/// latter.
pub(super) struct WithCarried<'a, R> {
    pub(super) own: &'a R,
    pub(super) carried: &'a CarriedRows,
}

impl<R: CurrentRows> CurrentRows for WithCarried<'_, R> {
    fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
        read: Option<&SessionRow>,
    ) -> Result<Option<SessionRow>> {
        if container.is_in_cookie() {
            return Ok(self.carried.session(container, client).cloned());
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
        if container.is_in_cookie() {
            return self.carried.package(container, client, package);
        }
        self.own.package(container, client, package, read)
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        self.own.tombstone(client)
    }

    fn now(&self) -> Timestamp {
        self.own.now()
    }

    fn ended_since(&self, client: ClientKey, mark: Mark) -> bool {
        self.own.ended_since(client, mark)
    }

    fn expired_since(&self, client: ClientKey, time: Timestamp) -> bool {
        self.own.expired_since(client, time)
    }

    fn is_used(&self, client: ClientKey, founder: &Freshness) -> bool {
        self.own.is_used(client, founder)
    }

    fn registry(&self) -> u64 {
        self.own.registry()
    }
}

//! A transaction of the server that only reads and stays open. All that it reads is of one moment. It keeps a connection
//! for itself.

use super::connection::{Connection, Param};
use super::failure::Failure;
use super::load::{CheckedKeys, LoadedClients};
use super::pipeline::{Request, all};
use super::pool::Borrowed;
use super::runtime::Runtime;
use super::shared::Shared;
use super::statements::Statement;
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::Row;

/// The isolation that shows one moment to all statements of a transaction.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// How long the end of the transaction may take before its connection is dropped instead.
const ENDING: Duration = Duration::from_secs(1);

/// The statements that it runs. They are prepared before the transaction begins, so that none is prepared in vain.
const PREPARED: &[Statement] = &[
    Statement::LoadChecked,
    Statement::LoadOne,
    Statement::LoadMany,
    Statement::Page,
];

/// Dropping it ends the transaction.
pub(super) struct ServerSnapshot {
    runtime: Arc<Runtime>,
    connection: Option<Borrowed>,
}

impl ServerSnapshot {
    /// Begins with a load of clients, which checks that others still have their versions. `None` of the answer: they have
    /// not.
    pub(super) async fn begin_with(
        runtime: Arc<Runtime>,
        shared: &Shared,
        connection: Borrowed,
        (clients, others): (&[ClientKey], &CheckedKeys),
    ) -> Result<(Self, Option<LoadedClients>), Failure> {
        let until = shared.deadline();
        let snapshot = Self {
            runtime,
            connection: Some(connection),
        };
        let begun = shared.within(until, async {
            let connection = snapshot.connection()?;
            connection.prepare_all(PREPARED).await?;
            let mut found = None;
            let flight: Vec<Request<'_>> = vec![
                Box::pin(connection.simple(BEGIN)),
                Box::pin(async {
                    found = shared.fetch_checked(connection, clients, others).await?;
                    Ok(())
                }),
            ];
            all(flight).await?;
            Ok(found)
        });
        let found = begun.await?;
        Ok((snapshot, found))
    }

    /// Begins with the state of now.
    pub(super) async fn begin(
        runtime: Arc<Runtime>,
        shared: &Shared,
        connection: Borrowed,
    ) -> Result<Self, Failure> {
        let nobody = CheckedKeys::default();
        let begun = Self::begin_with(runtime, shared, connection, (&[], &nobody));
        Ok(begun.await?.0)
    }

    fn connection(&self) -> Result<&Connection> {
        let connection = self.connection.as_deref();
        connection.ok_or_else(|| Error::new(ErrorKind::Closed, "the snapshot has ended"))
    }

    /// Reads the rows of clients as of its moment.
    pub(super) async fn load(
        &self,
        shared: &Shared,
        clients: &[ClientKey],
    ) -> Result<LoadedClients, Failure> {
        let request = async {
            let connection = self.connection()?;
            shared.fetch_as_of(connection, clients).await
        };
        shared.within(shared.deadline(), request).await
    }

    /// The rows of clients with sessions after one, in the order of their keys, as of its moment.
    pub(super) async fn page(
        &self,
        shared: &Shared,
        params: &[Param<'_>; 2],
    ) -> Result<Vec<Row>, Failure> {
        let request = self.connection()?.run(Statement::Page, params);
        shared.within(shared.deadline(), request).await
    }
}

impl Drop for ServerSnapshot {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        // Unless its transaction has ended, the connection is of no use to others.
        self.runtime.run(async move {
            if let Ok(Ok(())) = timeout(ENDING, connection.simple("ROLLBACK")).await {
                connection.give_back();
            }
        });
    }
}

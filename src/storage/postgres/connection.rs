//! One connection to the server, and the statements that it has prepared.

use super::failure::{Failure, connecting, sent, unavailable};
use super::hosts::Hosts;
use super::statements::{STATEMENTS, SchemaTexts, Statement};
#[cfg(feature = "postgres-tls")]
use super::tls::EncryptedConnector;
use crate::client_id::ClientKey;
use bytes::BytesMut;
use std::error::Error as StdError;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row, Socket};

/// The part of a connection that reads and writes, over a stream that may be encrypted.
type Driven<S> = tokio_postgres::Connection<Socket, S>;

/// A parameter of a statement.
pub(super) type Param<'a> = &'a (dyn ToSql + Sync);

/// How connections are made.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) hosts: Hosts,
    pub(super) texts: SchemaTexts,
    pub(super) prepares: bool,
    /// `None`: connections are not encrypted.
    #[cfg(feature = "postgres-tls")]
    pub(super) encrypted: Option<EncryptedConnector>,
}

pub(super) struct Connection {
    client: Client,
    connector: Arc<Connector>,
    prepared: [OnceCell<tokio_postgres::Statement>; STATEMENTS],
    /// A commit was acknowledged that no standby has confirmed.
    is_unconfirmed: Arc<AtomicBool>,
    /// It was asked which settings its server has.
    is_greeted: AtomicBool,
    /// `None` of a connection that ends by itself.
    driver: Option<JoinHandle<()>>,
}

impl Connector {
    /// Connects to the first server that can be connected to. Each is tried for a part of the time.
    pub(super) async fn connect(self: &Arc<Self>, until: Instant) -> Result<Connection, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        let limit = self.hosts.limit(left);
        let mut failed: Option<Failure> = None;
        for (at, config) in self.hosts.in_order() {
            match self
                .connect_to(config, until.min(Instant::now() + limit))
                .await
            {
                Ok(connection) => {
                    self.hosts.note(at);
                    return Ok(connection);
                }
                // While one of them may come back, it is waited for.
                Err(failure) if failed.as_ref().is_some_and(Failure::may_be_repeated) => {
                    tracing::debug!(?failure, "another server cannot be used, either");
                }
                Err(failure) => failed = Some(failure),
            }
        }
        let unnamed = || Failure::NotSent(unavailable("the URL names no server"));
        Err(failed.unwrap_or_else(unnamed))
    }

    async fn connect_to(
        self: &Arc<Self>,
        config: &Config,
        until: Instant,
    ) -> Result<Connection, Failure> {
        #[cfg(feature = "postgres-tls")]
        if let Some(encrypted) = &self.encrypted {
            return self.begin(until, config.connect(encrypted.clone())).await;
        }
        self.begin(until, config.connect(NoTls)).await
    }

    async fn begin<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self: &Arc<Self>,
        until: Instant,
        connecting_to: impl Future<Output = Result<(Client, Driven<S>), tokio_postgres::Error>>,
    ) -> Result<Connection, Failure> {
        let late = |_| Failure::NotSent(unavailable("the server does not answer"));
        let connected = timeout_at(until, connecting_to).await.map_err(late)?;
        let (client, connection) = connected.map_err(connecting)?;
        let is_unconfirmed = Arc::<AtomicBool>::default();
        let driver = tokio::spawn(drive(connection, is_unconfirmed.clone()));
        Ok(Connection {
            client,
            connector: self.clone(),
            prepared: std::array::from_fn(|_| OnceCell::new()),
            is_unconfirmed,
            is_greeted: AtomicBool::new(false),
            driver: Some(driver),
        })
    }
}

/// Runs the connection until it ends.
async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Driven<S>,
    is_unconfirmed: Arc<AtomicBool>,
) {
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notice(notice) = message {
            // "canceling wait for synchronous replication": the text is translated, the code is that of any warning.
            let is_of_commit = notice.routine() == Some("SyncRepWaitForLSN");
            if is_of_commit || notice.message().contains("synchronous replication") {
                is_unconfirmed.store(true, Ordering::Release);
            }
            tracing::debug!(message = notice.message(), "the server says");
        }
    }
}

impl Connection {
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) fn is_greeted(&self) -> bool {
        self.is_greeted.load(Ordering::Acquire)
    }

    /// Notes that it was asked which settings its server has.
    pub(super) fn note_greeted(&self) {
        self.is_greeted.store(true, Ordering::Release);
    }

    /// Whether a commit of this connection was acknowledged before a standby confirmed it.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.is_unconfirmed.load(Ordering::Acquire)
    }

    /// Runs a statement.
    pub(super) async fn run(
        &self,
        statement: Statement,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let rows = match self.connector.prepares {
            true => {
                let prepared = self.prepare(statement).await?;
                self.client.query(prepared, params).await
            }
            false => {
                let text = self.connector.texts.of(statement);
                let types = statement.types().iter().cloned();
                let typed: Vec<_> = params.iter().copied().zip(types).collect();
                self.client.query_typed(text, &typed).await
            }
        };
        rows.map_err(sent)
    }

    async fn prepare(&self, statement: Statement) -> Result<&tokio_postgres::Statement, Failure> {
        let Some(cell) = self.prepared.get(statement as usize) else {
            return Err(Failure::NotSent(unavailable("an unknown statement")));
        };
        let text = self.connector.texts.of(statement);
        let prepare = || self.client.prepare_typed(text, statement.types());
        // Preparing changes nothing, so nothing was sent that could take effect.
        cell.get_or_try_init(prepare)
            .await
            .map_err(|error| match sent(error) {
                Failure::Lost(error) => Failure::NotSent(error),
                refused => refused,
            })
    }

    /// Prepares statements before they are sent together with others.
    pub(super) async fn prepare_all(&self, statements: &[Statement]) -> Result<(), Failure> {
        if self.connector.prepares {
            for statement in statements {
                self.prepare(*statement).await?;
            }
        }
        Ok(())
    }

    /// Runs statements without parameters.
    pub(super) async fn simple(&self, text: &str) -> Result<(), Failure> {
        self.client.batch_execute(text).await.map_err(sent)
    }

    /// Runs a query without parameters, as text.
    pub(super) async fn probe(&self, text: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.client.query_typed(text, &[]).await
    }

    /// Runs statements without parameters, and returns the server's own error.
    pub(super) async fn probe_all(&self, text: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(text).await
    }
}

impl Connection {
    /// Ends as soon as the server has answered what was sent, or after this time. Returns whether it had ended.
    pub(super) async fn end_within(mut self, time: Duration) -> bool {
        let Some(mut driver) = self.driver.take() else {
            return true;
        };
        drop(self);
        let has_ended = timeout(time, &mut driver).await.is_ok();
        driver.abort();
        has_ended
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // No request to cancel is sent: that could cut the wait for a standby short.
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

/// The failure of a request that had no answer in time. The caller drops the connection.
pub(super) fn late(after: Duration) -> Failure {
    let why = format!("the server has not answered for {} ms", after.as_millis());
    Failure::Lost(unavailable(&why))
}

/// A client key as a `uuid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SqlKey(pub(super) ClientKey);

impl ToSql for SqlKey {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    tokio_postgres::types::to_sql_checked!();
}

impl<'a> FromSql<'a> for SqlKey {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(ClientKey::from_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

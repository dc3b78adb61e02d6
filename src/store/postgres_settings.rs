//! How a store uses its PostgreSQL server.

use crate::storage::postgres::ServerSettings;
use std::time::Duration;

/// How a store uses its PostgreSQL server, for [`StoreBuilder::postgres`](crate::StoreBuilder::postgres).
///
/// ```
/// # async fn example() -> cloakroom::Result<()> {
/// use cloakroom::{PostgresSettings, Store};
/// use std::time::Duration;
///
/// let settings = PostgresSettings::new()
///     .schema("sessions")
///     .connections(32)
///     .deadline(Duration::from_secs(3));
/// let store = Store::builder()
///     .postgres(settings)
///     .connect("postgres://app@db.internal/shop")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct PostgresSettings(ServerSettings);

impl PostgresSettings {
    /// Returns the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The maximum number of connections of this process. Default: 16; at least 1.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.0.connections = connections.max(1);
        self
    }

    /// The time after which a request to the server is given up: a read with
    /// [`Unavailable`](crate::ErrorKind::Unavailable), and a commit that was not sent, too. If the answer to a commit is lost,
    /// the commit is looked up, for the same time once more. If that fails, it returns
    /// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown). Default: 5 seconds.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.0.deadline = deadline;
        self
    }

    /// How often an idle process asks whether another one has changed the settings of the store. A process that reads
    /// sessions learns of changes with each answer. Default: half a second.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.0.poll = interval;
        self
    }

    /// The schema of the store's tables. Each schema is a store of its own. Default: the first one of the role's search
    /// path.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.0.schema = Some(schema.into());
        self
    }

    /// Does without prepared statements, for a connection pooler in transaction mode, such as PgBouncer, that does not
    /// support them. A statement then costs the server its analysis each time.
    #[must_use]
    pub fn without_prepared_statements(mut self) -> Self {
        self.0.prepares = false;
        self
    }

    /// The settings for the engine.
    pub(super) fn server(&self, (creates, migrates): (bool, bool)) -> ServerSettings {
        ServerSettings {
            creates,
            migrates,
            ..self.0.clone()
        }
    }
}

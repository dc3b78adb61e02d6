//! How a store uses its PostgreSQL server.

use crate::storage::postgres::ServerSettings;
use std::time::Duration;

/// Shorter deadlines would give up requests that a busy server is about to answer.
const SHORTEST_DEADLINE: Duration = Duration::from_millis(100);
/// A row tells for two minutes how a session ended. With longer deadlines, a commit could come too late for that.
const LONGEST_DEADLINE: Duration = Duration::from_secs(30);
/// The shortest pause between two questions for changed settings.
const SHORTEST_POLL: Duration = Duration::from_millis(50);
/// A commit starts from the rows that are kept. With fewer, most would have to ask for them first.
const SMALLEST_CACHE: usize = 1 << 20;

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
    /// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown). Default: 5 seconds; at least a
    /// tenth of a second, at most half a minute.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.0.deadline = deadline.clamp(SHORTEST_DEADLINE, LONGEST_DEADLINE);
        self
    }

    /// How often an idle process asks whether another one has changed the settings of the store. A process that reads
    /// sessions learns of changes with each answer. Default: half a second; at least a twentieth.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.0.poll = interval.max(SHORTEST_POLL);
        self
    }

    /// About how much memory keeps the sessions that this process read or wrote last, in bytes. The server is asked for
    /// each session each time, and sends it only if this process does not keep its newest version. Default: 32 MiB; at least 1 MiB.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.0.cache_bytes = bytes.max(SMALLEST_CACHE);
        self
    }

    /// The schema of the store's tables. Each schema is a store of its own. Default: the first one of the role's search
    /// path.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.0.schema = Some(schema.into());
        self
    }

    /// Lets each transaction see all sessions as they were when it first looked at anything, as with a store in a file.
    ///
    /// Without this, a transaction that reads a second session sees both as they are then, and gets
    /// [`Conflict`](crate::ErrorKind::Conflict) at that read if the first one was changed meanwhile. Both ways, transactions
    /// are strictly serializable. A transaction that reads one session, as most requests do, gains nothing. It costs each
    /// transaction two more statements, and a connection for as long as it lasts or its snapshot may be used. At most three
    /// quarters of the [connections](Self::connections) are kept so: further transactions do as without it.
    #[must_use]
    pub fn keep_first_look(mut self) -> Self {
        self.0.keeps_first_look = true;
        self
    }

    /// Does without prepared statements, for a connection pooler in transaction mode, such as PgBouncer, that does not
    /// support them. A statement then costs the server its analysis each time.
    #[must_use]
    pub fn without_prepared_statements(mut self) -> Self {
        self.0.prepares = false;
        self
    }

    /// The certificates of the authorities that may have signed the server's, in PEM, instead of those that the system
    /// trusts. Connections are encrypted if the URL says `sslmode=require` or `sslmode=verify-full`, which mean the same
    /// here: the server's certificate must be signed by such an authority, and name the host of the URL.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use cloakroom::{PostgresSettings, Store};
    ///
    /// let settings = PostgresSettings::new().root_certificates(std::fs::read("authority.pem")?);
    /// let store = Store::builder()
    ///     .postgres(settings)
    ///     .connect("postgres://app@db.internal/shop?sslmode=verify-full")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "postgres-tls")]
    #[must_use]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.0.root_certificates = Some(pem.into().into());
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

#[cfg(test)]
mod tests {
    use super::*;

    // C10.2
    #[test]
    fn what_no_commit_could_do_with_is_brought_into_bounds() {
        let settings = |deadline, poll| {
            let settings = PostgresSettings::new().deadline(deadline);
            settings.poll_interval(poll).server((true, true))
        };
        let longest = settings(Duration::MAX, Duration::ZERO);
        assert_eq!(longest.deadline, LONGEST_DEADLINE);
        assert_eq!(longest.poll, SHORTEST_POLL);
        assert!(longest.margin() < crate::storage::postgres::ENDS_KEPT);
        let shortest = settings(Duration::ZERO, Duration::MAX);
        assert_eq!(shortest.deadline, SHORTEST_DEADLINE);
        let smallest = PostgresSettings::new().cache_bytes(0).server((true, true));
        assert_eq!(smallest.cache_bytes, SMALLEST_CACHE);
    }
}

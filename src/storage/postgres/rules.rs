//! The settings of the engine, beside those that every engine has.

use crate::storage::StoreSettings;
use crate::storage::admission::AdmissionBounds;
use crate::storage::quota::SharedQuota;
use crate::storage::record::RecordCipher;
use std::sync::Arc;
use std::time::Duration;

/// What is allowed for beyond the deadline.
const SLACK: Duration = Duration::from_secs(1);

/// How the engine uses the server.
#[derive(Clone, Debug)]
pub(crate) struct ServerSettings {
    /// Connections at most.
    pub(crate) connections: usize,
    /// How long a request waits for the server at most.
    pub(crate) deadline: Duration,
    /// How many bytes of rows are kept.
    pub(crate) cache_bytes: usize,
    /// How often an idle process asks for changed settings.
    pub(crate) poll: Duration,
    /// Whether statements are prepared. A pooler in transaction mode does not bear that.
    pub(crate) prepares: bool,
    /// Whether a transaction keeps the moment of its first look on the server.
    pub(crate) keeps_first_look: bool,
    /// Whether the tables are made if there are none.
    pub(crate) creates: bool,
    /// Whether tables of an older format are migrated.
    pub(crate) migrates: bool,
    /// The schema of the tables. `None`: the role's search path decides.
    pub(crate) schema: Option<String>,
    /// The certificates of the authorities that may sign the server's, in PEM. `None`: those of the system.
    #[cfg(feature = "postgres-tls")]
    pub(crate) root_certificates: Option<Arc<[u8]>>,
}

impl ServerSettings {
    /// The time after which an answer cannot be one that was only late: the server's clock was set back.
    pub(crate) fn slowest(&self) -> Duration {
        self.deadline + SLACK
    }

    /// By how much the time of an event may be wrong. A commit may take as long as the deadline after its time was
    /// noted, and a server's clock that was set back may be known too late by as much as the slowest answer takes.
    pub(crate) fn margin(&self) -> Duration {
        self.deadline + self.slowest() + SLACK
    }

    /// How many connections are kept for longer than a request at most.
    pub(crate) fn kept_connections(&self) -> usize {
        match self.keeps_first_look {
            true => self.connections * 3 / 4,
            false => self.connections / 4,
        }
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            connections: 16,
            deadline: Duration::from_secs(5),
            cache_bytes: 32 << 20,
            poll: Duration::from_millis(500),
            prepares: true,
            keeps_first_look: false,
            creates: true,
            migrates: true,
            schema: None,
            #[cfg(feature = "postgres-tls")]
            root_certificates: None,
        }
    }
}

/// The rules of the store that the engine follows.
pub(crate) struct PostgresRules {
    pub(crate) server: ServerSettings,
    pub(crate) admission: AdmissionBounds,
    /// How many sessions may be founded by this process, where that is limited.
    pub(crate) new_sessions: Option<SharedQuota>,
    pub(crate) cipher: RecordCipher,
    pub(crate) snapshot_max_age: Duration,
    /// How long a session lasts whose id has not come back.
    pub(crate) unconfirmed: Option<Duration>,
    /// The settings that a new store begins with, where it is to be the copy of another one.
    pub(crate) initial: Option<Arc<StoreSettings>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    // C3.2, C4.8
    #[test]
    fn a_late_commit_and_a_clock_that_was_set_back_are_both_allowed_for() {
        let settings = ServerSettings::default();
        assert!(settings.margin() > settings.deadline + settings.slowest());
    }
}

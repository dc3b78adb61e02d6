//! The settings of the engine, beside those that every engine has.

use crate::storage::StoreSettings;
use crate::storage::admission::AdmissionBounds;
use crate::storage::quota::SharedQuota;
use crate::storage::record::RecordCipher;
use std::sync::Arc;
use std::time::Duration;

/// How the engine uses the server.
#[derive(Clone, Debug)]
pub(crate) struct ServerSettings {
    /// Connections at most.
    pub(crate) connections: usize,
    /// How long a request waits for the server at most.
    pub(crate) deadline: Duration,
    /// How often an idle process asks for changed settings.
    pub(crate) poll: Duration,
    /// Whether statements are prepared. A pooler in transaction mode does not bear that.
    pub(crate) prepares: bool,
    /// Whether the tables are made if there are none.
    pub(crate) creates: bool,
    /// Whether tables of an older format are migrated.
    pub(crate) migrates: bool,
    /// The schema of the tables. `None`: the role's search path decides.
    pub(crate) schema: Option<String>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            connections: 16,
            deadline: Duration::from_secs(5),
            poll: Duration::from_millis(500),
            prepares: true,
            creates: true,
            migrates: true,
            schema: None,
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
    /// The settings that a new store begins with, where it is to be the copy of another one.
    pub(crate) initial: Option<Arc<StoreSettings>>,
}

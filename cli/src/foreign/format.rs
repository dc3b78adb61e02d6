//! The formats: where their sessions are, and how a row is read.

use super::record::{ForeignRow, ForeignSession, Refused};
use super::{axum_session, express, tower_sessions};
use clap::ValueEnum;

/// Whose sessions a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SourceFormat {
    /// The SQLite store of tower-sessions-sqlx-store
    #[value(name = "tower-sessions-sqlite")]
    TowerSessions,
    /// The SQLite store of axum_session_sqlx
    #[value(name = "axum-session-sqlite")]
    AxumSession,
    /// connect-sqlite3, better-sqlite3-session-store or express-session-sqlite
    #[value(name = "express-session-sqlite")]
    ExpressSession,
}

/// The columns for the id, the content and the end.
pub(super) type Columns = [&'static str; 3];

impl SourceFormat {
    pub(crate) fn library(self) -> &'static str {
        match self {
            Self::TowerSessions => "tower-sessions",
            Self::AxumSession => "axum_session",
            Self::ExpressSession => "express-session",
        }
    }

    /// The table, unless the application has named another one.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::TowerSessions => "tower_sessions",
            Self::AxumSession | Self::ExpressSession => "sessions",
        }
    }

    /// The container, and the package in it. `tower-sessions-cloakroom-store` reads the first one.
    pub(crate) fn container(self) -> &'static str {
        match self {
            Self::TowerSessions => "tower-sessions",
            Self::AxumSession => "axum-session",
            Self::ExpressSession => "express-session",
        }
    }

    /// The columns that a table can have.
    pub(super) fn columns(self) -> &'static [Columns] {
        match self {
            Self::TowerSessions => &[["id", "data", "expiry_date"]],
            Self::AxumSession => &[["id", "session", "expires"]],
            Self::ExpressSession => &[
                ["sid", "sess", "expired"],
                ["sid", "sess", "expire"],
                ["sid", "data", "expires"],
            ],
        }
    }
}

/// Reads the rows of one format.
pub(crate) struct SourceReader {
    pub(crate) format: SourceFormat,
    /// What express-session signs its cookie with, if the whole cookie is to be the id.
    pub(crate) cookie_secret: Option<Vec<u8>>,
}

impl SourceReader {
    pub(super) fn read(&self, row: ForeignRow<'_>) -> Result<ForeignSession, Refused> {
        match self.format {
            SourceFormat::TowerSessions => tower_sessions::read(row),
            SourceFormat::AxumSession => axum_session::read(row),
            SourceFormat::ExpressSession => express::read(row, self.cookie_secret.as_deref()),
        }
    }
}

//! Where a store's tables are, and how it connects.

use anyhow::Result;
use cloakroom::{PostgresSettings, Store, StoreBuilder};
use cloakroom_postgres_server::{Database, Server};
use std::path::Path;

/// A database of a server.
pub(super) struct Place<'a> {
    pub(super) database: Database,
    /// Of a server with TLS.
    authority: Option<&'a Path>,
}

impl<'a> Place<'a> {
    pub(super) fn new(server: &'a Server) -> Self {
        Self {
            database: server.database(),
            authority: server.authority(),
        }
    }

    pub(super) fn url(&self) -> String {
        match self.authority {
            Some(_) => self.database.url() + "?sslmode=verify-full",
            None => self.database.url(),
        }
    }

    /// As sqlx reads it.
    pub(super) fn tower_url(&self) -> String {
        match self.authority {
            Some(authority) => format!("{}&sslrootcert={}", self.url(), authority.display()),
            None => self.url() + "?sslmode=disable",
        }
    }

    pub(super) fn builder(&self) -> Result<StoreBuilder> {
        let mut settings = PostgresSettings::new();
        if let Some(authority) = self.authority {
            settings = settings.root_certificates(std::fs::read(authority)?);
        }
        Ok(Store::builder().postgres(settings))
    }
}

//! Connects to a server: makes or migrates the schema if that is needed, reads the settings, and starts the engine.

use super::connection::{Connector, Param};
use super::engine::PostgresEngine;
use super::failure::Failure;
use super::heard::ServerNews;
use super::keys::meet;
use super::load::{column, lost_meta};
use super::migrate::Migration;
use super::pool::Pool;
use super::random::random;
use super::reading::read;
use super::rules::{PostgresRules, ServerSettings};
use super::runtime::Runtime;
use super::settings::decode_row;
use super::shared::Shared;
use super::statements::{SchemaTexts, Statement};
use super::touches::PendingTouches;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::storage::memory::Random;
use crate::storage::record::RecordCipher;
use arc_swap::ArcSwap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;

/// How long an answer may take, beyond the deadline, until the server's clock counts as set back.
const SLACK: Duration = Duration::from_secs(1);

/// Connects to the server at `url`.
pub(crate) async fn connect(
    url: &str,
    rules: PostgresRules,
    clock: Clock,
) -> Result<PostgresEngine> {
    let connector = connector(url, &rules.server)?;
    let runtime = Arc::new(Runtime::start()?);
    let touches = Arc::<PendingTouches>::default();
    let shared = runtime.ask(open(connector, rules, clock)).await?;
    runtime.run(touches.clone().run(shared.clone()));
    runtime.run(poll(Arc::downgrade(&shared)));
    Ok(PostgresEngine::new(runtime, shared, touches))
}

/// Makes or migrates the tables at `url`, and does nothing else.
pub(crate) async fn migrate(
    url: &str,
    settings: ServerSettings,
    cipher: RecordCipher,
) -> Result<()> {
    let connector = connector(url, &settings)?;
    let runtime = Runtime::start()?;
    let migrated = runtime.ask(async move {
        let pool = Pool::new(connector, 1);
        let migration = Migration {
            settings: &settings,
            cipher: &cipher,
            initial: None,
            now: Clock::system().timestamp(),
        };
        migration.run(&pool).await
    });
    migrated.await
}

fn connector(url: &str, settings: &ServerSettings) -> Result<Connector> {
    // The parser's error may quote the password.
    let mut config: Config = url.parse().map_err(|_| {
        Error::new(
            ErrorKind::InvalidInput,
            "this is no URL of a PostgreSQL server",
        )
    })?;
    if config.get_target_session_attrs() == TargetSessionAttrs::Any {
        // Of several servers, the primary.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(settings.deadline);
    }
    if config.get_application_name().is_none() {
        config.application_name("cloakroom");
    }
    Ok(Connector {
        config,
        texts: SchemaTexts::new(settings.schema.as_deref()),
        prepares: settings.prepares,
    })
}

async fn open(connector: Connector, rules: PostgresRules, clock: Clock) -> Result<Arc<Shared>> {
    let pool = Pool::new(connector, rules.server.connections);
    let migration = Migration {
        settings: &rules.server,
        cipher: &rules.cipher,
        initial: rules.initial.as_deref(),
        now: clock.timestamp(),
    };
    migration.run(&pool).await?;
    let until = tokio::time::Instant::now() + rules.server.deadline;
    let connection = pool.get(until).await.map_err(Failure::into_error)?;
    let rows = connection.run(Statement::Settings, &[]).await;
    let rows = rows.map_err(Failure::into_error)?;
    let row = rows.first().ok_or_else(lost_meta)?;
    let keys: Option<&[u8]> = column(row, 3)?;
    if let Some(record) = meet(&rules.cipher, keys)? {
        let epoch: i64 = column(row, 0)?;
        let params: [Param<'_>; 3] = [&epoch, &keys, &record];
        let request = connection.run(Statement::SetKeys, &params);
        let written = request.await.map_err(Failure::into_error)?;
        if written.is_empty() {
            let why = "another process has changed the keys of the store; open it again";
            return Err(Error::new(ErrorKind::Conflict, why));
        }
    }
    let settings = decode_row(row, &rules.cipher)?;
    connection.give_back();
    let heard = ServerNews::new(rules.server.deadline + SLACK);
    heard.hear_epoch(settings.version);
    let shared = Shared {
        pool,
        clock: clock.corrected_by(Some(heard.offset())),
        heard,
        rules,
        events: Default::default(),
        cache: Default::default(),
        reclaim: Default::default(),
        settings: ArcSwap::from_pointee(settings),
        random: Random::new(u64::from_be_bytes(random()?)).into(),
        counters: Default::default(),
        process: Process::this(),
        is_closed: false.into(),
    };
    shared.ask_epoch().await?;
    Ok(Arc::new(shared))
}

impl Shared {
    /// Asks for the epoch and the time of the server.
    async fn ask_epoch(&self) -> Result<()> {
        let sent = Instant::now();
        let rows = read!(self, |connection| connection.run(Statement::Epoch, &[]))?;
        let row = rows.first().ok_or_else(lost_meta)?;
        let epoch: i64 = column(row, 0)?;
        let time = column(row, 1)?;
        self.heard.hear_epoch(epoch.cast_unsigned());
        self.heard.hear_time(time);
        self.heard.measure(time, sent);
        Ok(())
    }
}

/// Learns of changed settings while nothing else asks, and finds out when the server can be reached again.
async fn poll(shared: Weak<Shared>) {
    loop {
        let Some(here) = shared.upgrade() else { return };
        if here.check_open().is_err() {
            return;
        }
        let pause = here.rules.server.poll;
        if let Err(error) = here.ask_epoch().await {
            tracing::debug!(%error, "the server does not answer");
        }
        drop(here);
        tokio::time::sleep(pause).await;
    }
}

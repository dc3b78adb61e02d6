//! Connects to a server: makes or migrates the schema if that is needed, reads the settings, and starts the engine.

use super::cache::RowCache;
use super::connection::{Connection, Connector, Param, late};
use super::engine::PostgresEngine;
use super::failure::Failure;
use super::guarantee::weaknesses;
use super::heard::{ServerNews, SettingsDigest};
use super::hosts::Hosts;
use super::keys::meet;
use super::load::{column, lost_meta};
use super::load_batch::LOADERS;
use super::migrate::Migration;
use super::pool::Pool;
use super::random::random;
use super::reading::read;
use super::rules::{PostgresRules, ServerSettings};
use super::runtime::Runtime;
use super::settings::{decode_row, digest_of};
use super::shared::Shared;
#[cfg(feature = "torture")]
use super::statements::ALL;
use super::statements::{SchemaTexts, Statement};
use super::sweep_state::SweepState;
use super::sweep_times::SweepTimes;
#[cfg(feature = "postgres-tls")]
use super::tls::EncryptedConnector;
use super::touches::PendingTouches;
use crate::clock::Clock;
use crate::contain::contain_future;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::storage::StoreSettings;
use crate::storage::memory::Random;
use crate::storage::record::RecordCipher;
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, Weak};
use tokio::time::timeout_at;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

/// Connects to the server at `url`.
pub(crate) async fn connect(
    url: &str,
    rules: PostgresRules,
    clock: Clock,
) -> Result<PostgresEngine> {
    let connector = connector(url, &rules.server)?;
    let runtime = Arc::new(Runtime::start()?);
    let touches = Arc::<PendingTouches>::default();
    let (shared, weaknesses) = runtime.ask(open(connector, rules, clock)).await?;
    for weakness in weaknesses {
        tracing::warn!("{weakness}");
    }
    runtime.run(touches.clone().run(shared.clone()));
    for _ in 0..LOADERS {
        runtime.run(shared.clone().run_loads());
    }
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
        let pool = Pool::new(connector, 1, 0);
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

/// Prepares every statement, so that the server checks it. Returns how many there are.
#[cfg(feature = "torture")]
pub(crate) async fn prepare_all(url: &str) -> Result<usize> {
    let settings = ServerSettings::default();
    let connector = connector(url, &settings)?;
    let runtime = Runtime::start()?;
    let prepared = runtime.ask(async move {
        let until = tokio::time::Instant::now() + settings.deadline;
        let connection = Pool::new(connector, 1, 0).get(until).await;
        let connection = connection.map_err(Failure::into_error)?;
        for &statement in ALL {
            let prepared = connection.prepare_all(&[statement]).await;
            prepared.map_err(|failure| {
                let why = format!("{statement:?} is refused");
                Error::new(ErrorKind::Io, why).with_source(failure.into_error())
            })?;
        }
        Ok(ALL.len())
    });
    prepared.await
}

fn connector(url: &str, settings: &ServerSettings) -> Result<Connector> {
    // The parser's error may quote the password.
    let url = url.replace("sslmode=verify-full", "sslmode=require");
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
    if config.get_application_name().is_none() {
        config.application_name("cloakroom");
    }
    let is_encrypted = config.get_ssl_mode() == SslMode::Require;
    if !is_encrypted {
        config.ssl_mode(SslMode::Disable);
    }
    #[cfg(not(feature = "postgres-tls"))]
    if is_encrypted {
        let why = "an encrypted connection to the server needs the crate's feature postgres-tls";
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    Ok(Connector {
        hosts: Hosts::of(&config),
        #[cfg(feature = "postgres-tls")]
        encrypted: match is_encrypted {
            true => Some(EncryptedConnector::new(settings)?),
            false => None,
        },
        texts: SchemaTexts::new(settings.schema.as_deref()),
        prepares: settings.prepares,
    })
}

async fn open(
    connector: Connector,
    rules: PostgresRules,
    clock: Clock,
) -> Result<(Arc<Shared>, Vec<&'static str>)> {
    let pool = Pool::new(
        connector,
        rules.server.connections,
        rules.server.kept_connections(),
    );
    let migration = Migration {
        settings: &rules.server,
        cipher: &rules.cipher,
        initial: rules.initial.as_deref(),
        now: clock.timestamp(),
    };
    migration.run(&pool).await?;
    let (settings, digest) = first_settings(&pool, &rules).await?;
    let weaknesses = weaknesses(&pool, &rules).await?;
    let heard = ServerNews::new(rules.server.slowest());
    heard.hear_epoch(settings.version);
    heard.know_settings(settings.version, digest);
    let sweep_times = SweepTimes::of(&settings, rules.unconfirmed);
    let cache = RowCache::new(rules.server.cache_bytes);
    let shared = Shared {
        pool,
        clock: clock.corrected_by(Some(heard.offset())),
        heard,
        rules,
        events: Default::default(),
        cache: Mutex::new(cache),
        loads: Default::default(),
        memory_parts: Default::default(),
        reclaim: Default::default(),
        sweep_times: ArcSwap::from_pointee(sweep_times),
        sweeps: Mutex::new(SweepState::new(random()?)),
        settings: ArcSwap::from_pointee(settings),
        random: Random::new(u64::from_be_bytes(random()?)).into(),
        counters: Default::default(),
        process: Process::this(),
        is_closed: false.into(),
        #[cfg(feature = "encryption")]
        reseal_fence: Default::default(),
        went_back: false.into(),
    };
    shared.ask_epoch().await?;
    Ok((Arc::new(shared), weaknesses))
}

/// Reads the settings, as often as it takes within the deadline.
async fn first_settings(
    pool: &Arc<Pool>,
    rules: &PostgresRules,
) -> Result<(StoreSettings, SettingsDigest)> {
    let until = tokio::time::Instant::now() + rules.server.deadline;
    loop {
        let connection = pool.get(until).await.map_err(Failure::into_error)?;
        let read = timeout_at(until, read_settings(&connection, &rules.cipher)).await;
        let failure = match read {
            Ok(Ok(settings)) => {
                connection.give_back();
                return Ok(settings);
            }
            Ok(Err(failure)) => failure,
            Err(_) => late(rules.server.deadline),
        };
        connection.after(&failure);
        if !failure.may_be_repeated() || tokio::time::Instant::now() >= until {
            return Err(failure.into_error());
        }
    }
}

/// Reads the settings and their digest, and notes the keys that records are encrypted with from now on.
async fn read_settings(
    connection: &Connection,
    cipher: &RecordCipher,
) -> Result<(StoreSettings, SettingsDigest), Failure> {
    let rows = connection.run(Statement::Settings, &[]).await?;
    let row = rows.first().ok_or_else(lost_meta)?;
    let keys: Option<&[u8]> = column(row, 3)?;
    if let Some(record) = meet(cipher, keys)? {
        let epoch: i64 = column(row, 0)?;
        let params: [Param<'_>; 3] = [&epoch, &keys, &record];
        let written = connection.run(Statement::SetKeys, &params).await?;
        if written.is_empty() {
            let why = "another process changes the keys of the store at the same time";
            return Err(Failure::Again(Error::new(ErrorKind::Conflict, why)));
        }
        if keys.is_none() {
            // Only now it is the store's.
            meet(cipher, Some(&record))?;
        }
    }
    Ok((decode_row(row, cipher)?, digest_of(row)?))
}

impl Shared {
    /// Asks for the epoch and the time of the server.
    async fn ask_epoch(&self) -> Result<()> {
        read!(self, |connection| self.greet(&connection))
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
        let asked = async {
            if let Err(error) = here.ask_epoch().await {
                tracing::debug!(%error, "the server does not answer");
            }
        };
        // The application's log may panic.
        contain_future(asked).await;
        drop(here);
        tokio::time::sleep(pause).await;
    }
}

//! The settings of the store and the keys of its records, as the server has them.

use super::backoff::Backoff;
use super::connection::{Connection, Param};
use super::failure::Failure;
use super::heard::{KnownState, SettingsDigest};
use super::keys::check_still;
use super::load::{column, lost_meta};
use super::reading::read;
use super::shared::Shared;
use super::statements::Statement;
use super::sweep_times::SweepTimes;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{
    ContainerRecord, RecordCipher, RecordKind, open_plain, open_value, seal_plain, seal_value,
};
use crate::storage::{ContainerId, SecretRecord, SettingsChange, StoreSettings};
use sha2::{Digest, Sha256};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;
use tokio_postgres::Row;

const SETTINGS: &[u8] = b"settings";
const SECRETS: &[u8] = b"secrets";

/// The stored form: registry, containers, the next container's number, the record of the secrets, the issuing one,
/// and whether it is an unfinished copy.
type SettingsFields = (u64, Vec<(String, Vec<u8>)>, u32, Vec<u8>, u8, bool);
/// The name, the key, and when it was made.
type SecretFields = Vec<(u8, [u8; 32], Option<i64>)>;

/// The settings of a store that is made now.
pub(super) fn new_settings(identity: [u8; 16], secret: [u8; 32], now: Timestamp) -> StoreSettings {
    let unnamed = ContainerRecord {
        name: String::new(),
        id: ContainerId::UNNAMED.0,
        timeout_ms: 3_600_000,
        resolution_ms: 600_000,
        max_lifetime_ms: None,
        implicit_sweeps: true,
        aliases: Vec::new(),
    };
    StoreSettings {
        identity,
        version: 1,
        registry: 0,
        containers: BTreeMap::from([(String::new(), unnamed)]),
        next_container: 1,
        secrets: vec![SecretRecord(0, secret, Some(now))],
        issuing: 0,
        is_unfinished: false,
    }
}

pub(super) fn encode(settings: &StoreSettings, cipher: &RecordCipher) -> Result<Vec<u8>> {
    let containers = settings.containers.iter();
    let containers = containers.map(|(name, record)| Ok((name.clone(), record.encode()?)));
    let secrets = settings.secrets.iter();
    let secrets: SecretFields = secrets
        .map(|SecretRecord(name, key, made)| (*name, *key, made.map(|it| it.0)))
        .collect();
    let secrets = match cipher.encrypts() {
        true => seal_value(cipher, RecordKind::Meta, SECRETS, secrets)?,
        false => seal_plain(RecordKind::Meta, SECRETS, secrets)?,
    };
    let fields: SettingsFields = (
        settings.registry,
        containers.collect::<Result<_>>()?,
        settings.next_container,
        secrets,
        settings.issuing,
        settings.is_unfinished,
    );
    seal_plain(RecordKind::Meta, SETTINGS, fields)
}

pub(super) fn decode(
    identity: [u8; 16],
    epoch: u64,
    record: &[u8],
    cipher: &RecordCipher,
) -> Result<StoreSettings> {
    let (registry, containers, next_container, secrets, issuing, is_unfinished): SettingsFields =
        open_plain(RecordKind::Meta, SETTINGS, record)?;
    let containers = containers.into_iter().map(|(name, record)| {
        let record = ContainerRecord::decode(&name, &record)?;
        Ok((name, record))
    });
    // A store that was plain before it had keys has plain secrets until they are written again.
    let plain = open_plain(RecordKind::Meta, SECRETS, &secrets);
    let secrets: SecretFields = match (plain, cipher.encrypts()) {
        (Ok(secrets), _) => secrets,
        (Err(_), true) => open_value(cipher, RecordKind::Meta, SECRETS, &secrets)?,
        (Err(error), false) => return Err(error),
    };
    let secrets = secrets
        .into_iter()
        .map(|(name, key, made)| SecretRecord(name, key, made.map(Timestamp)));
    Ok(StoreSettings {
        identity,
        version: epoch,
        registry,
        containers: containers.collect::<Result<_>>()?,
        next_container,
        secrets: secrets.collect(),
        issuing,
        is_unfinished,
    })
}

pub(super) fn digest(record: &[u8]) -> SettingsDigest {
    Sha256::digest(record).into()
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    let damaged = |_| Error::new(ErrorKind::Corrupt, "the store's own row is damaged");
    bytes.try_into().map_err(damaged)
}

/// The digest of the settings in a row of the store's own table.
pub(super) fn digest_of(row: &Row) -> Result<SettingsDigest> {
    Ok(digest(column(row, 1)?))
}

/// The settings in a row of the store's own table.
pub(super) fn decode_row(row: &Row, cipher: &RecordCipher) -> Result<StoreSettings> {
    let epoch: i64 = column(row, 0)?;
    let identity: &[u8] = column(row, 2)?;
    decode(
        sized(identity)?,
        epoch.cast_unsigned(),
        column(row, 1)?,
        cipher,
    )
}

impl Shared {
    /// Hears the epoch and the time of the server on a connection. Finds out whether it has lost settings.
    pub(super) async fn greet(&self, connection: &Connection) -> Result<(), Failure> {
        let (known, sent) = (self.heard.known(), Instant::now());
        let rows = connection.run(Statement::Epoch, &[]).await?;
        let row = rows.first().ok_or_else(lost_meta)?;
        let epoch: i64 = column(row, 0)?;
        let time = column(row, 1)?;
        let digest = column::<&[u8]>(row, 2)?;
        self.check_known(&known, epoch.cast_unsigned(), &sized(digest)?)?;
        self.heard.hear_epoch(epoch.cast_unsigned());
        self.heard.hear_time(time);
        self.heard.measure(time, sent.into_std());
        connection.note_greeted();
        Ok(())
    }

    fn check_known(&self, known: &KnownState, epoch: u64, digest: &SettingsDigest) -> Result<()> {
        match known.is_lost(epoch, digest) {
            true => Err(self.find_back()),
            false => Ok(()),
        }
    }

    /// Loads the newest settings.
    pub(super) async fn load_settings(&self) -> Result<Arc<StoreSettings>> {
        let known = self.heard.known();
        let rows = read!(self, |connection| connection.run(Statement::Settings, &[]))?;
        let row = rows.first().ok_or_else(lost_meta)?;
        // Before its settings are known: nothing is written until they are.
        check_still(&self.rules.cipher, column(row, 3)?)?;
        let settings = decode_row(row, &self.rules.cipher)?;
        let digest = digest_of(row)?;
        self.check_known(&known, settings.version, &digest)?;
        self.heard.know_settings(settings.version, digest);
        Ok(self.know(Arc::new(settings)))
    }

    /// Notes settings, unless newer ones are known. Returns the newest.
    pub(super) fn know(&self, settings: Arc<StoreSettings>) -> Arc<StoreSettings> {
        self.heard.hear_epoch(settings.version);
        self.settings
            .rcu(|known| match known.version < settings.version {
                true => settings.clone(),
                false => known.clone(),
            });
        let newest = self.settings.load_full();
        let times = SweepTimes::of(&newest, self.rules.unconfirmed);
        if times != **self.sweep_times.load() {
            self.sweep_times.store(Arc::new(times));
        }
        newest
    }

    /// Changes the settings, if that makes a difference.
    pub(super) async fn configure(&self, change: SettingsChange) -> Result<Arc<StoreSettings>> {
        let (mut until, mut backoff) = (self.deadline(), Backoff::after_second());
        let mut lost: Option<LostChange> = None;
        loop {
            let newest = self.load_settings().await;
            let newest = newest.map_err(|error| LostChange::or(lost.as_ref(), error))?;
            let found = lost.as_ref().map(|lost| lost.look_up(&newest, &change));
            let repeated = match found {
                Some(LookedUpChange::InForce) => return Ok(newest),
                Some(LookedUpChange::Unknown(error)) => return Err(error),
                Some(LookedUpChange::NotYet(same)) => Some(same),
                Some(LookedUpChange::DidNot) | None => {
                    lost = None;
                    newest.changed(&change)?
                }
            };
            let Some(changed) = repeated else {
                return Ok(newest);
            };
            let record = encode(&changed, &self.rules.cipher)?;
            match self.replace_settings(&changed, &record, until).await {
                Ok(true) => {
                    self.heard.know_settings(changed.version, digest(&record));
                    return Ok(self.know(Arc::new(changed)));
                }
                Ok(false) => {}
                Err(failure) => {
                    let may_be_repeated = failure.may_be_repeated();
                    if let Failure::Lost(error) = &failure {
                        if lost.is_none() {
                            // Looking it up has time of its own.
                            until = self.deadline();
                        }
                        let error = error.clone();
                        lost = Some(LostChange { changed, error });
                    }
                    if !may_be_repeated || !backoff.pause(until).await {
                        return Err(LostChange::or(lost.as_ref(), failure.into_error()));
                    }
                }
            }
        }
    }

    /// Replaces the settings before these by these. False if the server has others.
    async fn replace_settings(
        &self,
        changed: &StoreSettings,
        record: &[u8],
        until: Instant,
    ) -> Result<bool, Failure> {
        let connection = self.connection(until).await?;
        let (old, new) = (changed.version - 1, changed.version);
        let (old, new) = (old.cast_signed(), new.cast_signed());
        let params: [Param<'_>; 3] = [&old, &new, &record];
        let request = connection.run(Statement::Configure, &params);
        match self.within(until, request).await {
            Ok(rows) => {
                connection.give_back();
                Ok(!rows.is_empty())
            }
            Err(failure) => {
                connection.after(&failure);
                Err(failure)
            }
        }
    }
}

/// A change of the settings whose answer was lost.
struct LostChange {
    changed: StoreSettings,
    error: Error,
}

/// What became of it.
enum LookedUpChange {
    InForce,
    /// It may come late. The same change once more takes place in its stead, or not at all.
    NotYet(StoreSettings),
    /// Another change took its place, so it never will.
    DidNot,
    Unknown(Error),
}

impl LostChange {
    fn look_up(&self, newest: &StoreSettings, change: &SettingsChange) -> LookedUpChange {
        match newest.version.cmp(&self.changed.version) {
            Ordering::Less => LookedUpChange::NotYet(self.changed.clone()),
            Ordering::Equal if *newest == self.changed => LookedUpChange::InForce,
            Ordering::Equal => LookedUpChange::DidNot,
            Ordering::Greater if matches!(newest.changed(change), Ok(None)) => {
                LookedUpChange::InForce
            }
            Ordering::Greater => LookedUpChange::Unknown(self.unknown()),
        }
    }

    fn unknown(&self) -> Error {
        let why = "the connection was lost while the settings were changed";
        Error::new(ErrorKind::OutcomeUnknown, why).with_source(self.error.clone())
    }

    /// The error of a change that is given up.
    fn or(lost: Option<&Self>, error: Error) -> Error {
        lost.map_or(error, Self::unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C1.8, C4.2
    #[test]
    fn settings_are_read_back() {
        let settings = new_settings([3; 16], [4; 32], Timestamp(5));
        let plain = RecordCipher::Plain;
        let record = encode(&settings, &plain).unwrap();
        let read = decode([3; 16], 1, &record, &plain).unwrap();
        assert_eq!(format!("{read:?}"), format!("{settings:?}"));
        assert!(read.secrets == settings.secrets);
        let mut damaged = record;
        damaged[9] ^= 1;
        let error = decode([3; 16], 1, &damaged, &plain).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

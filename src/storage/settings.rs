//! The settings that every engine keeps for its store: the containers, and the secrets of the client ids. It knows how
//! they change, not how they are stored.

use super::container_id::{ContainerHome, ContainerId};
use super::record::ContainerRecord;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fmt;

/// The settings of a store. An engine that several processes use keeps one of these for all of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoreSettings {
    /// The random identity of the store, made with it.
    pub(crate) identity: [u8; 16],
    /// Counts the changes. Of two versions of one store's settings, the one with the larger number is the newer.
    pub(crate) version: u64,
    /// Counts the containers registered and unregistered. A commit conflicts if its transaction knew another number.
    pub(crate) registry: u64,
    /// By name. The unnamed container is always there.
    pub(crate) containers: BTreeMap<String, ContainerRecord>,
    /// The number of the next new container. No number is used twice.
    pub(crate) next_container: u32,
    /// The secrets that verify ids, the newest last.
    pub(crate) secrets: Vec<SecretRecord>,
    /// Names the secret that signs new ids: the newest, unless the engine lets a new one verify in every process before
    /// it signs.
    pub(crate) issuing: u8,
    /// Whether the store is a copy of another one that lacks a part of it.
    pub(crate) is_unfinished: bool,
}

/// A secret that signs client ids, as stored: the byte that names it, the key, and when it was made, if that is known.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretRecord(
    pub(crate) u8,
    pub(crate) [u8; 32],
    pub(crate) Option<Timestamp>,
);

impl fmt::Debug for SecretRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretRecord({}, .., {:?})", self.0, self.2)
    }
}

/// A change to the settings of a store.
#[derive(Clone, Debug)]
pub(crate) enum SettingsChange {
    /// Registers a container, or changes one. The engine numbers a new one.
    PutContainer(ContainerSpec),
    /// Gives a container another name.
    PutAlias(AliasSpec),
    /// Removes the container's record, with its aliases. `reclaim` removes its rows. An alias alone is only taken off its
    /// container.
    RemoveContainer(String),
    /// Replaces the secrets, provided that they still are the expected ones.
    ReplaceSecrets {
        expected: Vec<SecretRecord>,
        new: Vec<SecretRecord>,
    },
    /// The copy has all that its original has.
    FinishCopy,
}

/// A container as it is to be.
#[derive(Clone, Debug)]
pub(crate) struct ContainerSpec {
    pub(crate) name: String,
    pub(crate) home: ContainerHome,
    pub(crate) timeout_ms: u64,
    pub(crate) resolution_ms: u64,
    pub(crate) max_lifetime_ms: Option<u64>,
    pub(crate) implicit_sweeps: bool,
}

/// Another name for a container.
#[derive(Clone, Debug)]
pub(crate) struct AliasSpec {
    pub(crate) alias: String,
    /// A name of the container.
    pub(crate) name: String,
}

impl ContainerSpec {
    /// The record of a container that has these names.
    fn record(&self, name: String, aliases: Vec<String>, id: ContainerId) -> ContainerRecord {
        ContainerRecord {
            name,
            aliases,
            id: id.0,
            timeout_ms: self.timeout_ms,
            resolution_ms: self.resolution_ms,
            max_lifetime_ms: self.max_lifetime_ms,
            implicit_sweeps: self.implicit_sweeps,
        }
    }
}

impl StoreSettings {
    /// Returns the settings after a change, or `None` if the change makes no difference. An engine calls this with the
    /// newest settings, and stores the result before anybody else changes them.
    ///
    /// # Errors
    ///
    /// `NoSuchContainer`; `InvalidInput` if the container's sessions would move between the durable engine and
    /// memory; `Conflict` if the secrets are not the expected ones.
    pub(crate) fn changed(&self, change: &SettingsChange) -> Result<Option<Self>> {
        let mut settings = self.clone();
        match change {
            SettingsChange::PutContainer(spec) => {
                if !settings.put(spec)? {
                    return Ok(None);
                }
            }
            SettingsChange::PutAlias(spec) => {
                if !settings.put_alias(spec)? {
                    return Ok(None);
                }
            }
            SettingsChange::RemoveContainer(name) => {
                let own_name = self.container(name)?.name.clone();
                match settings.containers.get_mut(&own_name) {
                    Some(record) if own_name != *name => record.aliases.retain(|it| it != name),
                    _ => drop(settings.containers.remove(name)),
                }
                settings.registry += 1;
            }
            SettingsChange::ReplaceSecrets { expected, new } => {
                if settings.secrets != *expected {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        "the secrets were changed meanwhile",
                    ));
                }
                settings.secrets.clone_from(new);
                settings.issuing = newest_secret(new);
            }
            SettingsChange::FinishCopy => {
                if !settings.is_unfinished {
                    return Ok(None);
                }
                settings.is_unfinished = false;
            }
        }
        settings.version += 1;
        Ok(Some(settings))
    }

    /// Puts a container; false if it is there already with the same settings.
    fn put(&mut self, spec: &ContainerSpec) -> Result<bool> {
        let known = self.container(&spec.name).ok();
        let id = match known {
            Some(record) => ContainerId(record.id),
            None => ContainerId::new(self.next_container, spec.home),
        };
        let moves = id.home() != spec.home;
        let id = match moves {
            true => moved(id, spec)?,
            false => id,
        };
        let (name, aliases) = match known {
            Some(record) => (record.name.clone(), record.aliases.clone()),
            None => (spec.name.clone(), Vec::new()),
        };
        let record = spec.record(name.clone(), aliases, id);
        if known == Some(&record) {
            return Ok(false);
        }
        if moves {
            // Transactions that know its former place conflict.
            self.registry += 1;
        } else if known.is_none() {
            self.next_container += 1;
            self.registry += 1;
        }
        self.containers.insert(name, record);
        Ok(true)
    }

    /// Gives a container another name; false if it has it already.
    fn put_alias(&mut self, AliasSpec { alias, name }: &AliasSpec) -> Result<bool> {
        let own_name = self.container(name)?.name.clone();
        if self.containers.contains_key(alias) {
            return Err(taken(
                alias,
                "a container of its own has this name; unregister it first",
            ));
        }
        match self.container(alias) {
            Ok(record) if record.name == own_name => return Ok(false),
            Ok(_) => {
                let why = "the name leads to another container; unregister the name first";
                return Err(taken(alias, why));
            }
            Err(_) => {}
        }
        if let Some(record) = self.containers.get_mut(&own_name) {
            record.aliases.push(alias.clone());
            record.aliases.sort();
        }
        self.registry += 1;
        Ok(true)
    }

    /// What a new store begins with that is to be the copy of this one.
    pub(crate) fn for_copy(&self) -> Self {
        Self {
            is_unfinished: true,
            ..self.clone()
        }
    }

    /// Refuses a store that is to be opened as the copy of `original` and is not, or whose copy is finished: what it has
    /// ended since would come back. Refuses an unfinished copy otherwise.
    pub(crate) fn require_role(&self, original: Option<&Self>) -> Result<()> {
        let why = match original {
            Some(original) if original.identity != self.identity => return Err(Self::no_copy()),
            Some(_) if !self.is_unfinished => {
                "the store is there already, and is no unfinished copy: what was ended in it since would come back; copy \
                 into a new store"
            }
            None if self.is_unfinished => {
                "the store is an unfinished copy of another one: finish it with `cloakroom move` or Store::copy_to"
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, why))
    }

    /// The error of a store that is to be the copy of another one, and is not.
    pub(crate) fn no_copy() -> Error {
        let why =
            "the store is there already, and is no copy of the other one; copy into a new store";
        Error::new(ErrorKind::InvalidInput, why)
    }

    /// The container with this name, which may be an alias.
    ///
    /// # Errors
    ///
    /// `NoSuchContainer`.
    pub(crate) fn container(&self, name: &str) -> Result<&ContainerRecord> {
        let by_alias = || {
            let mut records = self.containers.values();
            records.find(|record| record.aliases.iter().any(|alias| alias == name))
        };
        let record = self.containers.get(name).or_else(by_alias);
        record.ok_or_else(|| no_such_container(name))
    }
}

/// The id of a container after a move. Only the unnamed one moves, as it cannot be unregistered and registered anew. The
/// caller makes sure that it has no sessions.
fn moved(id: ContainerId, spec: &ContainerSpec) -> Result<ContainerId> {
    if id.is_unnamed() && spec.home != ContainerHome::Cookie {
        return Ok(ContainerId::new(id.number(), spec.home));
    }
    let why = match id.is_unnamed() {
        true => "the unnamed container cannot live in a cookie",
        false => "a container cannot move between file, memory and cookie; unregister it first",
    };
    Err(Error::new(ErrorKind::InvalidInput, why).in_container(&*spec.name))
}

fn taken(alias: &str, why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, why).in_container(alias)
}

/// The name of the newest secret.
pub(crate) fn newest_secret(secrets: &[SecretRecord]) -> u8 {
    secrets.last().map_or(0, |secret| secret.0)
}

pub(crate) fn no_such_container(name: &str) -> Error {
    Error::new(
        ErrorKind::NoSuchContainer,
        "no container of this name is registered",
    )
    .in_container(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> StoreSettings {
        StoreSettings {
            identity: [0; 16],
            version: 7,
            registry: 3,
            containers: BTreeMap::new(),
            next_container: 5,
            secrets: vec![SecretRecord(0, [1; 32], None)],
            issuing: 0,
            is_unfinished: false,
        }
    }

    fn spec(name: &str, home: ContainerHome, timeout_ms: u64) -> ContainerSpec {
        ContainerSpec {
            name: name.into(),
            home,
            timeout_ms,
            resolution_ms: 1,
            max_lifetime_ms: None,
            implicit_sweeps: true,
        }
    }

    fn put(settings: &StoreSettings, spec: ContainerSpec) -> Result<Option<StoreSettings>> {
        settings.changed(&SettingsChange::PutContainer(spec))
    }

    // C1.7, C1.8
    #[test]
    fn a_new_container_takes_the_next_number_and_keeps_it() {
        let durable = ContainerHome::Durable;
        let first = put(&settings(), spec("a", durable, 10)).unwrap().unwrap();
        let second = put(&first, spec("b", ContainerHome::Memory, 10));
        let second = second.unwrap().unwrap();
        let id = |name: &str| ContainerId(second.containers[name].id);
        assert_eq!((id("a").number(), id("a").home()), (5, durable));
        assert_eq!(
            (id("b").number(), id("b").home()),
            (6, ContainerHome::Memory)
        );
        assert_eq!((second.version, second.registry), (9, 5));

        let changed = put(&second, spec("a", durable, 20)).unwrap().unwrap();
        assert_eq!(changed.containers["a"].id, second.containers["a"].id);
        assert_eq!((changed.version, changed.registry), (10, 5));
        assert!(put(&changed, spec("a", durable, 20)).unwrap().is_none());

        let removed = changed.changed(&SettingsChange::RemoveContainer("b".into()));
        let removed = removed.unwrap().unwrap();
        let again = put(&removed, spec("b", durable, 10)).unwrap().unwrap();
        assert_eq!(ContainerId(again.containers["b"].id).number(), 7);
    }

    // C1.7
    #[test]
    fn a_container_does_not_move_and_an_unknown_one_is_not_removed() {
        let with = put(&settings(), spec("a", ContainerHome::Memory, 10));
        let with = with.unwrap().unwrap();
        let moved = put(&with, spec("a", ContainerHome::Durable, 10)).unwrap_err();
        assert_eq!(moved.kind(), ErrorKind::InvalidInput);
        let gone = with.changed(&SettingsChange::RemoveContainer("b".into()));
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::NoSuchContainer);
    }

    // C10.1
    #[test]
    fn a_copy_is_a_copy_until_it_is_finished_and_a_store_then() {
        let original = settings();
        let copy = original.for_copy();
        assert!(original.require_role(None).is_ok());
        assert!(copy.require_role(Some(&original)).is_ok());
        assert!(copy.require_role(None).is_err());
        let finished = copy.changed(&SettingsChange::FinishCopy).unwrap().unwrap();
        assert_eq!((finished.version, finished.registry), (8, 3));
        assert!(finished.require_role(None).is_ok());
        assert!(finished.require_role(Some(&original)).is_err());
        assert!(
            finished
                .changed(&SettingsChange::FinishCopy)
                .unwrap()
                .is_none()
        );
    }

    // C4.2, C10.3
    #[test]
    fn secrets_are_replaced_only_if_they_are_the_expected_ones() {
        let replace = |expected: u8| {
            settings().changed(&SettingsChange::ReplaceSecrets {
                expected: vec![SecretRecord(0, [expected; 32], None)],
                new: vec![SecretRecord(1, [2; 32], None)],
            })
        };
        let replaced = replace(1).unwrap().unwrap();
        assert_eq!(replaced.secrets, [SecretRecord(1, [2; 32], None)]);
        assert_eq!(replaced.issuing, 1);
        assert_eq!((replaced.version, replaced.registry), (8, 3));
        assert_eq!(replace(9).unwrap_err().kind(), ErrorKind::Conflict);
    }
}

//! How containers are registered, changed and removed. The engine decides, and numbers new ones.

use super::settings::ContainerSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::check_name;
use crate::storage::{AliasSpec, ContainerId, ContainerSpec, SettingsChange, no_such_container};
use crate::transaction::{ContainerIndex, CookieSupport, Env};

/// How many sessions of the unnamed container are looked at when a container is registered.
const SAMPLED: usize = 1000;

const HELD: &str = "the unnamed container holds sessions; it moves between file and memory once all have ended and are swept";
const HIDDEN: &str = "the unnamed container cannot move to where sessions still lie that an interrupted move left behind; sweeps remove them once they have expired";

/// What became of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    /// It is new. Its package may have data in the unnamed container.
    New,
    Changed,
}

/// Registers a container, or changes its settings.
pub(crate) async fn register(
    env: &Env,
    name: &str,
    settings: &ContainerSettings,
) -> Result<Registration> {
    env.process.check()?;
    check_name("the container's name", name, &env.rules.limits)?;
    let spec = settings.spec(name);
    CookieSupport::of_this_build().check_home(spec.home, name)?;
    let registered = env.registry.load().get(name).cloned();
    // Other containers do not move: the engine refuses it.
    let moves = |id: ContainerId| id.is_unnamed() && id.home() != spec.home;
    let former = registered.as_ref().filter(|it| moves(it.id()));
    if let Some(former) = former {
        refuse_sessions(env, former.id(), HELD).await?;
        // Where the process ended between the steps of an earlier move, a session may lie hidden there. It may have been
        // logged out since, and must not be served again.
        let there = ContainerId::new(former.id().number(), spec.home);
        refuse_sessions(env, there, HIDDEN).await?;
    }
    put(env, spec).await?;
    if let Some(former) = former
        && let Err(error) = refuse_sessions(env, former.id(), HELD).await
    {
        // One came in between. It is served again.
        put(env, ContainerSettings::of(former).spec("")).await?;
        return Err(error);
    }
    Ok(match registered {
        Some(_) => Registration::Changed,
        None => Registration::New,
    })
}

async fn put(env: &Env, spec: ContainerSpec) -> Result<()> {
    let change = SettingsChange::PutContainer(spec);
    let settings = env.storage.configure(change).await?;
    env.show_settings(&settings)
}

/// Refuses to move the unnamed container while it has sessions in a place. From the registration on, nobody adds any to
/// its former place.
async fn refuse_sessions(env: &Env, place: ContainerId, why: &'static str) -> Result<()> {
    let snapshot = env.storage.snapshot().await?;
    let sessions = snapshot.sessions(place, None, 1).await?;
    match sessions.is_empty() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::InvalidInput, why).in_container("")),
    }
}

/// Gives a container another name.
pub(crate) async fn register_alias(env: &Env, alias: &str, name: &str) -> Result<Registration> {
    env.process.check()?;
    check_name("the container's name", alias, &env.rules.limits)?;
    let registration = match env.registry.load().get(alias) {
        Some(_) => Registration::Changed,
        None => Registration::New,
    };
    let change = SettingsChange::PutAlias(AliasSpec {
        alias: alias.to_owned(),
        name: name.to_owned(),
    });
    let settings = env.storage.configure(change).await?;
    env.show_settings(&settings)?;
    Ok(registration)
}

/// Changes the settings of a container that is registered.
pub(crate) async fn configure(env: &Env, name: &str, settings: &ContainerSettings) -> Result<()> {
    env.refresh_settings().await?;
    if env.registry.load().get(name).is_none() {
        return Err(no_such_container(name));
    }
    register(env, name, settings).await.map(drop)
}

/// Removes a container, or an alias of one.
pub(crate) async fn unregister(env: &Env, name: &str) -> Result<()> {
    env.process.check()?;
    if name.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "the unnamed container always exists",
        ));
    }
    let change = SettingsChange::RemoveContainer(name.to_owned());
    let settings = env.storage.configure(change).await?;
    env.show_settings(&settings)
}

/// Warns of data that the package of a new container, or of a new alias, has elsewhere. After the registration, nobody
/// adds any.
pub(crate) fn warn_of_data_left_behind(env: &Env, package: &str) {
    let registry = env.registry.load();
    if registry.for_package(package) == ContainerIndex::UNNAMED {
        return;
    }
    match has_data_left_behind(env, package) {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            package,
            "the package has data in the unnamed container, which stays and expires there"
        ),
        Err(error) => tracing::warn!(
            package,
            %error,
            "whether the package has data in the unnamed container cannot be found out"
        ),
    }
}

/// Whether one of the first sessions of the unnamed container has the package. The order is that of the clients'
/// keys, which are hashes: a random sample.
fn has_data_left_behind(env: &Env, package: &str) -> Result<bool> {
    let snapshot = env.snapshot()?;
    let unnamed = env.registry.load().unnamed().id();
    let rows = snapshot.sessions(unnamed, None, SAMPLED).wait()?;
    crate::steps::count(rows.len());
    let mut rows = rows.iter().filter_map(|(_, row)| row.as_ref().ok());
    Ok(rows.any(|row| row.has(package)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on::block_on;
    use crate::{Clock, ContainerSettings, Store};
    use std::time::Duration;

    // C1.7: the process may end after the step that moves it, and before the check that nobody came in between.
    #[test]
    fn a_session_that_an_interrupted_move_hid_is_not_served_again() {
        let store = Store::in_memory().unwrap();
        let id = store.client_ids().issue();
        let begin = |txn: &crate::Txn| txn.session(&id)?.pkg("news").insert("key", 7);
        store.transact(begin).unwrap();
        let in_memory = ContainerSettings::new().in_memory();
        let unnamed = store.container("").unwrap();
        block_on(put(&unnamed.env, in_memory.spec(""))).unwrap();
        let exists = || store.transact(|txn| txn.session(&id)?.exists()).unwrap();
        assert!(!exists());
        let refused = store.register("", ContainerSettings::new()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(refused.to_string().contains("interrupted"), "{refused}");
        assert!(!exists());
    }

    // C1.7, C3.7
    #[test]
    fn sessions_that_an_interrupted_move_hid_are_swept_once_they_have_expired() {
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let store = Store::builder().clock(clock.clone());
        let store = store.implicit_sweeps(false).in_memory().unwrap();
        let begin = |id: &crate::ClientId| {
            let begin = |txn: &crate::Txn| txn.session(id)?.pkg("news").insert("key", 7);
            store.transact(begin).unwrap();
        };
        begin(&store.client_ids().issue());
        let unnamed = store.container("").unwrap();
        let in_memory = ContainerSettings::new().in_memory();
        block_on(put(&unnamed.env, in_memory.spec(""))).unwrap();
        clock.advance(Duration::from_secs(1800));
        let later = store.client_ids().issue();
        begin(&later);
        assert_eq!(unnamed.sweep().unwrap().removed, 0);
        clock.advance(Duration::from_secs(1801));
        let swept = unnamed.sweep().unwrap();
        assert_eq!((swept.scanned, swept.removed), (2, 1));
        store
            .transact(|txn| txn.session(&later)?.destroy())
            .unwrap();
        store.register("", ContainerSettings::new()).unwrap();
        begin(&store.client_ids().issue());
        assert_eq!(unnamed.sweep().unwrap().scanned, 1);
    }
}

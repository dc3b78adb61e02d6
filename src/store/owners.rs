//! The sessions of an owner.

use super::Store;
use crate::block_on::block_on;
use crate::client_id::ClientKey;
use crate::error::{ErrorKind, Result};
use crate::steps::Counted;
use crate::throttle::Throttle;
use crate::transaction::Env;
use std::collections::{HashMap, HashSet};

impl Store {
    /// Returns the live sessions whose owner was set to `owner` by [`set_owner`](crate::Session::set_owner). Does not
    /// count as a read. Blocks until the list is read.
    ///
    /// A session with a damaged record is listed too, although it may have expired. Code that ends all sessions of a
    /// user must learn of sessions that it cannot end. [`check`](Self::check) reports the damage.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if a part of the file cannot be read that may list a session of this owner;
    /// another failure of the storage.
    pub fn sessions_of(&self, owner: &str) -> Result<Vec<ClientKey>> {
        block_on(sessions_of(&self.inner.env, owner))
    }

    /// [`sessions_of`](Self::sessions_of) as a future.
    ///
    /// # Errors
    ///
    /// As for [`sessions_of`](Self::sessions_of).
    pub fn sessions_of_async(
        &self,
        owner: &str,
    ) -> impl Future<Output = Result<Vec<ClientKey>>> + Send + use<> {
        let (store, owner) = (self.clone(), owner.to_owned());
        async move { sessions_of(&store.inner.env, &owner).await }
    }
}

async fn sessions_of(env: &Env, owner: &str) -> Result<Vec<ClientKey>> {
    env.refresh_settings().await?;
    env.process.check()?;
    let snapshot = env.storage.snapshot().await?;
    let owned = snapshot.owned(owner).await?;
    let clients: Vec<_> = owned.iter().map(|(_, client)| *client).collect();
    snapshot.load(&clients).await?;
    let registry = env.registry.load_full();
    let now = env.clock.timestamp();
    let containers = registry
        .containers()
        .iter()
        .map(|container| (container.id(), container));
    let containers: HashMap<_, _> = containers.collect();
    let (mut found, mut known) = (Vec::new(), HashSet::new());
    for (id, client) in owned {
        crate::steps::count(1);
        let Some(container) = containers.get(&id) else {
            continue;
        };
        if known.contains(&Counted(client)) {
            continue;
        }
        let row = snapshot.session(id, client);
        let is_live = match row.map(|row| row.filter(|row| row.owner.as_deref() == Some(owner))) {
            Ok(None) => Ok(false),
            Ok(Some(row)) => {
                let times = env.times_of(container, client, &row, now, None).await;
                times.map(|times| !container.policy.is_expired(&times, now))
            }
            Err(error) => Err(error),
        };
        match is_live {
            Ok(true) => {}
            Ok(false) => continue,
            // The index names it.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let error = error.in_container(&*container.place.name);
                static DAMAGED: Throttle = Throttle::new(1);
                if let Some(left_out) = DAMAGED.pass() {
                    tracing::warn!(%error, left_out, "a session in the list of an owner is damaged");
                }
            }
            Err(error) => return Err(error),
        }
        known.insert(Counted(client));
        found.push(client);
    }
    Ok(found)
}

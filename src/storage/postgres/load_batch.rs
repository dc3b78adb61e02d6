//! Reads what waits in the queue of loads. Those that wait at the same time are read by one statement.

use super::failure::unavailable;
use super::load::LoadedClients;
use super::load_queue::{LoadReply, RowsOrDamage, WaitingLoad};
use super::reading::read_until;
use super::shared::Shared;
use crate::client_id::ClientKey;
use crate::contain::contain_future;
use crate::error::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How many connections are used for such loads at most.
pub(super) const LOADERS: usize = 2;

impl Shared {
    /// Reads the newest rows of a client.
    pub(super) async fn load_one(&self, client: ClientKey) -> Result<RowsOrDamage> {
        let (reply, answer) = oneshot::channel();
        self.load_for(client, Box::new(reply))?;
        answer.await.unwrap_or_else(|_| Err(self.broken_off()))
    }

    /// Asks for the newest rows of a client, on any thread.
    pub(super) fn load_for(&self, client: ClientKey, reply: Box<dyn LoadReply>) -> Result<()> {
        self.check_open()?;
        self.loads.add(WaitingLoad {
            client,
            until: self.deadline(),
            reply,
        });
        Ok(())
    }

    /// Why a load has no answer.
    pub(super) fn broken_off(&self) -> Error {
        let why = || unavailable("the load was broken off");
        self.check_open().err().unwrap_or_else(why)
    }

    /// Reads what waits, until the engine is closed.
    pub(super) async fn run_loads(self: Arc<Self>) {
        loop {
            // Those that arrive at the same time as the first go with it.
            tokio::task::yield_now().await;
            let loads = self.loads.claim();
            match loads.first().map(|load| load.until) {
                // A panic drops the loads: they fail.
                Some(until) => drop(contain_future(self.answer_loads(loads, until)).await),
                None => self.loads.arrived.notified().await,
            }
        }
    }

    async fn answer_loads(&self, mut loads: Vec<WaitingLoad>, until: Instant) {
        // Loads that were put back may stand before some that came earlier, and none waits for another one's time.
        loads.sort_by_key(|load| load.until);
        let until = loads.first().map_or(until, |load| load.until);
        let clients: HashSet<_> = loads.iter().map(|load| load.client).collect();
        let clients: Vec<_> = clients.into_iter().collect();
        let error = match self.load_until(&clients, until).await {
            Ok(loaded) => {
                let loaded: HashMap<_, _> = loaded.into_iter().collect();
                for load in loads {
                    let rows = loaded.get(&load.client);
                    let rows = rows.cloned().unwrap_or_else(|| Ok(Arc::default()));
                    load.reply.send(Ok(rows));
                }
                return;
            }
            Err(error) => error,
        };
        let is_of_all = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Closed);
        if !is_of_all && clients.len() > 1 {
            // What the server says against one client's rows is no answer to the others.
            for load in loads {
                let loaded = self.load_until(&[load.client], load.until).await;
                load.reply.send(loaded.and_then(first));
            }
            return;
        }
        // Those that came later have time left.
        let late = loads.iter().take_while(|load| load.until <= Instant::now());
        let late = late.count();
        let count = if error.kind() == ErrorKind::Unavailable {
            late
        } else {
            loads.len()
        };
        let left = loads.split_off(count);
        for load in loads {
            load.reply.send(Err(error.clone()));
        }
        self.loads.put_back(left);
    }

    async fn load_until(&self, clients: &[ClientKey], until: Instant) -> Result<LoadedClients> {
        read_until!(self, until, |connection| self.fetch(&connection, clients))
    }
}

fn first(loaded: LoadedClients) -> Result<RowsOrDamage> {
    let nothing = || Error::new(ErrorKind::Unavailable, "the server gave no answer");
    Ok(loaded.into_iter().next().ok_or_else(nothing)?.1)
}

//! The requests of an engine to its server, and the newest facts from the server's answers.

use super::network::{Network, closed};
use super::server::{Server, ServerState};
use crate::clock::Clock;
use crate::error::Result;
use crate::storage::memory::Random;
use crate::storage::memory::{Revision, TableSnapshot};
use crate::storage::{Answer, Mark, Touch};
use futures_channel::oneshot;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) struct Wire {
    pub(super) server: Arc<Server>,
    pub(super) network: Network,
    pub(super) clock: Clock,
    heard: Heard,
    /// Accesses that the server does not know yet. The next message that reaches the server contains them, so that a
    /// request after an access always sees the access.
    touches: Mutex<Vec<UnderWay>>,
    /// How many accesses of this engine the server has recorded.
    pub(super) recorded: AtomicU64,
}

/// An access on its way to the server, and who is told whether its session was alive.
type UnderWay = (Touch, oneshot::Sender<bool>);

#[cfg(test)]
thread_local! {
    static ASKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How often this thread has asked a server so far. Commits and snapshots that are given back do not count.
#[cfg(test)]
pub(crate) fn times_asked() -> usize {
    ASKED.get()
}

/// What every answer of the server tells, the newest of all answers so far. What happened at the server since is not
/// known yet, so who goes by this takes it for later than it was.
struct Heard {
    revision: AtomicU64,
    settings: AtomicU64,
}

impl Wire {
    pub(super) fn connect(server: Arc<Server>, seed: u64, clock: Clock) -> Result<Arc<Self>> {
        let heard = Heard::of(&server.lock());
        let wire = Arc::new(Self {
            server,
            network: Network::start(Random::new(seed))?,
            clock,
            heard,
            touches: Mutex::default(),
            recorded: AtomicU64::new(0),
        });
        let listening = Arc::downgrade(&wire);
        let tell = move |server: &ServerState| {
            let wire = listening.upgrade();
            wire.inspect(|wire| wire.tell(server)).is_some()
        };
        wire.server.lock().listen(Box::new(tell));
        Ok(wire)
    }

    /// Asks the server. Whether or not the answer is awaited, the call takes place.
    pub(super) fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        at_server: impl FnOnce(&mut ServerState) -> Result<T> + Send + 'static,
    ) -> Answer<'static, Result<T>> {
        #[cfg(test)]
        ASKED.set(ASKED.get() + 1);
        let (reply, answer) = oneshot::channel();
        self.call(at_server, move |answer: Result<Result<T>>| {
            drop(reply.send(answer.and_then(|answer| answer)));
        });
        Answer::later(async move { answer.await.unwrap_or_else(|_| Err(closed())) })
    }

    /// Runs `at_server`, then `deliver` with its answer, on the network's thread.
    pub(super) fn call<T: Send + 'static>(
        self: &Arc<Self>,
        at_server: impl FnOnce(&mut ServerState) -> T + Send + 'static,
        deliver: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let (there, here) = (self.clone(), self.clone());
        self.network.call(
            move || {
                let mut server = there.server.lock();
                let before = server.tables.recorded();
                there.deliver_touches(&mut server);
                let answer = at_server(&mut server);
                let recorded = server.tables.recorded() - before;
                there.recorded.fetch_add(recorded, Ordering::Relaxed);
                Ok((answer, Heard::of(&server)))
            },
            move |answer| {
                let answer = answer.map(|(answer, heard)| {
                    here.heard.update(&heard);
                    answer
                });
                deliver(answer);
            },
        );
    }

    /// Sends an access. Tells whether its session was alive.
    pub(super) fn touch(self: &Arc<Self>, touch: Touch) -> oneshot::Receiver<bool> {
        let (reply, answer) = oneshot::channel();
        self.lock_touches().push((touch, reply));
        let here = self.clone();
        self.call(
            |_| (),
            move |sent| {
                if sent.is_err() {
                    here.lock_touches().clear();
                }
            },
        );
        answer
    }

    fn deliver_touches(&self, server: &mut ServerState) {
        let under_way = std::mem::take(&mut *self.lock_touches());
        for (touch, reply) in under_way {
            let _ = reply.send(server.tables.touch(touch, self.clock.timestamp()));
        }
    }

    fn lock_touches(&self) -> MutexGuard<'_, Vec<UnderWay>> {
        self.touches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server tells of new settings.
    pub(super) fn tell(self: &Arc<Self>, server: &ServerState) {
        let (here, news) = (self.clone(), Heard::of(server));
        self.network
            .call(|| Ok(()), move |_| here.heard.update(&news));
    }

    pub(super) fn give_back(self: &Arc<Self>, held: Arc<TableSnapshot>) {
        let give_back = move |server: &mut ServerState| {
            // A call under way may still read it, although nobody waits for that; then it stays.
            if let Some(held) = Arc::into_inner(held) {
                server.tables.give_back(held);
            }
        };
        self.call(give_back, |_| {});
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            durable: [self.heard.revision.load(Ordering::Acquire), 0],
            memory: 0,
        }
    }

    /// The version of the newest settings that were heard of.
    pub(super) fn settings_version(&self) -> u64 {
        self.heard.settings.load(Ordering::Acquire)
    }
}

impl Heard {
    fn of(server: &ServerState) -> Self {
        let Revision(revision) = server.tables.newest();
        Self {
            revision: AtomicU64::new(revision),
            settings: AtomicU64::new(server.settings.version),
        }
    }

    /// Answers may come in another order than they were given.
    fn update(&self, newer: &Self) {
        let pairs = [
            (&self.revision, &newer.revision),
            (&self.settings, &newer.settings),
        ];
        for (known, newer) in pairs {
            known.fetch_max(newer.load(Ordering::Relaxed), Ordering::AcqRel);
        }
    }
}

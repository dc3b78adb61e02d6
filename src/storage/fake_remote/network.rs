//! The way to the server and back: every call arrives late, on another thread, in random order, and so does its answer.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::memory::Random;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A call on its way to the server, or its answer on the way back. Delivering a call gives its answer.
struct Message(Box<dyn FnOnce() -> Option<Message> + Send>);

/// How many times at most the network lets other threads run before it delivers a message.
const LATE: u64 = 8;

/// The connection of one engine. A seed draws which of the messages under way is delivered next, so that the same calls
/// in the same order take the same course.
pub(super) struct Network {
    shared: Arc<NetworkShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct NetworkShared {
    traffic: Mutex<Traffic>,
    sent: Condvar,
}

#[derive(Default)]
struct Traffic {
    under_way: Vec<Message>,
    is_closed: bool,
}

impl Network {
    pub(super) fn start(random: Random) -> Result<Self> {
        let shared = Arc::<NetworkShared>::default();
        let thread = std::thread::Builder::new()
            .name("cloakroom-network".into())
            .spawn({
                let shared = shared.clone();
                move || shared.run(random)
            })
            .map_err(|e| Error::new(ErrorKind::Io, "no thread can be started").with_source(e))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Runs `at_server` at the server, and `deliver` with its answer here, both on the network's thread. Once the
    /// connection is closed, it is an error, at once.
    pub(super) fn call<T: Send + 'static>(
        &self,
        at_server: impl FnOnce() -> Result<T> + Send + 'static,
        deliver: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let mut traffic = self.shared.lock();
        if traffic.is_closed {
            drop(traffic);
            return deliver(Err(closed()));
        }
        traffic.under_way.push(Message(Box::new(move || {
            let answer = at_server();
            Some(Message(Box::new(move || {
                deliver(answer);
                None
            })))
        })));
        drop(traffic);
        self.shared.sent.notify_one();
    }

    pub(super) fn ready(&self) -> Result<()> {
        if self.shared.lock().is_closed {
            return Err(closed());
        }
        Ok(())
    }

    /// Delivers the messages that are under way, then closes the connection.
    pub(super) fn close(&self) {
        self.shared.lock().is_closed = true;
        self.shared.sent.notify_one();
        // A second caller waits here until all is delivered.
        let mut slot = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = slot.take()
            // An answer may drop the last handle on this very thread.
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl NetworkShared {
    fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut random: Random) {
        while self.wait() {
            for _ in 0..random.below(LATE) {
                std::thread::yield_now();
            }
            let mut traffic = self.lock();
            let next = random.below(traffic.under_way.len() as u64);
            let next = usize::try_from(next).unwrap_or_default();
            let message = traffic.under_way.swap_remove(next);
            drop(traffic);
            if let Some(answer) = message.0() {
                self.lock().under_way.push(answer);
            }
        }
    }

    /// Sleeps until something is under way; not, once the connection is closed.
    fn wait(&self) -> bool {
        let mut traffic = self.lock();
        while traffic.under_way.is_empty() && !traffic.is_closed {
            let woken = self.sent.wait(traffic);
            traffic = woken.unwrap_or_else(PoisonError::into_inner);
        }
        !traffic.under_way.is_empty()
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn order_of(seed: u64) -> Vec<usize> {
        let network = Network::start(Random::new(seed)).unwrap();
        let (tell, told) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        // All are under way before the first is delivered.
        network.call(
            move || {
                let _ = released.recv();
                Ok(())
            },
            |_| {},
        );
        for n in 0..20 {
            let tell = tell.clone();
            network.call(move || Ok(n), move |n| tell.send(n.unwrap()).unwrap());
        }
        drop((release, tell));
        network.close();
        told.iter().collect()
    }

    #[test]
    fn answers_come_in_an_order_that_the_seed_draws() {
        let orders = [1, 2].map(order_of);
        assert_ne!(orders[0], orders[1]);
        assert_ne!(orders[0], (0..20).collect::<Vec<_>>());
        for order in orders {
            assert_eq!(order.len(), 20, "closing delivers all");
        }
    }

    #[test]
    fn a_call_on_a_closed_connection_is_refused() {
        let network = Network::start(Random::new(1)).unwrap();
        network.close();
        let (tell, told) = mpsc::channel();
        network.call(|| Ok(()), move |answer| tell.send(answer).unwrap());
        assert_eq!(told.recv().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }
}

//! Sweeps every container once per resolution in force, on a thread of its own (C3.7). A failure is logged and
//! the next round comes all the same.

use crate::clock::{Clock, Moment, Timestamp};
use crate::container;
use crate::error::ErrorKind;
use crate::expiry::{ExpiryPolicy, Times};
use crate::storage::ContainerId;
use crate::transaction::Env;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// No container is swept more often than this, whatever its resolution.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long the thread sleeps at most.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Sweeper {
    state: Mutex<SweepWait>,
    changed: Condvar,
    /// Wakes it when the clock is moved by hand.
    watcher: OnceLock<Arc<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct SweepWait {
    woken: bool,
    closing: bool,
}

impl Sweeper {
    fn lock(&self) -> MutexGuard<'_, SweepWait> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the sweeper, which then looks again which sweeps are due: time was moved, or a container changed.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// Lets a clock that is moved by hand wake the sweeper.
    pub(super) fn watch(self: &Arc<Self>, clock: &Clock) {
        let sweeper = Arc::downgrade(self);
        let watcher = self.watcher.get_or_init(|| {
            Arc::new(move || {
                if let Some(sweeper) = sweeper.upgrade() {
                    sweeper.wake();
                }
            })
        });
        clock.watch(Arc::downgrade(watcher));
    }

    /// Sweeps until the store is closed.
    pub(super) fn run(&self, env: &Env) {
        let mut last = HashMap::new();
        let mut wait = Duration::ZERO;
        while self.sleep(wait) {
            wait = round(env, &mut last);
        }
    }

    /// Waits; false once the store closes.
    fn sleep(&self, wait: Duration) -> bool {
        let state = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(state, wait, |state| !state.woken && !state.closing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.woken = false;
        !state.closing
    }
}

/// Runs the sweeps that are due. Returns the time until the next one is due.
fn round(env: &Env, last: &mut HashMap<ContainerId, Moment>) -> Duration {
    let registry = env.registry.load_full();
    let mut wait = LONGEST;
    let mut swept = false;
    let mut sweeps_here = None;
    let swept_here = || {
        let containers = registry.containers().iter();
        containers.filter(|container| container.implicit_sweeps)
    };
    // The lease of one process must not outlast the pauses of any container.
    let shortest = swept_here()
        .map(|container| interval(&container.policy))
        .min();
    last.retain(|id, _| {
        registry
            .containers()
            .iter()
            .any(|container| container.id() == *id)
    });
    for container in swept_here() {
        let now = env.clock.moment();
        let every = interval(&container.policy);
        let since = now.since(*last.entry(container.id()).or_insert(now));
        if since < every {
            wait = wait.min(every - since);
            continue;
        }
        last.insert(container.id(), now);
        wait = wait.min(every);
        if !*sweeps_here.get_or_insert_with(|| may_sweep(env, shortest.unwrap_or(every))) {
            continue;
        }
        swept = true;
        if let Err(error) = container::sweep(env, container, &mut |_| ControlFlow::Continue(())) {
            report(&error, "a sweep failed");
        }
    }
    if swept && let Err(error) = container::reclaim(env, || ControlFlow::Continue(())) {
        report(&error, "old rows could not be removed");
    }
    wait
}

/// Whether this process is the one that sweeps.
fn may_sweep(env: &Env, every: Duration) -> bool {
    let may = env.storage.may_sweep(every).wait();
    may.unwrap_or_else(|error| {
        report(&error, "it cannot be found out which process sweeps");
        false
    })
}

/// How often a container is swept: once per resolution in force (C3.1). A session's own timeout does
/// not count.
fn interval(policy: &ExpiryPolicy) -> Duration {
    let of_the_container = Times {
        created: Timestamp(0),
        last_access: Timestamp(0),
        timeout: None,
        ends_at: None,
        unconfirmed_since: None,
    };
    policy.resolution_of(&of_the_container, None).max(SHORTEST)
}

fn report(error: &crate::Error, what: &str) {
    if error.kind() != ErrorKind::Closed {
        tracing::warn!(%error, "{what}; it will be tried again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientId, ContainerSettings, Store};

    fn store(clock: &Clock) -> Store {
        let builder = Store::builder().clock(clock.clone());
        builder.implicit_sweeps(false).in_memory().unwrap()
    }

    fn clock() -> Clock {
        Clock::manual("2026-01-01T00:00:00Z".parse().unwrap())
    }

    fn put(store: &Store, package: &str) -> ClientId {
        let id = store.client_ids().issue();
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        session.pkg(package).insert("n", 1).unwrap();
        txn.commit().unwrap();
        id
    }

    // C3.1, C3.7
    #[test]
    fn sweeps_come_once_per_resolution_in_force() {
        let policy = |timeout, resolution| ExpiryPolicy {
            timeout: Duration::from_secs(timeout),
            resolution: Duration::from_secs(resolution),
            max_lifetime: None,
            unconfirmed: None,
        };
        let every = |timeout, resolution| interval(&policy(timeout, resolution)).as_secs();
        assert_eq!(every(3600, 600), 600);
        assert_eq!(every(60, 600), 30);
        assert_eq!(every(0, 600), 600);
        assert_eq!(every(1, 600), 1);
        assert_eq!(every(3600, 0), 1);
    }

    // C3.1, C3.7
    #[test]
    fn a_container_with_a_short_timeout_is_swept_after_half_of_it() {
        let clock = clock();
        let store = store(&clock);
        let settings = ContainerSettings::new().timeout(Duration::from_secs(60));
        let cart = store.register("cart", settings).unwrap();
        put(&store, "cart");
        clock.advance(Duration::from_secs(31));
        let mut last = HashMap::new();
        let env = &store.inner.env;
        assert_eq!(round(env, &mut last), Duration::from_secs(30));
        clock.advance(Duration::from_secs(30));
        round(env, &mut last);
        let counts = cart.statistics().unwrap();
        assert_eq!((counts.live, counts.expired), (0, 0));
    }

    // C1.8, C3.7
    #[test]
    fn a_container_without_implicit_sweeps_is_swept_when_asked_or_once_it_has_them_again() {
        let clock = clock();
        let store = store(&clock);
        let quiet = ContainerSettings::new().implicit_sweeps(false);
        let cart = store.register("cart", quiet.clone()).unwrap();
        put(&store, "cart");
        put(&store, "app");
        let mut last = HashMap::new();
        let env = &store.inner.env;
        round(env, &mut last);
        clock.advance(Duration::from_secs(3601));
        round(env, &mut last);
        assert_eq!(cart.statistics().unwrap().expired, 1);
        let others = store.container("").unwrap();
        assert_eq!(others.statistics().unwrap().expired, 0);
        assert_eq!(cart.sweep().unwrap().removed, 1);

        put(&store, "cart");
        cart.configure(quiet.implicit_sweeps(true)).unwrap();
        round(env, &mut last);
        clock.advance(Duration::from_secs(3601));
        round(env, &mut last);
        assert_eq!(cart.statistics().unwrap().expired, 0);
    }

    // C3.7
    #[test]
    fn a_sweep_that_is_asked_for_leaves_nothing_to_reclaim() {
        let clock = clock();
        let store = store(&clock);
        store.register("cart", ContainerSettings::new()).unwrap();
        put(&store, "cart");
        store.unregister("cart").unwrap();
        let id = put(&store, "app");
        let txn = store.begin().unwrap();
        txn.session(&id).unwrap().destroy().unwrap();
        txn.commit().unwrap();
        clock.advance(Duration::from_secs(100 * 86_400));
        store.container("").unwrap().sweep().unwrap();
        let storage = &store.inner.env.storage;
        let reclaimed = storage.reclaim(store.inner.env.refusals()).wait();
        assert_eq!(reclaimed.unwrap(), 0);
    }
}

//! A store in memory, for a test.

use crate::clock::Clock;
use crate::store::{Store, StoreBuilder};

/// Returns a store in memory and its clock, which stays at 2026-01-01T00:00:00Z until the test moves it. The store
/// removes expired sessions only when the test calls [`Container::sweep`](crate::Container::sweep).
#[must_use]
pub fn store() -> (Store, Clock) {
    store_with(|settings| settings)
}

/// Returns a store as [`store`] does, with other settings.
///
/// ```
/// use cloakroom::testing;
///
/// let (store, _clock) = testing::store_with(|settings| settings.max_keys(10));
/// # drop(store);
/// ```
///
/// # Panics
///
/// If a store with these settings does not open.
#[must_use]
#[track_caller]
pub fn store_with(settings: impl FnOnce(StoreBuilder) -> StoreBuilder) -> (Store, Clock) {
    // The first of January 2026, in seconds since the Unix epoch.
    let start = chrono::DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default();
    let clock = Clock::manual(start);
    let builder = Store::builder().clock(clock.clone()).implicit_sweeps(false);
    match settings(builder).in_memory() {
        Ok(store) => (store, clock),
        Err(error) => panic!("the store does not open: {error}"),
    }
}

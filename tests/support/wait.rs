//! Waits for what other threads do.

use std::time::{Duration, Instant};

/// Waits until `there` holds; the bound is there for a store in which it never will.
#[track_caller]
pub(crate) fn until(what: &str, mut there: impl FnMut() -> bool) {
    let bound = Instant::now() + Duration::from_secs(60);
    while !there() {
        assert!(Instant::now() < bound, "in vain: {what}");
        std::thread::yield_now();
    }
}

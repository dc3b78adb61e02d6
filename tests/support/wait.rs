//! Waits for what other threads do.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Asks until there is an answer, and gives it; the same bound holds.
#[track_caller]
pub(crate) fn eventually<T, E: Debug>(mut ask: impl FnMut() -> Result<T, E>) -> T {
    let bound = Instant::now() + Duration::from_secs(60);
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(e) => assert!(Instant::now() < bound, "{e:?}"),
        }
        std::thread::yield_now();
    }
}

/// Tells the threads of a scope to end, also where the test fails: the scope waits for them.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

//! Where code of the application's runs on a thread of ours: a panic ends there.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the application's; `None` if it panicked. Neither its panic nor what it panicked
/// with, whose `Drop` is the application's too, gets any further.
pub(crate) fn contain<T>(work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => Some(value),
        Err(payload) => {
            discard(payload);
            None
        }
    }
}

fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Dropping this one may panic again, and so on.
        std::mem::forget(another);
    }
}

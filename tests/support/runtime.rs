//! A runtime with one thread, which serves all requests of a process: nothing may make that thread sleep.

/// Runs a future on a current-thread runtime, whose thread must not be blocked meanwhile.
#[track_caller]
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    without_blocking(|| runtime.block_on(future))
}

/// Runs work that finds all that it needs, so that it blocks no thread.
#[track_caller]
pub(crate) fn without_blocking<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(feature = "torture")]
    let before = cloakroom::torture::times_blocked();
    let done = work();
    #[cfg(feature = "torture")]
    assert_eq!(
        cloakroom::torture::times_blocked(),
        before,
        "the thread was blocked"
    );
    done
}

//! Logs the errors that become responses: each once, with a limited rate, and without ids and values.

use http::Extensions;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::Level;
use tracing::field::display;

use crate::block_on::is_task;
use crate::error::{Error, ErrorKind, Quoted};
use crate::throttle::Throttle;

/// More than there are kinds of errors.
const KINDS: usize = 64;

/// Who causes an error. This decides the level of its log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultOrigin {
    /// Any visitor can cause it at will, so its level is DEBUG.
    Visitor,
    /// The store cannot serve at the moment.
    Storage,
    /// The application or the store is broken, and stays so.
    Ours,
}

impl FaultOrigin {
    const fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Conflict
            | ErrorKind::TooLarge
            | ErrorKind::MissingClientId
            | ErrorKind::CsrfRefused
            | ErrorKind::NotFresh
            | ErrorKind::NotAdmitted
            | ErrorKind::SessionEnded => Self::Visitor,
            ErrorKind::Unavailable | ErrorKind::NotWritten | ErrorKind::SnapshotTooOld => {
                Self::Storage
            }
            _ => Self::Ours,
        }
    }

    fn is_wanted(self) -> bool {
        match self {
            Self::Visitor => tracing::enabled!(Level::DEBUG),
            Self::Storage => tracing::enabled!(Level::WARN),
            Self::Ours => tracing::enabled!(Level::ERROR),
        }
    }

    fn throttle(self, kind: ErrorKind) -> Option<&'static Throttle> {
        static REFUSALS: [Throttle; KINDS] = [const { Throttle::new(1) }; KINDS];
        static FAILURES: [Throttle; KINDS] = [const { Throttle::new(10) }; KINDS];
        let of_kinds = match self {
            Self::Visitor | Self::Storage => &REFUSALS,
            Self::Ours => &FAILURES,
        };
        of_kinds.get(kind as usize)
    }
}

/// In the extensions of a response that was made of an error inside the layer: the error is logged when the response
/// is sent, or when the application takes the response apart.
#[derive(Clone)]
struct UnloggedError(Arc<UnloggedState>);

struct UnloggedState {
    error: Error,
    is_settled: AtomicBool,
}

impl UnloggedError {
    fn new(error: Error) -> Self {
        Self(Arc::new(UnloggedState {
            error,
            is_settled: AtomicBool::new(false),
        }))
    }
}

impl Drop for UnloggedState {
    fn drop(&mut self) {
        if !*self.is_settled.get_mut() {
            report(&self.error);
        }
    }
}

/// Logs an error of which a response is made. Inside the layer this waits until it is known whether the response is
/// sent.
pub(super) fn report_when_sent(error: &Error, response: &mut Extensions) {
    if is_task() {
        response.insert(UnloggedError::new(error.clone()));
    } else {
        report(error);
    }
}

/// Logs the error that the response is made of which is sent now.
pub(super) fn report_sent(response: &mut Extensions) {
    // Inside another layer, that layer decides which response is sent.
    if !is_task()
        && let Some(unlogged) = response.remove::<UnloggedError>()
        && !unlogged.0.is_settled.swap(true, Ordering::Relaxed)
    {
        report(&unlogged.0.error);
    }
}

/// The response is not sent, so its error is not logged.
pub(super) fn report_dropped(response: &Extensions) {
    if let Some(unlogged) = response.get::<UnloggedError>() {
        unlogged.0.is_settled.store(true, Ordering::Relaxed);
    }
}

/// Logs an error: refusals of one kind once a second, failures ten times.
fn report(error: &Error) {
    let kind = error.kind();
    let fault = FaultOrigin::of(kind);
    if !fault.is_wanted() {
        return;
    }
    let Some(left_out) = fault.throttle(kind).map_or(Some(0), Throttle::pass) else {
        return;
    };
    let left_out = (left_out > 0).then_some(left_out);
    let name = |name| display(Quoted(name));
    let container = error.container().map(name);
    let package = error.package().map(name);
    let key = error.key().map(name);
    let why = error.without_location();
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(
                ?kind,
                container,
                package,
                key,
                left_out,
                "a request was answered with an error: {why}"
            )
        };
    }
    match fault {
        FaultOrigin::Visitor => tell!(debug),
        FaultOrigin::Storage => tell!(warn),
        FaultOrigin::Ours => tell!(error),
    }
}

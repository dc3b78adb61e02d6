//! The log of the thread that a subscriber is set for.

use std::fmt::{Debug, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// Hands on each line that is wanted: its level, then its message and its fields.
pub(crate) struct Lines<F> {
    wanted: fn(&Metadata<'_>) -> bool,
    line: F,
}

impl<F: Fn(Level, String) + 'static> Lines<F> {
    pub(crate) fn of(wanted: fn(&Metadata<'_>) -> bool, line: F) -> Self {
        Self { wanted, line }
    }
}

impl<F: Fn(Level, String) + 'static> Subscriber for Lines<F> {
    /// Asked anew each time: events that interest other threads are not `enabled` there.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        (self.wanted)(metadata)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        (self.line)(*event.metadata().level(), line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        match field.name() {
            "message" => write!(self.0, "{value:?}").unwrap(),
            name => write!(self.0, "{name}={value:?}").unwrap(),
        }
    }
}

/// Counts warnings.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<AtomicUsize>);

impl Warnings {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// What counts them, to be set for a thread. Those about a server that the tests run on are left out: it need not keep
    /// anything.
    pub(crate) fn counted(&self) -> impl Subscriber + Send + Sync + 'static {
        let count = self.0.clone();
        let is_warning = |metadata: &Metadata<'_>| {
            let module = metadata.module_path().unwrap_or_default();
            *metadata.level() == Level::WARN && !module.contains("storage::postgres")
        };
        Lines::of(is_warning, move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
        })
    }
}

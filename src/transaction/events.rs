//! The hooks for events of sessions, and their bounded queue (C8.9). The hooks run after the commit, on a thread of
//! their own.

use crate::client_id::ClientId;
use crate::events::{CreatedEvent, EndedEvent, RenewedEvent};
use crate::storage::ClientFindings;
use crate::transaction::worker::Worker;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest number of events that wait. Further events are dropped and counted.
const MANY: usize = 4096;

type Hook<E> = Arc<dyn Fn(&E) + Send + Sync>;

/// The application's functions, by kind of event.
#[derive(Clone, Default)]
pub(crate) struct EventHooks {
    pub(crate) created: Vec<Hook<CreatedEvent>>,
    pub(crate) renewed: Vec<Hook<RenewedEvent>>,
    pub(crate) ended: Vec<Hook<EndedEvent>>,
}

impl EventHooks {
    fn is_empty(&self) -> bool {
        self.created.is_empty() && self.renewed.is_empty() && self.ended.is_empty()
    }
}

impl fmt::Debug for EventHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [self.created.len(), self.renewed.len(), self.ended.len()];
        write!(f, "{counts:?} hooks")
    }
}

/// An event that takes place if the commit succeeds.
pub(crate) enum SessionEvent {
    /// The id shows whether another commit has used it already.
    Created(ClientId, CreatedEvent),
    Renewed(RenewedEvent),
    Ended(EndedEvent),
}

impl SessionEvent {
    /// The event as the merge found it. `None` for a session that another commit created meanwhile. If the session got
    /// another id meanwhile, the event names that id.
    pub(crate) fn merged(self, found: &ClientFindings) -> Option<Self> {
        Some(match self {
            Self::Created(_, event) if !found.founded.contains(&event.client) => return None,
            Self::Created(..) => self,
            Self::Renewed(event) => Self::Renewed(RenewedEvent {
                former: found.newest(event.former),
                ..event
            }),
            Self::Ended(event) => Self::Ended(EndedEvent {
                client: found.newest(event.client),
                ..event
            }),
        })
    }
}

/// The queue of events for the hooks. A store without hooks has none.
pub(crate) struct EventQueue {
    hooks: Arc<EventHooks>,
    worker: Worker,
    dropped: AtomicU64,
}

impl EventQueue {
    pub(crate) fn new(hooks: EventHooks) -> Option<Self> {
        (!hooks.is_empty()).then(|| Self {
            hooks: Arc::new(hooks),
            worker: Worker::new("cloakroom-events"),
            dropped: AtomicU64::new(0),
        })
    }

    /// Queues an event that has taken place.
    pub(crate) fn tell(&self, event: SessionEvent) {
        let hooks = &self.hooks;
        match event {
            SessionEvent::Created(id, event) => {
                if id.take_freshness() {
                    self.push(&hooks.created, event);
                }
            }
            SessionEvent::Renewed(event) => self.push(&hooks.renewed, event),
            SessionEvent::Ended(event) => self.push(&hooks.ended, event),
        }
    }

    fn push<E: Send + Sync + 'static>(&self, hooks: &[Hook<E>], event: E) {
        if hooks.is_empty() {
            return;
        }
        if self.worker.waiting() >= MANY {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("cloakroom_events_dropped_total").increment(1);
            return;
        }
        let event = Arc::new(event);
        for hook in hooks {
            let (hook, event) = (hook.clone(), event.clone());
            // Each hook is a task of its own: if one panics, the others still run.
            self.worker.run(Box::new(move || hook(&event)));
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.worker.waiting()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

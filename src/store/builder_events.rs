//! The hooks for what happens to sessions, as settings of a store.

use super::StoreBuilder;
use crate::events::{CreatedEvent, EndedEvent, RenewedEvent};
use std::sync::Arc;

impl StoreBuilder {
    /// Calls `hook` after a session was created. May be called several times; all hooks are told.
    ///
    /// Hooks are told after the commit that they tell of, on a thread of the store, one after the other. They hold up no
    /// request. At most 4,096 events wait; those beyond are dropped, and
    /// [counted](crate::Statistics::dropped_events). So an event comes **at most once**, and not at all if the process dies
    /// first: a hook is for logs, counters and notices to open pages, not for accounts. A panic in a hook is logged. If
    /// several processes use one store, each tells of its own commits. Events of commits that end at the same time may come
    /// in another order.
    ///
    /// The events carry keys of clients, from which no id can be had, and the owner that the application has set itself.
    #[must_use]
    pub fn on_created(mut self, hook: impl Fn(&CreatedEvent) + Send + Sync + 'static) -> Self {
        self.events.created.push(Arc::new(hook));
        self
    }

    /// Calls `hook` after a session got a new id by [`rotate`](crate::Session::rotate) or
    /// [`log_in`](crate::Session::log_in). The rest is as for [`on_created`](Self::on_created).
    #[must_use]
    pub fn on_renewed(mut self, hook: impl Fn(&RenewedEvent) + Send + Sync + 'static) -> Self {
        self.events.renewed.push(Arc::new(hook));
        self
    }

    /// Calls `hook` after a session has ended; the event says [why](crate::EndReason). Sessions of containers that are
    /// unregistered, or that end because a container in memory goes away with its process, are not told. The rest is as
    /// for [`on_created`](Self::on_created).
    ///
    /// ```
    /// use cloakroom::Store;
    ///
    /// let store = Store::builder()
    ///     .on_ended(|event| println!("{}: {}", event.client, event.reason.as_str()))
    ///     .in_memory()?;
    /// # drop(store);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn on_ended(mut self, hook: impl Fn(&EndedEvent) + Send + Sync + 'static) -> Self {
        self.events.ended.push(Arc::new(hook));
        self
    }
}

//! The slot holds the one transaction of an attempt at a request. The first extraction of the session begins it, later
//! ones share it, and the service takes it out when the response is ready.

use chrono::{DateTime, Utc};
use http::{Extensions, Request};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use super::exchange::{AttemptOrder, Exchange};
use super::policy::{Rerun, RerunPolicy};
use super::transport::IdCarrier;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::session::Session;
use crate::transaction::Transaction;

/// Returns the session of the request with these extensions, in the request's one transaction. The axum extractor
/// calls this; other services call it directly.
///
/// The first call begins the transaction. The future does not borrow from the request.
///
/// # Errors
///
/// [`NoSessionLayer`](ErrorKind::NoSessionLayer) if there is no [`SessionLayer`](super::SessionLayer) around this
/// service, [`Closed`](ErrorKind::Closed) after the response was made, and the errors of beginning a transaction or
/// loading a session.
pub fn session(
    extensions: &Extensions,
) -> impl Future<Output = Result<Session>> + Send + 'static + use<> {
    let slot = Slot::of(extensions).cloned();
    async move {
        match slot {
            Some(slot) => slot.session().await,
            None => Err(no_layer()),
        }
    }
}

impl Rerun {
    /// Sets which of its requests run again, for the request with these extensions, in place of the layer's setting. This is
    /// for web frameworks that do not use tower. Call it before the session is extracted. Without a
    /// [`SessionLayer`](super::SessionLayer) around it, this does nothing.
    ///
    /// ```
    /// use cloakroom::http::Rerun;
    /// use http::Request;
    ///
    /// /// A service calls this before it answers.
    /// fn note<B>(request: &Request<B>) {
    ///     Rerun::Always.apply_to(request.extensions());
    /// }
    /// # note(&Request::new(()));
    /// ```
    pub fn apply_to(self, request: &Extensions) {
        if let Some(slot) = Slot::of(request) {
            slot.policy().set(self);
        }
    }
}

/// Reads the request's session before its handler does, in a short transaction of its own. So the request's
/// transaction has looked at nothing when the handler has read the body, however long that took (C2.1). If the session
/// was used before, in middleware, that transaction is read, with its changes.
pub(super) fn read_early<T>(
    extensions: &Extensions,
    read: impl FnOnce(&Session) -> Result<T> + Send,
) -> impl Future<Output = Result<T>> + Send {
    let slot = Slot::of(extensions).cloned();
    async move {
        let slot = slot.ok_or_else(no_layer)?;
        slot.read_early(read).await
    }
}

pub(super) fn no_layer() -> Error {
    Error::new(
        ErrorKind::NoSessionLayer,
        "this request has no session: is the session layer installed?",
    )
}

/// The state of one attempt. A handle to it is in the request's extensions.
pub(super) struct Slot {
    exchange: Arc<Exchange>,
    order: AttemptOrder,
    asked: AtomicBool,
    state: Mutex<SlotState>,
    /// A transaction that early_reads at the session when an access was due. It records the access if the attempt's own
    /// transaction does not use the session.
    early_reads: Mutex<Option<(Transaction, Session)>>,
    /// The one write of the attempt that its response can do without, if it is made.
    optional_write: OnceLock<OptionalWrite>,
}

/// The package and the key of a write that a response can do without.
pub(super) type OptionalWrite = (&'static str, &'static str);

enum SlotState {
    Vacant,
    /// A task begins the transaction. The tasks with these wakers wait for it.
    Beginning(Vec<Waker>),
    Open(Transaction, Session),
    Closed,
}

/// The type under which the extensions hold a slot. It is private, so no other code can insert one.
#[derive(Clone)]
struct SlotHandle(Arc<Slot>);

enum SlotClaim<'a> {
    Taken(Session),
    Yours(BeginGuard<'a>),
}

impl Slot {
    /// The first attempt. It is optimistic if there can be another.
    pub(super) fn first(exchange: &Arc<Exchange>) -> Arc<Self> {
        Self::new(exchange, AttemptOrder::Optimistic)
    }

    /// A further attempt, which gets its session's turn first.
    pub(super) fn next(exchange: &Arc<Exchange>) -> Arc<Self> {
        Self::new(exchange, AttemptOrder::InTurn)
    }

    fn new(exchange: &Arc<Exchange>, order: AttemptOrder) -> Arc<Self> {
        Arc::new(Self {
            exchange: Arc::clone(exchange),
            order,
            asked: AtomicBool::new(false),
            state: Mutex::new(SlotState::Vacant),
            early_reads: Mutex::new(None),
            optional_write: OnceLock::new(),
        })
    }

    pub(super) fn of(extensions: &Extensions) -> Option<&Arc<Self>> {
        extensions.get().map(|SlotHandle(slot)| slot)
    }

    /// A copy of the request as it arrived, with this attempt in its extensions.
    ///
    /// The copy cannot wait until the session is extracted: by then routers and middleware inside may have changed the
    /// request, and the next attempt needs it unchanged.
    pub(super) fn request<B>(self: &Arc<Self>, body: B) -> Request<B> {
        let parts = self.exchange.request.clone();
        let mut request = Request::from_parts(parts, body);
        request
            .extensions_mut()
            .insert(SlotHandle(Arc::clone(self)));
        request
    }

    #[cfg(feature = "url-ids")]
    pub(super) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    pub(super) fn policy(&self) -> &RerunPolicy {
        &self.exchange.policy
    }

    /// Whether the request presents its id by the cookie, which browsers send by themselves.
    pub(super) fn uses_cookie(&self) -> bool {
        matches!(self.exchange.carrier(), IdCarrier::Cookie)
    }

    /// When the request arrived, by the store's clock.
    pub(super) fn came_at(&self) -> DateTime<Utc> {
        self.exchange.came_at()
    }

    /// Whether the session was requested, successfully or not.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Ends the attempt. Returns its transaction, which the caller commits or aborts.
    pub(super) fn close(&self) -> Option<(Transaction, Session)> {
        let former = std::mem::replace(&mut *self.lock(), SlotState::Closed);
        let early_reads = self.early_reads().take();
        match former {
            SlotState::Open(_, session) if early_reads.is_some() && session.is_unused() => {
                early_reads
            }
            SlotState::Open(transaction, session) => Some((transaction, session)),
            SlotState::Vacant | SlotState::Closed => early_reads,
            SlotState::Beginning(waiting) => {
                waiting.into_iter().for_each(Waker::wake);
                early_reads
            }
        }
    }

    /// Notes a write that the response can do without.
    pub(super) fn note_optional(&self, write: OptionalWrite) {
        self.optional_write.get_or_init(|| write);
    }

    /// Whether the attempt's transaction writes nothing that the response cannot do without. It may then be served
    /// although its session has ended.
    pub(super) fn writes_optional(&self, session: &Session) -> bool {
        let write = self.optional_write.get();
        write.is_some_and(|(package, key)| session.writes_only(package, key))
    }

    async fn read_early<T>(&self, read: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
        self.asked.store(true, Ordering::Relaxed);
        self.process().check()?;
        let open = match &*self.lock() {
            SlotState::Open(_, session) => Some(session.clone()),
            SlotState::Closed => return Err(closed()),
            SlotState::Vacant | SlotState::Beginning(_) => None,
        };
        if let Some(session) = open.filter(|session| !session.is_unused()) {
            return read(&session);
        }
        let (transaction, session) = self.exchange.begin(AttemptOrder::Optimistic).await?;
        let result = read(&session);
        if session.presents_dead_id() {
            self.exchange.count_dead_id();
        }
        self.keep_early_read(transaction, session);
        result
    }

    /// Keeps the transaction that has the more accesses to record, if it has any.
    fn keep_early_read(&self, transaction: Transaction, session: Session) {
        let accesses = session.due_accesses();
        if accesses == 0 {
            return;
        }
        let mut early_reads = self.early_reads();
        let known = early_reads.as_ref().map_or(0, |(_, it)| it.due_accesses());
        if known > accesses {
            return;
        }
        let former = early_reads.replace((transaction, session));
        drop(early_reads);
        drop(former);
    }

    fn early_reads(&self) -> MutexGuard<'_, Option<(Transaction, Session)>> {
        self.early_reads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn session(&self) -> Result<Session> {
        self.asked.store(true, Ordering::Relaxed);
        match poll_fn(|cx| self.poll_claim(cx)).await? {
            SlotClaim::Taken(session) => Ok(session),
            SlotClaim::Yours(beginning) => {
                let (transaction, session) = self.exchange.begin(self.order()).await?;
                let exchange: Weak<Exchange> = Arc::downgrade(&self.exchange);
                transaction.belongs_to(exchange);
                beginning.end(transaction, session)
            }
        }
    }

    /// A first attempt that may be the only one waits for the turn, too.
    fn order(&self) -> AttemptOrder {
        if self.exchange.risky || !self.policy().permits() {
            AttemptOrder::InTurn
        } else {
            self.order
        }
    }

    fn poll_claim(&self, cx: &mut Context<'_>) -> Poll<Result<SlotClaim<'_>>> {
        // In a forked process, the thread that begins the transaction does not exist.
        self.process().check()?;
        let mut clone = None;
        loop {
            let mut state = self.lock();
            match &mut *state {
                SlotState::Vacant => {
                    *state = SlotState::Beginning(Vec::new());
                    return Poll::Ready(Ok(SlotClaim::Yours(BeginGuard(self))));
                }
                SlotState::Beginning(waiting) => {
                    if waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                        return Poll::Pending;
                    }
                    if let Some(waker) = clone.take() {
                        waiting.push(waker);
                        return Poll::Pending;
                    }
                }
                SlotState::Open(_, session) => {
                    return Poll::Ready(Ok(SlotClaim::Taken(session.clone())));
                }
                SlotState::Closed => return Poll::Ready(Err(closed())),
            }
            drop(state);
            // Cloning and dropping a waker runs the application's code, so neither is done under the lock (C6.3).
            clone = Some(cx.waker().clone());
        }
    }

    /// Replaces `Beginning` by `state`. Returns false if the slot was closed meanwhile. Wakes and drops nothing under
    /// the lock.
    fn settle(&self, state: SlotState) -> bool {
        let mut current = self.lock();
        if !matches!(*current, SlotState::Beginning(_)) {
            drop(current);
            return false;
        }
        let former = std::mem::replace(&mut *current, state);
        drop(current);
        wake(former);
        true
    }

    pub(super) fn process(&self) -> &Process {
        self.exchange.settings.store.process()
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the response was made, and with it the request's transaction has ended",
    )
}

/// Held while a task begins the transaction. If it is dropped before that, the next task that requests the session
/// begins it.
struct BeginGuard<'a>(&'a Slot);

impl BeginGuard<'_> {
    fn end(self, transaction: Transaction, session: Session) -> Result<Session> {
        if self.0.settle(SlotState::Open(transaction, session.clone())) {
            Ok(session)
        } else {
            Err(closed())
        }
    }
}

impl Drop for BeginGuard<'_> {
    fn drop(&mut self) {
        if self.0.process().is_this() {
            self.0.settle(SlotState::Vacant);
        }
    }
}

fn wake(former: SlotState) {
    if let SlotState::Beginning(waiting) = former {
        waiting.into_iter().for_each(Waker::wake);
    }
}

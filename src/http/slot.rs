//! Where an attempt at a request keeps its one transaction: begun by whoever asks for the session
//! first, given to everyone who asks after, taken out when the response is ready.

use http::{Extensions, HeaderMap, Request, header, request};
use http_body::SizeHint;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use super::layer::LayerSettings;
use super::rerun::RerunPolicy;
use crate::client_id::ClientId;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::session::Session;
use crate::transaction::{Arrival, Patience, Transaction};

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
            None => Err(Error::new(
                ErrorKind::NoSessionLayer,
                "this request has no session: is the session layer installed?",
            )),
        }
    }
}

/// What the attempts at one request have in common.
pub(super) struct Exchange {
    pub(super) settings: Arc<LayerSettings>,
    pub(super) policy: Arc<RerunPolicy>,
    /// The request as it came.
    request: request::Parts,
    came: Arrival,
    /// What `admit_new` said, which is asked once a request.
    admitted: OnceLock<bool>,
    /// The request's id was found to have no session, and counted.
    is_dead: AtomicBool,
    /// The body may turn out too large to run the request again.
    risky: bool,
    /// For how long its attempts may still wait for turns.
    patience: Mutex<Patience>,
}

impl Exchange {
    pub(super) fn new(
        settings: Arc<LayerSettings>,
        mut request: request::Parts,
        body: &SizeHint,
    ) -> Arc<Self> {
        hide_ids(&mut request.headers);
        let limit = settings.replay_limit as u64;
        let policy = RerunPolicy::new(settings.rerun, &request);
        if body.lower() > limit {
            policy.forbid();
        }
        Arc::new(Self {
            came: settings.store.arrival(),
            policy: Arc::new(policy),
            request,
            admitted: OnceLock::new(),
            is_dead: AtomicBool::new(false),
            risky: body.upper().is_none_or(|upper| upper > limit),
            patience: Mutex::new(settings.patience()),
            settings,
        })
    }

    /// Whether the application lets this request's session be committed: all but those that it refuses to found.
    pub(super) fn admits(&self, session: &Session) -> bool {
        let Some(rule) = self.settings.admit_new() else {
            return true;
        };
        !session.founds() || *self.admitted.get_or_init(|| rule(&self.request))
    }

    /// Counts a request whose id has no session, however often it runs.
    pub(super) fn count_dead_id(&self) {
        if !self.is_dead.swap(true, Ordering::Relaxed) {
            metrics::counter!("cloakroom_refused_ids_total", "reason" => "dead").increment(1);
        }
    }

    /// Begins a transaction and finds the visitor in it.
    async fn begin(&self, in_line: bool) -> Result<(Transaction, Session)> {
        let settings = &self.settings;
        settings.check()?;
        let ids = settings.store.client_ids();
        let known: Vec<ClientId> = settings
            .cookie
            .candidates(self.request.headers.get_all(header::COOKIE))
            .filter_map(|value| ids.verify_bytes(value))
            .collect();
        let id = self.counting(&known).await?;
        let transaction = match id.map(ClientId::key) {
            Some(key) if in_line => {
                let mut guard = PatienceGuard(self, self.patience());
                settings.store.begin_in_turn(key, &mut guard.1).await?
            }
            _ => settings.store.begin_async().await?,
        };
        let session = transaction.visit(id).await?;
        transaction.came(session.subject, self.came, settings.cookie.keeping())?;
        Ok((transaction, session))
    }

    /// Of the ids that verify, the first that is live, else the first (C4.9). Which that is shows only inside a
    /// transaction: another than the request's, which has not looked at anything yet (C2.1).
    async fn counting<'a>(&self, known: &'a [ClientId]) -> Result<Option<&'a ClientId>> {
        if known.len() > 1 {
            let look = self.settings.store.begin_async().await?;
            for id in known {
                if look.is_live(id)? {
                    return Ok(Some(id));
                }
            }
        }
        Ok(known.first())
    }

    /// For how long this request may still wait for turns.
    pub(super) fn patience(&self) -> Patience {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_patience(&self, left: Patience) {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }
}

/// The patience of a request while it is spent. What is left goes back however that ends: an extraction may be dropped
/// halfway, and begun again.
struct PatienceGuard<'a>(&'a Exchange, Patience);

impl Drop for PatienceGuard<'_> {
    fn drop(&mut self) {
        if self.0.settings.store.process().is_this() {
            self.0.set_patience(self.1);
        }
    }
}

/// What lies inside may print a request's headers: `Debug` of a value that is marked shows nothing of it, and an id is in
/// there (C1.6).
fn hide_ids(headers: &mut HeaderMap) {
    headers
        .iter_mut()
        .filter(|(name, _)| **name == header::COOKIE)
        .for_each(|(_, cookie)| cookie.set_sensitive(true));
}

/// One attempt's place in the request's extensions.
pub(super) struct Slot {
    exchange: Arc<Exchange>,
    in_line: bool,
    asked: AtomicBool,
    state: Mutex<SlotState>,
}

enum SlotState {
    Vacant,
    /// Somebody begins the transaction; these wait for it.
    Beginning(Vec<Waker>),
    Open(Transaction, Session),
    Closed,
}

/// Slots are found by this type alone.
#[derive(Clone)]
struct SlotHandle(Arc<Slot>);

enum SlotClaim<'a> {
    Taken(Session),
    Yours(BeginGuard<'a>),
}

impl Slot {
    /// The first attempt, which goes optimistically if there can be another.
    pub(super) fn first(exchange: &Arc<Exchange>) -> Arc<Self> {
        Self::new(exchange, false)
    }

    /// A further attempt, which goes in line.
    pub(super) fn next(exchange: &Arc<Exchange>) -> Arc<Self> {
        Self::new(exchange, true)
    }

    fn new(exchange: &Arc<Exchange>, in_line: bool) -> Arc<Self> {
        Arc::new(Self {
            exchange: Arc::clone(exchange),
            in_line,
            asked: AtomicBool::new(false),
            state: Mutex::new(SlotState::Vacant),
        })
    }

    pub(super) fn of(extensions: &Extensions) -> Option<&Arc<Self>> {
        extensions.get().map(|SlotHandle(slot)| slot)
    }

    /// The request as it came, with this attempt in its extensions.
    pub(super) fn request<B>(self: &Arc<Self>, body: B) -> Request<B> {
        let parts = self.exchange.request.clone();
        let mut request = Request::from_parts(parts, body);
        request
            .extensions_mut()
            .insert(SlotHandle(Arc::clone(self)));
        request
    }

    pub(super) fn policy(&self) -> &RerunPolicy {
        &self.exchange.policy
    }

    /// Whether anybody asked for the session, with whatever success.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Ends the attempt for good, and gives the transaction to whom it is to commit or abort.
    pub(super) fn close(&self) -> Option<(Transaction, Session)> {
        let former = std::mem::replace(&mut *self.lock(), SlotState::Closed);
        if let SlotState::Open(transaction, session) = former {
            return Some((transaction, session));
        }
        wake(former);
        None
    }

    async fn session(&self) -> Result<Session> {
        self.asked.store(true, Ordering::Relaxed);
        match poll_fn(|cx| self.poll_claim(cx)).await? {
            SlotClaim::Taken(session) => Ok(session),
            SlotClaim::Yours(beginning) => {
                let in_line = self.in_line || self.exchange.risky || !self.policy().permits();
                let (transaction, session) = self.exchange.begin(in_line).await?;
                beginning.end(transaction, session)
            }
        }
    }

    fn poll_claim(&self, cx: &mut Context<'_>) -> Poll<Result<SlotClaim<'_>>> {
        // Who begins may be a task of a thread that is not here.
        self.process().check()?;
        let mut state = self.lock();
        match &mut *state {
            SlotState::Vacant => {
                *state = SlotState::Beginning(Vec::new());
                Poll::Ready(Ok(SlotClaim::Yours(BeginGuard(self))))
            }
            SlotState::Beginning(waiting) => {
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
            SlotState::Open(_, session) => Poll::Ready(Ok(SlotClaim::Taken(session.clone()))),
            SlotState::Closed => Poll::Ready(Err(closed())),
        }
    }

    /// Leaves the beginning for `state`, unless the slot was closed meanwhile; tells whether it did.
    /// Nobody is woken, and nothing dropped, under the lock.
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

/// Held by whoever begins the transaction. Dropped before its end, it leaves the beginning to the
/// next who asks.
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

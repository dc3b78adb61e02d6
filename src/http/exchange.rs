//! The state that all attempts at one request share. Begins their transactions.

#[cfg(feature = "url-ids")]
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_channel::oneshot;
use http::{HeaderMap, header, request};
#[cfg(feature = "url-ids")]
use http_body::Body;
use http_body::SizeHint;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

#[cfg(feature = "cookie-containers")]
use super::container_cookies::{ContainerCookies, name_unknown_secret, rows_of};
use super::early::EarlyCookie;
use super::policy::RerunPolicy;
#[cfg(feature = "url-ids")]
use super::proxies::VisitorAddress;
#[cfg(feature = "url-ids")]
use super::replay::Replay;
use super::settings::LayerSettings;
use super::transport::{IdCarrier, NEW};
#[cfg(feature = "url-ids")]
use super::url_request::{OtherIds, PresentedTokens};
use crate::client_id::ClientId;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Keeping;
use crate::session::{CookieAction, Session};
#[cfg(feature = "cookie-containers")]
use crate::transaction::Carrier;
use crate::transaction::{
    Arrival, CommitProspect, FoundingRule, MOST_MOVES, Patience, RequestLink, Transaction, Visit,
};

/// How an attempt begins its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptOrder {
    /// At once: after a conflict the request can run again.
    Optimistic,
    /// After it got its session's turn.
    InTurn,
}

/// The state that all attempts at one request share.
pub(super) struct Exchange {
    pub(super) settings: Arc<LayerSettings>,
    pub(super) policy: RerunPolicy,
    /// The request as it arrived.
    pub(super) request: request::Parts,
    came: Arrival,
    /// When it came, by the monotonic clock, if that decides whether its session's id is renewed.
    begun: Option<Moment>,
    /// The transport of the request's id, and of a new one, unless a token was accepted.
    carrier: IdCarrier,
    /// The tokens in its URL and its form.
    #[cfg(feature = "url-ids")]
    pub(super) tokens: PresentedTokens,
    /// Whether it presents an id by the cookie or by a transport that carries ids.
    #[cfg(feature = "url-ids")]
    other_ids: OtherIds,
    /// The result of `admit_new`, which is called once per request.
    admitted: OnceLock<bool>,
    /// Whether the request's id was found to have no session, and counted.
    is_dead: AtomicBool,
    /// Whether the body may prove too large to run the request again.
    pub(super) risky: bool,
    /// How long the attempts may still wait for turns.
    patience: Mutex<Patience>,
    /// The cookie action of the response after the commits before the last one.
    pub(super) early: EarlyCookie,
    /// The rows of the cookies that hold containers, once the request used its session.
    #[cfg(feature = "cookie-containers")]
    pub(super) container_cookies: OnceLock<Option<ContainerCookies>>,
}

impl Exchange {
    pub(super) fn new(
        settings: Arc<LayerSettings>,
        mut request: request::Parts,
        body: &SizeHint,
    ) -> Arc<Self> {
        hide_ids(&mut request.headers, &settings);
        let proxies = settings.rules.proxies.as_ref();
        if let Some(visitor) = proxies.and_then(|proxies| proxies.visitor(&request)) {
            request.extensions.insert(visitor);
        }
        let carrier = settings.carrier(settings.used(&request));
        #[cfg(feature = "url-ids")]
        let (tokens, other_ids) = take_tokens(&settings, &mut request);
        let limit = settings.rules.replay_limit as u64;
        let policy = RerunPolicy::new(settings.rules.rerun, &request);
        let renews = settings.rules.renew_after;
        if body.lower() > limit {
            policy.forbid();
        }
        Arc::new(Self {
            came: settings.store.arrival(),
            begun: renews.map(|_| settings.store.moment()),
            carrier,
            #[cfg(feature = "url-ids")]
            tokens,
            #[cfg(feature = "url-ids")]
            other_ids,
            policy,
            request,
            admitted: OnceLock::new(),
            is_dead: AtomicBool::new(false),
            risky: body.upper().is_none_or(|upper| upper > limit),
            patience: Mutex::new(settings.patience()),
            early: EarlyCookie::default(),
            #[cfg(feature = "cookie-containers")]
            container_cookies: OnceLock::new(),
            settings,
        })
    }

    /// Whether the session may be committed. A session that a token found gets no owner (C8.3), and the application can
    /// refuse a session that the commit would create.
    pub(super) fn admit(&self, prospect: &mut dyn CommitProspect) -> Result<()> {
        #[cfg(feature = "url-ids")]
        if self.tokens.accepted().is_some() && prospect.has_owner()? {
            let why = "a session that is found by a URL or a form can have no owner: the visitor must accept cookies";
            return Err(Error::new(ErrorKind::MissingClientId, why));
        }
        let Some(rule) = self.settings.admit_new() else {
            return Ok(());
        };
        if !prospect.founds()? || *self.admitted.get_or_init(|| rule(&self.request)) {
            return Ok(());
        }
        let why = "the application admits no new session (admit_new)";
        Err(Error::new(ErrorKind::NotAdmitted, why))
    }

    /// When the request arrived.
    pub(super) fn came_at(&self) -> DateTime<Utc> {
        self.came.at.to_datetime()
    }

    /// Counts a request whose id has no session, once for all attempts.
    pub(super) fn count_dead_id(&self) {
        if !self.is_dead.swap(true, Ordering::Relaxed) {
            metrics::counter!("cloakroom_refused_ids_total", "reason" => "dead").increment(1);
        }
    }

    /// The transport of the request's id, and of a new one.
    pub(super) fn carrier(&self) -> &IdCarrier {
        #[cfg(feature = "url-ids")]
        if let Some((carrier, _)) = self.tokens.accepted() {
            return carrier;
        }
        &self.carrier
    }

    /// Begins a transaction and loads the visitor's session in it.
    ///
    /// This future is a part of the handler's. What few requests wait for is boxed, so that the handler's future fits into
    /// a block that allocators keep at hand (`size_tests`).
    pub(super) async fn begin(&self, order: AttemptOrder) -> Result<(Transaction, Session)> {
        let settings = &self.settings;
        settings.check()?;
        #[cfg(feature = "url-ids")]
        self.tokens.check()?;
        let mut ids = self.known_ids();
        if self.names_unknown_secret(&ids) && Box::pin(settings.store.learn_secrets()).await? {
            ids = self.known_ids();
        }
        let PresentedIds { first, others, .. } = &ids;
        let id = match first {
            Some(first) if !others.is_empty() => {
                Some(Box::pin(self.first_live(first, others)).await?)
            }
            _ => first.as_ref(),
        };
        let begun = self.begin_as(id, order).await?;
        // The owner is read from the snapshot that the handler sees.
        #[cfg(feature = "url-ids")]
        if self.tokens.accepted().is_some() && begun.1.owner()?.is_some() {
            drop(begun);
            return Box::pin(self.begin_as(None, order)).await;
        }
        Ok(begun)
    }

    /// Begins a transaction for the visitor with this id.
    async fn begin_as(
        &self,
        id: Option<&ClientId>,
        order: AttemptOrder,
    ) -> Result<(Transaction, Session)> {
        let settings = &self.settings;
        #[cfg(feature = "cookie-containers")]
        let carrier = self.carrier_of(id);
        let transaction = match id {
            Some(id) if order == AttemptOrder::InTurn => {
                let mut guard = PatienceGuard(self, self.patience());
                let transaction = Box::pin(self.begin_in_turn(id, &mut guard.1)).await?;
                #[cfg(feature = "cookie-containers")]
                carrier.map_or(Ok(()), |carrier| transaction.carry(carrier))?;
                transaction
            }
            #[cfg(feature = "cookie-containers")]
            _ => settings.store.begin_with(carrier).await?,
            #[cfg(not(feature = "cookie-containers"))]
            _ => settings.store.begin_fetched().await?,
        };
        let subject = transaction.enter(id)?;
        let visit = Visit {
            came: self.came,
            keeping: self.keeping(),
            founding: self.founding(id),
            keeps_owner: self.uses_token(),
        };
        transaction.came(subject, visit)?;
        let session = transaction.session_of(subject).await?;
        Ok((transaction, session))
    }

    /// Begins a transaction in the turn of the session to which an id leads (C8.4). The transaction that had the turn
    /// before may have given the session another id. A separate transaction looks that up, so that the request's own
    /// transaction has read nothing yet (C2.1).
    async fn begin_in_turn(&self, id: &ClientId, patience: &mut Patience) -> Result<Transaction> {
        let store = &self.settings.store;
        let mut key = id.key();
        for _ in 0..MOST_MOVES {
            let transaction = store.begin_in_turn(key, patience).await?;
            if self.settings.rules.renew_after.is_none() {
                return Ok(transaction);
            }
            let look = store.begin_async().await?;
            look.load(id).await?;
            let newest = look.leads_to(id)?;
            if newest == key {
                return Ok(transaction);
            }
            key = newest;
        }
        store.begin_in_turn(key, patience).await
    }

    /// The ids that the request presents, unverified.
    fn presented(&self) -> impl Iterator<Item = &[u8]> {
        let (cookie, other) = match self.carrier() {
            IdCarrier::Cookie => (Some(&self.settings.cookie), None),
            IdCarrier::Other(transport) => (None, transport.read(&self.request)),
        };
        #[cfg(feature = "url-ids")]
        let other = self
            .tokens
            .accepted()
            .map(|(_, id)| id.as_bytes())
            .or(other);
        let fields = || self.request.headers.get_all(header::COOKIE);
        let cookies = cookie.map(|cookie| cookie.candidates(fields()));
        let other = other.filter(|id| !id.is_empty() && *id != NEW);
        cookies.into_iter().flatten().chain(other)
    }

    /// Gives the session another id if its id is old enough (C8.4). If another request renews the id first, the commit
    /// conflicts. So a request that cannot run again renews the id only in its session's turn, and only within the time
    /// for which other requests wait for that turn.
    pub(super) fn renew_if_due(&self, session: &Session) {
        let rules = &self.settings.rules;
        let Some(after) = rules.renew_after else {
            return;
        };
        let is_cookie = matches!(self.carrier(), IdCarrier::Cookie);
        let took = |begun| self.settings.store.moment().since(begun);
        let is_quick = || {
            self.begun
                .map(took)
                .is_some_and(|took| took < self.settings.turn_wait())
        };
        let is_alone = || session.holds_turn() && is_quick();
        if is_cookie && (self.policy.permits() || is_alone()) {
            session.renew_if_due(after, rules.renew_grace);
        }
    }

    /// Whether the request may create a session (C4.5).
    fn founding(&self, id: Option<&ClientId>) -> FoundingRule {
        let cookie = self.settings.cookie.settings();
        let is_cookie = matches!(self.carrier(), IdCarrier::Cookie);
        // A token is in a page that the cookie's visitors get, too.
        let refusal = cookie.founding_refusal(&self.request.method);
        let concerns = is_cookie || self.uses_token();
        if let Some(why) = refusal.filter(|_| concerns) {
            FoundingRule::Refused(why)
        } else if is_cookie && cookie.is_third_party() && id.is_none() {
            FoundingRule::Refused("the request lacks the id of the front server (third_party)")
        } else {
            FoundingRule::Allowed
        }
    }

    /// Whether the request's id is that of a token.
    #[cfg(feature = "url-ids")]
    fn uses_token(&self) -> bool {
        self.tokens.accepted().is_some()
    }

    /// This build has no tokens.
    #[cfg(not(feature = "url-ids"))]
    fn uses_token(&self) -> bool {
        false
    }

    /// Whether the ids that the request presents are those of a front server.
    fn adopts(&self) -> bool {
        let cookie = self.settings.cookie.settings();
        matches!(self.carrier(), IdCarrier::Cookie) && cookie.is_third_party()
    }

    /// How long the client keeps the id.
    fn keeping(&self) -> Keeping {
        let keeping = self.settings.cookie.keeping();
        match self.carrier() {
            IdCarrier::Cookie if !self.adopts() => keeping,
            _ => Keeping {
                usual: None,
                ..keeping
            },
        }
    }

    /// The presented ids that verify.
    fn known_ids(&self) -> PresentedIds {
        let ids = self.settings.store.client_ids();
        let adopts = self.adopts();
        let mut found = PresentedIds::default();
        for presented in self.presented() {
            let id = match adopts {
                true => ids.adopt(presented).ok(),
                false => ids.verify_bytes(presented),
            };
            match id {
                None => found.has_refused = true,
                id if found.first.is_none() => found.first = id,
                id => found.others.extend(id),
            }
        }
        found
    }

    /// Whether an id, or a cookie that holds a container, may be of a secret that another process made.
    fn names_unknown_secret(&self, known: &PresentedIds) -> bool {
        let ids = self.settings.store.client_ids();
        let is_unknown = || self.presented().any(|it| ids.names_unknown_secret(it));
        if known.has_refused && !self.adopts() && is_unknown() {
            return true;
        }
        #[cfg(feature = "cookie-containers")]
        if known.first.is_some() && self.container_cookies.get().is_none() {
            return name_unknown_secret(&self.settings, &self.request);
        }
        false
    }

    /// Begins a transaction that reads the state for the response. It sees the rows that the request's commits left for
    /// the cookies.
    pub(super) async fn look(&self) -> Result<Transaction> {
        #[cfg(feature = "cookie-containers")]
        if let Some(Some(cookies)) = self.container_cookies.get() {
            return self
                .settings
                .store
                .begin_with(Some(cookies.carrier()))
                .await;
        }
        self.settings.store.begin_async().await
    }

    /// Keeps the containers' cookies out of the response if their session ended after the request's last commit.
    /// Otherwise they would replace the cookies of the next session (C4.8).
    #[cfg(feature = "cookie-containers")]
    pub(super) async fn drop_ended_containers(&self, action: &CookieAction) {
        let (Some(Some(cookies)), CookieAction::Keep | CookieAction::Send { .. }) =
            (self.container_cookies.get(), action)
        else {
            return;
        };
        let carrier = cookies.carrier();
        let Some(client) = carrier.changed_client() else {
            return;
        };
        // If the look fails, the cookies stay: they were committed.
        if self
            .settings
            .store
            .is_refused(client)
            .await
            .unwrap_or(false)
        {
            carrier.forget_changes();
        }
    }

    /// The rows in the request's cookies. `None` if no container lives in a cookie.
    #[cfg(feature = "cookie-containers")]
    fn carrier_of(&self, id: Option<&ClientId>) -> Option<Arc<Carrier>> {
        let IdCarrier::Cookie = self.carrier() else {
            return None;
        };
        let opened = || ContainerCookies::open(&self.settings, &self.request, id, self.came.at);
        let cookies = self.container_cookies.get_or_init(opened);
        cookies.as_ref().map(ContainerCookies::carrier)
    }

    /// The first verified id that has a live session, or else the first verified id (C4.9). A separate transaction
    /// reads which ids are live, so that the request's own transaction has read nothing yet (C2.1).
    async fn first_live<'a>(
        &self,
        first: &'a ClientId,
        others: &'a [ClientId],
    ) -> Result<&'a ClientId> {
        let look = self.look_for(first, others).await?;
        let all = || std::iter::once(first).chain(others);
        look.load_all(all()).await?;
        for id in all() {
            if look.is_live(id)? {
                return Ok(id);
            }
        }
        Ok(first)
    }

    /// Begins the transaction that finds out which of several ids is live. A session may live in cookies alone.
    #[cfg(feature = "cookie-containers")]
    async fn look_for(&self, first: &ClientId, others: &[ClientId]) -> Result<Transaction> {
        let ids: Vec<_> = std::iter::once(first).chain(others).collect();
        let carrier = match self.carrier() {
            IdCarrier::Cookie => {
                let rows = rows_of(&self.settings, &self.request, &ids, self.came.at);
                Some(Arc::new(Carrier::new(rows, Arc::default())))
            }
            IdCarrier::Other(_) => None,
        };
        self.settings.store.begin_with(carrier).await
    }

    /// Begins the transaction that finds out which of several ids is live.
    #[cfg(not(feature = "cookie-containers"))]
    async fn look_for(&self, _: &ClientId, _: &[ClientId]) -> Result<Transaction> {
        self.settings.store.begin_async().await
    }

    /// Reads the request's tokens before its first attempt.
    #[cfg(feature = "url-ids")]
    pub(super) async fn read_tokens<B: Body<Data = Bytes>>(&self, body: &mut Replay<B>) {
        let Some(visitor) = self.request.extensions.get::<VisitorAddress>() else {
            return;
        };
        let reading = self
            .tokens
            .read(&self.settings.store, visitor, self.came.at, body);
        reading.await;
    }

    /// Whether the page must carry the id in its URLs and forms.
    #[cfg(feature = "url-ids")]
    pub(super) fn needs_tokens(&self) -> bool {
        self.other_ids == OtherIds::Absent
    }

    /// How long this request may still wait for turns.
    pub(super) fn patience(&self) -> Patience {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_patience(&self, left: Patience) {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }
}

/// The ids that a request presents and that verify.
#[derive(Default)]
struct PresentedIds {
    first: Option<ClientId>,
    others: Vec<ClientId>,
    /// Whether it also presents one that does not verify.
    has_refused: bool,
}

impl RequestLink for Exchange {
    fn run_once(&self) {
        self.policy.forbid();
    }

    fn admit(&self, prospect: &mut dyn CommitProspect) -> Result<()> {
        Self::admit(self, prospect)
    }

    fn patience(&self) -> Patience {
        Self::patience(self)
    }

    fn set_patience(&self, left: Patience) {
        Self::set_patience(self, left);
    }

    fn commits(&self, outcome: oneshot::Receiver<CookieAction>) {
        self.early.begin(outcome);
    }
}

impl AsRef<RerunPolicy> for Exchange {
    fn as_ref(&self) -> &RerunPolicy {
        &self.policy
    }
}

/// The request's patience during a wait. Dropping it returns the rest to the exchange, because an extraction may be
/// dropped during its wait and begun again.
struct PatienceGuard<'a>(&'a Exchange, Patience);

impl Drop for PatienceGuard<'_> {
    fn drop(&mut self) {
        if self.0.settings.store.process().is_this() {
            self.0.set_patience(self.1);
        }
    }
}

/// Takes the tokens out of a request's URL. Also returns whether the request presents an id in another way.
#[cfg(feature = "url-ids")]
fn take_tokens(
    settings: &LayerSettings,
    request: &mut request::Parts,
) -> (PresentedTokens, OtherIds) {
    let transports = &settings.rules.transports;
    if !transports.iter().any(|it| it.tokens().is_some()) {
        return (PresentedTokens::default(), OtherIds::Presented);
    }
    let others = match settings.used(request).is_some() || settings.has_cookie(request) {
        true => OtherIds::Presented,
        false => OtherIds::Absent,
    };
    let tokens = PresentedTokens::take(request, transports, others);
    (tokens, others)
}

/// Marks the fields that carry ids as sensitive. An inner service may print the headers with `Debug`, which hides
/// sensitive values (C1.6).
fn hide_ids(headers: &mut HeaderMap, settings: &LayerSettings) {
    headers
        .iter_mut()
        .filter(|(name, _)| settings.id_fields().any(|field| field == **name))
        .for_each(|(_, value)| value.set_sensitive(true));
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "forged_tests.rs"]
mod forged_tests;

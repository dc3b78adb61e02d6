//! Runs one request: its attempts, their transactions, and the final response. Knows neither how a body is recorded
//! nor how a cookie is formatted.

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;

use super::answer::{SessionUse, answer, mark};
#[cfg(feature = "cookie-containers")]
use super::container_cookies::HasEnded;
use super::exchange::Exchange;
use super::flash::FlashQueue;
use super::layer::SessionLayer;
use super::replay::{Replay, RequestBody};
use super::report::{report_dropped, report_sent};
use super::settings::{LayerSettings, SiteData};
use super::slot::Slot;
use super::transport::IdCarrier;
use crate::block_on::polled;
use crate::error::{Error, Result};
use crate::session::{CookieAction, Session};
use crate::transaction::{CommitFailure, Transaction};

/// The application inside a session layer. It answers one request, and answers it again after a conflict.
///
/// This is for web frameworks that do not use tower: their middleware implements it for what it knows of a request, and
/// calls [`SessionLayer::serve`]. Services of tower need not implement it. Neither the application nor its futures need be
/// `Send`.
///
/// ```
/// use bytes::Bytes;
/// use cloakroom::http::{InnerService, Replay, SessionLayer, session};
/// use cloakroom::{Error, Store};
/// use http::{Request, Response};
///
/// struct Counter;
///
/// impl<B: http_body::Body<Data = Bytes>> InnerService<B> for Counter {
///     type Body = String;
///     type Error = Error;
///
///     async fn call(&mut self, request: Request<Replay<B>>) -> Result<Response<String>, Error> {
///         let session = session(request.extensions()).await?;
///         let n = session.pkg("visits").update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
///         Ok(Response::new(format!("visit {n}")))
///     }
/// }
///
/// let layer = SessionLayer::new(Store::in_memory()?);
/// let request = Request::new(String::new());
/// let response = pollster::block_on(layer.serve(request, Counter))?;
/// assert_eq!(response.body(), "visit 1");
/// assert!(response.headers().contains_key("set-cookie"));
/// # Ok::<(), Error>(())
/// ```
pub trait InnerService<B: Body> {
    /// The body of its responses. The default must be the empty body.
    type Body: Default;
    /// The error that it can return in place of a response. The request's transaction then aborts, and the layer passes
    /// the error on.
    type Error;

    /// Answers the request. [`session`](super::session) finds the session by the extensions of this request.
    fn call(
        &mut self,
        request: Request<Replay<B>>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Self::Error>>;

    /// Prepares for another call after a conflict, for example by waiting until it is ready. With `Ok(false)` it says
    /// that it cannot answer this request again. The client then gets the conflict, with the status 503.
    ///
    /// By default it can, at once.
    fn ready_again(&mut self) -> impl Future<Output = Result<bool, Self::Error>> {
        ready(Ok(true))
    }
}

impl SessionLayer {
    /// Runs one request under the rules of this layer, for web frameworks that do not use tower. The services that this
    /// layer makes for tower follow the same rules.
    ///
    /// `inner` is called once, or several times after conflicts. The session's transaction has ended when this returns, so
    /// send no byte of the response before.
    ///
    /// `request` may have an empty body if there is none. It must have all header fields, since ids travel there, and the
    /// extensions that the application's own rules need, such as that of [`admit_new`](Self::admit_new). Inside another
    /// layer, pass the request with the extensions that the inner service got from that layer: this one then does nothing.
    ///
    /// # Errors
    ///
    /// Those of the inner service. The layer's own errors are responses.
    pub async fn serve<B, N>(
        &self,
        request: Request<B>,
        mut inner: N,
    ) -> Result<Response<N::Body>, N::Error>
    where
        B: Body<Data = Bytes>,
        N: InnerService<B>,
    {
        if Slot::of(request.extensions()).is_some() {
            return inner.call(request.map(Replay::once)).await;
        }
        let (parts, body) = request.into_parts();
        let exchange = Exchange::new(self.settings(), parts, &body.size_hint());
        run(inner, exchange, body).await
    }
}

/// Answers a request.
///
/// This future is moved and allocated with every request, so it keeps little across its awaits (`size_tests`).
pub(super) async fn run<B, N>(
    mut inner: N,
    exchange: Arc<Exchange>,
    body: B,
) -> Result<Response<N::Body>, N::Error>
where
    B: Body<Data = Bytes>,
    N: InnerService<B>,
{
    let limit = exchange.settings.rules.replay_limit;
    let (bodies, mut body) = RequestBody::of(body, &exchange, limit);
    let _answered = RequestGuard(Arc::clone(&exchange));
    read_tokens(&exchange, &mut body).await;
    let mut attempt = AttemptGuard(Slot::first(&exchange));
    let mut count = 1;
    let (action, response) = loop {
        let request = attempt.0.request(body);
        let mut response = polled(pin!(inner.call(request))).await?;
        if let Some(queue) = FlashQueue::of(&response) {
            response = Box::pin(store_flash(queue, &attempt.0, &exchange, response)).await;
        }
        let (error, response) = match end(&attempt.0, &exchange, response) {
            AfterResponse::Final(response) => break (CookieAction::Keep, response),
            AfterResponse::Conflict(error, response) => (error, Some(response)),
            AfterResponse::Commit(transaction, session, response) => {
                let is_optional = attempt.0.writes_optional(&session);
                match commit(transaction, &session, &exchange).await {
                    Ok(action) => break (action, response),
                    Err(failure) if is_optional && failure.error.is_of_ended_session() => {
                        break (CookieAction::Keep, response);
                    }
                    Err(failure) if failure.error.is_conflict() => {
                        discard(response);
                        (failure.error, None)
                    }
                    Err(failure) => {
                        let response = replace(response, failure.error, &exchange.settings);
                        break (CookieAction::Keep, response);
                    }
                }
            }
        };
        let curable = error.is_worth_another_try();
        if !curable || count >= exchange.settings.store.max_attempts() || !exchange.policy.permits()
        {
            let response = response.unwrap_or_else(|| refuse(error, &exchange.settings));
            break (CookieAction::Keep, response);
        }
        // It may hold the request's body, which the next attempt needs.
        response.into_iter().for_each(discard);
        let is_ready = inner.ready_again().await?;
        let again = bodies.again();
        let Some(again) = again.filter(|_| is_ready) else {
            let response = refuse(error, &exchange.settings);
            break (CookieAction::Keep, response);
        };
        body = again;
        metrics::counter!("cloakroom_reruns_total", "of" => "request").increment(1);
        exchange.settings.store.count_rerun();
        tracing::debug!(attempt = count, %error, "running a request again after a conflict");
        attempt = AttemptGuard(Slot::next(&exchange));
        count += 1;
    };
    let action = after_all_commits(action, &exchange).await;
    Ok(finish(action, &exchange, response))
}

/// Reads the tokens that the request presents in its URL or its form. Boxed, because few do.
#[cfg(feature = "url-ids")]
async fn read_tokens<B: Body<Data = Bytes>>(exchange: &Exchange, body: &mut Replay<B>) {
    if exchange.tokens.are_there() {
        Box::pin(exchange.read_tokens(body)).await;
    }
}

/// This build reads none.
#[cfg(not(feature = "url-ids"))]
async fn read_tokens<B: Body<Data = Bytes>>(_: &Exchange, _: &mut Replay<B>) {}

/// Commits. The wait for turns uses the time that the request has left for it. The next attempt gets the rest.
async fn commit(
    transaction: Transaction,
    session: &Session,
    exchange: &Exchange,
) -> Result<CookieAction, CommitFailure> {
    let patience = Some(exchange.patience());
    let committing = transaction.commit_for(Some(session.subject), patience);
    let (committed, left) = committing.await;
    left.into_iter()
        .for_each(|left| exchange.set_patience(left));
    committed
}

/// Stores the messages that the response has for the visitor, if it will be committed.
async fn store_flash<R: Default>(
    queue: FlashQueue,
    slot: &Slot,
    exchange: &Exchange,
    response: Response<R>,
) -> Response<R> {
    let (parts, body) = response.into_parts();
    let commits = exchange.settings.commits(&parts);
    let response = Response::from_parts(parts, body);
    if !commits {
        return response;
    }
    let session = slot.session().await;
    match session.and_then(|session| queue.store(&session)) {
        Ok(()) => response,
        Err(error) => {
            // Whatever `commit_when` says of the error's response.
            drop(slot.close());
            replace(response, error, &exchange.settings)
        }
    }
}

/// Ends the transaction with its attempt: after a return, after a panic, and when the future is dropped. The
/// application may still hold a clone of the request's extensions.
struct AttemptGuard(Arc<Slot>);

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        if self.0.process().is_this() {
            drop(self.0.close());
        }
    }
}

/// Stops the recording of the body when the request is answered. The response may still read the rest of the body.
struct RequestGuard(Arc<Exchange>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.policy.forbid();
    }
}

/// The next step after the inner service has answered.
enum AfterResponse<R> {
    Final(Response<R>),
    /// The handler answered with a conflict error.
    Conflict(Error, Response<R>),
    Commit(Transaction, Session, Response<R>),
}

/// Ends an attempt, and decides the next step by its response.
fn end<R: Default>(slot: &Slot, exchange: &Exchange, response: Response<R>) -> AfterResponse<R> {
    if !slot.was_asked() {
        drop(slot.close());
        return AfterResponse::Final(response);
    }
    let (mut parts, body) = response.into_parts();
    let commits = exchange.settings.commits(&parts);
    mark(
        &mut parts.headers,
        SessionUse::Read,
        exchange.settings.id_fields(),
    );
    let response = Response::from_parts(parts, body);
    let open = slot.close();
    if let Some((_, session)) = &open {
        if commits {
            session.look_before_commit();
            exchange.renew_if_due(session);
        }
        if session.presents_dead_id() {
            exchange.count_dead_id();
        }
    }
    if !commits {
        drop(open);
        let error = response.extensions().get::<Error>().cloned();
        return match error.filter(Error::is_conflict) {
            Some(error) => AfterResponse::Conflict(error, response),
            None => AfterResponse::Final(response),
        };
    }
    match open {
        Some((transaction, mut session)) => match exchange.admit(&mut session) {
            Ok(()) => AfterResponse::Commit(transaction, session, response),
            Err(error) => AfterResponse::Final(replace(response, error, &exchange.settings)),
        },
        None => AfterResponse::Final(response),
    }
}

/// The cookie action after all commits of a request, given that of the last one. Boxes what few requests wait for.
async fn after_all_commits(mut action: CookieAction, exchange: &Exchange) -> CookieAction {
    if exchange.early.is_begun() {
        let process = exchange.settings.store.process();
        Box::pin(exchange.early.ended(process)).await;
        action = Box::pin(exchange.early.with_last(action, exchange.look())).await;
    }
    #[cfg(feature = "cookie-containers")]
    if let Some(Some(_)) = exchange.container_cookies.get() {
        Box::pin(exchange.drop_ended_containers(&action)).await;
    }
    action
}

/// The response to a request whose transaction has ended.
fn finish<R: Default>(
    action: CookieAction,
    exchange: &Exchange,
    response: Response<R>,
) -> Response<R> {
    let response = answer_with_cookie(action, exchange, response);
    #[cfg(feature = "url-ids")]
    let response = hide_tokens(exchange, response);
    response
}

/// Keeps the tokens of the request's URL and of the page from others.
#[cfg(feature = "url-ids")]
fn hide_tokens<R>(exchange: &Exchange, mut response: Response<R>) -> Response<R> {
    let headers = response.headers_mut();
    exchange.tokens.hide_url(headers);
    if exchange.tokens.were_given() {
        mark(headers, SessionUse::Cookie, exchange.settings.id_fields());
    }
    response
}

/// The response with what became of the cookie.
fn answer_with_cookie<R: Default>(
    action: CookieAction,
    exchange: &Exchange,
    mut response: Response<R>,
) -> Response<R> {
    let containers = match container_fields(&action, exchange) {
        Ok(fields) => fields,
        Err(error) => return replace(response, error, &exchange.settings),
    };
    let headers = response.headers_mut();
    let sent_id = match exchange.carrier() {
        _ if matches!(action, CookieAction::Keep) && containers.is_empty() => {
            return sent(response);
        }
        // The front server's cookie is its own.
        IdCarrier::Cookie if exchange.settings.cookie.settings().is_third_party() => {
            if containers.is_empty() {
                return sent(response);
            }
            Ok(())
        }
        IdCarrier::Cookie => send_cookie(&action, exchange, headers),
        IdCarrier::Other(transport) => {
            match &action {
                CookieAction::Send { id, .. } => transport.send(id, headers),
                CookieAction::Withdraw => transport.withdraw(headers),
                CookieAction::Keep => {}
            }
            Ok(())
        }
    };
    match sent_id {
        Ok(()) => {
            for field in containers {
                headers.append(SET_COOKIE, field);
            }
            mark(headers, SessionUse::Cookie, exchange.settings.id_fields());
            sent(response)
        }
        Err(error) => replace(response, error, &exchange.settings),
    }
}

/// The cookies that hold containers, as far as the request's commits changed them.
#[cfg(feature = "cookie-containers")]
fn container_fields(action: &CookieAction, exchange: &Exchange) -> Result<Vec<HeaderValue>> {
    let Some(Some(cookies)) = exchange.container_cookies.get() else {
        return Ok(Vec::new());
    };
    let has_ended = match action {
        CookieAction::Withdraw => HasEnded::Yes,
        CookieAction::Keep | CookieAction::Send { .. } => HasEnded::No,
    };
    cookies.fields(&exchange.settings, has_ended)
}

/// This build has no cookies for containers.
#[cfg(not(feature = "cookie-containers"))]
fn container_fields(_: &CookieAction, _: &Exchange) -> Result<Vec<HeaderValue>> {
    Ok(Vec::new())
}

fn send_cookie(action: &CookieAction, exchange: &Exchange, headers: &mut HeaderMap) -> Result<()> {
    let cookie = exchange.settings.cookie.at(&exchange.request)?;
    let field = match action {
        CookieAction::Keep => return Ok(()),
        CookieAction::Send { id, timeout } => cookie.handing_out(id.as_str(), *timeout)?,
        CookieAction::Withdraw => {
            if exchange.settings.rules.site_data == SiteData::Cleared {
                let what = HeaderValue::from_static(r#""cookies", "storage""#);
                headers.entry("clear-site-data").or_insert(what);
            }
            cookie.removal()?
        }
    };
    headers.append(SET_COOKIE, field);
    Ok(())
}

/// The response of the inner service, which the client gets.
fn sent<R>(mut response: Response<R>) -> Response<R> {
    report_sent(response.extensions_mut());
    response
}

/// Drops a response of the inner service.
fn discard<R>(response: Response<R>) {
    report_dropped(response.extensions());
}

/// Answers an error in place of a response of the inner service.
fn replace<R: Default>(
    response: Response<R>,
    error: Error,
    settings: &LayerSettings,
) -> Response<R> {
    discard(response);
    refuse(error, settings)
}

/// The response after a failed commit. The client must not get a response that says that its changes were saved.
fn refuse<R: Default>(error: Error, settings: &LayerSettings) -> Response<R> {
    let mut response = answer(error);
    mark(
        response.headers_mut(),
        SessionUse::Read,
        settings.id_fields(),
    );
    response
}

#[cfg(all(test, feature = "axum"))]
#[path = "size_tests.rs"]
mod size_tests;

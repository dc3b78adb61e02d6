//! One request through the layer: its attempts, their transactions, and what the response says.
//! Knows neither how a body is kept nor how a cookie is written.

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{Request, Response};
use http_body::Body;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_service::Service;

use super::answer::{Bond, answer, mark};
use super::layer::Settings;
use super::replay::{Home, Replay};
use super::rerun::Policy;
use super::slot::{Exchange, Slot};
use crate::error::{Error, Result};
use crate::session::{Session, Ticket};
use crate::transaction::Transaction;

/// The service that [`SessionLayer`](super::SessionLayer) makes.
#[derive(Clone)]
pub struct SessionService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> SessionService<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }
}

impl<S, B, R> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<Replay<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was found ready takes the request; the clone has to be asked anew.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        Box::pin(run(ready, request, Arc::clone(&self.settings)))
    }
}

impl<S: fmt::Debug> fmt::Debug for SessionService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

async fn run<S, B, R>(
    mut service: S,
    request: Request<B>,
    settings: Arc<Settings>,
) -> Result<Response<R>, S::Error>
where
    S: Service<Request<Replay<B>>, Response = Response<R>>,
    B: Body<Data = Bytes>,
    R: Default,
{
    if Slot::of(request.extensions()).is_some() {
        return service.call(request.map(Replay::once)).await;
    }
    let (parts, body) = request.into_parts();
    let attempts = settings.store.max_attempts();
    let exchange = Arc::new(Exchange::new(settings, &parts, &body.size_hint()));
    let home = Home::new(Arc::clone(&exchange.policy), exchange.settings.replay_limit);
    let _answered = Answered(Arc::clone(&exchange.policy));
    let mut body = home.admit(body);
    let mut attempt = Attempt(Slot::first(&exchange));
    let mut count = 1;
    loop {
        let mut request = Request::from_parts(parts.clone(), body);
        attempt.0.enter(request.extensions_mut());
        let response = service.call(request).await?;
        let (error, response) = match settle(&attempt.0, &exchange.settings, response).await {
            Outcome::Final(response) => return Ok(response),
            Outcome::Conflict(error, response) => (error, response),
        };
        let curable = error.is_worth_another_try();
        if !curable || count >= attempts || !exchange.policy.permits() {
            return Ok(response.unwrap_or_else(|| refuse(error)));
        }
        // It may hold the request's body.
        drop(response);
        body = match home.again() {
            Some(body) => body,
            None => return Ok(refuse(error)),
        };
        tracing::debug!(attempt = count, %error, "running a request again after a conflict");
        attempt = Attempt(Slot::next(&exchange));
        count += 1;
        poll_fn(|cx| service.poll_ready(cx)).await?;
    }
}

/// However an attempt ends, by return, panic or being dropped, its transaction ends with it, even if
/// somebody kept the request's extensions.
struct Attempt(Arc<Slot>);

impl Drop for Attempt {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

/// When the request is done with, the rest of its body, which a response may still be reading, need
/// not be kept.
struct Answered(Arc<Policy>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.spend();
    }
}

enum Outcome<R> {
    Final(Response<R>),
    /// The attempt met a conflict; with the handler's own response, if it is that which says so.
    Conflict(Error, Option<Response<R>>),
}

/// Ends the attempt's transaction as the response wants it.
async fn settle<R: Default>(slot: &Slot, settings: &Settings, response: Response<R>) -> Outcome<R> {
    if !slot.was_asked() {
        drop(slot.close());
        return Outcome::Final(response);
    }
    let (mut parts, body) = response.into_parts();
    let commits = settings.commits(&parts);
    mark(&mut parts.headers, Bond::Read);
    let response = Response::from_parts(parts, body);
    let open = slot.close();
    if !commits {
        drop(open);
        let error = response.extensions().get::<Error>().cloned();
        return match error.filter(Error::is_conflict) {
            Some(error) => Outcome::Conflict(error, Some(response)),
            None => Outcome::Final(response),
        };
    }
    let Some((transaction, session)) = open else {
        return Outcome::Final(response);
    };
    match commit(transaction, session, settings, response).await {
        Ok(response) => Outcome::Final(response),
        Err(error) if error.is_conflict() => Outcome::Conflict(error, None),
        Err(error) => Outcome::Final(refuse(error)),
    }
}

async fn commit<R>(
    transaction: Transaction,
    session: Session,
    settings: &Settings,
    mut response: Response<R>,
) -> Result<Response<R>> {
    let committing = transaction.commit_for(Some(session.subject));
    let cookie = match committing.await.map_err(|failure| failure.error)? {
        Ticket::Keep => return Ok(response),
        Ticket::Send { id, timeout } => settings.cookie.handing_out(id.as_str(), timeout)?,
        Ticket::Withdraw => settings.cookie.removal()?,
    };
    response.headers_mut().append(SET_COOKIE, cookie);
    mark(response.headers_mut(), Bond::Cookie);
    Ok(response)
}

/// The response in place of one whose commit failed: the client is never told that something was
/// saved when it was not.
fn refuse<R: Default>(error: Error) -> Response<R> {
    tracing::warn!(%error, "the commit of a request's session failed");
    let mut response = answer(error);
    mark(response.headers_mut(), Bond::Read);
    response
}

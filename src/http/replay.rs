//! A request body that can be read again. It records the bytes that the handler reads, up to a limit, while the request
//! may run again. It reads nothing ahead. Knows no session.

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

#[cfg(feature = "url-ids")]
use super::form::FormEnd;
use super::policy::{RerunPolicy, SharedPolicy};
#[cfg(feature = "url-ids")]
use super::rewound::ReadAhead;
use super::rewound::RewoundBody;

/// The request body for services inside a [`GenericSessionLayer`](super::GenericSessionLayer). It records the
/// original body as it is read, so that the request can run again after a conflict.
///
/// It reads nothing ahead and keeps at most [`replay_limit`](super::SessionLayer::replay_limit) bytes. When the
/// request runs again, the recorded part arrives in one piece, and the rest from the original body. (Only a layer with a
/// `FormTransport` reads the beginning of some forms before the service does.)
///
/// Inside a [`SessionLayer`](super::SessionLayer) it is wrapped in axum's `Body`. A service tied to another body
/// type, such as hyper's `Incoming`, does not accept it; make the service generic over [`http_body::Body`].
///
/// ```
/// use bytes::Bytes;
/// use cloakroom::Error;
/// use cloakroom::http::{Replay, session};
/// use http::{Request, Response};
/// use http_body_util::{BodyExt as _, Full};
///
/// /// A page that reads its body. After a conflict it runs again, and gets the same bytes.
/// async fn upload(request: Request<Replay<Full<Bytes>>>) -> Result<Response<String>, Error> {
///     let session = session(request.extensions()).await?;
///     let Ok(body) = request.into_body().collect().await else {
///         return Ok(Response::new("the body ended early".to_owned()));
///     };
///     let length = body.to_bytes().len();
///     session.pkg("uploads").add("bytes", i64::try_from(length).unwrap_or(i64::MAX))?;
///     Ok(Response::new(format!("{length} bytes")))
/// }
/// ```
pub struct Replay<B: Body>(Option<Box<BodyReader<B>>>);

/// The body during one attempt. It is boxed, because requests are moved often.
struct BodyReader<B: Body> {
    /// `None` only while being dropped.
    source: Option<BodySource<B>>,
    mode: ReplayMode,
    /// The recorded data that this attempt has not read yet.
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    home: Option<Arc<BodyReturn<B>>>,
}

/// The original body, and the record of the part that was read.
struct BodySource<B: Body> {
    body: RewoundBody<Pin<Box<B>>>,
    record: BodyRecord,
}

/// Data is copied out of its frames. A small frame would keep alive the whole buffer that it lies in.
#[derive(Default)]
struct BodyRecord {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReplayMode {
    /// This attempt has read nothing of the source. The route's setting may still change the policy.
    Untouched,
    Recording,
    /// A part was read and not recorded.
    Lost,
}

/// The body of one request, attempt by attempt.
pub(super) enum RequestBody<B: Body> {
    /// The request has no body, as most requests.
    Empty,
    Kept(Arc<BodyReturn<B>>),
}

impl<B: Body> RequestBody<B> {
    /// The record of a request's body, and the body of the first attempt.
    pub(super) fn of<P>(body: B, policy: &Arc<P>, limit: usize) -> (Self, Replay<B>)
    where
        P: AsRef<RerunPolicy> + Send + Sync + 'static,
    {
        if body.is_end_stream() {
            return (Self::Empty, Replay::empty());
        }
        let home = BodyReturn::new(policy.clone(), limit);
        let first = home.admit(body);
        (Self::Kept(home), first)
    }

    /// The body of the next attempt. `None` if a part was not recorded, or if the body of the last attempt was not
    /// dropped yet.
    pub(super) fn again(&self) -> Option<Replay<B>> {
        match self {
            Self::Empty => Some(Replay::empty()),
            Self::Kept(home) => home.again(),
        }
    }
}

/// Passes the body from one attempt to the next.
pub(super) struct BodyReturn<B: Body> {
    parked: Mutex<Option<BodySource<B>>>,
    policy: SharedPolicy,
    limit: usize,
}

impl<B: Body> BodyReturn<B> {
    fn new(policy: SharedPolicy, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            parked: Mutex::new(None),
            policy,
            limit,
        })
    }

    /// The body of the first attempt.
    fn admit(self: &Arc<Self>, body: B) -> Replay<B> {
        let source = BodySource {
            body: RewoundBody::new(Box::pin(body)),
            record: BodyRecord::default(),
        };
        Replay::of(source, Some(Arc::clone(self)))
    }

    fn again(self: &Arc<Self>) -> Option<Replay<B>> {
        let source = self.lock().take()?;
        Some(Replay::of(source, Some(Arc::clone(self))))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<BodySource<B>>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Body> Replay<B> {
    /// A body that is passed through without a record.
    pub(super) fn once(body: B) -> Self {
        let source = BodySource {
            body: RewoundBody::new(Box::pin(body)),
            record: BodyRecord::default(),
        };
        Self::of(source, None)
    }

    /// The body of a request that has none. Each attempt gets a new one.
    fn empty() -> Self {
        Self(None)
    }

    /// Whether the request has no body.
    #[cfg(feature = "axum")]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn of(source: BodySource<B>, home: Option<Arc<BodyReturn<B>>>) -> Self {
        let data = &source.record.data;
        Self(Some(Box::new(BodyReader {
            data: (!data.is_empty()).then(|| Bytes::copy_from_slice(data)),
            trailers: source.record.trailers.clone(),
            mode: ReplayMode::Untouched,
            source: Some(source),
            home,
        })))
    }
}

impl<B: Body> BodyReader<B> {
    /// Whether the next frame is recorded: all frames before it were, and the request may run again.
    fn records(&self) -> bool {
        self.mode != ReplayMode::Lost
            && self
                .home
                .as_ref()
                .is_some_and(|home| home.policy.as_ref().as_ref().permits())
    }
}

impl BodyRecord {
    /// Records a result of the source. Returns false if it cannot be repeated.
    fn note<E>(&mut self, answer: &Poll<Option<Result<Frame<Bytes>, E>>>, limit: usize) -> bool {
        match answer {
            Poll::Pending => true,
            Poll::Ready(None) => {
                self.ended = true;
                true
            }
            Poll::Ready(Some(Ok(frame))) => self.take(frame, limit),
            Poll::Ready(Some(Err(_))) => false,
        }
    }

    /// Records a frame. Returns false if it does not fit, or if it follows the trailers, which end a body.
    fn take(&mut self, frame: &Frame<Bytes>, limit: usize) -> bool {
        let remaining = limit.saturating_sub(self.data.len());
        if self.trailers.is_some() {
            return false;
        }
        if let Some(data) = frame.data_ref() {
            if data.len() > remaining {
                return false;
            }
            self.data.extend_from_slice(data);
            return true;
        }
        let Some(trailers) = frame.trailers_ref() else {
            return false;
        };
        let fields = trailers.iter();
        let size: usize = fields.map(|(k, v)| k.as_str().len() + v.len()).sum();
        if size <= remaining {
            self.trailers = Some(trailers.clone());
        }
        size <= remaining
    }
}

impl<B: Body<Data = Bytes>> Replay<B> {
    /// Reads a part of the body before the first attempt does, which gets it all the same.
    #[cfg(feature = "url-ids")]
    pub(super) async fn read_ahead<T>(
        &mut self,
        limit: usize,
        find: impl Fn(&[u8], FormEnd) -> Option<T>,
    ) -> Option<T> {
        let source = self.0.as_mut()?.source.as_mut()?;
        match source.body.read_until(limit, find).await {
            ReadAhead::Found(found) => Some(found),
            ReadAhead::Nothing | ReadAhead::TooLong => None,
        }
    }
}

impl<B: Body<Data = Bytes>> BodyReader<B> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let records = self.records();
        // In case that the source panics: the frame would not be recorded.
        self.mode = ReplayMode::Lost;
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        let answer = if source.record.ended {
            Poll::Ready(None)
        } else {
            Pin::new(&mut source.body).poll_frame(cx)
        };
        if let Some(home) = &self.home {
            if records && source.record.note(&answer, home.limit) {
                self.mode = ReplayMode::Recording;
            } else {
                source.record.data = Vec::new();
                home.policy.as_ref().as_ref().forbid();
            }
        }
        answer
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
            && self.trailers.is_none()
            && self
                .source
                .as_ref()
                .is_none_or(|source| source.record.ended || source.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = match &self.source {
            Some(source) if !source.record.ended => source.body.size_hint(),
            _ => SizeHint::with_exact(0),
        };
        let again = self.data.as_ref().map_or(0, |data| data.len() as u64);
        let upper = hint.upper().and_then(|upper| upper.checked_add(again));
        let lower = hint.lower().saturating_add(again);
        hint = SizeHint::new();
        hint.set_lower(lower);
        if let Some(upper) = upper {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B: Body<Data = Bytes>> Body for Replay<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.0 {
            Some(reading) => reading.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|reading| reading.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(reading) => reading.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl<B: Body> Drop for BodyReader<B> {
    fn drop(&mut self) {
        if self.mode == ReplayMode::Lost {
            return;
        }
        if let (Some(home), Some(source)) = (self.home.take(), self.source.take()) {
            let former = home.lock().replace(source);
            drop(former);
        }
    }
}

impl<B: Body> fmt::Debug for Replay<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;

//! Reads the beginning of a body, and gives the whole body back.

#[cfg(feature = "axum")]
use axum_core::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::form::FormEnd;

/// A body of which some frames were read ahead. It gives them all the same, before the rest.
///
/// [`CsrfLayer::check`](super::CsrfLayer::check) returns the bodies of the requests that pass so.
///
/// ```
/// use bytes::Bytes;
/// use cloakroom::Error;
/// use cloakroom::http::{CsrfLayer, RewoundBody};
/// use http::Request;
/// use http_body_util::{BodyExt as _, Full};
///
/// /// Reads a form that passes.
/// async fn checked(csrf: &CsrfLayer, request: Request<Full<Bytes>>) -> Result<Bytes, Error> {
///     let request: Request<RewoundBody<Full<Bytes>>> = csrf.check(request).await?;
///     let Ok(body) = request.into_body().collect().await;
///     Ok(body.to_bytes())
/// }
/// ```
pub struct RewoundBody<B: Body> {
    /// The frames that the handler reads first.
    front: VecDeque<Result<Frame<Bytes>, B::Error>>,
    rest: B,
    /// Whether `rest` told its end. It must not be polled again.
    has_ended: bool,
}

impl<B: Body> RewoundBody<B> {
    pub(super) fn new(body: B) -> Self {
        Self {
            front: VecDeque::new(),
            rest: body,
            has_ended: false,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> RewoundBody<B> {
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.rest).poll_frame(cx);
        self.has_ended = matches!(polled, Poll::Ready(None));
        polled
    }
}

impl<B: Body<Data = Bytes> + Unpin> RewoundBody<B> {
    /// Reads frames until `find` returns a result for all bytes so far, until the end, or until `limit` bytes were
    /// read. `find` is called for the first bytes, each time that their number has doubled, and at the end. So a sender
    /// of many small frames cannot make the search quadratic (C5.5).
    pub(super) async fn read_until<T>(
        &mut self,
        limit: usize,
        find: impl Fn(&[u8], FormEnd) -> Option<T>,
    ) -> ReadAhead<T> {
        let mut bytes = Vec::new();
        let mut searched = 0;
        loop {
            let frame = poll_fn(|cx| self.poll_rest(cx)).await;
            let is_end = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
            {
                let remaining = limit.saturating_sub(bytes.len());
                bytes.extend_from_slice(data.get(..remaining).unwrap_or(data));
            }
            self.front.extend(frame);
            let end = if is_end {
                FormEnd::Reached
            } else {
                FormEnd::Open
            };
            let has_grown = !bytes.is_empty() && bytes.len() >= 2 * searched;
            if is_end || has_grown || bytes.len() >= limit {
                searched = bytes.len();
                if let Some(found) = find(&bytes, end) {
                    return ReadAhead::Found(found);
                }
            }
            if is_end {
                return ReadAhead::Nothing;
            }
            if bytes.len() >= limit {
                return ReadAhead::TooLong;
            }
        }
    }
}

#[cfg(feature = "axum")]
impl RewoundBody<AxumBody> {
    pub(super) fn into_body(self) -> AxumBody {
        if self.front.is_empty() && !self.has_ended {
            self.rest
        } else {
            AxumBody::new(self)
        }
    }
}

/// The result of reading ahead.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadAhead<T> {
    Found(T),
    /// The whole body was read.
    Nothing,
    /// As many bytes as the limit were read.
    TooLong,
}

impl<B: Body> fmt::Debug for RewoundBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RewoundBody").finish_non_exhaustive()
    }
}

/// The frames are only moved, never polled in place.
impl<B: Body + Unpin> Unpin for RewoundBody<B> {}

impl<B: Body<Data = Bytes> + Unpin> Body for RewoundBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.front.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_rest(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.front.is_empty() && (self.has_ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let frames = self.front.iter().flatten();
        let sizes = frames.filter_map(|frame| Some(frame.data_ref()?.len() as u64));
        let front: u64 = sizes.sum();
        let rest = match self.has_ended {
            true => SizeHint::with_exact(0),
            false => self.rest.size_hint(),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(front));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(front)) {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(all(test, feature = "axum"))]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::convert::Infallible;

    /// A body whose every byte is a frame.
    struct Crumbs(usize);

    impl Body for Crumbs {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.checked_sub(1).map(|left| {
                self.0 = left;
                Ok(Frame::data(Bytes::from_static(b"a")))
            }))
        }
    }

    // C5.5
    #[test]
    fn many_small_frames_are_searched_a_few_times() {
        let searched = Cell::new(0);
        let mut body = RewoundBody::new(Crumbs(1 << 16));
        let read = body.read_until(1 << 16, |bytes, _| {
            searched.set(searched.get() + bytes.len());
            None::<()>
        });
        assert_eq!(pollster::block_on(read), ReadAhead::TooLong);
        assert!(searched.get() <= 4 << 16, "{}", searched.get());
    }
    /// A body that must not be polled after its end.
    struct Brittle(Option<Option<Bytes>>);

    impl Body for Brittle {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            assert!(self.0.is_some(), "polled after the end");
            let left = self.0.take().flatten();
            self.0 = left.is_some().then_some(None);
            Poll::Ready(left.map(|data| Ok(Frame::data(data))))
        }
    }

    #[test]
    fn a_body_that_was_read_to_its_end_is_not_polled_again() {
        let data = Bytes::from_static(b"a=1");
        let ahead = || RewoundBody::new(Brittle(Some(Some(data.clone()))));
        let read_all = |body: &mut RewoundBody<Brittle>| {
            let read = body.read_until(1 << 16, |_, _| None::<()>);
            assert_eq!(pollster::block_on(read), ReadAhead::Nothing);
        };
        let next = |body: &mut RewoundBody<Brittle>| {
            let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
            let frame = pollster::block_on(frame).map(Result::unwrap);
            frame.map(|frame| frame.into_data().unwrap())
        };
        let mut body = ahead();
        read_all(&mut body);
        assert_eq!(body.size_hint().exact(), Some(3));
        assert!(!body.is_end_stream());
        assert_eq!(next(&mut body), Some(data.clone()));
        assert!(body.is_end_stream());
        assert_eq!(next(&mut body), None);
        // Also without reading ahead.
        let mut body = ahead();
        assert_eq!(next(&mut body), Some(data.clone()));
        assert_eq!((next(&mut body), next(&mut body)), (None, None));
    }
}

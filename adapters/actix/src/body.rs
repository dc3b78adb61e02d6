//! The bodies of requests: actix-web's payload as a body of the crate `http-body`, and the way back. Knows no session.

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The payload of a request, with its size as far as that is known.
pub(crate) struct PayloadBody {
    front: Option<Result<Bytes, PayloadError>>,
    payload: Payload,
    length: Option<u64>,
}

impl PayloadBody {
    /// The body of a request with these headers.
    pub(crate) async fn of(mut payload: Payload, headers: &HeaderMap) -> Self {
        let is_chunked = headers.contains_key(TRANSFER_ENCODING);
        let length = headers.get(CONTENT_LENGTH).filter(|_| !is_chunked);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let mut front = None;
        // A request of HTTP/2 without a body has a payload, too, and no length. Its stream tells at once that it has ended.
        if length.is_none() && !is_chunked && !matches!(payload, Payload::None) {
            let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut payload).poll_next(cx))).await;
            match first {
                Poll::Ready(None) => payload = Payload::None,
                Poll::Ready(first) => front = first,
                Poll::Pending => {}
            }
        }
        Self {
            front,
            payload,
            length,
        }
    }
}

impl Body for PayloadBody {
    type Data = Bytes;
    type Error = PayloadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PayloadError>>> {
        let next = match self.front.take() {
            Some(front) => Poll::Ready(Some(front)),
            None => Pin::new(&mut self.payload).poll_next(cx),
        };
        if let (Poll::Ready(Some(Ok(data))), Some(length)) = (&next, &mut self.length) {
            *length = length.saturating_sub(data.len() as u64);
        }
        next.map(|next| next.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.front.is_none() && matches!(self.payload, Payload::None)
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::new(),
        }
    }
}

/// A body as a payload again.
pub(crate) fn payload<B>(body: B) -> Payload
where
    B: Body<Data = Bytes, Error = PayloadError> + Unpin + 'static,
{
    if body.is_end_stream() {
        return Payload::None;
    }
    Payload::Stream {
        payload: Box::pin(BodyStream(body)),
    }
}

struct BodyStream<B>(B);

impl<B: Body<Data = Bytes, Error = PayloadError> + Unpin> Stream for BodyStream<B> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let frame = match Pin::new(&mut self.0).poll_frame(cx) {
                Poll::Ready(Some(frame)) => frame,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => return Poll::Ready(Some(Ok(data))),
                // A payload has no trailers.
                Ok(Err(_)) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

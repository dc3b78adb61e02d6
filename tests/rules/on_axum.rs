//! A site of the suite, served by axum.

use crate::suite::{Answer, Backend, Page, Reply, ReplyBody, Route, Sent, Site, Visit, bounded};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any};
use cloakroom::Session;
use http_body::Frame;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower::ServiceExt as _;

pub(crate) struct Axum(Router);

impl Backend for Axum {
    fn run(case: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(bounded(case));
    }

    async fn start(site: Site) -> Self {
        let mut app = Router::new();
        for route in site.routes {
            app = app.route(route.path, served(route));
        }
        let with = |app: Router, layer| app.layer(layer);
        Self(site.layers.into_iter().fold(app, with))
    }

    async fn send(&self, request: http::Request<Sent>) -> Answer {
        let mut request = request.map(|sent| match sent {
            Sent::Empty => Body::empty(),
            Sent::Whole(bytes) => Body::from(bytes),
            Sent::Pieces(pieces) => Body::new(Pieces(pieces.into())),
        });
        let peer = SocketAddr::from(([192, 0, 2, 1], 80));
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = self.0.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = async {
            let bytes = to_bytes(body, usize::MAX).await.unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        Answer {
            head,
            body: Box::pin(body),
        }
    }
}

fn served(route: Route) -> MethodRouter {
    let served = match route.page {
        Page::Session(page) => any(move |session: Session, request: Request| async move {
            respond(page(session, visit(request).await).await)
        }),
        Page::Plain(page) => {
            any(move |request: Request| async move { respond(page(visit(request).await).await) })
        }
    };
    match route.rerun {
        Some(rerun) => served.layer(rerun),
        None => served,
    }
}

async fn visit(request: Request) -> Visit {
    let (head, body) = request.into_parts();
    let path = head.extensions.get::<MatchedPath>();
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
    Visit {
        pattern: path.map(|path| path.as_str().to_owned()),
        peer: peer.map(|ConnectInfo(peer)| *peer),
        extensions: head.extensions.clone(),
        body: to_bytes(body, usize::MAX).await.unwrap(),
        head,
    }
}

fn respond(reply: Reply) -> Response {
    match reply {
        Ok(response) => response.map(|body| match body {
            ReplyBody::Text(text) => Body::from(text),
            ReplyBody::Late(make) => Body::new(Late(Some(make))),
        }),
        Err(error) => error.into_response(),
    }
}

/// A body whose only frame is made when it is asked for.
struct Late(Option<Box<dyn FnOnce() -> String + Send>>);

impl http_body::Body for Late {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let text = self.0.take().map(|make| make());
        Poll::Ready(text.map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

/// A body of unknown size.
pub(crate) struct Pieces(pub(crate) VecDeque<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

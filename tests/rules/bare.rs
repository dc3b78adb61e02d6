//! A site of the suite, served by `SessionLayer::serve` alone: no framework, no service of tower, and nothing that is
//! `Send`.

use crate::on_axum::Pieces;
use crate::suite::{Answer, Backend, Page, Reply, ReplyBody, Sent, Site, Visit, bounded};
use bytes::Bytes;
use cloakroom::http::{InnerService, Replay, error_response, session};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answering = Pin<Box<dyn Future<Output = Response<Out>>>>;

pub(crate) struct Bare(Rc<Site>);

/// The body of a response.
#[derive(Default)]
struct Out(Option<ReplyBody>);

impl Backend for Bare {
    fn run(case: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(bounded(case));
    }

    async fn start(site: Site) -> Self {
        Self(Rc::new(site))
    }

    async fn send(&self, request: Request<Sent>) -> Answer {
        let mut request = request.map(|sent| match sent {
            Sent::Empty => Body::new(Empty::new()),
            Sent::Whole(bytes) => Body::new(Full::new(bytes)),
            Sent::Pieces(pieces) => Body::new(Pieces(pieces.into())),
        });
        let peer = SocketAddr::from(([192, 0, 2, 1], 80));
        request.extensions_mut().insert(peer);
        let layers = self.0.layers.len();
        let (head, Out(body)) = serve(Rc::clone(&self.0), layers, request)
            .await
            .into_parts();
        let body = async {
            match body {
                None => String::new(),
                Some(ReplyBody::Text(text)) => text,
                Some(ReplyBody::Late(make)) => make(),
            }
        };
        Answer {
            head,
            body: Box::pin(body),
        }
    }
}

/// The site inside so many of its layers.
struct Inside(Rc<Site>, usize);

impl InnerService<Body> for Inside {
    type Body = Out;
    type Error = Infallible;

    async fn call(&mut self, request: Request<Replay<Body>>) -> Result<Response<Out>, Infallible> {
        Ok(serve(Rc::clone(&self.0), self.1, request.map(Body::new)).await)
    }
}

fn serve(site: Rc<Site>, layers: usize, request: Request<Body>) -> Answering {
    Box::pin(async move {
        match layers.checked_sub(1) {
            None => page(&site, request).await,
            Some(inside) => {
                let layer = site.layers[inside].clone();
                layer.serve(request, Inside(site, inside)).await.unwrap()
            }
        }
    })
}

async fn page(site: &Site, request: Request<Body>) -> Response<Out> {
    let path = request.uri().path().to_owned();
    let matches = |pattern: &str| match pattern.split_once('{') {
        Some((start, _)) => path.starts_with(start),
        None => path == pattern,
    };
    let route = site.routes.iter().find(|route| matches(route.path));
    let route = route.expect("a page");
    if let Some(rerun) = route.rerun {
        rerun.apply_to(request.extensions());
    }
    let (head, body) = request.into_parts();
    let session = match &route.page {
        Page::Session(_) => Some(session(&head.extensions).await),
        Page::Plain(_) => None,
    };
    let visit = Visit {
        pattern: Some(route.path.to_owned()),
        peer: head.extensions.get().copied(),
        extensions: head.extensions.clone(),
        body: body.collect().await.unwrap().to_bytes(),
        head,
    };
    respond(match (&route.page, session) {
        (Page::Session(page), Some(Ok(session))) => page(session, visit).await,
        (Page::Plain(page), _) => page(visit).await,
        (_, session) => Err(session.unwrap().unwrap_err()),
    })
}

fn respond(reply: Reply) -> Response<Out> {
    match reply {
        Ok(response) => response.map(|body| Out(Some(body))),
        Err(error) => error_response(error).map(|text| Out(Some(ReplyBody::Text(text)))),
    }
}

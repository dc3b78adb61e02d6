//! The rules of a session layer, on actix-web: the suite of `tests/rules` in the root of the repository.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

#[path = "../../../tests/rules/suite/mod.rs"]
mod suite;

use actix_web::body::{BoxBody, to_bytes};
use actix_web::dev::{Payload, Service, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http as actix;
use actix_web::middleware::Condition;
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, HttpRequest, HttpResponse, Resource, Responder as _, web};
use bytes::Bytes;
use cloakroom::http::Abort;
use cloakroom_actix::{Aborting, Error, RouteRerun, Session, SessionMiddleware, extensions};
use futures_core::Stream;
use http::{HeaderName, HeaderValue, Request, Response};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use suite::{Answer, Backend, Page, Reply, ReplyBody, Route, Sent, Site, Visit, bounded};

suite::each_rule!(Actix);

type Serving = Pin<Box<dyn Future<Output = Result<ServiceResponse<BoxBody>, actix_web::Error>>>>;

struct Actix(Box<dyn Fn(actix_http::Request) -> Serving>);

impl Backend for Actix {
    fn run(case: impl Future<Output = ()>) {
        actix_web::rt::System::new().block_on(bounded(case));
    }

    async fn start(site: Site) -> Self {
        let mut app = App::new();
        for route in site.routes {
            app = app.service(served(route));
        }
        let mut layers = site.layers.into_iter().map(SessionMiddleware::new);
        match (layers.next(), layers.next()) {
            (None, _) => Self::of(init_service(app).await),
            (Some(layer), None) => Self::of(init_service(app.wrap(layer)).await),
            (Some(inner), Some(outer)) => Self::of(init_service(app.wrap(inner).wrap(outer)).await),
        }
    }

    async fn send(&self, request: Request<Sent>) -> Answer {
        let (head, body) = request.into_parts();
        let method = actix::Method::from_bytes(head.method.as_str().as_bytes());
        let uri = head.uri.to_string();
        let mut asked = TestRequest::default().method(method.unwrap()).uri(&uri);
        for (name, value) in &head.headers {
            let value = actix::header::HeaderValue::from_bytes(value.as_bytes());
            asked = asked.append_header((name.as_str(), value.unwrap()));
        }
        asked = asked.peer_addr(([192, 0, 2, 1], 80).into());
        if let Sent::Whole(body) = &body {
            asked = asked.insert_header(("content-length", body.len()));
        }
        let (asked, _) = asked.to_request().replace_payload(payload(body));
        match (self.0)(asked).await {
            Ok(response) => answer(response.into_parts().1),
            Err(error) => answer(error.error_response()),
        }
    }
}

impl Actix {
    fn of<S, B>(service: S) -> Self
    where
        S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
        S::Future: 'static,
        S: 'static,
        B: actix_web::body::MessageBody + 'static,
    {
        Self(Box::new(move |request| {
            let answer = service.call(request);
            Box::pin(async { Ok(answer.await?.map_into_boxed_body()) })
        }))
    }
}

/// The payload of a request, as a server makes it.
fn payload(body: Sent) -> Payload {
    let pieces = match body {
        Sent::Empty => return Payload::None,
        Sent::Whole(bytes) => vec![bytes],
        Sent::Pieces(pieces) => pieces,
    };
    let pieces = Pieces(pieces.into());
    Payload::Stream {
        payload: Box::pin(pieces),
    }
}

struct Pieces(VecDeque<Bytes>);

impl Stream for Pieces {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn answer(mut response: HttpResponse) -> Answer {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = response.status().as_u16().try_into().unwrap();
    for (name, value) in response.headers() {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).unwrap();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        head.headers.append(name, value);
    }
    let error = response.extensions_mut().remove::<cloakroom::Error>();
    if let Some(error) = error {
        head.extensions.insert(error);
    }
    let body = async {
        let bytes = to_bytes(response.into_body()).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    Answer {
        head,
        body: Box::pin(body),
    }
}

fn served(
    route: Route,
) -> Resource<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl actix_web::body::MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let rerun = RouteRerun(route.rerun.unwrap_or_default());
    let resource = web::resource(route.path);
    let resource = match route.page {
        Page::Session(page) => resource.to(
            move |session: Session, request: HttpRequest, body: web::Bytes| {
                let reply = page(session.into_inner(), visit(&request, body));
                async move { respond(reply.await, &request) }
            },
        ),
        Page::Plain(page) => resource.to(move |request: HttpRequest, body: web::Bytes| {
            let reply = page(visit(&request, body));
            async move { respond(reply.await, &request) }
        }),
    };
    resource.wrap(Condition::new(route.rerun.is_some(), rerun))
}

fn visit(request: &HttpRequest, body: Bytes) -> Visit {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = request.method().as_str().parse().unwrap();
    head.uri = request.uri().to_string().parse().unwrap();
    for (name, value) in request.headers() {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).unwrap();
        let mut field = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        field.set_sensitive(value.is_sensitive());
        head.headers.append(name, field);
    }
    Visit {
        head,
        pattern: request.match_pattern(),
        peer: request.peer_addr(),
        extensions: extensions(request),
        body,
    }
}

fn respond(reply: Reply, request: &HttpRequest) -> Result<HttpResponse, Error> {
    let (head, body) = reply?.into_parts();
    let status = actix::StatusCode::from_u16(head.status.as_u16()).unwrap();
    let mut response = HttpResponse::build(status);
    for (name, value) in &head.headers {
        let value = actix::header::HeaderValue::from_bytes(value.as_bytes());
        response.append_header((name.as_str(), value.unwrap()));
    }
    let response = match body {
        ReplyBody::Text(text) => response.body(text),
        ReplyBody::Late(make) => response.streaming(Late(Some(make))),
    };
    Ok(match head.extensions.get::<Abort>() {
        Some(Abort) => Aborting(response).respond_to(request),
        None => response,
    })
}

/// A body whose only part is made when it is asked for.
struct Late(Option<Box<dyn FnOnce() -> String + Send>>);

impl Stream for Late {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let text = self.0.take().map(|make| make());
        Poll::Ready(text.map(|text| Ok(Bytes::from(text))))
    }
}

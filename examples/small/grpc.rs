//! Sessions in a gRPC service of tonic, over HTTP/2. Clients keep no cookies: the id travels as a bearer token.
//!
//! `cargo run -p cloakroom-examples --example grpc`

use cloakroom::http::{BearerTransport, SessionLayer, session};
use cloakroom::{Error, ErrorKind, Store};
use hyper::http::{Request, Response, response};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::Service;

// The messages and the service are what `tonic-prost-build` generates from a `.proto` file. They are written by hand, so
// that this example needs no `protoc`.

/// An article of the shop.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Article {
    /// What it is called.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// The cart of a visitor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cart {
    /// How many articles it has.
    #[prost(uint64, tag = "1")]
    pub articles: u64,
}

/// Puts an article into the visitor's cart.
async fn add(request: tonic::Request<Article>) -> Result<tonic::Response<Cart>, Status> {
    let session = session(request.extensions()).await.map_err(status_of)?;
    let cart = session.pkg("cart");
    let articles = cart.update("articles", |n: Option<u64>| n.unwrap_or(0) + 1);
    let articles = articles.map_err(status_of)?;
    if request.get_ref().name.is_empty() {
        // What was put into the cart above is not committed.
        return Err(Status::invalid_argument("an article has a name"));
    }
    Ok(tonic::Response::new(Cart { articles }))
}

fn status_of(error: Error) -> Status {
    let code = match error.kind() {
        ErrorKind::Conflict | ErrorKind::Unavailable | ErrorKind::SnapshotTooOld => {
            Code::Unavailable
        }
        _ => Code::Internal,
    };
    Status::new(code, error.to_string())
}

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

struct Add;

impl UnaryService<Article> for Add {
    type Response = Cart;
    type Future = Answer<tonic::Response<Cart>, Status>;

    fn call(&mut self, request: tonic::Request<Article>) -> Self::Future {
        Box::pin(add(request))
    }
}

#[derive(Clone)]
struct Carts;

impl NamedService for Carts {
    const NAME: &'static str = "shop.Carts";
}

impl Service<Request<Body>> for Carts {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            match request.uri().path() {
                "/shop.Carts/Add" => {
                    let codec = ProstCodec::<Cart, Article>::default();
                    Ok(Grpc::new(codec).unary(Add, request).await)
                }
                _ => Ok(Status::unimplemented("there is no such method").into_http()),
            }
        })
    }
}

/// A call that failed has the HTTP status 200, too: its own status is in a field, or in the trailers of a stream.
fn is_ok(response: &response::Parts) -> bool {
    let status = response.headers.get("grpc-status");
    response.status.is_success() && status.is_none_or(|status| status == "0")
}

/// Serves until it is dropped. A commit that fails is answered with the HTTP status 503, which gRPC clients take for
/// `UNAVAILABLE`.
pub async fn serve(listener: TcpListener, store: Store) -> Result<(), tonic::transport::Error> {
    let sessions = SessionLayer::new(store)
        .transport(BearerTransport::new())
        .without_cookie()
        .commit_when(is_ok);
    Server::builder()
        .layer(sessions.generic())
        .add_service(Carts)
        .serve_with_incoming(TcpIncoming::from(listener))
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let store = Store::open("grpc.redb")?;
    tokio::select! {
        served = serve(listener, store.clone()) => served?,
        stop = tokio::signal::ctrl_c() => stop?,
    }
    store.close()?;
    Ok(())
}

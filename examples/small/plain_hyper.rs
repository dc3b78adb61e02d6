//! Sessions in a server of hyper, without axum.
//!
//! `cargo run -p cloakroom-examples --example plain_hyper`

use bytes::Bytes;
use cloakroom::http::{CookieSettings, Replay, SessionLayer, session};
use cloakroom::{Error, Store};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::http::{Request, Response, StatusCode};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use tokio::net::TcpListener;
use tower::{Layer as _, service_fn};

/// Counts the visits of each visitor.
async fn visits(request: &Request<Replay<Incoming>>) -> Result<String, Error> {
    let session = session(request.extensions()).await?;
    let visits = session.pkg("visits");
    let n = visits.update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(format!("visit {n}\n"))
}

/// The layer commits this response unless its status is that of a failure. Without axum, errors become responses here.
/// The error in the extensions tells the layer of conflicts, so that it runs the request again.
async fn page(request: Request<Replay<Incoming>>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match visits(&request).await {
        Ok(text) => Response::new(Full::from(text)),
        Err(error) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response.extensions_mut().insert(error);
            response
        }
    })
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, store: Store) -> std::io::Result<()> {
    // The example speaks plain HTTP; behind TLS, leave `plain_http` out.
    let cookie = CookieSettings::new().plain_http();
    let sessions = SessionLayer::new(store).cookie(cookie).generic();
    let service = sessions.layer(service_fn(page));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move { drop(connection.await) });
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let store = Store::open("hyper.redb")?;
    tokio::select! {
        served = serve(listener, store.clone()) => served?,
        stop = tokio::signal::ctrl_c() => stop?,
    }
    store.close()?;
    Ok(())
}

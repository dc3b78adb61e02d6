//! A page for Prometheus.
//!
//! `cargo run -p cloakroom-examples --example metrics`, then `curl http://127.0.0.1:3001/metrics`

use axum::Router;
use axum::routing::get;
use cloakroom::http::{CookieSettings, SessionLayer};
use cloakroom::{Error, Session, Store};
use metrics_exporter_prometheus::PrometheusHandle;
use std::time::Duration;
use tokio::net::TcpListener;

async fn visits(session: Session) -> Result<String, Error> {
    let visits = session.pkg("visits");
    let n = visits.update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(format!("visit {n}\n"))
}

/// What visitors see.
pub fn pages(store: Store) -> Router {
    // The example speaks plain HTTP; behind TLS, leave `plain_http` out.
    let sessions = SessionLayer::new(store).cookie(CookieSettings::new().plain_http());
    Router::new().route("/", get(visits)).layer(sessions)
}

/// What Prometheus sees. It tells how many visitors there are, so it has an address of its own.
pub fn figures(prometheus: PrometheusHandle) -> Router {
    let page = move || std::future::ready(prometheus.render());
    Router::new().route("/metrics", get(page))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Before the store is opened, which describes its metrics.
    let prometheus = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
    let store = Store::open("metrics.redb")?;
    let (outside, inside) = (
        TcpListener::bind("127.0.0.1:3000").await?,
        TcpListener::bind("127.0.0.1:3001").await?,
    );
    println!("listening on http://{}", outside.local_addr()?);
    let upkeep = prometheus.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    tokio::select! {
        served = axum::serve(outside, pages(store.clone())).into_future() => served?,
        served = axum::serve(inside, figures(prometheus)).into_future() => served?,
        stop = tokio::signal::ctrl_c() => stop?,
    }
    store.close()?;
    Ok(())
}

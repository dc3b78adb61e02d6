//! Counts each visitor's visits, in a file.
//!
//! `cargo run -p cloakroom-actix --example actix_counter -- sessions.redb 127.0.0.1:8080`, then, twice:
//!
//! ```text
//! curl -c jar -b jar http://127.0.0.1:8080/
//! ```
//!
//! Stop it with `kill -9`, start it again, and it counts on.

use actix_web::{App, HttpServer, web};
use cloakroom::Store;
use cloakroom::http::{CookieSettings, SessionLayer};
use cloakroom_actix::{Error, Session, SessionMiddleware};

async fn visits(session: Session) -> Result<String, Error> {
    let count = |n: Option<u64>| n.unwrap_or(0) + 1;
    let n = session.pkg("visits").update("count", count)?;
    Ok(format!("visit {n}\n"))
}

/// Serves the application on an address, and prints it.
async fn run(path: &str, address: &str) -> std::io::Result<()> {
    let store = Store::open(path).map_err(std::io::Error::other)?;
    let cookie = CookieSettings::new().plain_http(); // for development; leave it out behind TLS
    let layer = SessionLayer::new(store.clone()).cookie(cookie);
    let server = HttpServer::new(move || {
        App::new()
            .wrap(SessionMiddleware::new(layer.clone()))
            .route("/", web::get().to(visits))
    });
    let server = server.workers(2).bind(address)?;
    for address in server.addrs() {
        println!("listening on http://{address}");
    }
    server.run().await?;
    store.close_async().await.map_err(std::io::Error::other)
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "sessions.redb".to_owned());
    let address = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    run(&path, &address).await
}

//! The administration page of a store in a file, with a token.
//!
//! `cargo run -p cloakroom-admin --example page -- sessions.cloakroom 127.0.0.1:3001`

use cloakroom::Store;
use cloakroom_admin::{Access, Admin, TokenAccess};
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args
        .next()
        .unwrap_or_else(|| "sessions.cloakroom".to_owned());
    let address = args.next().unwrap_or_else(|| "127.0.0.1:3001".to_owned());
    let token =
        std::env::var("ADMIN_TOKEN").map_err(|_| "set ADMIN_TOKEN to 16 characters or more")?;
    let token = TokenAccess::new(&token, Access::all("operator"));
    let token = token.ok_or("ADMIN_TOKEN is shorter than 16 characters")?;

    let store = Store::open(path)?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    let mut pages = Admin::new(store, token.clone()).sign_in(token);
    if listener.local_addr()?.ip().is_loopback() {
        // Nobody is on the way.
        pages = pages.plain_http();
    }
    let pages = pages.router();
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, pages).await?;
    Ok(())
}

//! The administration page of a store in memory, with visitors who come and go: to look at the page.
//!
//! `cargo run -p cloakroom-admin --example demo -- 127.0.0.1:3001`

use cloakroom::{Container, ContainerSettings, Store};
use cloakroom_admin::{Access, Admin};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

/// How many sessions there are in the beginning.
const SESSIONS: u64 = 400;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3001".to_owned());
    let store = Store::in_memory()?;
    let shop = ContainerSettings::new().timeout(Duration::from_secs(14 * 24 * 3600));
    let carts: Container = store.register("shop.cart", shop)?;
    let admin = ContainerSettings::new().max_lifetime(Some(Duration::from_secs(12 * 3600)));
    store.register("admin", admin)?;
    for number in 0..SESSIONS {
        visit(&store, number)?;
    }
    println!("{} sessions", carts.statistics()?.live);
    let visitors = store.clone();
    std::thread::spawn(move || come_and_go(&visitors));

    // Only for a look at the page on this machine: everybody may do everything.
    let everybody = |_: &axum::http::request::Parts| async { Access::all("demo") };
    let layer = cloakroom::http::SessionLayer::new(store.clone());
    let pages = Admin::new(store, everybody).session_layer(&layer).router();
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, pages).await?;
    Ok(())
}

fn visit(store: &Store, number: u64) -> cloakroom::Result<()> {
    let id = store.client_ids().issue();
    let browsers = ["Firefox on Linux", "Safari on iPhone", "Chrome on Windows"];
    store.transact(|txn| {
        let session = txn.session(&id)?;
        let cart = session.pkg("shop.cart");
        cart.insert(
            "items",
            BTreeMap::from([("Assam", number % 5 + 1), ("Sencha", 2)]),
        )?;
        cart.insert("note", "Please ring twice. 请按两次门铃。")?;
        session
            .pkg("theme")
            .insert("dark", number.is_multiple_of(2))?;
        if number.is_multiple_of(3) {
            session.set_owner(Some(&format!("customer-{}@example.com", number % 40)))?;
            let label = browsers.get(number as usize % browsers.len());
            session.set_label(label.copied().unwrap_or_default())?;
        }
        Ok(())
    })
}

/// Ends when the store is closed.
fn come_and_go(store: &Store) {
    let mut number = SESSIONS;
    while visit(store, number).is_ok() {
        number += 1;
        std::thread::sleep(Duration::from_millis(40 + number % 7 * 30));
    }
}

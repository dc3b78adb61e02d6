//! The pages, without a browser: what is shown, to whom, and what a form does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod access;
mod changes;
#[path = "../../../tests/support/damage.rs"]
#[allow(dead_code, reason = "the tests use some of it")]
mod damage;
mod harmless;
mod lists;
mod programs;
mod recorded;
mod shown;
#[path = "../support/mod.rs"]
mod support;

use cloakroom::{ClientKey, Store};
use cloakroom_admin::{Access, Admin, TokenAccess};
use support::Pages;

const PATHS: [&str; 10] = [
    "",
    "/containers",
    "/containers/edit?name=",
    "/sessions",
    "/owners",
    "/owners?owner=ann",
    "/maintenance",
    "/maintenance/secrets",
    "/settings",
    "/audit",
];

fn session(store: &Store, owner: &str) -> ClientKey {
    let id = store.client_ids().issue();
    let founded = store.transact(|txn| {
        let session = txn.session(&id)?;
        session.set_owner(Some(owner))?;
        session.pkg("cart").insert("items", ("tea", 2))
    });
    founded.unwrap();
    id.key()
}

fn with_token() -> Pages {
    let store = Store::in_memory().unwrap();
    let token = TokenAccess::new("correct horse battery", Access::all("operator")).unwrap();
    Pages::of(
        store.clone(),
        Admin::new(store, token.clone()).sign_in(token),
    )
}

/// Waits for the end of a task, at most for some seconds.
async fn ended(pages: &Pages, who: &str, path: &str) -> serde_json::Value {
    for _ in 0..2000 {
        let task = pages.json(who, path).await.json();
        if !task["ended"].is_null() {
            return task;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{path} does not end");
}

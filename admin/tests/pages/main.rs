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
mod programs;
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

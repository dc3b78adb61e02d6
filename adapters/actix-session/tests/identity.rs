//! actix-identity with its sessions in a file: logging in and out, also over a process that is killed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

#[path = "../examples/identity.rs"]
mod identity;

#[path = "../../../tests/support/server.rs"]
#[allow(dead_code, reason = "the test uses some of it")]
mod server;

use server::{Browser, Server, this_program};
use std::path::Path;

/// The file of the store, for the process that is the server.
const FILE: &str = "CLOAKROOM_TEST_IDENTITY_FILE";

/// Runs this program again, as the server.
fn start(file: &Path) -> Server {
    Server::spawn(this_program("serves_if_it_is_told_a_file").env(FILE, file))
}

/// What the visitor's page says.
fn greeting(browser: &mut Browser, server: &Server) -> String {
    let answer = browser.get(server.address(), "/").unwrap();
    assert_eq!(answer.status, 200);
    answer.body
}

fn post(browser: &mut Browser, server: &Server, path: &str) {
    let answer = browser.post(server.address(), path, "").unwrap();
    assert_eq!(answer.status, 200);
}

/// The server's process. Without a file this is no test of its own.
#[test]
fn serves_if_it_is_told_a_file() {
    let Ok(file) = std::env::var(FILE) else {
        return;
    };
    let server = identity::run(&file, "127.0.0.1:0");
    actix_web::rt::System::new().block_on(server).unwrap();
}

#[test]
fn logins_and_logouts_that_were_answered_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.redb");
    let (mut ann, mut bob) = (Browser::default(), Browser::default());
    let server = start(&file);
    assert_eq!(greeting(&mut ann, &server), "welcome, stranger\n");
    assert_eq!(ann.cookie, None);
    post(&mut ann, &server, "/login/ann");
    post(&mut bob, &server, "/login/bob");
    let logged_in = bob.clone();
    post(&mut bob, &server, "/logout");
    server.kill();

    let server = start(&file);
    assert_eq!(greeting(&mut ann, &server), "welcome, ann\n");
    bob = logged_in;
    assert_eq!(greeting(&mut bob, &server), "welcome, stranger\n");
    server.kill();
}

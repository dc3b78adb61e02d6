//! axum-login and axum-messages: the application of the example, also killed and started again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

#[path = "../examples/login.rs"]
mod login;

#[path = "../../../tests/support/server.rs"]
#[allow(dead_code, reason = "the test uses some of it")]
mod server;

use server::{Browser, Response, Server, this_program};
use std::path::Path;

/// The file of the store, for the process that is the server.
const FILE: &str = "CLOAKROOM_TEST_LOGIN_FILE";

/// Runs this program again, as the server.
fn start(file: &Path) -> Server {
    Server::spawn(this_program("serves_if_it_is_told_a_file").env(FILE, file))
}

fn get(browser: &mut Browser, server: &Server, path: &str) -> Response {
    browser.get(server.address(), path).unwrap()
}

fn post(browser: &mut Browser, server: &Server, path: &str, form: &str) -> Response {
    browser.post(server.address(), path, form).unwrap()
}

fn log_in(browser: &mut Browser, server: &Server, name: &str, password: &str) -> Response {
    let form = format!("name={name}&password={password}");
    post(browser, server, "/login", &form)
}

/// The server's process. Without a file this is no test of its own.
#[test]
fn serves_if_it_is_told_a_file() {
    let Ok(file) = std::env::var(FILE) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(login::run(&file, "127.0.0.1:0")).unwrap();
}

#[test]
fn users_log_in_and_out_and_do_what_they_are_permitted_to() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder.path().join("sessions.redb"));
    let (mut ann, mut bob) = (Browser::default(), Browser::default());

    assert_eq!(get(&mut ann, &server, "/").body, "you are nobody\n");
    assert_eq!(ann.cookie, None, "nothing is stored for who only reads");
    assert_eq!(get(&mut ann, &server, "/profile").status, 307);
    assert_eq!(get(&mut ann, &server, "/audit").status, 307);
    assert_eq!(log_in(&mut ann, &server, "ann", "wrong").status, 401);
    let before = ann.cookie.clone();
    assert!(before.is_some(), "the message is stored");
    assert_eq!(
        get(&mut ann, &server, "/").body,
        "no such user, or another password\nyou are nobody\n"
    );

    assert_eq!(log_in(&mut ann, &server, "ann", "hunter42").status, 303);
    assert_ne!(ann.cookie, before, "the id is another one after the login");
    assert_eq!(
        get(&mut ann, &server, "/").body,
        "welcome, ann\nyou are ann\n"
    );
    assert_eq!(
        get(&mut ann, &server, "/").body,
        "you are ann\n",
        "a message is shown once"
    );
    assert_eq!(
        get(&mut ann, &server, "/audit").body,
        "the books are in order\n"
    );
    let mut old = Browser { cookie: before };
    assert_eq!(get(&mut old, &server, "/").body, "you are nobody\n");

    assert_eq!(log_in(&mut bob, &server, "bob", "hunter43").status, 303);
    assert_eq!(get(&mut bob, &server, "/profile").body, "all about bob\n");
    assert_eq!(get(&mut bob, &server, "/audit").status, 403);

    let stolen = ann.cookie.clone();
    assert_eq!(post(&mut ann, &server, "/logout", "").status, 303);
    assert_eq!(ann.cookie, None);
    let mut thief = Browser { cookie: stolen };
    assert_eq!(get(&mut thief, &server, "/").body, "you are nobody\n");
    assert_eq!(get(&mut bob, &server, "/profile").body, "all about bob\n");
    server.kill();
}

#[test]
fn a_login_and_a_logout_that_were_answered_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.redb");
    let (mut ann, mut bob) = (Browser::default(), Browser::default());
    for round in 0..3 {
        let server = start(&file);
        if round > 0 {
            assert_eq!(get(&mut ann, &server, "/profile").body, "all about ann\n");
            assert_eq!(get(&mut bob, &server, "/profile").status, 307);
        }
        assert_eq!(log_in(&mut bob, &server, "bob", "hunter43").status, 303);
        let logged_in = bob.cookie.clone();
        assert_eq!(log_in(&mut ann, &server, "ann", "hunter42").status, 303);
        assert_eq!(post(&mut bob, &server, "/logout", "").status, 303);
        server.kill();
        // A browser that did not get the answer still sends the cookie.
        bob.cookie = logged_in;
    }
}

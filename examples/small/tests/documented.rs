//! Starts the programs of the README and the tutorial, and visits them as their readers do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A program that runs in a folder of its own, until it is killed.
struct Program {
    child: Child,
    address: String,
}

impl Program {
    fn start(program: &str, folder: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let child = Command::new(program)
            .current_dir(folder)
            .env("ADDRESS", &address)
            .stdin(Stdio::null())
            .spawn();
        let mut program = Self {
            child: child.unwrap(),
            address,
        };
        while TcpStream::connect(&program.address).is_err() {
            assert_eq!(program.child.try_wait().unwrap(), None, "it has ended");
            std::thread::yield_now();
        }
        program
    }
}

impl Drop for Program {
    /// The program gets no time to close its store.
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A browser with at most one cookie.
#[derive(Default)]
struct Browser {
    cookie: String,
    token: String,
}

impl Browser {
    /// Sends a request, and follows a redirect to `/`.
    fn visit(&mut self, program: &Program, method: &str, path: &str, form: &str) -> String {
        let address = &program.address;
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
            form.len(),
        );
        let cookie = match &*self.cookie {
            "" => String::new(),
            cookie => format!("Cookie: {cookie}\r\n"),
        };
        let request = format!("{head}{cookie}\r\n{form}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.split(';').next())
                .map(str::to_owned)
        };
        if let Some(cookie) = field("set-cookie: ") {
            self.cookie = cookie;
        }
        if head.starts_with("HTTP/1.1 303") {
            assert_eq!(field("location: ").as_deref(), Some("/"));
            return self.visit(program, "GET", "/", "");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        if let Some((_, rest)) = body.split_once("value=\"") {
            self.token = rest.split('"').next().unwrap().to_owned();
        }
        body.to_owned()
    }

    fn get(&mut self, program: &Program) -> String {
        self.visit(program, "GET", "/", "")
    }

    fn post(&mut self, program: &Program, path: &str, form: &str) -> String {
        let form = format!("csrf_token={}&{form}", self.token);
        self.visit(program, "POST", path, &form)
    }
}

fn counts_through_a_kill(program: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (Browser::default(), Browser::default());
    let running = Program::start(program, folder.path());
    assert_eq!(one.get(&running), "You have been here 1 times.\n");
    assert_eq!(one.get(&running), "You have been here 2 times.\n");
    assert_eq!(other.get(&running), "You have been here 1 times.\n");
    drop(running);
    let running = Program::start(program, folder.path());
    assert_eq!(one.get(&running), "You have been here 3 times.\n");
}

/// C7.3
#[test]
fn the_first_program_of_the_readme_counts_on_after_a_kill() {
    counts_through_a_kill(env!("CARGO_BIN_EXE_readme_visits"));
}

/// C7.3
#[test]
fn the_first_program_of_the_tutorial_counts_on_after_a_kill() {
    counts_through_a_kill(env!("CARGO_BIN_EXE_tutorial_visits"));
}

#[test]
fn the_cart_and_the_login_of_the_readme_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut browser = Browser::default();
    let running = Program::start(env!("CARGO_BIN_EXE_readme_cart"), folder.path());
    assert!(browser.get(&running).contains("Nobody has 0 in the cart."));
    let anonymous = browser.cookie.clone();
    let page = browser.post(&running, "/cart", "");
    assert!(page.contains("Nobody has 1 in the cart."), "{page}");
    let page = browser.post(&running, "/login", "");
    assert!(page.contains("Ann has 1 in the cart."), "{page}");
    assert_ne!(browser.cookie, anonymous);
    drop(running);
    let running = Program::start(env!("CARGO_BIN_EXE_readme_cart"), folder.path());
    let page = browser.post(&running, "/cart", "");
    assert!(page.contains("Ann has 2 in the cart."), "{page}");
    let page = browser.post(&running, "/logout", "");
    assert!(page.contains("Nobody has 0 in the cart."), "{page}");
}

#[test]
fn the_login_of_the_tutorial_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut browser = Browser::default();
    let running = Program::start(env!("CARGO_BIN_EXE_tutorial_login"), folder.path());
    assert!(browser.get(&running).contains("Log in"));
    let page = browser.post(&running, "/login", "name=ann");
    assert!(
        page.contains("Welcome.") && page.contains("Log out"),
        "{page}"
    );
    drop(running);
    let running = Program::start(env!("CARGO_BIN_EXE_tutorial_login"), folder.path());
    let page = browser.get(&running);
    assert!(
        !page.contains("Welcome.") && page.contains("Log out"),
        "{page}"
    );
    assert!(browser.post(&running, "/logout", "").contains("Log in"));
}

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

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// The file of the store, for the process that is the server.
const FILE: &str = "CLOAKROOM_TEST_LOGIN_FILE";

struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Runs this program again, as the server.
    fn start(file: &std::path::Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serves_if_it_is_told_a_file", "--nocapture"])
            .env(FILE, file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let line = lines.find(|line| line.contains("listening on")).unwrap();
        let address = line.rsplit(' ').next().unwrap().to_owned();
        Self { process, address }
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A browser, which keeps one cookie.
#[derive(Default)]
struct Browser {
    cookie: Option<String>,
}

struct Answer {
    status: u16,
    body: String,
}

impl Browser {
    fn send(&mut self, server: &Server, method: &str, path: &str, form: &str) -> Answer {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let cookie = self.cookie.as_ref().map(|it| format!("cookie: {it}\r\n"));
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{}content-length: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\n\r\n{form}",
            cookie.unwrap_or_default(),
            form.len()
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let set = head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        if let Some(set) = set {
            let pair = set.split(';').next().unwrap();
            self.cookie = Some(pair.to_owned()).filter(|_| !set.contains("Max-Age=0"));
        }
        Answer {
            status: head[9..12].parse().unwrap(),
            body: body.to_owned(),
        }
    }

    fn get(&mut self, server: &Server, path: &str) -> Answer {
        self.send(server, "GET", path, "")
    }

    fn log_in(&mut self, server: &Server, name: &str, password: &str) -> Answer {
        let form = format!("name={name}&password={password}");
        self.send(server, "POST", "/login", &form)
    }
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
    let server = Server::start(&folder.path().join("sessions.redb"));
    let (mut ann, mut bob) = (Browser::default(), Browser::default());

    assert_eq!(ann.get(&server, "/").body, "you are nobody\n");
    assert_eq!(ann.cookie, None, "nothing is stored for who only reads");
    assert_eq!(ann.get(&server, "/profile").status, 307);
    assert_eq!(ann.get(&server, "/audit").status, 307);
    assert_eq!(ann.log_in(&server, "ann", "wrong").status, 401);
    let before = ann.cookie.clone();
    assert!(before.is_some(), "the message is stored");
    assert_eq!(
        ann.get(&server, "/").body,
        "no such user, or another password\nyou are nobody\n"
    );

    assert_eq!(ann.log_in(&server, "ann", "hunter42").status, 303);
    assert_ne!(ann.cookie, before, "the id is another one after the login");
    assert_eq!(ann.get(&server, "/").body, "welcome, ann\nyou are ann\n");
    assert_eq!(
        ann.get(&server, "/").body,
        "you are ann\n",
        "a message is shown once"
    );
    assert_eq!(ann.get(&server, "/audit").body, "the books are in order\n");
    let mut old = Browser { cookie: before };
    assert_eq!(old.get(&server, "/").body, "you are nobody\n");

    assert_eq!(bob.log_in(&server, "bob", "hunter43").status, 303);
    assert_eq!(bob.get(&server, "/profile").body, "all about bob\n");
    assert_eq!(bob.get(&server, "/audit").status, 403);

    let stolen = ann.cookie.clone();
    assert_eq!(ann.send(&server, "POST", "/logout", "").status, 303);
    assert_eq!(ann.cookie, None);
    let mut thief = Browser { cookie: stolen };
    assert_eq!(thief.get(&server, "/").body, "you are nobody\n");
    assert_eq!(bob.get(&server, "/profile").body, "all about bob\n");
    server.kill();
}

#[test]
fn a_login_and_a_logout_that_were_answered_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.redb");
    let (mut ann, mut bob) = (Browser::default(), Browser::default());
    for round in 0..3 {
        let server = Server::start(&file);
        if round > 0 {
            assert_eq!(ann.get(&server, "/profile").body, "all about ann\n");
            assert_eq!(bob.get(&server, "/profile").status, 307);
        }
        assert_eq!(bob.log_in(&server, "bob", "hunter43").status, 303);
        let logged_in = bob.cookie.clone();
        assert_eq!(ann.log_in(&server, "ann", "hunter42").status, 303);
        assert_eq!(bob.send(&server, "POST", "/logout", "").status, 303);
        server.kill();
        // A browser that did not get the answer still sends the cookie.
        bob.cookie = logged_in;
    }
}

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

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// The file of the store, for the process that is the server.
const FILE: &str = "CLOAKROOM_TEST_IDENTITY_FILE";

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

/// Sends a request with a cookie, and returns the body. The cookie becomes that of the answer.
fn send(server: &Server, method: &str, path: &str, cookie: &mut String) -> String {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncookie: {cookie}\r\ncontent-length: 0\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let set = head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "));
    if let Some(set) = set {
        set.split(';').next().unwrap().clone_into(cookie);
    }
    body.to_owned()
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
    let (mut ann, mut bob) = (String::new(), String::new());
    let server = Server::start(&file);
    assert_eq!(send(&server, "GET", "/", &mut ann), "welcome, stranger\n");
    assert_eq!(ann, "");
    send(&server, "POST", "/login/ann", &mut ann);
    send(&server, "POST", "/login/bob", &mut bob);
    let logged_in = bob.clone();
    send(&server, "POST", "/logout", &mut bob);
    server.kill();

    let server = Server::start(&file);
    assert_eq!(send(&server, "GET", "/", &mut ann), "welcome, ann\n");
    bob = logged_in;
    assert_eq!(send(&server, "GET", "/", &mut bob), "welcome, stranger\n");
    server.kill();
}

//! `cloakroom admin`: the page is served to those who know the token, and the store is closed at the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use support::Place;

const TOKEN: &str = "correct horse battery staple";

/// The command, serving.
struct Served {
    child: Child,
    address: String,
    token: Option<String>,
}

impl Served {
    fn start(place: &Place, more: &[&str]) -> Self {
        let mut arguments = vec!["--json", "admin", "--listen", "127.0.0.1:0"];
        arguments.extend(more);
        let mut command = place.command(&arguments);
        command.env_remove("CLOAKROOM_TOKEN_FILE");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        let url = told["url"].as_str().unwrap();
        let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
        Self {
            child,
            address: address.to_owned(),
            token: told["token"].as_str().map(str::to_owned),
        }
    }

    /// The status and the whole answer.
    fn send(&self, method: &str, path: &str, token: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept: application/json\r\n\
             Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    /// Ctrl-C, and the exit code.
    fn interrupt(mut self) -> Option<i32> {
        let kill = format!("kill -INT {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap().code()
    }
}

#[test]
fn the_page_is_served_to_those_who_know_the_token() {
    let (place, ids) = Place::with(&["ann", "bob"]);
    let file = place.file("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let log = place.file("audit.jsonl");
    let served = Served::start(
        &place,
        &[
            "--token-file",
            file.to_str().unwrap(),
            "--audit-log",
            log.to_str().unwrap(),
        ],
    );
    assert_eq!(served.token, None);
    let (status, sessions) = served.send("GET", "/sessions", TOKEN);
    assert_eq!(status, 200);
    assert!(
        sessions.contains("ann") && sessions.contains("bob"),
        "{sessions}"
    );
    assert_eq!(
        served
            .send("GET", "/sessions", "wrong horse battery staple")
            .0,
        404
    );
    let end = format!("/sessions/{}/end", ids.first().unwrap().key());
    assert_eq!(served.send("POST", &end, TOKEN).0, 200);
    // The store is open, and that is said.
    place
        .run(&["stats"])
        .fails(3, "sessions.redb", "has the store open");
    assert_eq!(served.interrupt(), Some(0));
    place.edit(|store| assert!(store.sessions_of("ann").unwrap().is_empty()));
    assert!(
        fs::read_to_string(log)
            .unwrap()
            .contains("\"action\":\"end session\"")
    );
}

#[test]
fn a_token_is_made_if_none_is_given_and_may_allow_no_change() {
    let (place, ids) = Place::with(&["ann"]);
    let served = Served::start(&place, &["--read-only"]);
    let token = served.token.clone().unwrap();
    assert_eq!(token.len(), 32);
    assert_eq!(served.send("GET", "/", &token).0, 200);
    let end = format!("/sessions/{}/end", ids.first().unwrap().key());
    assert_eq!(served.send("POST", &end, &token).0, 403);
    assert_eq!(served.interrupt(), Some(0));
    place.edit(|store| assert_eq!(store.sessions_of("ann").unwrap().len(), 1));
}

#[test]
fn what_cannot_be_served_is_told() {
    let (place, _) = Place::with(&["ann"]);
    let file = place.file("token");
    fs::write(&file, "short").unwrap();
    let given = ["admin", "--token-file", file.to_str().unwrap()];
    place
        .run(&given)
        .fails(2, "shorter than 16 characters", "Write 16 characters");
    place.run(&["admin", "--token-file", "nothing"]).fails(
        3,
        "nothing cannot be read",
        "Check the path",
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place.run(&["admin", "--listen", &address]).fails(
        3,
        "nobody can listen",
        "Choose another address",
    );
}

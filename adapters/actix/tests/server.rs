//! The example as a process, over a real connection: HTTP/1.1 with keep-alive, SIGKILL, and another start.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

#[path = "../../../tests/support/server.rs"]
#[allow(dead_code, reason = "the test uses some of it")]
mod server;

use server::Server;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Starts the example.
fn start(binary: &Path, store: &Path) -> Server {
    Server::spawn(Command::new(binary).arg(store).arg("127.0.0.1:0"))
}

fn connect(server: &Server) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(server.address()).unwrap();
    let wait = Some(Duration::from_secs(60));
    stream.set_read_timeout(wait).unwrap();
    BufReader::new(stream)
}

/// The binary of the example.
fn binary() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.join("../..");
    server::example(
        "actix_counter",
        &[
            own.join("src"),
            own.join("examples"),
            root.join("src"),
            root.join("migrations"),
        ],
    )
}

/// One request on a connection that stays open. Returns the body, and the cookie if one is set.
fn visit(connection: &mut BufReader<TcpStream>, cookie: &str) -> (String, Option<String>) {
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    assert_eq!(head[0], "HTTP/1.1 200 OK");
    let field = |name: &str| {
        let fields = head.iter().filter_map(|line| line.split_once(": "));
        let mut found = fields.filter(|(it, _)| it.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.to_owned())
    };
    let mut body = vec![0; field("content-length").unwrap().parse().unwrap()];
    connection.read_exact(&mut body).unwrap();
    let cookie = field("set-cookie").map(|it| it.split(';').next().unwrap().to_owned());
    (String::from_utf8(body).unwrap(), cookie)
}

/// C2.2: acknowledged visits are there after SIGKILL.
#[test]
fn a_killed_server_counts_on() {
    let folder = tempfile::tempdir().unwrap();
    let (binary, store) = (binary(), folder.path().join("sessions.redb"));
    let server = start(&binary, &store);
    let mut connection = connect(&server);
    let (first, cookie) = visit(&mut connection, "");
    let cookie = cookie.expect("a cookie");
    assert_eq!(first, "visit 1\n");
    assert_eq!(visit(&mut connection, &cookie), ("visit 2\n".into(), None));
    server.kill();

    let server = start(&binary, &store);
    let again = visit(&mut connect(&server), &cookie);
    assert_eq!(again, ("visit 3\n".into(), None));
}

//! A Redis server of the tests' own, and what it holds.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// How many ports are tried: another process may take one before the server does.
const PORTS: usize = 8;

/// A Redis server that keeps nothing on a disk, on a free port of the loopback.
pub(crate) struct Redis {
    child: Child,
    address: String,
}

impl Redis {
    /// `None` if there is no server, or none is wanted.
    pub(crate) fn start() -> Option<Self> {
        let wanted = std::env::var("CLOAKROOM_REDIS").unwrap_or_default();
        let redis = (wanted != "none").then(Self::spawn).flatten();
        if redis.is_none() {
            assert_ne!(wanted, "required", "redis-server is not installed");
            eprintln!("\n*** NOT TESTED: there is no redis-server (Debian: redis-server) ***\n");
        }
        redis
    }

    fn spawn() -> Option<Self> {
        for _ in 0..PORTS {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
            let port = free.unwrap().port();
            let mut child = Command::new("redis-server")
                .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
                .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .ok()?;
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            if lines.any(|line| line.unwrap().contains("Ready to accept connections")) {
                // The server must not fill the pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return Some(Self {
                    child,
                    address: format!("127.0.0.1:{port}"),
                });
            }
            child.wait().unwrap();
        }
        panic!("redis-server does not start");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// How many keys it has.
    pub(crate) fn keys(&self) -> usize {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(b"DBSIZE\r\n").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
            .trim_end()
            .strip_prefix(':')
            .unwrap()
            .parse()
            .unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

//! Servers as child processes, and a browser that keeps one cookie.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};

/// A server, running.
pub(crate) struct Server {
    child: Mutex<Child>,
    address: String,
}

impl Server {
    /// Starts the counter on a free port, and returns once it listens.
    pub(crate) fn start(store: &Path) -> Self {
        let mut command = counter();
        command.args(["--listen", "127.0.0.1:0", "--store"]);
        Self::spawn(command.arg(store))
    }

    /// Starts a server that prints where it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, address) = line.split_once("listening on http://")?;
            Some(address.to_owned())
        });
        Self {
            address: address.expect("the server tells where it listens"),
            child: Mutex::new(child),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// SIGKILL: the process gets no chance to do anything.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(&self) -> ExitStatus {
        let mut child = self.child.lock().unwrap();
        // The shell's own `kill`: there may be no program of that name.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", child.id())])
            .status()
            .unwrap();
        assert!(sent.success());
        child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(child) = self.child.get_mut() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A command that runs one test of this test program, which is the server.
pub(crate) fn this_program(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command
}

/// A command that runs the counter.
pub(crate) fn counter() -> Command {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    Command::new(BINARY.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = ["src", "migrations", "examples"].map(|part| root.join(part));
        example("counter", &sources)
    }))
}

/// The binary of an example. `cargo test` builds it; if only one test is built, it may be missing or older than the
/// sources.
pub(crate) fn example(name: &str, sources: &[PathBuf]) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().unwrap().parent().unwrap();
    let binary = profile
        .join("examples")
        .join(name)
        .with_extension(std::env::consts::EXE_EXTENSION);
    let built = binary.metadata().and_then(|m| m.modified()).ok();
    let changed = sources.iter().filter_map(|part| newest(part)).max();
    if built.is_none_or(|built| built < changed.unwrap()) {
        build(name, profile);
    }
    binary
}

fn build(name: &str, profile: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--all-features", "--example", name]);
    cargo.arg("--manifest-path");
    cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
}

/// When a file changed last, or one of a folder.
fn newest(path: &Path) -> Option<SystemTime> {
    if path.is_dir() {
        let entries = path.read_dir().unwrap();
        entries.filter_map(|e| newest(&e.unwrap().path())).max()
    } else {
        Some(path.metadata().unwrap().modified().unwrap())
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A visitor's browser: it keeps the one cookie of the server.
#[derive(Clone, Default)]
pub(crate) struct Browser {
    pub(crate) cookie: Option<String>,
}

impl Browser {
    pub(crate) fn get(&mut self, address: &str, path: &str) -> io::Result<Response> {
        self.send(address, "GET", path, "")
    }

    pub(crate) fn post(&mut self, address: &str, path: &str, form: &str) -> io::Result<Response> {
        self.send(address, "POST", path, form)
    }

    /// One request on a connection of its own.
    fn send(
        &mut self,
        address: &str,
        method: &str,
        path: &str,
        form: &str,
    ) -> io::Result<Response> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let cookie = self.cookie.as_ref();
        let cookie = cookie.map_or(String::new(), |c| format!("Cookie: {c}\r\n"));
        let body = if method == "POST" {
            let len = form.len();
            format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len}\r\n")
        } else {
            String::new()
        };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        stream.write_all(format!("{head}{cookie}{body}\r\n{form}").as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let response = parse(&bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        for (name, value) in &response.headers {
            if name.eq_ignore_ascii_case("set-cookie") {
                let pair = value.split(';').next().unwrap_or_default().to_owned();
                let gone = value.to_ascii_lowercase().contains("max-age=0");
                self.cookie = (!gone).then_some(pair);
            }
        }
        Ok(response)
    }
}

/// A whole response, or `None` where the connection broke before its end.
fn parse(bytes: &[u8]) -> Option<Response> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut response = Response {
        status,
        headers,
        body: String::new(),
    };
    let length = response.header("content-length");
    let length: usize = length.expect("a length").parse().unwrap();
    response.body = body.get(..length)?.to_owned();
    Some(response)
}

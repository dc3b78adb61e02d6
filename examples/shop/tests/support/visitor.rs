//! A visitor of the shop without a browser: one cookie, forms as a browser of today sends them.

use crate::server::{Response, Server};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Starts the shop at an address; port 0 is any free one.
pub(crate) fn start(folder: &Path, address: &str, arguments: &[&str]) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    command.args(["--listen", address, "--data"]).arg(folder);
    Server::spawn(command.args(arguments))
}

#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) shop: String,
    pub(crate) cookie: Option<String>,
}

impl Visitor {
    pub(crate) fn new(server: &Server) -> Self {
        let shop = server.address().to_owned();
        Self { shop, cookie: None }
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, &[], "")
    }

    /// Sends a form as the shop's own page does.
    pub(crate) fn post(&mut self, path: &str, form: &str) -> Response {
        let origin = format!("http://{}", self.shop);
        self.send("POST", path, &[("Origin", &origin)], form)
    }

    /// Sends a form and opens the page that the answer leads to.
    pub(crate) fn submit(&mut self, path: &str, form: &str) -> Response {
        let response = self.post(path, form);
        assert_eq!(response.status, 303, "{response:?}");
        let next = response.header("location").unwrap().to_owned();
        self.get(&next)
    }

    pub(crate) fn register(&mut self, name: &str, password: &str) {
        let page = self.submit("/register", &format!("name={name}&password={password}"));
        assert!(page.body.contains(&format!("Log out {name}")), "{page:?}");
    }

    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        form: &str,
    ) -> Response {
        let mut reader = self.ask(method, path, headers, form);
        let mut response = head(&mut reader);
        reader.read_to_string(&mut response.body).unwrap();
        for (name, value) in &response.headers {
            if name.eq_ignore_ascii_case("set-cookie") {
                let pair = value.split(';').next().unwrap().to_owned();
                let is_gone = value.to_ascii_lowercase().contains("max-age=0");
                self.cookie = (!is_gone).then_some(pair);
            }
        }
        response
    }

    /// Follows the cart, if the server lets it.
    pub(crate) fn follow(&mut self) -> (Response, Events) {
        let mut reader = self.ask("GET", "/live/events", &[], "");
        (head(&mut reader), Events(reader))
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        form: &str,
    ) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.shop).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.shop
        );
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(cookie) = &self.cookie {
            text += &format!("Cookie: {cookie}\r\n");
        }
        if method == "POST" {
            text += "Content-Type: application/x-www-form-urlencoded\r\n";
            text += &format!("Content-Length: {}\r\n", form.len());
        }
        stream
            .write_all(format!("{text}\r\n{form}").as_bytes())
            .unwrap();
        BufReader::new(stream)
    }
}

fn head(reader: &mut impl BufRead) -> Response {
    let mut lines = reader.lines().map(Result::unwrap);
    let status = lines.next().unwrap();
    let headers = lines.take_while(|line| !line.is_empty()).map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_owned(), value.trim().to_owned())
    });
    Response {
        status: status.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: headers.collect(),
        body: String::new(),
    }
}

/// A stream of events.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    /// The next event: its name and its data. `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<(String, String)> {
        let mut name = None;
        for line in (&mut self.0).lines() {
            let line = line.unwrap();
            if let Some(event) = line.strip_prefix("event:") {
                name = Some(event.trim().to_owned());
            }
            if let Some(data) = line.strip_prefix("data:") {
                return Some((name?, data.trim().to_owned()));
            }
        }
        None
    }
}

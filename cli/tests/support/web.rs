//! An application under a port of this machine, and a visitor that asks it.

use axum::Router;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub(crate) struct Served {
    runtime: Runtime,
    at: SocketAddr,
}

/// What a visitor gets.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    /// The cookie that was set, as `name=value`.
    pub(crate) cookie: Option<String>,
    pub(crate) text: String,
}

impl Served {
    /// Serves what `app` makes, which runs in the runtime of the server.
    pub(crate) fn new(app: impl Future<Output = Router>) -> Self {
        let runtime = Runtime::new().unwrap();
        let (listener, app) = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            (listener, app.await)
        });
        let at = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let app = app.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, app).await
        });
        Self { runtime, at }
    }

    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    pub(crate) fn get(&self, path: &str, cookie: Option<&str>) -> Page {
        let cookie = cookie.map_or(String::new(), |cookie| format!("Cookie: {cookie}\r\n"));
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{cookie}\r\n");
        let mut stream = TcpStream::connect(self.at).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, text) = response.split_once("\r\n\r\n").unwrap();
        let set = head.lines().filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let value = value.split(';').next()?.to_owned();
            name.eq_ignore_ascii_case("set-cookie").then_some(value)
        });
        Page {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            cookie: set.into_iter().find(|cookie| !cookie.ends_with('=')),
            text: text.to_owned(),
        }
    }
}

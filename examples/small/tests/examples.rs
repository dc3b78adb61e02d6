//! Runs the examples: each as its readers would, without its `main`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../grpc.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "its main is not run"
)]
mod grpc;
#[path = "../live.rs"]
#[allow(dead_code, unreachable_pub, reason = "its main is not run")]
mod live;
#[path = "../metrics.rs"]
#[allow(dead_code, unreachable_pub, reason = "its main is not run")]
mod metrics;
#[path = "../plain_hyper.rs"]
#[allow(dead_code, unreachable_pub, reason = "its main is not run")]
mod plain_hyper;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, header};
use cloakroom::Store;
use http_body_util::BodyExt as _;
use hyper::http::uri::PathAndQuery;
use std::io::{Read, Write};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tower::ServiceExt as _;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket, stream::MaybeTlsStream};

fn request(method: &str, path: &str, cookie: &str, body: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::COOKIE, cookie);
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn send(app: &Router, request: Request<Body>) -> Response<Body> {
    app.clone().oneshot(request).await.unwrap()
}

fn jar(response: &Response<Body>) -> String {
    let field = response.headers()[header::SET_COOKIE].to_str().unwrap();
    field.split(';').next().unwrap().to_owned()
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The next event of a stream; `None` at its end. Comments that keep it alive are left out.
async fn event(stream: &mut Body) -> Option<String> {
    loop {
        let frame = stream.frame().await?.unwrap();
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        if !text.starts_with(':') {
            return Some(text.trim_end().to_owned());
        }
    }
}

fn live_app() -> Router {
    let (builder, changes) = live::store();
    live::app(builder.in_memory().unwrap(), changes)
}

/// C4.7, C8.9
#[tokio::test]
async fn server_sent_events_follow_the_session_and_end_with_it() {
    let app = live_app();
    let cookie = jar(&send(&app, request("GET", "/", "", "")).await);
    send(&app, request("POST", "/say", &cookie, "before")).await;
    let stream = send(&app, request("GET", "/events", &cookie, "")).await;
    let mut stream = stream.into_body();
    assert_eq!(event(&mut stream).await.unwrap(), "data: before");
    send(&app, request("POST", "/say", &cookie, "after")).await;
    assert_eq!(event(&mut stream).await.unwrap(), "data: after");
    // Another visitor's lines are not for this one.
    let other = jar(&send(&app, request("GET", "/", "", "")).await);
    send(&app, request("POST", "/say", &other, "elsewhere")).await;
    send(&app, request("POST", "/logout", &cookie, "")).await;
    let last = event(&mut stream).await.unwrap();
    assert!(last.contains("event: ended"), "{last}");
    assert_eq!(event(&mut stream).await, None);
    // Nobody without a session is kept waiting.
    let refused = send(&app, request("GET", "/events", "", "")).await;
    assert_eq!(refused.status(), 409);
}

type Socket = WebSocket<MaybeTlsStream<std::net::TcpStream>>;

/// Opens a WebSocket. It blocks, so it is not for a thread of the runtime.
fn connect(address: &str, cookie: &str) -> Socket {
    let mut request = format!("ws://{address}/socket")
        .into_client_request()
        .unwrap();
    let cookie = cookie.parse().unwrap();
    request.headers_mut().insert(header::COOKIE, cookie);
    let (socket, _) = tungstenite::connect(request).unwrap();
    socket
}

/// C4.7, C8.9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_writes_to_the_session_and_is_closed_with_it() {
    let app = live_app();
    let cookie = jar(&send(&app, request("GET", "/", "", "")).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(axum::serve(listener, app.clone()).into_future());
    let sent = cookie.clone();
    let talk = move || {
        let mut socket = connect(&address, &sent);
        for expected in ["1", "2"] {
            socket.send(Message::text("a line")).unwrap();
            assert_eq!(socket.read().unwrap(), Message::text(expected));
        }
        socket
    };
    let mut socket = tokio::task::spawn_blocking(talk).await.unwrap();
    let stream = send(&app, request("GET", "/events", &cookie, "")).await;
    let mut stream = stream.into_body();
    assert_eq!(event(&mut stream).await.unwrap(), "data: a line");
    send(&app, request("POST", "/logout", &cookie, "")).await;
    let closed = tokio::task::spawn_blocking(move || socket.read().unwrap());
    let Message::Close(Some(frame)) = closed.await.unwrap() else {
        panic!("not closed");
    };
    assert_eq!(frame.reason.as_str(), "log in again");
    server.abort();
}

/// One request on a connection of its own.
fn get(address: &str, cookie: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// C6.1, without axum.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_hyper_has_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("hyper.redb")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(plain_hyper::serve(listener, store));
    let visit = move || {
        let first = get(&address, "");
        assert!(first.ends_with("visit 1\n"), "{first}");
        let field = first
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = field.unwrap().split(';').next().unwrap();
        let second = get(&address, cookie);
        assert!(second.ends_with("visit 2\n"), "{second}");
    };
    tokio::task::spawn_blocking(visit).await.unwrap();
    server.abort();
}

type Call = Result<tonic::Response<grpc::Cart>, tonic::Status>;

/// One call, as a client that tonic generates makes it.
async fn add(channel: &Channel, id: &str, name: &str) -> Call {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(grpc::Article { name: name.into() });
    let bearer = format!("Bearer {id}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let codec = tonic_prost::ProstCodec::<grpc::Article, grpc::Cart>::default();
    let path = PathAndQuery::from_static("/shop.Carts/Add");
    client.unary(request, path, codec).await
}

/// C6.1, C8.3, in a gRPC service over HTTP/2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_service_of_tonic_has_sessions() {
    let store = Store::in_memory().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(grpc::serve(listener, store.clone()));
    let channel = Channel::from_shared(address).unwrap();
    let channel = channel.connect().await.unwrap();

    let first = add(&channel, "new", "tea").await.unwrap();
    assert_eq!(first.get_ref().articles, 1);
    // The id is in the fields at the beginning, the status in the trailers at the end.
    assert_eq!(first.metadata().get("grpc-status").unwrap(), "0");
    let id = first.metadata().get("x-session-id").unwrap();
    let id = id.to_str().unwrap().to_owned();
    assert!(first.metadata().get("set-cookie").is_none());

    let second = add(&channel, &id, "tea").await.unwrap();
    assert_eq!(second.get_ref().articles, 2);
    assert!(second.metadata().get("x-session-id").is_none());
    // A call that fails leaves nothing.
    let failed = add(&channel, &id, "").await.unwrap_err();
    assert_eq!(failed.code(), tonic::Code::InvalidArgument);
    assert_eq!(
        add(&channel, &id, "tea").await.unwrap().get_ref().articles,
        3
    );
    // Another visitor has another cart.
    assert_eq!(
        add(&channel, "new", "tea")
            .await
            .unwrap()
            .get_ref()
            .articles,
        1
    );
    // A commit that fails is no success: the session has ended meanwhile.
    let key = store.client_ids().verify(&id).unwrap().key();
    store.end_async(key).await.unwrap();
    let late = add(&channel, &id, "tea").await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::Unavailable);
    server.abort();
}

/// The names, units and descriptions as Prometheus gets them.
#[tokio::test]
async fn prometheus_gets_the_metrics_with_their_descriptions() {
    let builder = metrics_exporter_prometheus::PrometheusBuilder::new();
    let prometheus = builder.install_recorder().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("metrics.redb")).unwrap();
    let pages = metrics::pages(store);
    let cookie = jar(&send(&pages, request("GET", "/", "", "")).await);
    send(&pages, request("GET", "/", &cookie, "")).await;
    let figures = metrics::figures(prometheus);
    let figures = text(send(&figures, request("GET", "/metrics", "", "")).await).await;
    let has = |line: &str| assert!(figures.contains(line), "{line}: {figures}");
    has("# HELP cloakroom_commits_total Commits that wrote.");
    has("# TYPE cloakroom_commits_total counter");
    has("# TYPE cloakroom_journal_bytes gauge");
    has("cloakroom_batch_seconds_count");
    assert!(!figures.contains(cookie.split_once('=').unwrap().1));
}

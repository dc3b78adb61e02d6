//! C6.2 under load: one session, 64 connections, and a counter that is read and then written.

use super::*;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::time::Duration;

const CROWD: usize = 64;

/// Answers on a port of its own until the runtime ends.
async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// The status line and the body of the answer, read until the server hangs up.
fn talk(stream: &mut TcpStream, method: &str, cookie: &str) -> (String, String) {
    let head = format!(
        "{method} /count HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Each of the crowd asks once, all at the same moment.
async fn crowd(method: impl Fn(usize) -> &'static str) {
    // However long the others take, nobody goes on without a turn.
    let store = Store::builder().turn_wait(Duration::from_secs(3600));
    let store = store.in_memory().unwrap();
    let app = site(SessionLayer::new(store.clone()));
    let cookie = visitor(&app).await;
    let address = serve(app).await;
    let barrier = Arc::new(Barrier::new(CROWD));
    let threads: Vec<_> = (0..CROWD)
        .map(|n| {
            let (method, cookie, barrier) = (method(n), cookie.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                barrier.wait();
                talk(&mut stream, method, &cookie)
            })
        })
        .collect();
    let answers = tokio::task::spawn_blocking(move || {
        let answers = threads.into_iter().map(|thread| thread.join().unwrap());
        answers.collect::<Vec<_>>()
    });
    let mut numbers = BTreeSet::new();
    for (status, body) in answers.await.unwrap() {
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(
            numbers.insert(body.parse::<usize>().unwrap()),
            "{body} came twice"
        );
    }
    assert_eq!(numbers, (2..CROWD + 2).collect());
    assert_eq!(stored(&store, &cookie), Some(CROWD as u64 + 1));
}

/// C6.2
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_that_gets_loses_no_update() {
    crowd(|_| "GET").await;
}

/// C6.2
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_that_posts_loses_no_update() {
    crowd(|_| "POST").await;
}

/// C6.2
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_that_gets_and_posts_loses_no_update() {
    crowd(|n| ["GET", "POST", "PUT"][n % 3]).await;
}

//! The example as its users meet it: killed, stopped, started again, and misused.

#![cfg(all(unix, feature = "axum"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use support::server::{Browser, Server, counter};

/// A visitor who knows which visits were acknowledged.
#[derive(Default)]
struct Visitor {
    browser: Browser,
    acknowledged: u64,
    /// A request was sent whose answer never came: it may have been counted, or not.
    unanswered: bool,
}

impl Visitor {
    /// Whether it was answered.
    fn visit(&mut self, address: &str) -> bool {
        let known = self.browser.cookie.is_some();
        let Ok(response) = self.browser.get(address, "/count") else {
            self.unanswered = true;
            return false;
        };
        assert_eq!(response.status, 200, "{response:?}");
        let count: u64 = response.body.parse().unwrap();
        // A first visit without an answer left a session whose cookie never arrived.
        let uncertain = self.unanswered && known;
        let next = self.acknowledged + 1;
        assert!(
            count == next || uncertain && count == next + 1,
            "{count} after {}",
            self.acknowledged
        );
        self.acknowledged = count;
        self.unanswered = false;
        true
    }
}

/// C2.2, C7.3: every acknowledged visit is there after SIGKILL in the middle of traffic.
#[test]
fn a_killed_server_keeps_every_acknowledged_visit() {
    const ROUNDS: usize = 6;
    const VISITS: usize = 50;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("counter.redb");
    let mut visitors: [Visitor; 3] = Default::default();
    for round in 0..ROUNDS {
        let server = Server::start(&store);
        let killer = round % visitors.len();
        thread::scope(|scope| {
            for (i, visitor) in visitors.iter_mut().enumerate() {
                let server = &server;
                scope.spawn(move || {
                    if i == killer {
                        for _ in 0..VISITS {
                            assert!(visitor.visit(server.address()));
                        }
                        server.kill();
                    } else {
                        while visitor.visit(server.address()) {}
                    }
                });
            }
        });
    }
    let server = Server::start(&store);
    for visitor in &mut visitors {
        assert!(visitor.visit(server.address()));
        // Each killed the server twice; that many visits of its own were certainly answered.
        assert!(visitor.acknowledged > 2 * VISITS as u64);
    }
}

/// C2.2: also a clean end keeps everything, and takes no connection with it.
#[test]
fn sigterm_ends_the_server_with_status_0_and_keeps_the_visits() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("counter.redb");
    let server = Server::start(&store);
    let mut visitor = Visitor::default();
    assert!(visitor.visit(server.address()));
    assert!(visitor.visit(server.address()));
    let _idle = TcpStream::connect(server.address()).unwrap();
    assert_eq!(server.terminate().code(), Some(0));

    let server = Server::start(&store);
    assert!(visitor.visit(server.address()));
    assert_eq!(visitor.acknowledged, 3);
}

/// C6.2: requests of one visitor that meet are all counted, each with a number of its own.
#[test]
fn concurrent_visits_of_one_visitor_get_every_number_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("counter.redb"));
    let mut first = Browser::default();
    assert_eq!(first.get(server.address(), "/count").unwrap().body, "1");
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (mut browser, server) = (first.clone(), &server);
                scope.spawn(move || {
                    let mut visit = || {
                        let response = browser.get(server.address(), "/count").unwrap();
                        assert_eq!(response.status, 200, "{response:?}");
                        response.body.parse::<u64>().unwrap()
                    };
                    (0..10).map(|_| visit()).collect::<Vec<_>>()
                })
            })
            .collect();
        let counts = threads.into_iter().flat_map(|t| t.join().unwrap());
        counts.collect::<BTreeSet<_>>()
    });
    assert!(counts.iter().copied().eq(2..=81), "{counts:?}");
}

/// C6.1, C1.4: a response of 500 aborts; a visitor without a session gets none by it.
#[test]
fn a_failed_request_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("counter.redb"));
    let mut browser = Browser::default();
    let failed = browser.post(server.address(), "/fail", "").unwrap();
    assert_eq!(failed.status, 500);
    assert_eq!(failed.header("set-cookie"), None);

    assert_eq!(browser.get(server.address(), "/count").unwrap().body, "1");
    assert_eq!(
        browser.post(server.address(), "/fail", "").unwrap().status,
        500
    );
    assert_eq!(browser.get(server.address(), "/count").unwrap().body, "2");
    assert!(
        !browser
            .get(server.address(), "/")
            .unwrap()
            .body
            .contains("#000000")
    );
}

/// C4.7, C4.8: the session ends, its cookie goes, and its id is worth nothing.
#[test]
fn logout_ends_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("counter.redb"));
    let mut browser = Browser::default();
    browser.get(server.address(), "/").unwrap();
    assert_eq!(browser.get(server.address(), "/count").unwrap().body, "2");
    let mut thief = browser.clone();

    let response = browser.post(server.address(), "/logout", "").unwrap();
    assert_eq!(
        (response.status, response.header("location")),
        (303, Some("/"))
    );
    assert_eq!(browser.cookie, None);
    assert_eq!(browser.get(server.address(), "/count").unwrap().body, "1");

    // Within ten seconds, a request that comes late may not write, and gets no cookie.
    let late = thief.get(server.address(), "/count").unwrap();
    assert_eq!(
        (late.status, late.header("set-cookie")),
        (503, None),
        "{late:?}"
    );
}

/// C2.2: a colour outlives the server. Any other text is refused, readably and without harm.
#[test]
fn a_favourite_colour_persists_and_is_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("counter.redb");
    let server = Server::start(&store);
    let mut browser = Browser::default();
    let response = browser
        .post(server.address(), "/color", "color=%2312Ab34")
        .unwrap();
    assert_eq!(
        (response.status, response.header("location")),
        (303, Some("/"))
    );
    assert!(
        browser
            .get(server.address(), "/")
            .unwrap()
            .body
            .contains("#12ab34")
    );

    let script = "color=%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    let refused = browser.post(server.address(), "/color", script).unwrap();
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.contains("&quot;&gt;&lt;script&gt;"),
        "{refused:?}"
    );
    assert!(!refused.body.contains("<script"), "{refused:?}");
    for form in [
        "",
        "color=",
        "color=red",
        "colour=%23123456",
        "color=%23%C3%A9%C3%A9%C3%A9",
    ] {
        let refused = browser.post(server.address(), "/color", form).unwrap();
        assert_eq!(refused.status, 400, "{form}");
        assert!(refused.body.contains("#1e90ff"), "{form}");
    }

    server.kill();
    let server = Server::start(&store);
    assert!(
        browser
            .get(server.address(), "/")
            .unwrap()
            .body
            .contains("#12ab34")
    );
}

/// C4.4, C4.6: over plain HTTP the cookie is all that it can be, and caches keep out.
#[test]
fn the_page_is_html_with_a_safe_cookie() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("counter.redb"));
    let mut browser = Browser::default();
    let page = browser.get(server.address(), "/").unwrap();
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let cookie = page.header("set-cookie").unwrap();
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "{cookie}");
    for part in [
        "<html lang=\"en\">",
        "name=\"viewport\"",
        "<label for=\"color\">",
    ] {
        assert!(page.body.contains(part), "{part}");
    }
    assert!(
        page.body.contains("<strong>1</strong> visit<"),
        "{}",
        page.body
    );
    let page = browser.get(server.address(), "/").unwrap();
    assert!(
        page.body.contains("<strong>2</strong> visits<"),
        "{}",
        page.body
    );

    let style = Browser::default()
        .get(server.address(), "/style.css")
        .unwrap();
    assert_eq!(
        style.header("content-type"),
        Some("text/css; charset=utf-8")
    );
    assert_eq!(
        (style.header("vary"), style.header("set-cookie")),
        (None, None)
    );
}

/// Runs the example where it cannot start: its exit code, and what it printed to stderr.
fn refused(listen: &str, store: &Path) -> (Option<i32>, String) {
    let output = counter()
        .args(["--listen", listen, "--store"])
        .arg(store)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    assert!(
        !String::from_utf8(output.stdout)
            .unwrap()
            .contains("listening")
    );
    (output.status.code(), said)
}

#[test]
fn a_port_in_use_is_told_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("counter.redb");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = refused(&address, &store);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("cannot listen on") && said.contains(&address),
        "{said}"
    );
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

/// C7.1, C7.2
#[test]
fn an_unusable_store_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "not a store").unwrap();
    let used = folder.path().join("used.redb");
    let _server = Server::start(&used);
    let missing = folder.path().join("missing/counter.redb");
    for path in [folder.path(), &text, &used, &missing] {
        let (code, said) = refused("127.0.0.1:0", path);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "not a store");
}

#[test]
fn a_wrong_argument_is_answered_with_the_usage() {
    for args in [&["--port"][..], &["--listen"], &["--store", ""], &["3000"]] {
        let output = counter().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("Usage: counter"), "{said}");
        assert!(said.contains(args[0]), "{said}");
    }
    let help = counter().arg("--help").output().unwrap();
    assert!(help.status.success());
    assert!(
        String::from_utf8(help.stdout)
            .unwrap()
            .starts_with("Usage: counter")
    );
}

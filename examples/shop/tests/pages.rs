//! The shop over its running server, without a browser: pages, statuses, headers, and what it refuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

#[path = "../../../tests/support/server.rs"]
#[allow(dead_code, reason = "the test uses some of it")]
mod server;
#[path = "support/visitor.rs"]
mod visitor;

use server::{Response, Server};
use tempfile::TempDir;
use visitor::{Visitor, start};

const PASSWORD: &str = "correct-horse";

fn shop(arguments: &[&str]) -> (TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder.path().join("data"), "127.0.0.1:0", arguments);
    (folder, server)
}

#[track_caller]
fn says(response: &Response, text: &str) {
    assert!(
        response.body.contains(text),
        "no {text:?} in {}",
        response.body
    );
}

#[track_caller]
fn says_not(response: &Response, text: &str) {
    assert!(
        !response.body.contains(text),
        "{text:?} in {}",
        response.body
    );
}

/// The value of the first hidden field of this name.
fn field(response: &Response, name: &str) -> Option<String> {
    let (_, rest) = response
        .body
        .split_once(&format!(r#"name="{name}" value=""#))?;
    let (value, _) = rest.split_once('"')?;
    Some(value.replace("&#x2f;", "/"))
}

#[test]
fn every_answer_has_the_security_headers_and_every_error_a_page() {
    let (_folder, server) = shop(&[]);
    let mut visitor = Visitor::new(&server);
    for (method, path, status) in [
        ("GET", "/", 200),
        ("GET", "/cart", 200),
        ("GET", "/live", 200),
        ("GET", "/login", 200),
        ("GET", "/register", 200),
        ("GET", "/style.css", 200),
        ("GET", "/live.js", 200),
        ("GET", "/live/events", 204),
        ("GET", "/devices", 303),
        ("GET", "/password", 303),
        ("GET", "/nowhere", 404),
        ("GET", "/cart/add", 405),
        ("POST", "/style.css", 405),
        ("POST", "/cart/add", 422),
        ("POST", "/login", 422),
    ] {
        let origin = format!("http://{}", visitor.shop);
        let response = visitor.send(method, path, &[("Origin", &origin)], "x=y");
        assert_eq!(response.status, status, "{method} {path}");
        assert!(response.header("content-security-policy").is_some());
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        let opener = response.header("cross-origin-opener-policy");
        assert_eq!(opener, Some("same-origin"));
        if status >= 400 {
            says(&response, "<nav");
            says(&response, &format!("Error {status}"));
        }
    }
    assert_eq!(visitor.cookie, None, "looking around founds no session");
}

#[test]
fn the_pages_of_a_user_are_not_kept_by_the_browser() {
    let (_folder, server) = shop(&[]);
    let mut ann = Visitor::new(&server);
    ann.register("ann", PASSWORD);
    for path in ["/", "/cart", "/devices", "/password"] {
        let page = ann.get(path);
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        says(&page, r#" aria-current="page""#);
    }
}

#[test]
fn a_cart_is_filled_shown_on_every_page_and_emptied() {
    let (_folder, server) = shop(&[]);
    let mut visitor = Visitor::new(&server);
    let page = visitor.submit("/cart/add", "id=tea");
    says(&page, "Darjeeling, 100 g: put into your cart.");
    says(&page, "· 1 in your cart");
    says_not(&visitor.get("/"), "put into your cart.");
    visitor.submit("/cart/add", "id=tea");
    says(
        &visitor.submit("/cart/add", "id=yacht"),
        "There is no such article.",
    );
    for path in ["/", "/cart", "/login", "/register", "/live"] {
        says(&visitor.get(path), "Cart (2)");
    }
    let page = visitor.get("/cart");
    says(&page, "2 × Darjeeling, 100 g");
    says(&page, "13.80 €");
    says(&visitor.submit("/cart/remove", "id=tea"), "It is empty.");
}

#[test]
fn a_form_of_another_site_or_of_no_site_is_refused() {
    let (_folder, server) = shop(&[]);
    let mut visitor = Visitor::new(&server);
    visitor.post("/cart/add", "id=tea");
    let other = [("Origin", "http://evil.example")];
    let refused = visitor.send("POST", "/cart/add", &other, "id=tea");
    assert_eq!(refused.status, 403);
    says(&refused, "This form cannot be used");
    // Old browsers tell no origin. The token of the form stands for it.
    assert_eq!(visitor.send("POST", "/cart/add", &[], "id=tea").status, 403);
    let token = field(&visitor.get("/"), "csrf_token").unwrap();
    let form = format!("id=tea&csrf_token={token}");
    assert_eq!(visitor.send("POST", "/cart/add", &[], &form).status, 303);
    says(&visitor.get("/cart"), "2 × Darjeeling");
}

#[test]
fn a_taken_name_is_refused_in_any_case() {
    let (_folder, server) = shop(&[]);
    Visitor::new(&server).register("ann", PASSWORD);
    let mut other = Visitor::new(&server);
    let refused = other.post("/register", "name=ANN&password=another-password");
    assert_eq!(refused.status, 422);
    says(&refused, "This name is taken.");
    says(&refused, "<title>Error: Register");
    says(&refused, r#"value="ANN""#);
    says(
        &refused,
        r#"aria-describedby="name-help problem" aria-invalid="true""#,
    );
    says_not(&other.get("/"), "Log out");
}

#[test]
fn hostile_text_is_shown_as_text() {
    let (_folder, server) = shop(&[]);
    let mut visitor = Visitor::new(&server);
    let hostile = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    let refused = visitor.post("/register", &format!("name={hostile}&password={PASSWORD}"));
    assert_eq!(refused.status, 422);
    says(&refused, "A name has 1 to 40 letters");
    says(&refused, "&lt;script&gt;alert(1)");
    says_not(&refused, "<script>alert");
    visitor.register("ann", PASSWORD);
    let page = visitor.submit("/devices/name", &format!("label={hostile}"));
    says(&page, "This device has its name.");
    says(&page, "&lt;script&gt;alert(1)");
    says_not(&page, "<script>alert");
}

#[test]
fn a_password_is_counted_in_characters() {
    let (_folder, server) = shop(&[]);
    let mut visitor = Visitor::new(&server);
    // Seven characters, fourteen bytes.
    let refused = visitor.post(
        "/register",
        "name=ann&password=%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4",
    );
    says(&refused, "A password has 8 to 128 characters.");
    says(&refused, r#"aria-describedby="password-help problem""#);
}

#[test]
fn a_wrong_password_is_refused_and_only_so_often() {
    let (_folder, server) = shop(&[]);
    Visitor::new(&server).register("ann", PASSWORD);
    let mut thief = Visitor::new(&server);
    for password in ["wrong-password"].into_iter().chain([""; 9]) {
        let refused = thief.post("/login", &format!("name=ann&password={password}"));
        assert_eq!(refused.status, 422);
        says(&refused, "The name or the password is wrong.");
        says(&refused, "<title>Error: Log in");
        says(&refused, r#"value="ann""#);
    }
    let form = format!("name=ann&password={PASSWORD}");
    let refused = thief.post("/login", &form);
    assert_eq!(refused.status, 429);
    says(&refused, "Wait five minutes");
    says_not(&thief.get("/"), "Log out");
}

#[test]
fn a_login_leads_back_to_the_page_that_asked_for_it_and_nowhere_else() {
    let (_folder, server) = shop(&[]);
    Visitor::new(&server).register("ann", PASSWORD);
    let mut ann = Visitor::new(&server);
    let asked = ann.get("/devices");
    assert_eq!(asked.header("location"), Some("/login?next=/devices"));
    let page = ann.get("/login?next=/devices");
    assert_eq!(field(&page, "next").as_deref(), Some("/devices"));
    let form = format!("name=ann&password={PASSWORD}&next=");
    let entered = ann.post("/login", &format!("{form}/devices"));
    assert_eq!(entered.header("location"), Some("/devices"));
    let evil = ann.get("/login?next=//evil.example");
    assert_eq!(field(&evil, "next").as_deref(), Some("/"));
    let entered = ann.post("/login", &format!("{form}//evil.example"));
    assert_eq!(entered.header("location"), Some("/"));
}

#[test]
fn a_login_keeps_the_visitors_cart_but_not_that_of_another_user() {
    let (_folder, server) = shop(&[]);
    let mut bob = Visitor::new(&server);
    bob.register("bob", PASSWORD);
    bob.post("/logout", "");
    let mut shared = Visitor::new(&server);
    shared.post("/cart/add", "id=pot");
    shared.register("ann", PASSWORD);
    says(&shared.get("/cart"), "1 × A pot for four");
    let anns = shared.clone();
    // The same user again: for something important.
    shared.submit("/login", &format!("name=ann&password={PASSWORD}"));
    says(&shared.get("/cart"), "1 × A pot for four");
    // A message of Ann's waits when Bob logs in.
    shared.post("/cart/add", "id=tea");
    let page = shared.submit("/login", &format!("name=bob&password={PASSWORD}"));
    says(&page, "Welcome, bob.");
    says_not(&page, "Darjeeling, 100 g: put into your cart.");
    says(&shared.get("/cart"), "It is empty.");
    // Ann's session has ended with it.
    says_not(&anns.clone().get("/"), "Log out ann");
    says_not(&shared.get("/devices"), "Log out there");
}

#[test]
fn a_revoked_device_is_asked_to_log_in_at_once_and_can() {
    let (_folder, server) = shop(&[]);
    let mut desk = Visitor::new(&server);
    desk.register("ann", PASSWORD);
    let mut phone = Visitor::new(&server);
    let form = format!("name=ann&password={PASSWORD}");
    phone.submit("/login", &form);
    let page = desk.get("/devices");
    says(&page, "<time datetime=\"20");
    says(&page, "aria-label=\"Log out there: A browser, last used 20");
    let key = field(&page, "key").unwrap();
    // Another user cannot end it.
    let mut bob = Visitor::new(&server);
    bob.register("bob", PASSWORD);
    let page = bob.submit("/devices/end", &format!("key={key}"));
    says(&page, "There is no such device any more.");
    let page = desk.submit("/devices/end", &format!("key={key}"));
    says(&page, "That device is logged out.");
    says_not(&page, "Log out there");

    let asked = phone.get("/devices");
    assert_eq!(asked.header("location"), Some("/login?next=/devices"));
    for path in ["/", "/login", "/cart", "/register"] {
        let page = phone.get(path);
        assert_eq!(page.status, 200, "{path}");
        says_not(&page, "Log out");
    }
    assert_eq!(desk.get("/devices").status, 200);
}

#[test]
fn all_others_are_logged_out_by_the_button_and_by_a_new_password() {
    let (_folder, server) = shop(&[]);
    let mut desk = Visitor::new(&server);
    desk.register("ann", PASSWORD);
    let form = format!("name=ann&password={PASSWORD}");
    let mut phone = Visitor::new(&server);
    phone.submit("/login", &form);
    let page = desk.submit("/devices/end-others", "");
    says(&page, "Logged out elsewhere: 1.");
    says_not(&phone.get("/"), "Log out ann");

    let mut phone = Visitor::new(&server);
    phone.submit("/login", &form);
    let refused = desk.post("/password", "password=short");
    assert_eq!(refused.status, 422);
    says(&phone.get("/"), "Log out ann");
    let page = desk.submit("/password", "password=battery-staple");
    says(&page, "Your password is changed.");
    says(&page, "Log out ann");
    says_not(&phone.get("/"), "Log out ann");
    let mut new = Visitor::new(&server);
    assert_eq!(new.post("/login", &form).status, 422);
    new.submit("/login", "name=ann&password=battery-staple");
    says(&new.get("/"), "Log out ann");
}

#[test]
fn devices_and_the_password_need_a_login_of_the_last_minutes() {
    let (_folder, server) = shop(&["--fresh", "0"]);
    let mut desk = Visitor::new(&server);
    desk.register("ann", PASSWORD);
    let mut phone = Visitor::new(&server);
    phone.submit("/login", &format!("name=ann&password={PASSWORD}"));
    let key = field(&desk.get("/devices"), "key").unwrap();
    for (path, form) in [
        ("/devices/end", format!("key={key}")),
        ("/devices/end-others", String::new()),
        ("/password", "password=battery-staple".to_owned()),
    ] {
        let asked = desk.post(path, &form);
        let next = if path == "/password" {
            path
        } else {
            "/devices"
        };
        let login = format!("/login?next={next}");
        assert_eq!(asked.header("location"), Some(&*login), "{path}");
        says(&desk.get(&login), "Enter your password again");
    }
    says(&phone.get("/"), "Log out ann");
}

#[test]
fn logging_out_says_so_and_clears_what_the_browser_keeps() {
    let (_folder, server) = shop(&[]);
    let mut ann = Visitor::new(&server);
    ann.post("/cart/add", "id=tea");
    ann.register("ann", PASSWORD);
    let bye = ann.post("/logout", "");
    assert_eq!(bye.status, 200);
    says(&bye, "You are logged out");
    says_not(&bye, "Cart (1)");
    let clears = bye.header("clear-site-data");
    assert_eq!(clears, Some(r#""cookies", "storage""#));
    assert_eq!(ann.cookie, None);
    says(&ann.get("/cart"), "It is empty.");
}

#[test]
fn an_open_page_follows_the_cart_until_the_session_ends() {
    let (_folder, server) = shop(&[]);
    let mut desk = Visitor::new(&server);
    desk.register("ann", PASSWORD);
    let mut phone = Visitor::new(&server);
    phone.submit("/login", &format!("name=ann&password={PASSWORD}"));
    let (head, mut events) = phone.follow();
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert!(head.header("content-security-policy").is_some());
    let event = |name: &str, data: &str| Some((name.to_owned(), data.to_owned()));
    assert_eq!(events.next(), event("cart", "0"));
    phone.post("/cart/add", "id=tea");
    assert_eq!(events.next(), event("cart", "1"));
    desk.submit("/devices/end-others", "");
    assert_eq!(events.next(), event("ended", "ended"));
    assert_eq!(events.next(), None);
    assert_eq!(phone.follow().0.status, 204);
}

#[test]
fn a_session_has_a_few_streams_and_a_stop_ends_them_and_closes_the_store() {
    let (folder, server) = shop(&[]);
    let mut visitor = Visitor::new(&server);
    visitor.post("/cart/add", "id=tea");
    let streams: Vec<_> = (0..4).map(|_| visitor.follow()).collect();
    assert!(streams.iter().all(|(head, _)| head.status == 200));
    assert_eq!(visitor.follow().0.status, 429);
    assert!(server.terminate().success());
    for (_, mut events) in streams {
        while events.next().is_some() {}
    }
    let files = folder.path().join("data").read_dir().unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["accounts.redb", "sessions.redb"]);
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, _server) = shop(&[]);
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = folder.path().join("data");
    assert_eq!(mode(data.clone()), 0o700);
    for file in data.read_dir().unwrap() {
        assert_eq!(mode(file.unwrap().path()), 0o600);
    }
}

#[test]
fn behind_a_proxy_the_cookie_needs_https_and_addresses_are_those_of_the_visitors() {
    let (_folder, server) = shop(&["--behind-proxy"]);
    let origin = format!("http://{}", server.address());
    let mut visitor = Visitor::new(&server);
    visitor.post("/cart/add", "id=tea");
    assert!(visitor.cookie.unwrap().starts_with("__Host-"));
    // Many names from one address, which another does not pay for.
    let status = |address: &str, n: u32| {
        let headers = [("Origin", &*origin), ("X-Forwarded-For", address)];
        let form = format!("name=user-{n}&password=wrong");
        Visitor::new(&server)
            .send("POST", "/login", &headers, &form)
            .status
    };
    assert!((0..100).all(|n| status("192.0.2.1", n) == 422));
    assert_eq!(status("192.0.2.1", 100), 429);
    assert_eq!(status("192.0.2.2", 101), 422);
}

//! C4.1, C4.8, C4.9, C4.10, C1.6: which cookie counts, and what a dead one does.

use super::*;
use http::HeaderValue;
use std::collections::BTreeSet;

/// A request with these `Cookie` fields, as bytes.
fn fields(path: &str, fields: &[&[u8]]) -> Request<Sent> {
    let mut request = request("GET", path, "");
    for field in fields {
        let value = HeaderValue::from_bytes(field).unwrap();
        request.headers_mut().append(header::COOKIE, value);
    }
    request
}

/// C4.9
pub(crate) async fn several_cookie_fields_are_read_as_bytes<B: Backend>() {
    let (_, app) = usual::<B>().await;
    let cookie = app.visitor().await;
    let ours = cookie.as_bytes();
    let framed = [
        b"a=b; c; =d;; e=\xff; ".as_slice(),
        ours,
        b" ; f=\"".as_slice(),
    ]
    .concat();
    for cookies in [
        vec![b"\xff\xfe=\xfd".as_slice(), ours],
        vec![ours, b"other=1"],
        vec![framed.as_slice()],
    ] {
        let answer = app.send(fields("/read", &cookies)).await;
        assert_eq!(answer.body.await, "1");
    }
}

/// C4.1
pub(crate) async fn rubbish_and_oversize_cookies_are_no_ids<B: Backend>() {
    let (_, app) = usual::<B>().await;
    let cookie = app.visitor().await;
    let (name, id) = halves(&cookie);
    for garbled in [
        "",
        "x",
        &id[..id.len() - 1],
        &format!("{id}x"),
        &"A".repeat(5000),
    ] {
        let answer = app.get("/count", &format!("{name}={garbled}")).await;
        assert_ne!(answer.jar(), cookie);
        assert_eq!(answer.body.await, "1");
    }
    for field in [b"\xff\xfe".as_slice(), b";;;=;", &[b'='; 3000]] {
        let answer = app.send(fields("/read", &[field])).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.body.await, "0");
    }
}

/// C4.9
pub(crate) async fn eight_cookies_of_our_name_are_checked<B: Backend>() {
    let (_, app) = usual::<B>().await;
    let cookie = app.visitor().await;
    let decoy = format!("{}=decoy; ", halves(&cookie).0);
    for (decoys, expected) in [(7, "1"), (8, "0")] {
        let cookies = decoy.repeat(decoys) + &cookie;
        assert_eq!(app.page("/read", &cookies).await, expected, "{decoys}");
    }
    let cookies = cookie + "; " + &decoy.repeat(19);
    assert_eq!(app.page("/read", &cookies).await, "1");
}

/// C4.9
pub(crate) async fn the_first_cookie_that_is_live_counts<B: Backend>() {
    let (store, app) = usual::<B>().await;
    let (one, two) = (app.visitor().await, app.visitor().await);
    app.page("/count", &two).await;
    let dead = format!("{}={}", halves(&one).0, store.client_ids().issue().as_str());
    for (cookies, expected) in [
        (format!("{dead}; {two}; {one}"), "2"),
        (format!("{one}; {two}"), "1"),
        (format!("{dead}; {dead}"), "0"),
    ] {
        assert_eq!(app.page("/read", &cookies).await, expected);
    }
}

/// C4.8
pub(crate) async fn a_late_request_with_a_dead_id_brings_nothing_back<B: Backend>() {
    for end in ["/rotate", "/destroy"] {
        let (_clock, store) = timed();
        let app = B::start(Site::new(SessionLayer::new(store))).await;
        let old = app.visitor().await;
        app.get(end, &old).await;
        let late = app.get("/read", &old).await;
        assert_eq!(late.set_cookie(), None);
        assert_eq!(late.body.await, "0");
        for method in ["POST", "PUT"] {
            let late = app.send(request(method, "/count", &old)).await;
            assert_eq!(late.status(), 503, "{end}");
            assert_eq!(late.kind(), Some(ErrorKind::Conflict));
            assert_eq!(late.set_cookie(), None);
            assert_eq!(late.values(header::RETRY_AFTER), ["10"]);
        }
    }
}

/// C4.10
pub(crate) async fn parallel_requests_without_an_id_are_different_visitors<B: Backend>() {
    let (store, app) = usual::<B>().await;
    let (a, b, c) = tokio::join!(app.visitor(), app.visitor(), app.visitor());
    let all = BTreeSet::from([a, b, c]);
    assert_eq!(all.len(), 3);
    for cookie in all {
        assert_eq!(stored(&store, &cookie), Some(1));
    }
}

/// C1.6
pub(crate) async fn headers_print_no_id_inside_the_layer<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let site = Site::new(SessionLayer::new(store)).plain("/print", |visit| async move {
        let fields = visit.head.headers.get_all(header::COOKIE).iter();
        assert_eq!(fields.count(), 2);
        text(format!("{:?}", visit.head.headers))
    });
    let app = B::start(site).await;
    let cookie = app.visitor().await;
    let asked = fields("/print", &[b"other=1", cookie.as_bytes()]);
    let printed = app.send(asked).await.body.await;
    assert!(!printed.contains(halves(&cookie).1), "{printed}");
    assert!(printed.contains("cookie"), "{printed}");
}

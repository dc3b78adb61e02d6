//! C4.1, C4.8, C4.9, C4.10 over HTTP: which cookie counts, and the effect of a dead one.

use super::*;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::post;
use cloakroom::ErrorKind;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A request with these `Cookie` fields, as bytes.
fn fields(path: &str, fields: &[&[u8]]) -> Request<Body> {
    let mut request = request("GET", path, "");
    for field in fields {
        let value = HeaderValue::from_bytes(field).unwrap();
        request.headers_mut().append(header::COOKIE, value);
    }
    request
}

/// C4.1
#[tokio::test]
async fn a_garbled_id_is_no_id() {
    let (_, app) = usual();
    let cookie = visitor(&app).await;
    let (name, id) = halves(&cookie);
    let flipped = if id.starts_with('A') { "B" } else { "A" }.to_owned() + &id[1..];
    for garbled in [
        "",
        "x",
        &id[..id.len() - 1],
        &format!("{id}x"),
        &"A".repeat(5000),
        &flipped,
    ] {
        let response = get_page(&app, "/count", &format!("{name}={garbled}")).await;
        assert_ne!(jar(&response), cookie);
        assert_eq!(text(response).await, "1");
    }
}

/// C4.9: RFC 6265 §4.1.1 lets a value stand in quotes, which are no part of it.
#[tokio::test]
async fn a_quoted_value_is_read() {
    let (_, app) = usual();
    let cookie = visitor(&app).await;
    let (name, id) = halves(&cookie);
    assert_eq!(page(&app, "/read", &format!("{name}=\"{id}\"")).await, "1");
    for broken in [
        format!("\"{id}"),
        format!("{id}\""),
        format!("\"\"{id}\"\""),
    ] {
        assert_eq!(page(&app, "/read", &format!("{name}={broken}")).await, "0");
    }
}

/// C4.8
#[tokio::test]
async fn a_late_request_with_a_rotated_id_reads_empty_and_writes_nothing() {
    let (store, app) = usual();
    let old = visitor(&app).await;
    let new = jar(&get_page(&app, "/rotate", &old).await);

    let read = get_page(&app, "/read", &old).await;
    assert_eq!(set_cookie(&read), None);
    assert_eq!(text(read).await, "0");

    let write = send(&app, request("POST", "/count", &old)).await;
    assert_eq!(write.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(set_cookie(&write), None);
    let error = write.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(stored(&store, &new), Some(1));
}

/// C4.8
#[tokio::test]
async fn a_late_request_with_a_destroyed_id_brings_nothing_back() {
    let (_, app) = usual();
    let cookie = visitor(&app).await;
    get_page(&app, "/destroy", &cookie).await;
    let write = send(&app, request("POST", "/count", &cookie)).await;
    assert_eq!(write.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(set_cookie(&write), None);
    assert_eq!(page(&app, "/read", &cookie).await, "0");
}

/// C4.8
#[tokio::test]
async fn a_session_is_founded_under_a_fresh_id_only() {
    let (store, app) = usual();
    let name = halves(&visitor(&app).await).0.to_owned();
    let planted = format!("{name}={}", store.client_ids().issue().as_str());
    let response = get_page(&app, "/count", &planted).await;
    assert_ne!(jar(&response), planted);
    assert_eq!(page(&app, "/read", &planted).await, "0");
    assert_eq!(page(&app, "/read", &jar(&response)).await, "1");
}

/// C4.9
#[tokio::test]
async fn no_foreign_cookie_hides_ours() {
    let (_, app) = usual();
    let cookie = visitor(&app).await;
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
        let response = send(&app, fields("/read", &cookies)).await;
        assert_eq!(text(response).await, "1");
    }
}

/// C4.9
#[tokio::test]
async fn names_compare_exactly() {
    let (_, app) = usual();
    let cookie = visitor(&app).await;
    let (name, id) = halves(&cookie);
    let bare = name.strip_prefix("__Host-").unwrap();
    for other in [name.to_lowercase(), bare.to_owned(), format!("{name}x")] {
        assert_eq!(
            page(&app, "/read", &format!("{other}={id}")).await,
            "0",
            "{other}"
        );
    }
}

/// C4.9
#[tokio::test]
async fn eight_cookies_of_our_name_are_checked() {
    let (_, app) = usual();
    let cookie = visitor(&app).await;
    let decoy = format!("{}=decoy; ", halves(&cookie).0);
    assert_eq!(page(&app, "/read", &(decoy.repeat(7) + &cookie)).await, "1");
    assert_eq!(page(&app, "/read", &(decoy.repeat(8) + &cookie)).await, "0");
    assert_eq!(
        page(&app, "/read", &(cookie + "; " + &decoy.repeat(19))).await,
        "1"
    );
}

/// C4.9
#[tokio::test]
async fn the_first_cookie_that_is_live_counts() {
    let (store, app) = usual();
    let (one, two) = (visitor(&app).await, visitor(&app).await);
    page(&app, "/count", &two).await;
    let dead = format!("{}={}", halves(&one).0, store.client_ids().issue().as_str());
    for method in ["GET", "POST"] {
        let read = |cookie: String| text_of(&app, method, cookie);
        assert_eq!(read(format!("{dead}; {two}; {one}")).await, "2");
        assert_eq!(read(format!("{one}; {two}")).await, "1");
        assert_eq!(read(format!("{dead}; {dead}")).await, "0");
    }
}

async fn text_of(app: &Router, method: &str, cookie: String) -> String {
    text(send(app, request(method, "/read", &cookie)).await).await
}

/// C4.10
#[tokio::test]
async fn parallel_requests_without_an_id_are_different_visitors() {
    let (store, app) = usual();
    let (a, b, c) = tokio::join!(visitor(&app), visitor(&app), visitor(&app));
    let all = BTreeSet::from([a, b, c]);
    assert_eq!(all.len(), 3);
    for cookie in all {
        assert_eq!(stored(&store, &cookie), Some(1));
    }
}

/// C1.6
#[tokio::test]
async fn the_requests_headers_print_no_id_inside_the_layer() {
    let store = Store::in_memory().unwrap();
    let print = |headers: HeaderMap| async move {
        assert_eq!(headers.get_all(header::COOKIE).iter().count(), 2);
        format!("{headers:?}")
    };
    let app = Router::new()
        .route("/print", get(print))
        .route("/count", get(counter))
        .layer(SessionLayer::new(store));
    let cookie = visitor(&app).await;
    let asked = fields("/print", &[b"other=1", cookie.as_bytes()]);
    let printed = text(send(&app, asked).await).await;
    assert!(!printed.contains(halves(&cookie).1), "{printed}");
    assert!(printed.contains("cookie"), "{printed}");
}

/// C4.8, C6.5: an id is refused for as long as its tombstone stands, and afterwards its bearer is a new visitor.
#[tokio::test]
async fn a_write_under_an_ended_id_is_told_how_long_to_wait() {
    let (clock, store, app) = timed();
    for end in ["/rotate", "/destroy"] {
        let old = visitor(&app).await;
        get_page(&app, end, &old).await;
        clock.advance(Duration::from_millis(2500));
        let refused = get_page(&app, "/count", &old).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(values(&refused, header::RETRY_AFTER), ["8"], "{end}");
        let error = refused.extensions().get::<Error>().unwrap();
        assert_eq!(error.retry_after(), Some(Duration::from_millis(7500)));
        clock.advance(Duration::from_secs(8));
        let again = get_page(&app, "/count", &old).await;
        assert_ne!(id_of(&store, &jar(&again)), id_of(&store, &old));
    }
}

/// What happens between a request's coming and its asking for its session.
type Meanwhile = Arc<dyn Fn() + Send + Sync>;

/// A page that counts, and asks for its session only after what happens meanwhile.
fn late(app: &Router, store: &Store, meanwhile: impl Fn() + Send + Sync + 'static) -> Router {
    let meanwhile: Meanwhile = Arc::new(meanwhile);
    let counts = |meanwhile: Meanwhile| {
        move |request: Request<Body>| async move {
            meanwhile();
            let session = cloakroom::http::session(request.extensions()).await?;
            Ok::<_, Error>(count(&session)?.to_string())
        }
    };
    let reads = |meanwhile: Meanwhile| {
        move |request: Request<Body>| async move {
            meanwhile();
            let session = cloakroom::http::session(request.extensions()).await?;
            let n = session.pkg(PACKAGE).get::<u64>("count")?;
            Ok::<_, Error>(n.unwrap_or(0).to_string())
        }
    };
    let routes = Router::new()
        .route("/late", post(counts(meanwhile.clone())))
        .route("/late/read", post(reads(meanwhile)));
    app.clone()
        .merge(routes.layer(SessionLayer::new(store.clone())))
}

fn lasting_refusals(lifetime: Duration) -> (Clock, Store, Router) {
    let clock = clock();
    let builder = Store::builder().clock(clock.clone());
    let builder = builder.tombstone_lifetime(lifetime).implicit_sweeps(false);
    let store = builder.in_memory().unwrap();
    let app = site(SessionLayer::new(store.clone()));
    (clock, store, app)
}

async fn is_refused(app: &Router, path: &str, cookie: &str) {
    let response = send(app, request("POST", path, cookie)).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
    assert_eq!(set_cookie(&response), None, "{path}");
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

/// C4.8: however long ago the id ended when the request asks for its session.
#[tokio::test]
async fn a_request_that_came_before_its_id_ended_hands_out_no_new_id() {
    type End = fn(&Session) -> Result<(), Error>;
    let ends: [End; 2] = [|s| s.rotate().map(drop), Session::destroy];
    for refused in [Duration::from_secs(10), Duration::ZERO] {
        for end in ends {
            let (clock, store, app) = lasting_refusals(refused);
            let cookie = visitor(&app).await;
            let (other, id) = (store.clone(), id_of(&store, &cookie));
            let passed = clock.clone();
            let app = late(&app, &store, move || {
                other.transact(|txn| end(&txn.session(&id)?)).unwrap();
                passed.advance(Duration::from_secs(3600));
                other.container("").unwrap().sweep().unwrap();
            });
            is_refused(&app, "/late", &cookie).await;
            // A request that comes now is given one.
            let response = send(&app, request("POST", "/count", &cookie)).await;
            assert_eq!(text(response).await, "1");
            let read = send(&app, request("POST", "/late/read", &cookie)).await;
            assert_eq!(set_cookie(&read), None);
            assert_eq!(text(read).await, "0");
        }
    }
}

/// C4.8: an id whose session had ended when the request came is replaced, even if other sessions end meanwhile.
#[tokio::test]
async fn a_request_that_came_after_its_id_had_ended_is_given_a_new_one() {
    for sweeps in [false, true] {
        let (clock, store, app) = lasting_refusals(Duration::ZERO);
        let (expired, destroyed) = (visitor(&app).await, visitor(&app).await);
        get_page(&app, "/destroy", &destroyed).await;
        clock.advance(Duration::from_secs(3601));
        let (other, busy) = (store.clone(), visitor(&app).await);
        let id = id_of(&store, &busy);
        let app = late(&app, &store, move || {
            let end = |txn: &cloakroom::Txn| txn.session(&id)?.destroy();
            other.transact(end).unwrap();
            if sweeps {
                other.container("").unwrap().sweep().unwrap();
            }
        });
        for cookie in [expired, destroyed] {
            let response = send(&app, request("POST", "/late", &cookie)).await;
            assert_ne!(jar(&response), cookie);
            assert_eq!(text(response).await, "1");
        }
    }
}

/// C4.8: nor does a commit on the way that was to end it once more, and was refused.
#[tokio::test]
async fn a_commit_that_is_refused_ends_nothing() {
    let clock = clock();
    let builder = Store::builder().clock(clock.clone());
    let builder = builder
        .tombstone_lifetime(Duration::ZERO)
        .implicit_sweeps(false);
    let builder = builder.max_new_sessions(2, Duration::from_secs(100_000));
    let store = builder.in_memory().unwrap();
    let app = site(SessionLayer::new(store.clone()));
    let cookie = visitor(&app).await;
    clock.advance(Duration::from_secs(3601));
    let (other, id) = (store.clone(), id_of(&store, &cookie));
    let app = late(&app, &store, move || {
        let refused = other.transact(|txn| {
            txn.session(&id)?.destroy()?;
            let fresh = [other.client_ids().issue(), other.client_ids().issue()];
            let found = |id| txn.session(id)?.pkg(PACKAGE).insert("count", 1);
            fresh.iter().try_for_each(found)
        });
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    });
    let response = send(&app, request("POST", "/late", &cookie)).await;
    assert_ne!(jar(&response), cookie);
    assert_eq!(text(response).await, "1");
}

/// C4.8: a sweep on the way makes no difference.
#[tokio::test]
async fn a_request_whose_session_expires_and_is_swept_on_the_way_hands_out_no_new_id() {
    let (clock, store, app) = lasting_refusals(Duration::ZERO);
    let cookie = visitor(&app).await;
    clock.advance(Duration::from_secs(3600));
    let other = store.clone();
    let app = late(&app, &store, move || {
        clock.advance(Duration::from_secs(20));
        other.container("").unwrap().sweep().unwrap();
    });
    is_refused(&app, "/late", &cookie).await;
    let response = send(&app, request("POST", "/late", &cookie)).await;
    assert_eq!(text(response).await, "1");
}

/// C4.8: nor does it that the handler destroys what it does not find, and begins anew.
#[tokio::test]
async fn what_ended_on_the_way_is_not_destroyed_and_replaced() {
    type End = fn(&Clock, &Store, &cloakroom::ClientId);
    let ends: [End; 3] = [
        |clock, _, _| clock.advance(Duration::from_secs(3601)),
        |clock, store, _| {
            clock.advance(Duration::from_secs(3601));
            store.container("").unwrap().sweep().unwrap();
        },
        |_, store, id| store.transact(|txn| txn.session(id)?.destroy()).unwrap(),
    ];
    for end in ends {
        let (clock, store, app) = lasting_refusals(Duration::ZERO);
        let cookie = visitor(&app).await;
        let (other, id) = (store.clone(), id_of(&store, &cookie));
        let replaces = move |request: Request<Body>| {
            let (clock, store, id) = (clock.clone(), other.clone(), id.clone());
            async move {
                if request.uri().path() == "/late" {
                    end(&clock, &store, &id);
                }
                let session = cloakroom::http::session(request.extensions()).await?;
                session.destroy()?;
                Ok::<_, Error>(count(&session)?.to_string())
            }
        };
        let app = Router::new()
            .route("/late", post(replaces.clone()))
            .route("/login", post(replaces))
            .layer(SessionLayer::new(store));
        is_refused(&app, "/late", &cookie).await;
        // A request that comes now is given one.
        let response = send(&app, request("POST", "/login", &cookie)).await;
        assert_ne!(jar(&response), cookie);
        assert_eq!(text(response).await, "1");
    }
}

/// C4.8: to expire is to end, too.
#[tokio::test]
async fn a_request_whose_session_expires_on_the_way_hands_out_no_new_id() {
    let (clock, store, app) = lasting_refusals(Duration::ZERO);
    let cookie = visitor(&app).await;
    clock.advance(Duration::from_secs(3600));
    let app = late(&app, &store, move || clock.advance(Duration::from_secs(1)));
    is_refused(&app, "/late", &cookie).await;
    let response = send(&app, request("POST", "/late", &cookie)).await;
    assert_eq!(text(response).await, "1");
}

//! C8.3: ids in other places than the cookie, and where none is read.

use super::*;
use axum::http::{HeaderName, StatusCode};
use axum::routing::post;
use cloakroom::ErrorKind;
use cloakroom::http::{BearerTransport, CookieSettings, CsrfLayer, HeaderTransport, IdTransport};

const FIELD: HeaderName = HeaderName::from_static("x-session-id");

fn with(layer: impl Fn(SessionLayer) -> SessionLayer) -> (Store, Router) {
    let store = Store::in_memory().unwrap();
    let app = site(layer(SessionLayer::new(store.clone())));
    (store, app)
}

fn bearer(layer: SessionLayer) -> SessionLayer {
    layer.transport(BearerTransport::new())
}

fn header(layer: SessionLayer) -> SessionLayer {
    layer.transport(HeaderTransport::new(FIELD).unwrap())
}

/// A GET with one more field.
async fn get_with(app: &Router, path: &str, field: (&str, &str)) -> Response<Body> {
    let mut request = request("GET", path, "");
    let name: HeaderName = field.0.parse().unwrap();
    request.headers_mut().insert(name, field.1.parse().unwrap());
    send(app, request).await
}

/// The id that a response hands out in its field.
fn id_in(response: &Response<Body>) -> String {
    assert_eq!(set_cookie(response), None);
    assert_eq!(values(response, header::CACHE_CONTROL), ["no-store"]);
    assert!(response.headers()[FIELD].is_sensitive());
    values(response, FIELD).remove(0)
}

#[tokio::test]
async fn a_bearer_keeps_its_session_without_a_cookie() {
    let (store, app) = with(bearer);
    let first = get_with(&app, "/count", ("authorization", "Bearer new")).await;
    let id = id_in(&first);
    assert_eq!(values(&first, header::VARY), ["Cookie", "authorization"]);
    let bearer = format!("bearer {id}");
    let second = get_with(&app, "/count", ("authorization", &bearer)).await;
    assert!(!second.headers().contains_key(FIELD));
    assert_eq!(text(second).await, "2");
    assert_eq!(stored(&store, &format!("x={id}")), Some(2));
}

#[tokio::test]
async fn a_header_gets_a_new_id_and_the_end_of_its_session() {
    let (_, app) = with(header);
    let id = id_in(&get_with(&app, "/count", ("x-session-id", "new")).await);
    let rotated = get_with(&app, "/rotate", ("x-session-id", &id)).await;
    let other = id_in(&rotated);
    assert_ne!(id, other);
    let ended = get_with(&app, "/destroy", ("x-session-id", &other)).await;
    assert_eq!(values(&ended, FIELD), [""]);
    assert_eq!(set_cookie(&ended), None);
    let after = get_with(&app, "/read", ("x-session-id", &other)).await;
    assert_eq!(text(after).await, "0");
}

/// C8.3: without the setting, the header is not read.
#[tokio::test]
async fn without_the_setting_no_header_is_read() {
    let (_, app) = usual();
    let cookie = visitor(&app).await;
    let id = halves(&cookie).1;
    for field in [
        ("authorization", &*format!("Bearer {id}")),
        ("x-session-id", id),
    ] {
        assert_eq!(text(get_with(&app, "/read", field).await).await, "0");
    }
}

/// C4.1, C4.8: no transport adopts an id that we did not issue.
#[tokio::test]
async fn an_id_of_another_store_is_none() {
    let (_, app) = with(header);
    let foreign = Store::in_memory().unwrap().client_ids().issue();
    let long = "x".repeat(5000);
    for odd in [foreign.as_str(), "", "new", "x", &long] {
        let response = get_with(&app, "/count", ("x-session-id", odd)).await;
        assert_ne!(id_in(&response), odd);
        assert_eq!(text(response).await, "1");
    }
}

/// A request uses one transport.
#[tokio::test]
async fn a_request_with_another_transport_does_not_use_its_cookie() {
    let (_, app) = with(header);
    let cookie = visitor(&app).await;
    assert_eq!(page(&app, "/read", &cookie).await, "1");
    let mut both = request("GET", "/read", &cookie);
    both.headers_mut().insert(FIELD, "garbled".parse().unwrap());
    assert_eq!(text(send(&app, both).await).await, "0");
}

#[tokio::test]
async fn without_the_cookie_none_is_read_or_sent() {
    let (_, cookie_app) = usual();
    let cookie = visitor(&cookie_app).await;
    let (_, app) = with(|layer| header(layer).without_cookie());
    let response = get_page(&app, "/count", &cookie).await;
    assert_eq!(values(&response, header::VARY), ["x-session-id"]);
    let id = id_in(&response);
    let response = get_with(&app, "/count", ("x-session-id", &id)).await;
    assert_eq!(text(response).await, "2");

    let (_, app) = with(SessionLayer::without_cookie);
    let response = get_page(&app, "/count", "").await;
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// C1.6
#[tokio::test]
async fn a_handler_sees_the_field_marked_as_sensitive() {
    async fn shown(request: axum::extract::Request) -> String {
        format!("{:?}", request.headers())
    }
    let store = Store::in_memory().unwrap();
    let app = Router::new()
        .route("/", get(shown))
        .layer(bearer(SessionLayer::new(store)));
    let shown = text(get_with(&app, "/", ("authorization", "Bearer hunter2")).await).await;
    assert!(
        shown.contains("authorization") && !shown.contains("hunter2"),
        "{shown}"
    );
}

/// An id that an application carries in a query: such a transport names no field.
struct Query;

impl IdTransport for Query {
    fn read<'a>(&self, request: &'a axum::http::request::Parts) -> Option<&'a [u8]> {
        let query = request.uri.query()?;
        query.strip_prefix("sid=").map(str::as_bytes)
    }

    fn send(&self, id: &ClientId, response: &mut axum::http::HeaderMap) {
        response.insert(FIELD, id.as_str().parse().unwrap());
    }

    fn withdraw(&self, _: &mut axum::http::HeaderMap) {}

    fn request_field(&self) -> Option<HeaderName> {
        None
    }
}

#[tokio::test]
async fn applications_make_transports_of_their_own() {
    let (_, app) = with(|layer| bearer(layer).transport(Query));
    let response = get_page(&app, "/count?sid=new", "").await;
    let id = values(&response, FIELD).remove(0);
    assert_eq!(page(&app, &format!("/count?sid={id}"), "").await, "2");
}

#[tokio::test]
async fn csrf_checks_apply_to_the_cookie_alone() {
    let store = Store::in_memory().unwrap();
    let app = Router::new()
        .route("/count", post(counter))
        .layer(CsrfLayer::new())
        .layer(header(SessionLayer::new(store)));
    let mut by_header = request("POST", "/count", "");
    by_header
        .headers_mut()
        .insert(FIELD, "new".parse().unwrap());
    assert_eq!(send(&app, by_header).await.status(), StatusCode::OK);
    let by_cookie = send(&app, request("POST", "/count", "")).await;
    assert_eq!(by_cookie.status(), StatusCode::FORBIDDEN);
}

#[test]
fn fields_with_another_use_are_refused() {
    for name in [
        "authorization",
        "cookie",
        "accept-language",
        "sec-fetch-site",
        "referer",
    ] {
        let error = HeaderTransport::new(name.parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
    }
}

/// C4.5
#[tokio::test]
async fn with_post_only_no_other_method_creates_a_session() {
    let settings = CookieSettings::new().post_only();
    let (store, app) = with(|layer| layer.cookie(settings.clone()));
    for method in ["GET", "PUT"] {
        let response = send(&app, request(method, "/count", "")).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{method}");
        assert_eq!(set_cookie(&response), None);
        let error = response.extensions().get::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::MissingClientId);
    }
    assert_eq!(page(&app, "/read", "").await, "0");
    let cookie = jar(&send(&app, request("POST", "/count", "")).await);
    assert_eq!(page(&app, "/count", &cookie).await, "2");
    // A session that has ended is none.
    page(&app, "/destroy", &cookie).await;
    assert_eq!(stored(&store, &cookie), None);
    assert_eq!(
        get_page(&app, "/count", "").await.status(),
        StatusCode::FORBIDDEN
    );
}

/// C4.5: a handler learns it from the write, and may answer as it likes.
#[tokio::test]
async fn with_post_only_the_first_write_fails() {
    type Write = fn(&Session) -> Result<(), Error>;
    const WRITES: [Write; 5] = [
        |s| s.pkg("a").insert("b", 1),
        |s| s.pkg("a").add("b", 1),
        |s| s.set_owner(Some("ann")),
        |s| s.log_in("ann").map(drop),
        |s| {
            s.rotate()?;
            s.pkg("a").insert("b", 1)
        },
    ];
    for (at, write) in WRITES.into_iter().enumerate() {
        let store = Store::in_memory().unwrap();
        let tells = move |session: Session| async move {
            let error = write(&session).unwrap_err();
            format!("{:?} {:?}", error.kind(), session.exists().unwrap())
        };
        let layer = SessionLayer::new(store.clone()).cookie(CookieSettings::new().post_only());
        let app = Router::new().route("/", get(tells)).layer(layer);
        let dead = store.client_ids().issue();
        let cookie = format!("__Host-{}={}", name_of(&store), dead.as_str());
        for cookie in ["", &cookie] {
            let response = get_page(&app, "/", cookie).await;
            assert_eq!(response.status(), StatusCode::OK, "{at}");
            assert_eq!(set_cookie(&response), None, "{at}");
            assert_eq!(text(response).await, "MissingClientId false", "{at}");
        }
    }
}

fn name_of(store: &Store) -> String {
    let name = store.identity().into_iter().take(4);
    let hex: String = name.map(|byte| format!("{byte:02x}")).collect();
    format!("id-{hex}")
}

/// C4.5: a transport of its own is not the cookie.
#[tokio::test]
async fn post_only_concerns_the_cookie_alone() {
    let settings = CookieSettings::new().post_only();
    let (_, app) = with(|layer| header(layer).cookie(settings.clone()));
    let response = get_with(&app, "/count", ("x-session-id", "new")).await;
    assert_eq!(response.status(), StatusCode::OK);
}

/// C4.3, C4.7: the cookie goes to the application's own paths, and is removed there.
#[tokio::test]
async fn the_cookie_has_the_path_at_which_its_router_is_nested() {
    use axum::extract::NestedPath;
    let mount = |request: &axum::http::request::Parts| {
        let path = request.extensions.get::<NestedPath>()?;
        Some(path.as_str().to_owned())
    };
    let settings = CookieSettings::new().name("sid").unwrap().path_from(mount);
    let (_, inner) = with(|layer| layer.cookie(settings.clone()));
    let app = Router::new().nest("/shop", inner.clone());
    let response = get_page(&app, "/shop/count", "").await;
    let sent = set_cookie(&response).unwrap();
    assert!(sent.starts_with("__Secure-sid="), "{sent}");
    assert!(sent.contains("Path=/shop"), "{sent}");
    let removed = get_page(&app, "/shop/destroy", &jar(&response)).await;
    let removed = set_cookie(&removed).unwrap();
    assert!(
        removed.contains("Path=/shop") && removed.contains("Max-Age=0"),
        "{removed}"
    );
    let sent = set_cookie(&get_page(&inner, "/count", "").await).unwrap();
    assert!(sent.ends_with("Path=/"), "{sent}");
}

/// C4.4
#[tokio::test]
async fn a_path_that_browsers_would_not_read_is_an_error() {
    for path in ["/a; Domain=b", "/{tenant}/shop"] {
        let odd = CookieSettings::new().path_from(|_| Some(path.to_owned()));
        let (_, app) = with(|layer| layer.cookie(odd.clone()));
        let response = get_page(&app, "/count", "").await;
        assert_eq!(set_cookie(&response), None);
        let error = response.extensions().get::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

/// C4.3: as the guide cuts it from the request's own path.
#[tokio::test]
async fn the_cookie_has_the_own_path_of_a_router_that_is_nested_under_a_parameter() {
    use axum::extract::{NestedPath, OriginalUri};
    let settings = CookieSettings::new().path_from(|request| {
        let pattern = request.extensions.get::<NestedPath>()?.as_str();
        let depth = pattern.matches('/').count();
        let path = request.extensions.get::<OriginalUri>()?.path();
        Some(
            path.split('/')
                .take(depth + 1)
                .collect::<Vec<_>>()
                .join("/"),
        )
    });
    let (_, inner) = with(|layer| layer.cookie(settings.clone()));
    let app = Router::new().nest("/{tenant}/shop", inner);
    let sent = set_cookie(&get_page(&app, "/acme/shop/count", "").await).unwrap();
    assert!(sent.contains("Path=/acme/shop"), "{sent}");
}

fn behind_a_front_server() -> (Clock, Store, Router) {
    let (clock, store, _) = timed();
    let cookie = CookieSettings::new().third_party("gate.visit").unwrap();
    let app = site(SessionLayer::new(store.clone()).cookie(cookie));
    (clock, store, app)
}

/// C4.5
#[tokio::test]
async fn the_cookie_of_a_front_server_is_the_id_and_no_cookie_is_ever_sent() {
    let (clock, _, app) = behind_a_front_server();
    let front = "gate.visit=front-server-7";
    for (path, told) in [("/count", "1"), ("/count", "2"), ("/destroy", "")] {
        let response = get_page(&app, path, front).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(set_cookie(&response), None, "{path}");
        assert_eq!(values(&response, header::VARY), ["Cookie"], "{path}");
        assert_eq!(text(response).await, told, "{path}");
    }
    assert_eq!(page(&app, "/read", front).await, "0");
    clock.advance(std::time::Duration::from_secs(11));
    assert_eq!(page(&app, "/count", front).await, "1");
    assert_eq!(page(&app, "/read", "gate.visit=front-server-8").await, "0");
}

/// C4.5
#[tokio::test]
async fn without_the_front_servers_cookie_nothing_is_stored() {
    let (_, store, app) = behind_a_front_server();
    let own = store.client_ids().issue();
    let own = format!("__Host-{}={}", name_of(&store), own.as_str());
    let long = format!("gate.visit={}", "a".repeat(257));
    for cookie in ["", &own, &long] {
        assert_eq!(page(&app, "/read", cookie).await, "0");
        let response = send(&app, request("POST", "/count", cookie)).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(set_cookie(&response), None);
        let error = response.extensions().get::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::MissingClientId);
    }
}

/// C4.5
#[tokio::test]
async fn the_front_servers_id_cannot_be_rotated() {
    let (_, _, app) = behind_a_front_server();
    page(&app, "/count", "gate.visit=7").await;
    let response = get_page(&app, "/rotate", "gate.visit=7").await;
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(page(&app, "/read", "gate.visit=7").await, "1");
}

/// C4.5, C4.8
#[tokio::test]
async fn with_existing_only_no_request_begins_a_session() {
    for front in [true, false] {
        let store = Store::in_memory().unwrap();
        let cookie = CookieSettings::new();
        let cookie = match front {
            true => cookie.third_party("gate.visit").unwrap(),
            false => cookie,
        };
        let id = match front {
            true => store.client_ids().adopt(b"7").unwrap(),
            false => store.client_ids().issue(),
        };
        let brought = match front {
            true => "gate.visit=7".to_owned(),
            false => format!("__Host-{}={}", name_of(&store), id.as_str()),
        };
        let app = site(SessionLayer::new(store.clone()).cookie(cookie.existing_only()));
        let refused = async |cookie: &str| {
            for method in ["GET", "POST"] {
                let response = send(&app, request(method, "/count", cookie)).await;
                assert_eq!(response.status(), StatusCode::FORBIDDEN);
                assert_eq!(set_cookie(&response), None);
                let error = response.extensions().get::<Error>().unwrap();
                assert_eq!(error.kind(), ErrorKind::MissingClientId);
                assert!(error.to_string().contains("existing_only"), "{error}");
            }
            assert_eq!(page(&app, "/read", cookie).await, "0");
        };
        refused("").await;
        refused(&brought).await;
        assert_eq!(store.container("").unwrap().statistics().unwrap().live, 0);

        let begin = |txn: &cloakroom::Txn| txn.session(&id)?.pkg(PACKAGE).insert("count", 1);
        store.transact(begin).unwrap();
        assert_eq!(page(&app, "/count", &brought).await, "2");
        page(&app, "/destroy", &brought).await;
        refused(&brought).await;
    }
}

/// C4.5, C4.8: a request that has ended its session has none, and begins none.
#[tokio::test]
async fn a_request_that_ended_its_session_may_not_begin_one() {
    type End = fn(&Session) -> Result<(), Error>;
    const ENDS: [End; 5] = [
        |s| s.destroy(),
        |s| s.log_out(),
        |s| s.rotate().and_then(|_| s.destroy()),
        |s| s.destroy().and_then(|()| s.rotate().map(drop)),
        |s| s.data("")?.destroy(),
    ];
    let cookie = CookieSettings::new();
    for cookie in [cookie.clone().post_only(), cookie.existing_only()] {
        for (at, end) in ENDS.into_iter().enumerate() {
            let store = Store::in_memory().unwrap();
            let id = store.client_ids().issue();
            let begin = |txn: &cloakroom::Txn| txn.session(&id)?.set_owner(Some("ann"));
            store.transact(begin).unwrap();
            let jar = format!("__Host-{}={}", name_of(&store), id.as_str());
            let tells = move |session: Session| async move {
                end(&session).unwrap();
                let error = session.pkg(PACKAGE).insert("count", 1).unwrap_err();
                format!("{:?} {:?}", error.kind(), session.exists().unwrap())
            };
            let layer = SessionLayer::new(store.clone()).cookie(cookie.clone());
            let app = Router::new().route("/", get(tells)).layer(layer);
            assert_eq!(page(&app, "/", &jar).await, "MissingClientId false", "{at}");
            let live = store.container("").unwrap().statistics().unwrap().live;
            assert_eq!(live, 0, "{at}");
        }
    }
}

/// C4.5
#[test]
fn a_front_servers_cookie_has_a_name_that_http_allows() {
    for name in ["", "a b", "a=b", "a;b", "é", &"a".repeat(257)] {
        let error = CookieSettings::new().third_party(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
    }
    assert!(CookieSettings::new().third_party("connect.sid").is_ok());
}

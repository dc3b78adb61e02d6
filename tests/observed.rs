//! C1.6, C8.9: what logs, spans and metrics tell of a store in which everything happens, on all of its threads: never an
//! id, a value, an owner or a label. Alone in its process, because it sets what is global.
#![cfg(feature = "axum")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, header};
use axum::routing::{any, post};
use cloakroom::http::{CsrfLayer, SessionLayer};
use cloakroom::{Clock, Error, ErrorKind, Session, Store, Txn};
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName};
use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// What was told so far.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<String>>);

impl Book {
    fn note(&self, line: &str) {
        writeln!(self.0.lock().unwrap(), "{line}").unwrap();
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

/// Notes every span and every line of the crate, at every level.
impl Subscriber for Book {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("cloakroom")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields(format!("span {}", span.metadata().name()));
        span.record(&mut fields);
        self.note(&fields.0);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut fields = Fields("record".to_owned());
        values.record(&mut fields);
        self.note(&fields.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(event.metadata().level().to_string());
        event.record(&mut fields);
        self.note(&fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A metric, whose values are noted.
struct Noted(Book, String);

impl CounterFn for Noted {
    fn increment(&self, value: u64) {
        self.0.note(&format!("metric {} +{value}", self.1));
    }

    fn absolute(&self, _: u64) {
        unreachable!("counters are counted up");
    }
}

impl GaugeFn for Noted {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.0.note(&format!("metric {} ={value}", self.1));
    }
}

impl HistogramFn for Noted {
    fn record(&self, value: f64) {
        self.0.note(&format!("metric {} :{value}", self.1));
    }
}

impl Book {
    fn noted(&self, key: &Key) -> Arc<Noted> {
        let labels: Vec<_> = key.labels().map(|it| (it.key(), it.value())).collect();
        Arc::new(Noted(self.clone(), format!("{} {labels:?}", key.name())))
    }

    fn describe(&self, name: &KeyName, unit: Option<metrics::Unit>) {
        assert!(unit.is_some(), "{name:?}");
        self.note(&format!("described {}", name.as_str()));
    }
}

impl metrics::Recorder for Book {
    fn describe_counter(
        &self,
        name: KeyName,
        unit: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
        self.describe(&name, unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<metrics::Unit>, _: metrics::SharedString) {
        self.describe(&name, unit);
    }

    fn describe_histogram(
        &self,
        name: KeyName,
        unit: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
        self.describe(&name, unit);
    }

    fn register_counter(&self, key: &Key, _: &metrics::Metadata<'_>) -> Counter {
        Counter::from_arc(self.noted(key))
    }

    fn register_gauge(&self, key: &Key, _: &metrics::Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.noted(key))
    }

    fn register_histogram(&self, key: &Key, _: &metrics::Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.noted(key))
    }
}

const VALUE: &str = "value-5fd1";
const OWNER: &str = "owner-77c2";
const LABEL: &str = "label-a3e9";
const SECRET: [u8; 32] = *b"secret-8812-secret-8812-secret-8";

struct Refusing;

impl serde::Serialize for Refusing {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(VALUE))
    }
}

async fn log_in(session: Session) -> Result<String, Error> {
    session.set_label(LABEL)?;
    session.pkg("app").insert("name", VALUE)?;
    session.log_in(OWNER)?;
    session.commit_now().await?;
    let id = session.client_id().unwrap();
    Ok(id.as_str().to_owned())
}

/// Answers with each of the errors that name places.
async fn fail(session: Session, kind: String) -> Result<(), Error> {
    let app = session.pkg("app");
    match &*kind {
        "type" => app.get::<u32>("name").map(drop),
        "serialize" => app.insert("bad", Refusing),
        "large" => app.insert("large", VALUE.repeat(200_000)),
        "sum" => {
            app.insert("text", VALUE)?;
            app.add("text", 1)
        }
        _ => app.insert("name", format!("{VALUE}{VALUE}")),
    }
}

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

/// Requests of visitors, well-behaved and others. Returns the ids that were in use.
async fn visit(store: &Store, clock: &Clock) -> Vec<String> {
    let layer = SessionLayer::new(store.clone());
    let others = store.clone();
    let conflict = move |session: Session| async move {
        let id = session.client_id().unwrap();
        session.pkg("app").get::<u32>("n")?;
        let add = move |txn: &Txn| txn.session(&id)?.pkg("app").add("n", 1);
        tokio::task::spawn_blocking(move || others.transact(add))
            .await
            .unwrap()?;
        session.pkg("app").insert("n", 1)
    };
    let read = |session: Session| async move { session.pkg("app").len().map(|_| "read") };
    let app = Router::new()
        .route("/login", any(log_in))
        .route("/read", any(read))
        .route("/fail", any(fail))
        .route("/conflict", any(conflict))
        .route("/form", post(|_: Session| async {}).layer(CsrfLayer::new()))
        .route("/logout", any(|it: Session| async move { it.log_out() }))
        .layer(layer);
    let mut cookies = Vec::new();
    for _ in 0..3 {
        cookies.push(jar(&send(&app, request("GET", "/login", "", "")).await));
    }
    let cookie = cookies[0].clone();
    for kind in ["type", "serialize", "large", "sum", "fine"] {
        send(&app, request("PUT", "/fail", &cookie, kind)).await;
    }
    let lost = send(&app, request("GET", "/conflict", &cookie, "")).await;
    assert_eq!(
        lost.extensions().get::<Error>().map(Error::kind),
        Some(ErrorKind::Conflict)
    );
    send(&app, request("POST", "/form", &cookie, "")).await;
    send(&app, request("GET", "/read", &cookie, "")).await;
    clock.advance(Duration::from_secs(1200));
    // Accesses that the next commit writes.
    for cookie in &cookies {
        send(&app, request("GET", "/read", cookie, "")).await;
    }
    let forged = cookie.replace(|c: char| c.is_ascii_digit(), "x");
    for bad in [&forged, "nothing", &cookie[..cookie.len() - 3]] {
        send(&app, request("GET", "/read", bad, "")).await;
    }
    send(&app, request("GET", "/logout", &cookie, "")).await;
    send(&app, request("PUT", "/fail", &cookie, "fine")).await;
    let ids = cookies.iter().map(|it| it.split_once('=').unwrap().1);
    let mut ids: Vec<_> = ids.map(str::to_owned).collect();
    #[cfg(feature = "cookie-containers")]
    ids.extend(keep_in_cookies(store, &cookies[1]).await);
    ids
}

/// A visitor with a container in a cookie, and with a garbled one. Returns what the cookie holds.
#[cfg(feature = "cookie-containers")]
async fn keep_in_cookies(store: &Store, id: &str) -> Option<String> {
    let settings = cloakroom::ContainerSettings::new().cookie();
    store.register("seen", settings).unwrap();
    let put = |session: Session| async move { session.pkg("seen").insert("page", VALUE) };
    let layer = SessionLayer::new(store.clone());
    let app = Router::new().route("/seen", any(put)).layer(layer);
    let kept = jar(&send(&app, request("GET", "/seen", id, "")).await);
    let (name, sealed) = kept.split_once('=').unwrap();
    let garbled = format!("{id}; {name}={}x", &sealed[1..]);
    send(&app, request("GET", "/seen", &garbled, "")).await;
    Some(sealed.to_owned())
}

/// What is done to the store without requests.
fn administer(store: &Store, clock: &Clock) {
    let id = store.client_ids().issue();
    let insert = |n: u32| {
        let id = id.clone();
        move |txn: &Txn| txn.session(&id)?.pkg("app").insert("n", n)
    };
    store.transact(insert(1)).unwrap();
    // Loses a conflict, and runs again.
    let mut others = vec![2];
    store
        .transact(|txn| {
            let app = txn.session(&id)?.pkg("app");
            let n: Option<u32> = app.get("n")?;
            if let Some(n) = others.pop() {
                store.transact(insert(n))?;
            }
            app.insert("n", n.unwrap_or(0) + 1)
        })
        .unwrap();
    let devices = store.sessions_of(OWNER).unwrap();
    store.end(devices[0].client).unwrap();
    store.end_all_of(OWNER).unwrap();
    store.rotate_secret().unwrap();
    store.checkpoint().unwrap();
    clock.advance(Duration::from_secs(7200));
    assert_eq!(store.container("").unwrap().sweep().unwrap().removed, 1);
    store.check().unwrap();
}

/// C1.6, C8.9
#[tokio::test]
async fn nothing_tells_an_id_a_value_an_owner_or_a_label() {
    let book = Book::default();
    tracing::subscriber::set_global_default(book.clone()).unwrap();
    metrics::set_global_recorder(book.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(chrono::DateTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let open = || {
        let builder = Store::builder().clock(clock.clone()).max_attempts(1);
        builder.implicit_sweeps(false).on_ended(|_| {})
    };
    let path = folder.path().join("sessions.redb");
    let store = open().max_attempts(2).open(&path).unwrap();
    let mut ids = Vec::new();
    {
        let own = open().open(folder.path().join("own.redb")).unwrap();
        ids.extend(visit(&own, &clock).await);
    }
    ids.extend(log_in_without_requests(&store).await);
    tokio::task::spawn_blocking(move || {
        administer(&store, &clock);
        store.close().unwrap();
    })
    .await
    .unwrap();
    let own = Store::builder().secret(SECRET).in_memory().unwrap();
    ids.push(own.client_ids().issue().as_str().to_owned());
    drop(own);

    let text = book.text();
    for told in [VALUE, OWNER, LABEL, "secret-8812"] {
        let line = text.lines().find(|line| line.contains(told));
        assert_eq!(line, None, "{told}");
    }
    for id in ids {
        let line = text.lines().find(|line| line.contains(&id[..20]));
        assert_eq!(line, None, "an id");
    }
    everything_was_told(&text);
}

/// Sessions of the owner, for the administration.
async fn log_in_without_requests(store: &Store) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = store.client_ids().issue();
        let log_in = |txn: Txn| {
            let logged_in = txn.session(&id).and_then(|it| it.log_in(OWNER));
            std::future::ready(logged_in)
        };
        let id = store.transact_async(log_in).await.unwrap();
        ids.push(id.as_str().to_owned());
    }
    ids
}

/// The search would find nothing in nothing.
fn everything_was_told(text: &str) {
    let names = |opening: &str| -> BTreeSet<&str> {
        let told = text.lines().filter_map(|line| line.strip_prefix(opening));
        told.map(|rest| rest.split(' ').next().unwrap()).collect()
    };
    let spans = ["batch", "checkpoint", "commit", "sweep"].map(|it| format!("cloakroom.{it}"));
    let spans: Vec<_> = spans.iter().map(String::as_str).collect();
    let described = names("described ");
    let mut recorded = names("metric ");
    if std::env::var_os("CLOAKROOM_TEST_ENGINE").is_some() {
        // Another engine has no journal and no checkpoints to tell of.
        assert!(names("span ").is_superset(&["cloakroom.commit", "cloakroom.sweep"].into()));
        assert!(
            recorded.is_subset(&described) && recorded.len() > 5,
            "{recorded:?}"
        );
        return;
    }
    assert_eq!(names("span ").into_iter().collect::<Vec<_>>(), spans);
    // Its test is that of the queue.
    recorded.insert("cloakroom_events_dropped_total");
    #[cfg(not(feature = "cookie-containers"))]
    recorded.insert("cloakroom_refused_container_cookies_total");
    assert_eq!(recorded, described);
    for kind in ["TypeMismatch", "NotSerializable", "TooLarge", "Conflict"] {
        assert!(text.contains(kind), "{kind}");
    }
}

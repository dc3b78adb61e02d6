//! Each change is kept with who and what, or is not made (C9.3).

use crate::session;
use crate::support::{BASE, Pages};
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use cloakroom::{ContainerSettings, Store};
use cloakroom_admin::{Access, Admin, AuditLog};
use serde_json::Value;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tracing::field::{Field, Visit};

/// A disk that is full after some lines.
#[derive(Clone, Default)]
struct Disk {
    left: Arc<Mutex<usize>>,
    lines: Arc<Mutex<Vec<u8>>>,
}

impl Disk {
    fn with_room_for(lines: usize) -> Self {
        let disk = Self::default();
        *disk.left.lock().unwrap() = lines;
        disk
    }

    fn entries(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap().clone();
        let lines = String::from_utf8(lines).unwrap();
        let lines = lines.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl io::Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut left = self.left.lock().unwrap();
        *left = (left.checked_sub(1)).ok_or(io::ErrorKind::StorageFull)?;
        self.lines.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The pages of this store for one administrator.
fn pages(store: Store, who: &'static str, log: AuditLog) -> Pages {
    let access = move |_: &axum::http::request::Parts| async move { Access::all(who) };
    Pages::of(store.clone(), Admin::new(store, access).audit_log(log))
}

/// Everything that the pages can change.
fn state(store: &Store) -> (Vec<String>, Vec<u8>, Vec<ContainerSettings>) {
    let sessions = store.sessions_of("dora").unwrap();
    let containers = store.containers().into_iter();
    (
        sessions.iter().map(|it| it.client.to_string()).collect(),
        store.secrets().unwrap().iter().map(|it| it.name).collect(),
        containers.map(|it| it.settings().unwrap()).collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_kept_is_not_made() {
    let store = Store::in_memory().unwrap();
    let key = session(&store, "dora");
    store.rotate_secret().unwrap();
    let other = Store::in_memory().unwrap();
    session(&other, "dora");
    let mut lines = Vec::new();
    other.export(&mut lines).unwrap();
    let disk = Disk::with_room_for(0);
    let pages = pages(store, "ann", AuditLog::to_writer(disk.clone()));
    let before = state(&pages.store);
    let older = before.1[0];
    let changes = [
        (format!("/sessions/{key}/end"), String::new()),
        ("/owners/end".to_owned(), "owner=dora".to_owned()),
        (
            "/containers/edit".to_owned(),
            "name=&timeout=30m".to_owned(),
        ),
        ("/maintenance/rotate-secret".to_owned(), String::new()),
        (
            "/maintenance/secrets/retire".to_owned(),
            format!("number={older}&confirm=yes"),
        ),
        ("/maintenance/end-all".to_owned(), String::new()),
        ("/maintenance/sweep".to_owned(), String::new()),
        ("/maintenance/check".to_owned(), String::new()),
        ("/maintenance/checkpoint".to_owned(), String::new()),
        ("/maintenance/backup".to_owned(), String::new()),
        ("/maintenance/export".to_owned(), String::new()),
        (
            format!("/sessions/{key}/values"),
            "container=&package=cart".to_owned(),
        ),
    ];
    for (path, fields) in changes {
        let answer = pages.post("ann", &path, &fields).await;
        assert_eq!(
            answer.status,
            StatusCode::INSUFFICIENT_STORAGE,
            "{path}: {}",
            answer.text
        );
        assert!(
            answer.text.contains("Nothing was done"),
            "{path}: {}",
            answer.text
        );
        assert!(
            answer.text.contains("Free space"),
            "{path}: {}",
            answer.text
        );
    }
    let token = pages
        .get("ann", "/containers/edit?name=")
        .await
        .form_token();
    let import = Request::post(format!("{BASE}/maintenance/import?form_token={token}"));
    let answer = pages
        .send(import, std::str::from_utf8(&lines).unwrap())
        .await;
    assert_eq!(
        answer.status,
        StatusCode::INSUFFICIENT_STORAGE,
        "{}",
        answer.text
    );
    assert_eq!(state(&pages.store), before);
    let tasks = pages.json("ann", "/maintenance").await.json();
    assert_eq!(tasks["tasks"], serde_json::json!([]));
    // What was refused is in memory, and the overview tells why.
    let refused = pages.json("ann", "/audit").await.json();
    let refused = refused["entries"].as_array().unwrap();
    assert_eq!(refused.len(), 13);
    assert!(
        refused
            .iter()
            .all(|it| it["failed"] == true && it["ended"] == true)
    );
    assert!(
        pages
            .get("ann", "")
            .await
            .text
            .contains("The audit log cannot be written")
    );
    assert_eq!(disk.entries(), Vec::<Value>::new());

    // It goes on by itself.
    *disk.left.lock().unwrap() = 2;
    pages
        .post("ann", "/owners/end", "owner=dora")
        .await
        .location();
    assert!(pages.store.sessions_of("dora").unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_outcome_alone_cannot_be_kept_is_told() {
    let disk = Disk::with_room_for(1);
    let store = Store::in_memory().unwrap();
    session(&store, "dora");
    let pages = pages(store, "ann", AuditLog::to_writer(disk.clone()));
    let answer = pages.post("ann", "/owners/end", "owner=dora").await;
    assert_eq!(answer.status, StatusCode::INSUFFICIENT_STORAGE);
    assert!(answer.text.contains("It was done"), "{}", answer.text);
    assert!(pages.store.sessions_of("dora").unwrap().is_empty());
    // Who and what are kept.
    let kept = &disk.entries()[0];
    assert_eq!(
        (&kept["who"], &kept["subject"]),
        (&"ann".into(), &"dora".into())
    );
    assert_eq!(
        (&kept["outcome"], &kept["ended"]),
        (&"begun".into(), &false.into())
    );

    // An import also tells what it has done.
    let other = Store::in_memory().unwrap();
    session(&other, "emil");
    let mut lines = Vec::new();
    other.export(&mut lines).unwrap();
    *disk.left.lock().unwrap() = 1;
    let token = pages
        .get("ann", "/containers/edit?name=")
        .await
        .form_token();
    let import = Request::post(format!("{BASE}/maintenance/import?form_token={token}"));
    let import = import.header("accept", "application/json");
    let answer = pages
        .send(import, std::str::from_utf8(&lines).unwrap())
        .await;
    assert_eq!(answer.status, StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(answer.json()["imported"]["sessions"], 1, "{}", answer.text);
    assert_eq!(pages.store.sessions_of("emil").unwrap().len(), 1);

    // A task tells it with its outcome.
    *disk.left.lock().unwrap() = 2;
    let path = pages.post("ann", "/maintenance/sweep", "").await;
    let path = path.location().strip_prefix(BASE).unwrap().to_owned();
    for _ in 0..2000 {
        let task = pages.json("ann", &path).await.json();
        if !task["ended"].is_null() {
            let outcome = task["outcome"].as_str().unwrap();
            assert!(
                outcome.ends_with("cannot be kept in the audit log"),
                "{outcome}"
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the sweep does not end");
}

/// What the events of the audit log say, of all tests of this program.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Said>>>);

/// The fields of an event and their values.
type Said = Vec<(String, String)>;

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "cloakroom_admin::audit"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(Said);
        impl Visit for Fields {
            fn record_str(&mut self, field: &Field, value: &str) {
                self.0.push((field.name().to_owned(), value.to_owned()));
            }
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.0.push((field.name().to_owned(), format!("{value:?}")));
            }
        }
        let mut fields = Fields(Vec::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_an_event_with_who_and_what() {
    let events = Events::default();
    tracing::subscriber::set_global_default(events.clone()).unwrap();
    let store = Store::in_memory().unwrap();
    let key = session(&store, "dora");
    let pages = pages(store, "tess", AuditLog::in_memory());
    pages
        .post(
            "tess",
            &format!("/sessions/{key}/values"),
            "container=&package=cart",
        )
        .await;
    pages
        .post("tess", "/containers/edit", "name=&timeout=30m")
        .await;
    pages
        .post("tess", &format!("/sessions/{key}/end"), "")
        .await;
    pages.post("tess", "/owners/end", "owner=emil").await;
    let told = events.0.lock().unwrap().clone();
    let field = |event: &Said, name: &str| {
        let found = event.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let told = told.iter().filter(|event| field(event, "who") == "tess");
    let told: Vec<_> = told
        .map(|event| ["action", "subject", "outcome"].map(|name| field(event, name)))
        .collect();
    let expected = [
        [
            "show values".to_owned(),
            format!("{key}, container “”, package “cart”"),
            "shown".to_owned(),
        ],
        [
            "configure container".to_owned(),
            String::new(),
            "timeout from 1h to 30m".to_owned(),
        ],
        [
            "end session".to_owned(),
            key.to_string(),
            "ended".to_owned(),
        ],
        [
            "end sessions of owner".to_owned(),
            "emil".to_owned(),
            "0 sessions ended".to_owned(),
        ],
    ];
    assert_eq!(told, expected);
}

/// A content that does not end, and is no export.
struct Endless;

impl futures_core::Stream for Endless {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(Bytes::from_static(&[b'\n'; 1 << 16]))))
    }
}

// C9.4
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_fails_does_not_read_on_for_ever() {
    let pages = pages(Store::in_memory().unwrap(), "ann", AuditLog::in_memory());
    let token = pages
        .get("ann", "/containers/edit?name=")
        .await
        .form_token();
    for content in [Body::from_stream(Endless), Body::from("{\n".repeat(3))] {
        let path = format!("{BASE}/maintenance/import?form_token={token}");
        let request = Request::post(path).body(content).unwrap();
        let importing = tokio::time::timeout(Duration::from_secs(60), pages.answer(request));
        let answer = importing.await.expect("the import reads on");
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
        // The turn is free.
        assert!(
            !pages
                .download("ann", "/maintenance/export")
                .await
                .is_empty()
        );
    }
    let log = pages.json("ann", "/audit").await.json();
    let imports = log["entries"].as_array().unwrap().iter();
    let imports = imports.filter(|it| it["action"] == "import" && it["failed"] == true);
    assert_eq!(imports.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_and_taken_is_shown_with_its_result() {
    let pages = pages(Store::in_memory().unwrap(), "ann", AuditLog::in_memory());
    for _ in 0..3 {
        session(&pages.store, "dora");
    }
    let lines = pages.download("ann", "/maintenance/export").await;
    let token = pages.get("ann", "/maintenance").await.form_token();
    let import = Request::post(format!(
        "{BASE}/maintenance/import?on_duplicate=skip&form_token={token}"
    ));
    let lines = std::str::from_utf8(&lines).unwrap();
    assert_eq!(pages.send(import, lines).await.status, StatusCode::OK);
    let page = pages.json("ann", "/maintenance").await.json();
    let tasks = page["tasks"].as_array().unwrap().iter();
    let outcomes: Vec<_> = tasks
        .map(|it| {
            (
                it["work"].as_str().unwrap(),
                it["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("import", "0 sessions, 3 skipped"),
        ("export", "3 sessions, 0 damaged parts"),
    ];
    assert_eq!(outcomes, expected);
}

// C9.4
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_shows_its_progress_and_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    for _ in 0..40 {
        let ids: Vec<_> = (0..20).map(|_| store.client_ids().issue()).collect();
        let founded: cloakroom::Result<()> = store.transact(|txn| {
            for id in &ids {
                txn.session(id)?
                    .pkg("cart")
                    .insert("note", "x".repeat(8000))?;
            }
            Ok(())
        });
        founded.unwrap();
    }
    let pages = pages(store, "ann", AuditLog::in_memory());
    let token = pages.get("ann", "/maintenance").await.form_token();
    let request = Request::post(format!("{BASE}/maintenance/backup"))
        .header("content-type", "application/x-www-form-urlencoded");
    let request = request.body(Body::from(format!("form_token={token}")));
    // The client reads nothing yet.
    let response = pages.response(request.unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let page = pages.json("ann", "/maintenance").await.json();
    let task = &page["tasks"][0];
    let seen = (&task["work"], &task["can_stop"], &task["ended"]);
    assert_eq!(seen, (&"backup".into(), &true.into(), &Value::Null));
    let followed = pages.get("ann", "/maintenance/tasks/1").await.text;
    assert!(followed.contains("Running since"), "{followed}");
    pages
        .post("ann", "/maintenance/tasks/1/stop", "")
        .await
        .location();
    let rest = axum::body::to_bytes(response.into_body(), usize::MAX);
    let rest = tokio::time::timeout(Duration::from_secs(60), rest).await;
    rest.expect("the backup goes on").unwrap_err();
    let task = pages.json("ann", "/maintenance/tasks/1").await.json();
    assert_eq!(
        (&task["failed"], &task["stopped"]),
        (&true.into(), &true.into())
    );
    let log = pages.json("ann", "/audit").await.json();
    let told: Vec<_> = (log["entries"].as_array().unwrap().iter())
        .map(|it| {
            (
                it["action"].as_str().unwrap(),
                it["failed"].as_bool().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("backup", true),
        ("stop work", false),
        ("start backup", false),
    ];
    assert_eq!(told, expected);
}

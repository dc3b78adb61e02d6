//! What opening a store logs: a person reads it, so it is true, and said once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom::{Store, StoreBuilder};
use std::fmt::{Debug, Write};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps what is logged, from INFO on, by the thread that it is set for.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("cloakroom")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => write!(self.0, " {value:?}").unwrap(),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

/// The lines that opening a store writes, which is then closed.
fn logged(builder: StoreBuilder, path: &Path) -> Vec<String> {
    let log = Log::default();
    let store = tracing::subscriber::with_default(log.clone(), || builder.open(path).unwrap());
    store.close().unwrap();
    log.0.lock().unwrap().clone()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

// C7.2
#[test]
fn a_new_store_logs_once_that_it_was_made() {
    let folder = folder();
    let path = folder.path().join("sessions.redb");
    let made = logged(Store::builder(), &path);
    let expected = format!("INFO a new store was made path={}", path.display());
    assert_eq!(made, [expected]);
    assert_eq!(logged(Store::builder(), &path), [""; 0]);
}

// C7.2
#[test]
fn a_migration_is_logged_once_from_where_to_where() {
    let folder = folder();
    let path = folder.path().join("sessions.redb");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1.redb");
    fs::copy(fixture, &path).unwrap();
    let lines = logged(Store::builder(), &path);
    assert_eq!(lines, ["INFO the store was migrated from=1 to=2"]);
    assert_eq!(logged(Store::builder(), &path), [""; 0]);
}

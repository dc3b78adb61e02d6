//! C6.5: what the log tells of errors that become responses: each once, and never an id or a value.

use super::support::log::Lines;
use super::*;
use cloakroom::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{Level, Metadata};

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, String)>>>);

impl Log {
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let lines = log.0.clone();
        let is_ours = |metadata: &Metadata<'_>| metadata.target().starts_with("cloakroom");
        let keep = move |level, line| lines.lock().unwrap().push((level, line));
        (log, set_default(Lines::of(is_ours, keep)))
    }

    /// The lines so far; the next ask gets what comes after.
    fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Those that tell of answers.
    fn answers(&self) -> Vec<(Level, String)> {
        let mut lines = self.take();
        lines.retain(|(_, line)| line.contains("answered with an error"));
        lines
    }
}

/// The issue's own example: 500, an empty body, and no line at all.
#[tokio::test]
async fn an_error_that_a_handler_returns_is_logged_once() {
    let store = Store::in_memory().unwrap();
    let mistyped = |session: Session| async move {
        let visits = session.pkg(PACKAGE);
        visits.insert("name", "s3cr3t")?;
        visits.get::<u32>("name").map(|_| "never")
    };
    let app = Router::new()
        .route("/", get(mistyped))
        .layer(SessionLayer::new(store));
    let (log, _guard) = Log::start();
    let response = get_page(&app, "/", "").await;
    assert_eq!(response.status(), 500);
    let lines = log.answers();
    let [(Level::ERROR, line)] = &lines[..] else {
        panic!("{lines:?}");
    };
    for told in ["TypeMismatch", PACKAGE, "name", "container=\"\""] {
        assert!(line.contains(told), "{told}: {line}");
    }
    assert!(!line.contains("s3cr3t"), "{line}");
}

#[tokio::test]
async fn a_commit_that_fails_is_logged_once_and_tells_no_value_and_no_id() {
    struct Refusing;
    impl serde::Serialize for Refusing {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("s3cr3t"))
        }
    }
    let store = Store::in_memory().unwrap();
    let refusing = |session: Session| async move {
        session.pkg(PACKAGE).insert("bad\nkey", Refusing)?;
        Ok::<_, Error>("saved")
    };
    let app = Router::new()
        .route("/bad", get(refusing))
        .route("/count", get(counter))
        .layer(SessionLayer::new(store));
    let cookie = visitor(&app).await;
    let (log, _guard) = Log::start();
    get_page(&app, "/bad", &cookie).await;
    let all = log.take();
    let told: Vec<_> = all
        .iter()
        .filter(|(_, line)| line.contains("NotSerializable"))
        .collect();
    let [(Level::ERROR, line)] = &told[..] else {
        panic!("{all:?}");
    };
    assert!(
        line.contains(PACKAGE) && line.contains("bad\\nkey"),
        "{line}"
    );
    let all = format!("{all:?}");
    assert!(
        !all.contains("s3cr3t") && !all.contains(halves(&cookie).1),
        "{all}"
    );
}

#[tokio::test]
async fn refusals_of_one_kind_are_told_once_a_second() {
    let store = Store::builder().max_new_sessions(0, Duration::from_secs(1));
    let app = site(SessionLayer::new(store.in_memory().unwrap()));
    let (log, _guard) = Log::start();
    let begun = std::time::Instant::now();
    for _ in 0..200 {
        let refused = get_page(&app, "/count", "").await;
        let error = refused.extensions().get::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    let lines = log.answers();
    let most = begun.elapsed().as_secs() as usize + 1;
    assert!((1..=most).contains(&lines.len()), "{lines:?}");
    assert!(lines.iter().all(|(level, _)| *level == Level::WARN));
}

/// What a visitor brings about at will is there for whoever looks for it.
#[tokio::test]
async fn what_visitors_cause_is_no_warning() {
    let store = Store::in_memory().unwrap();
    let much = |session: Session| async move { session.pkg(PACKAGE).insert(&"k".repeat(9999), 1) };
    let app = Router::new()
        .route("/", get(much))
        .layer(SessionLayer::new(store));
    let (log, _guard) = Log::start();
    assert_eq!(get_page(&app, "/", "").await.status(), 413);
    let lines = log.answers();
    let [(Level::DEBUG, line)] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert!(line.len() < 500, "{line}");
}

/// So is a logout in another window.
#[tokio::test]
async fn that_a_session_has_ended_is_no_failure() {
    let store = Store::in_memory().unwrap();
    let ends = |session: Session| async move {
        session.pkg(PACKAGE).insert("n", 1)?;
        let handle = session.handle()?;
        handle
            .transact(|session| session.pkg(PACKAGE).len())
            .map(|n| n.to_string())
    };
    let app = Router::new()
        .route("/", get(ends))
        .layer(SessionLayer::new(store));
    let (log, _guard) = Log::start();
    assert_eq!(get_page(&app, "/", "").await.status(), 500);
    let lines = log.answers();
    assert!(
        matches!(&lines[..], [(Level::DEBUG, line)] if line.contains("SessionEnded")),
        "{lines:?}"
    );
}

/// Also where no layer lies around the route.
#[tokio::test]
async fn a_missing_layer_is_logged() {
    let app = Router::new().route("/", get(counter));
    let (log, _guard) = Log::start();
    get_page(&app, "/", "").await;
    let lines = log.answers();
    assert!(matches!(&lines[..], [(Level::ERROR, line)] if line.contains("NoSessionLayer")));
}

//! C6.5: what the log tells of errors that become responses: each once, and never an id or a value.

use super::support::log::Lines;
use super::*;
use axum::middleware::map_response;
use cloakroom::ErrorKind;
use cloakroom::http::session;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::Layer as _;
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{Level, Metadata};

/// The log of this thread.
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

async fn mistyped(session: Session) -> Result<&'static str, Error> {
    let visits = session.pkg(PACKAGE);
    visits.insert("name", "s3cr3t")?;
    visits.get::<u32>("name").map(|_| "never")
}

/// The issue's own example: 500, an empty body, and no line at all.
#[tokio::test]
async fn an_error_that_a_handler_returns_is_logged_once() {
    let store = Store::in_memory().unwrap();
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

/// Events that a visitor can cause at will are logged below warnings.
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

/// Loses a conflict against another transaction.
fn lose(store: &Store) -> Result<(), Error> {
    let id = store.client_ids().issue();
    store.transact(|txn| count(&txn.session(&id)?).map(drop))?;
    let own = store.begin()?;
    count(&own.session(&id)?)?;
    interfere(store, &id, 100);
    own.commit()
}

/// The response of an attempt that runs again is not sent.
#[tokio::test]
async fn of_a_request_that_runs_again_only_what_is_sent_is_logged() {
    let store = Store::builder().max_attempts(3).in_memory().unwrap();
    let (runs, losses) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let run = {
        let (store, runs, losses) = (store.clone(), runs.clone(), losses.clone());
        move || match runs.fetch_add(1, Ordering::SeqCst) < losses.load(Ordering::SeqCst) {
            true => lose(&store),
            false => Ok(()),
        }
    };
    let of_handler = run.clone();
    let handler = move |_: Session| std::future::ready(of_handler());
    // The layer makes the response.
    let service = tower::service_fn(move |request: Request<Body>| {
        let run = run.clone();
        async move {
            session(request.extensions()).await.unwrap();
            Ok::<_, Infallible>(run())
        }
    });
    let layer = SessionLayer::new(store);
    let app = Router::new().route("/", get(handler)).layer(layer.clone());
    let (log, _guard) = Log::start();

    losses.store(2, Ordering::SeqCst);
    assert_eq!(get_page(&app, "/", "").await.status(), 200);
    assert_eq!(runs.swap(0, Ordering::SeqCst), 3);
    let response = layer.layer(service).oneshot(request("GET", "/", "")).await;
    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(runs.swap(0, Ordering::SeqCst), 3);
    assert_eq!(log.answers(), []);

    losses.store(u32::MAX, Ordering::SeqCst);
    assert_eq!(get_page(&app, "/", "").await.status(), 503);
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    let lines = log.answers();
    assert!(
        matches!(&lines[..], [(Level::DEBUG, line)] if line.contains("Conflict")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn an_error_in_whose_place_another_is_sent_is_not_logged() {
    let layer = SessionLayer::new(Store::in_memory().unwrap());
    let app = Router::new()
        .route("/", get(mistyped))
        .layer(layer.commit_when(|_| true).admit_new(|_| false));
    let (log, _guard) = Log::start();
    assert_eq!(get_page(&app, "/", "").await.status(), 429);
    let lines = log.answers();
    assert!(
        matches!(&lines[..], [(Level::DEBUG, line)] if line.contains("NotAdmitted")),
        "{lines:?}"
    );
}

/// An application that renders its errors may take the response apart.
#[tokio::test]
async fn an_error_is_logged_once_whatever_a_layer_inside_makes_of_its_response() {
    let render = map_response(async |mut response: Response<Body>| {
        *response.body_mut() = Body::from("sorry");
        response
    });
    let replace = map_response(async |_: Response<Body>| "sorry");
    let app = Router::new()
        .route("/rendered", get(mistyped).layer(render))
        .route("/replaced", get(mistyped).layer(replace))
        .layer(SessionLayer::new(Store::in_memory().unwrap()));
    let (log, _guard) = Log::start();
    for path in ["/rendered", "/replaced"] {
        let response = get_page(&app, path, "").await;
        assert_eq!(log.answers().len(), 1, "{path}");
        assert_eq!(text(response).await, "sorry");
    }
    assert_eq!(log.answers(), []);
}

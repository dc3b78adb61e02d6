//! C6.2: which requests run again after a conflict, and what they find the second time.

use super::*;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, MatchedPath, Request as Incoming, State};
use axum::http::StatusCode;
use axum::routing::{MethodRouter, any, put};
use cloakroom::ErrorKind;
use cloakroom::http::Rerun;
use http_body::Frame;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;

/// What the handlers of these tests share.
#[derive(Clone)]
pub(super) struct Scene {
    store: Store,
    runs: Arc<AtomicUsize>,
    /// Another session, whose turn no request holds.
    other: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Scene {
    pub(super) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    fn note(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }

    /// Lets the first run, and no other, lose the race for its own session.
    fn lose_once(&self, session: &Session) -> Result<u64, Error> {
        let n = count(session)?;
        if self.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            let id = session.client_id().expect("a visitor who was here before");
            interfere(&self.store, &id, 100);
        }
        Ok(n)
    }

    /// Loses every race, for the other session.
    fn lose_always(&self, session: &Session) -> Result<(), Error> {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        let id = id_of(&self.store, &self.other);
        count(&session.txn().session(&id)?)?;
        interfere(&self.store, &id, 100 + run as u64);
        Ok(())
    }
}

/// A page under `/` that loses once, or always under `/always`.
pub(super) fn losing() -> MethodRouter<Scene> {
    async fn lose(State(scene): State<Scene>, session: Session) -> Result<String, Error> {
        Ok(scene.lose_once(&session)?.to_string())
    }
    any(lose)
}

pub(super) fn always_losing() -> MethodRouter<Scene> {
    async fn lose(State(scene): State<Scene>, session: Session) -> Result<(), Error> {
        scene.lose_always(&session)
    }
    any(lose)
}

/// A scene, the cookie of a visitor with a count of 1, and pages in which `lose_once` and
/// `lose_always` happen.
pub(super) async fn scene(
    routes: Router<Scene>,
    layer: impl FnOnce(SessionLayer) -> SessionLayer,
) -> (Scene, String, Router) {
    let (store, app) = usual();
    let scene = Scene {
        store: store.clone(),
        runs: Arc::default(),
        other: visitor(&app).await,
        seen: Arc::default(),
    };
    let cookie = visitor(&app).await;
    let app = routes
        .with_state(scene.clone())
        .layer(layer(SessionLayer::new(store)));
    (scene, cookie, app)
}

fn body_of(request: Request<Body>, body: impl Into<Body>) -> Request<Body> {
    request.map(|_| body.into())
}

/// C6.2
#[tokio::test]
async fn an_idempotent_request_runs_again_on_what_the_other_wrote() {
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        let (scene, cookie, app) = scene(Router::new().route("/", losing()), |l| l).await;
        let response = send(&app, request(method, "/", &cookie)).await;
        assert_eq!(response.status(), StatusCode::OK, "{method}");
        assert_eq!(scene.runs(), 2, "{method}");
        assert_eq!(stored(&scene.store, &cookie), Some(101), "{method}");
    }
}

/// C6.2
#[tokio::test]
async fn any_other_request_runs_once_and_is_answered_503() {
    for method in ["POST", "PATCH"] {
        let (scene, cookie, app) = scene(Router::new().route("/", always_losing()), |l| l).await;
        let response = send(&app, request(method, "/", &cookie)).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(values(&response, header::RETRY_AFTER), ["1"]);
        let error = response.extensions().get::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(text(response).await, "");
        assert_eq!(scene.runs(), 1, "{method}");
        assert_eq!(stored(&scene.store, &scene.other), Some(100));
    }
}

/// C6.2
#[tokio::test]
async fn attempts_are_bounded() {
    let (scene, cookie, app) = scene(Router::new().route("/", always_losing()), |l| l).await;
    let response = get_page(&app, "/", &cookie).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(scene.runs() > 1);
}

/// C6.2
#[tokio::test]
async fn a_request_that_runs_once_waits_for_its_sessions_turn() {
    let (store, app) = usual();
    let cookie = visitor(&app).await;
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, leave) = (Arc::clone(&entered), Arc::clone(&go));
    let slow = move |session: Session| async move {
        let n = count(&session)?;
        enter.notify_one();
        leave.notified().await;
        Ok::<_, Error>(n.to_string())
    };
    let app = app.merge(
        Router::new()
            .route("/slow", any(slow))
            .layer(SessionLayer::new(store.clone())),
    );
    let first = tokio::spawn(app.clone().oneshot(request("POST", "/slow", &cookie)));
    entered.notified().await;
    let second = tokio::spawn(app.clone().oneshot(request("POST", "/count", &cookie)));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(
        !second.is_finished(),
        "it overtook the one that has the turn"
    );
    go.notify_one();
    assert_eq!(text(first.await.unwrap().unwrap()).await, "2");
    assert_eq!(text(second.await.unwrap().unwrap()).await, "3");
}

/// C6.2, C2.10
#[tokio::test]
async fn a_turn_wait_of_zero_goes_on_without_the_turn() {
    let (store, app) = usual();
    let cookie = visitor(&app).await;
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, leave) = (Arc::clone(&entered), Arc::clone(&go));
    let slow = move |_: Session| async move {
        enter.notify_one();
        leave.notified().await;
    };
    let slow = Router::new().route("/slow", any(slow));
    let hasty = site(SessionLayer::new(store.clone()).turn_wait(Duration::ZERO));
    let slow = slow.layer(SessionLayer::new(store));
    let first = tokio::spawn(slow.oneshot(request("POST", "/slow", &cookie)));
    entered.notified().await;
    let second = send(&hasty, request("POST", "/read", &cookie)).await;
    assert_eq!(text(second).await, "1");
    assert!(!first.is_finished());
    go.notify_one();
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
}

/// C6.2
#[tokio::test]
async fn a_put_that_runs_again_gets_the_same_body() {
    async fn save(
        State(scene): State<Scene>,
        session: Session,
        body: String,
    ) -> Result<String, Error> {
        scene.note(body.clone());
        scene.lose_once(&session)?;
        session.pkg(PACKAGE).insert("body", &body)?;
        Ok(body)
    }
    let (scene, cookie, app) = scene(Router::new().route("/", put(save)), |l| l).await;
    let body: String = (0..10 * 1024u32)
        .map(|n| char::from(b'a' + (n % 26) as u8))
        .collect();
    let request = body_of(request("PUT", "/", &cookie), body.clone());
    let response = send(&app, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, body);
    assert_eq!(*scene.seen.lock().unwrap(), [body.clone(), body]);
    assert_eq!(stored(&scene.store, &cookie), Some(101));
}

/// C6.2
#[tokio::test]
async fn a_body_beyond_the_limit_arrives_whole_and_runs_once() {
    async fn save(State(scene): State<Scene>, session: Session, body: Bytes) -> Result<(), Error> {
        scene.note(body.len().to_string());
        scene.lose_always(&session)
    }
    let routes = || Router::new().route("/", put(save));
    let (scene_at, cookie, app) = scene(routes(), |l| l.replay_limit(1024)).await;
    let response = send(
        &app,
        body_of(request("PUT", "/", &cookie), vec![b'x'; 1024]),
    )
    .await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(scene_at.runs() > 1, "exactly the limit can be replayed");

    let (scene_above, cookie, app) = scene(routes(), |l| l.replay_limit(1024)).await;
    let response = send(
        &app,
        body_of(request("PUT", "/", &cookie), vec![b'x'; 1025]),
    )
    .await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(*scene_above.seen.lock().unwrap(), ["1025"]);
}

/// A body of unknown size, in pieces of 512 bytes.
struct Pieces(usize);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(left) = self.0.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.0 = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 512])))))
    }
}

/// C6.2
#[tokio::test]
async fn a_body_of_unknown_size_is_kept_as_far_as_the_limit() {
    async fn save(State(scene): State<Scene>, session: Session, body: Bytes) -> Result<(), Error> {
        scene.note(body.len().to_string());
        scene.lose_always(&session)
    }
    let routes = || Router::new().route("/", put(save));
    let (within, cookie, app) = scene(routes(), |l| l.replay_limit(1024)).await;
    let body = Body::new(Pieces(2));
    send(&app, body_of(request("PUT", "/", &cookie), body)).await;
    let seen = within.seen.lock().unwrap().clone();
    assert!(
        seen.len() > 1 && seen.iter().all(|n| n == "1024"),
        "{seen:?}"
    );

    let (beyond, cookie, app) = scene(routes(), |l| l.replay_limit(1024)).await;
    let body = Body::new(Pieces(3));
    let response = send(&app, body_of(request("PUT", "/", &cookie), body)).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(*beyond.seen.lock().unwrap(), ["1536"]);
}

/// C6.2
#[tokio::test]
async fn a_body_that_somebody_still_holds_cannot_be_replayed() {
    let held: Arc<Mutex<Option<Body>>> = Arc::default();
    let keep = Arc::clone(&held);
    let handler = |State(scene): State<Scene>, session: Session, request: Incoming| async move {
        *keep.lock().unwrap() = Some(request.into_body());
        scene.lose_once(&session).map(drop)
    };
    let (scene, cookie, app) = scene(Router::new().route("/", get(handler)), |l| l).await;
    let request = body_of(request("GET", "/", &cookie), "a body");
    let response = send(&app, request).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(scene.runs(), 1);
    assert_eq!(stored(&scene.store, &cookie), Some(100));
    drop(held.lock().unwrap().take());
}

/// C6.2
#[tokio::test]
async fn what_the_server_told_of_the_request_is_there_again() {
    async fn tell(
        State(scene): State<Scene>,
        ConnectInfo(peer): ConnectInfo<SocketAddr>,
        path: MatchedPath,
        session: Session,
    ) -> Result<(), Error> {
        scene.note(format!("{peer} {}", path.as_str()));
        scene.lose_once(&session).map(drop)
    }
    let (scene, cookie, app) = scene(Router::new().route("/{any}", get(tell)), |l| l).await;
    let mut request = request("GET", "/here", &cookie);
    let peer = SocketAddr::from(([192, 0, 2, 1], 80));
    request.extensions_mut().insert(ConnectInfo(peer));
    assert_eq!(send(&app, request).await.status(), StatusCode::OK);
    let seen = scene.seen.lock().unwrap();
    assert_eq!(*seen, ["192.0.2.1:80 /{any}", "192.0.2.1:80 /{any}"]);
}

/// C6.2
#[tokio::test]
async fn an_upgrade_runs_once() {
    let routes = Router::new().route("/", always_losing());
    let (scene, cookie, app) = scene(routes, |l| l.rerun(Rerun::Always)).await;
    let mut request = request("GET", "/", &cookie);
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, "upgrade".parse().unwrap());
    headers.insert(header::UPGRADE, "websocket".parse().unwrap());
    let response = send(&app, request).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(scene.runs(), 1);
}

/// C6.2
#[tokio::test]
async fn a_conflict_that_the_handler_passes_on_runs_again_too() {
    async fn nested(State(scene): State<Scene>, session: Session) -> Result<(), Error> {
        count(&session)?;
        if scene.runs.fetch_add(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        let id = id_of(&scene.store, &scene.other);
        let own = scene.store.begin()?;
        count(&own.session(&id)?)?;
        interfere(&scene.store, &id, 100);
        own.commit()
    }
    let (scene, cookie, app) = scene(Router::new().route("/", get(nested)), |l| l).await;
    assert_eq!(get_page(&app, "/", &cookie).await.status(), StatusCode::OK);
    assert_eq!(scene.runs(), 2);
    assert_eq!(stored(&scene.store, &cookie), Some(2));
}

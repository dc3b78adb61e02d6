//! C6.2: which requests run again after a conflict, and what they find the second time.

use super::*;
use http::Method;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// What the pages of these cases share.
#[derive(Clone)]
struct Scene {
    store: Store,
    runs: Arc<AtomicUsize>,
    /// Another session, whose turn no request holds.
    other: ClientId,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Scene {
    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Lets the first run, and no other, lose the race for its own session.
    fn lose_once(&self, session: &Session) -> Reply {
        let n = count(session)?;
        if self.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            interfere(&self.store, &session.client_id().unwrap(), 100);
        }
        text(n)
    }

    /// Loses every race, for the other session.
    fn lose_always(&self, session: &Session) -> Reply {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        count(&session.txn().session(&self.other)?)?;
        interfere(&self.store, &self.other, 100 + run as u64);
        text("never sent")
    }
}

type Losing = fn(&Scene, &Session, Visit) -> Reply;

fn once(scene: &Scene, session: &Session, _: Visit) -> Reply {
    scene.lose_once(session)
}

fn always(scene: &Scene, session: &Session, visit: Visit) -> Reply {
    let mut seen = scene.seen.lock().unwrap();
    seen.push(String::from_utf8(visit.body.to_vec()).unwrap());
    drop(seen);
    scene.lose_always(session)
}

/// A page under `/lose`, on a layer with these settings, and the cookie of a visitor with a count of 1.
async fn scene<B: Backend>(
    page: Losing,
    layer: impl FnOnce(SessionLayer) -> SessionLayer,
    route: Option<Rerun>,
) -> (Scene, String, B) {
    let store = Store::in_memory().unwrap();
    let other = store.client_ids().issue();
    interfere(&store, &other, 1);
    let scene = Scene {
        store: store.clone(),
        runs: Arc::default(),
        other: store.client_ids().verify(other.as_str()).unwrap(),
        seen: Arc::default(),
    };
    let shared = scene.clone();
    let site = Site::new(layer(SessionLayer::new(store)));
    let mut site = site.page("/lose/{any}", move |session, visit| {
        let reply = page(&shared, &session, visit);
        async { reply }
    });
    if let Some(rerun) = route {
        site = site.rerun(rerun);
    }
    let app = B::start(site).await;
    let cookie = app.visitor().await;
    (scene, cookie, app)
}

pub(crate) async fn an_idempotent_request_runs_again<B: Backend>() {
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        let (scene, cookie, app) = scene::<B>(once, |l| l, None).await;
        let answer = app.send(request(method, "/lose/x", &cookie)).await;
        assert_eq!(answer.status(), 200, "{method}");
        assert_eq!(scene.runs(), 2, "{method}");
        assert_eq!(stored(&scene.store, &cookie), Some(101), "{method}");
    }
}

pub(crate) async fn any_other_request_runs_once_and_is_answered_503<B: Backend>() {
    for method in ["POST", "PATCH"] {
        let (scene, cookie, app) = scene::<B>(always, |l| l, None).await;
        let answer = app.send(request(method, "/lose/x", &cookie)).await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.values(header::RETRY_AFTER), ["1"]);
        assert_eq!(answer.kind(), Some(ErrorKind::Conflict));
        assert_eq!(answer.body.await, "");
        assert_eq!(scene.runs(), 1, "{method}");
    }
}

pub(crate) async fn always_runs_a_post_again<B: Backend>() {
    let (scene, cookie, app) = scene::<B>(once, |l| l.rerun(Rerun::Always), None).await;
    let answer = app.post("/lose/x", &cookie).await;
    assert_eq!((answer.status(), scene.runs()), (200, 2));
    assert_eq!(answer.body.await, "101");
}

pub(crate) async fn never_runs_not_even_a_get_again<B: Backend>() {
    let (scene, cookie, app) = scene::<B>(always, |l| l.rerun(Rerun::Never), None).await;
    let answer = app.get("/lose/x", &cookie).await;
    assert_eq!((answer.status(), scene.runs()), (503, 1));
}

pub(crate) async fn a_routes_own_setting_replaces_the_layers<B: Backend>() {
    let (again, cookie, app) = scene::<B>(once, |l| l, Some(Rerun::Always)).await;
    let answer = app.post("/lose/x", &cookie).await;
    assert_eq!((answer.status(), again.runs()), (200, 2));

    let (never, cookie, app) = scene::<B>(always, |l| l, Some(Rerun::Never)).await;
    let answer = app.get("/lose/x", &cookie).await;
    assert_eq!((answer.status(), never.runs()), (503, 1));
}

pub(crate) async fn attempts_are_bounded<B: Backend>() {
    let (scene, cookie, app) = scene::<B>(always, |l| l, None).await;
    assert_eq!(app.get("/lose/x", &cookie).await.status(), 503);
    assert!(scene.runs() > 1);
}

pub(crate) async fn an_upgrade_runs_once<B: Backend>() {
    let (scene, cookie, app) = scene::<B>(always, |l| l.rerun(Rerun::Always), None).await;
    let mut request = request("GET", "/lose/x", &cookie);
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, "upgrade".parse().unwrap());
    headers.insert(header::UPGRADE, "websocket".parse().unwrap());
    assert_eq!(app.send(request).await.status(), 503);
    assert_eq!(scene.runs(), 1);
}

pub(crate) async fn a_request_that_runs_once_waits_for_its_turn<B: Backend>() {
    let store = Store::builder().turn_wait(3600 * SECOND);
    let store = store.in_memory().unwrap();
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, leave) = (entered.clone(), go.clone());
    let runs = AtomicUsize::new(0);
    let site = Site::new(SessionLayer::new(store)).page("/slow", move |session, _| {
        let (enter, leave) = (enter.clone(), leave.clone());
        let is_first = runs.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let n = count(&session)?;
            if is_first {
                enter.notify_one();
                leave.notified().await;
            }
            text(n)
        }
    });
    let app = B::start(site).await;
    let cookie = app.visitor().await;
    let first = async { app.post("/slow", &cookie).await.body.await };
    let second = async {
        entered.notified().await;
        app.post("/count", &cookie).await.body.await
    };
    let release = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        go.notify_one();
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    // Overtaken, the first would get a conflict. Which response is polled first says nothing.
    assert_eq!((&*first, &*second), ("2", "3"));
}

fn x(len: usize) -> Bytes {
    Bytes::from(vec![b'x'; len])
}

pub(crate) async fn a_body_is_replayed_up_to_the_limit<B: Backend>() {
    for (len, is_replayed) in [(1024, true), (1025, false)] {
        let (scene, cookie, app) = scene::<B>(always, |l| l.replay_limit(1024), None).await;
        let sent = Sent::Whole(x(len));
        let answer = app.send(with_body("PUT", "/lose/x", &cookie, sent)).await;
        assert_eq!(answer.status(), 503);
        assert_eq!(scene.runs() > 1, is_replayed, "{len}");
        assert!(scene.seen().iter().all(|body| body.len() == len), "{len}");
    }
}

pub(crate) async fn a_body_of_unknown_size_is_replayed_up_to_the_limit<B: Backend>() {
    for (pieces, is_replayed) in [(2, true), (3, false)] {
        let (scene, cookie, app) = scene::<B>(always, |l| l.replay_limit(1024), None).await;
        let sent = Sent::Pieces(vec![x(512); pieces]);
        let answer = app.send(with_body("PUT", "/lose/x", &cookie, sent)).await;
        assert_eq!(answer.status(), 503);
        assert_eq!(scene.runs() > 1, is_replayed, "{pieces}");
        let mut seen = scene.seen().into_iter();
        assert!(seen.all(|body| body.len() == 512 * pieces), "{pieces}");
    }
}

pub(crate) async fn the_request_is_there_again_as_it_arrived<B: Backend>() {
    fn tell(scene: &Scene, session: &Session, visit: Visit) -> Reply {
        let Visit { head, pattern, .. } = &visit;
        let fields = head.headers.get_all("x-list").iter();
        let fields: Vec<_> = fields.map(|field| field.to_str().unwrap()).collect();
        let told = format!(
            "{} {} {:?} {fields:?} {:?} {:?}",
            head.method, head.uri, visit.peer, pattern, visit.body
        );
        scene.seen.lock().unwrap().push(told);
        scene.lose_once(session)
    }
    let (scene, cookie, app) = scene::<B>(tell, |l| l, None).await;
    let body = Sent::Whole(Bytes::from_static(b"the body"));
    let mut request = with_body("PUT", "/lose/here?a=1", &cookie, body);
    for value in ["one", "two"] {
        let value = value.parse().unwrap();
        request.headers_mut().append("x-list", value);
    }
    assert_eq!(*request.method(), Method::PUT);
    assert_eq!(app.send(request).await.status(), 200);
    let seen = scene.seen();
    let expected = "PUT /lose/here?a=1 Some(192.0.2.1:80) [\"one\", \"two\"] \
        Some(\"/lose/{any}\") b\"the body\"";
    assert_eq!(seen, [expected, expected]);
}

pub(crate) async fn a_conflict_that_the_handler_passes_on_runs_again<B: Backend>() {
    fn nested(scene: &Scene, session: &Session, _: Visit) -> Reply {
        count(session)?;
        if scene.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            let own = scene.store.begin()?;
            count(&own.session(&scene.other)?)?;
            interfere(&scene.store, &scene.other, 100);
            own.commit()?;
        }
        text("")
    }
    let (scene, cookie, app) = scene::<B>(nested, |l| l, None).await;
    assert_eq!(app.get("/lose/x", &cookie).await.status(), 200);
    assert_eq!(scene.runs(), 2);
    assert_eq!(stored(&scene.store, &cookie), Some(2));
}

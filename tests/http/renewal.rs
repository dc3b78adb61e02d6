//! C8.4, C8.5: ids that are renewed by age, and sessions whose id never comes back.

use super::*;
use axum::http::StatusCode;
use axum::routing::post;
use cloakroom::{ContainerSettings, StoreBuilder};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

const MINUTE: Duration = Duration::from_secs(60);

fn renewing(store: &Store) -> SessionLayer {
    SessionLayer::new(store.clone()).renew_after(10 * MINUTE)
}

fn built(builder: impl FnOnce(StoreBuilder) -> StoreBuilder) -> (Clock, Store) {
    let clock = clock();
    let store = builder(Store::builder().clock(clock.clone()));
    (clock, store.in_memory().unwrap())
}

/// A site whose ids are renewed after ten minutes, and a visitor whose id is that old.
async fn due() -> (Clock, Store, Router, String) {
    due_with(|builder| builder).await
}

async fn due_with(
    builder: impl FnOnce(StoreBuilder) -> StoreBuilder,
) -> (Clock, Store, Router, String) {
    let (clock, store) = built(builder);
    let app = site(renewing(&store));
    let cookie = visitor(&app).await;
    clock.advance(10 * MINUTE);
    assert_eq!(set_cookie(&get_page(&app, "/read", &cookie).await), None);
    clock.advance(Duration::from_millis(1));
    (clock, store, app, cookie)
}

/// A page that sends no cookie.
async fn quiet(app: &Router, path: &str, cookie: &str) -> String {
    let response = get_page(app, path, cookie).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(set_cookie(&response), None, "{path}");
    text(response).await
}

#[tokio::test]
async fn an_old_id_is_renewed_and_leads_to_the_session_for_a_while() {
    for path in ["/count", "/read"] {
        let (clock, store, app, old) = due().await;
        let response = get_page(&app, path, &old).await;
        let new = jar(&response);
        assert_ne!(new, old);
        let n: u64 = text(response).await.parse().unwrap();
        // Requests that were on their way, in read and write, and more than one.
        assert_eq!(quiet(&app, "/read", &old).await, n.to_string());
        assert_eq!(quiet(&app, "/count", &old).await, (n + 1).to_string());
        assert_eq!(quiet(&app, "/count", &new).await, (n + 2).to_string());
        clock.advance(Duration::from_secs(30));
        assert_eq!(quiet(&app, "/count", &old).await, (n + 3).to_string());
        clock.advance(Duration::from_millis(1));
        assert_eq!(quiet(&app, "/read", &old).await, "0");
        assert_eq!(quiet(&app, "/read", &new).await, (n + 3).to_string());
        // Nothing is left of the old id.
        store.container("").unwrap().sweep().unwrap();
        assert_eq!(store.check().unwrap().sessions, 1);
    }
}

#[tokio::test]
async fn an_id_is_renewed_again_and_each_leads_on() {
    let (clock, store) = built(|builder| builder);
    let app = site(renewing(&store).renew_grace(60 * MINUTE));
    let first = visitor(&app).await;
    let mut newest = first.clone();
    for _ in 0..3 {
        clock.advance(11 * MINUTE);
        newest = jar(&get_page(&app, "/read", &newest).await);
    }
    assert_eq!(quiet(&app, "/count", &first).await, "2");
    assert_eq!(quiet(&app, "/read", &newest).await, "2");
}

#[tokio::test]
async fn what_only_a_response_that_aborts_would_renew_stays() {
    let (_clock, store, _, cookie) = due().await;
    let fails = |_: Session| async { StatusCode::INTERNAL_SERVER_ERROR };
    let unused = || async { "unused" };
    let app = Router::new()
        .route("/fails", get(fails))
        .route("/unused", get(unused))
        .layer(renewing(&store));
    for path in ["/fails", "/unused"] {
        assert_eq!(
            set_cookie(&get_page(&app, path, &cookie).await),
            None,
            "{path}"
        );
    }
    let app = site(renewing(&store));
    assert!(set_cookie(&get_page(&app, "/read", &cookie).await).is_some());
}

/// A POST that loads its session, and another request that renews its id in between.
struct Overtaken {
    response: Response<Body>,
    renewed: String,
    app: Router,
}

async fn overtaken(during: &'static str, change: fn(&Session) -> Result<(), Error>) -> Overtaken {
    overtaken_in(due().await, during, change).await
}

async fn overtaken_in(
    (_clock, store, _, cookie): (Clock, Store, Router, String),
    during: &'static str,
    change: fn(&Session) -> Result<(), Error>,
) -> Overtaken {
    let layer = renewing(&store).turn_wait(Duration::ZERO);
    let app = site(layer.clone());
    let renewed = Arc::new(Mutex::new(String::new()));
    let (inner, bears, told) = (app.clone(), cookie.clone(), renewed.clone());
    let slow = move |session: Session| {
        let (inner, bears, told) = (inner.clone(), bears.clone(), told.clone());
        async move {
            assert_eq!(session.pkg(PACKAGE).get::<u64>("count")?, Some(1));
            let response = get_page(&inner, during, &bears).await;
            *told.lock().unwrap() = jar(&response);
            change(&session)
        }
    };
    let slow = Router::new().route("/slow", post(slow)).layer(layer);
    let response = send(&slow, request("POST", "/slow", &cookie)).await;
    let renewed = renewed.lock().unwrap().clone();
    Overtaken {
        response,
        renewed,
        app,
    }
}

#[tokio::test]
async fn a_request_that_had_loaded_the_session_loses_nothing_by_a_renewal() {
    let Overtaken {
        response,
        renewed,
        app,
    } = overtaken("/read", |session| {
        count(session)?;
        session.set_timeout(Some(30 * MINUTE))
    })
    .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(set_cookie(&response), None);
    assert_eq!(quiet(&app, "/read", &renewed).await, "2");
}

#[tokio::test]
async fn a_request_that_read_what_the_renewing_one_changed_conflicts() {
    let Overtaken {
        response,
        renewed,
        app,
    } = overtaken("/count", |session| count(session).map(drop)).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(quiet(&app, "/read", &renewed).await, "2");
}

#[tokio::test]
async fn a_request_that_had_loaded_the_session_ends_the_renewed_one() {
    let Overtaken {
        response,
        renewed,
        app,
    } = overtaken("/read", Session::destroy).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(quiet(&app, "/read", &renewed).await, "0");
    assert_eq!(
        get_page(&app, "/count", &renewed).await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn of_two_requests_at_once_one_renews() {
    let (clock, store, _, cookie) = due().await;
    let is_first = Arc::new(AtomicBool::new(true));
    let inner = site(renewing(&store));
    let (app, bears) = (inner.clone(), cookie.clone());
    let page = move |session: Session| {
        let (app, bears, is_first) = (app.clone(), bears.clone(), is_first.clone());
        async move {
            count(&session)?;
            if is_first.swap(false, Ordering::Relaxed) {
                return Ok::<_, Error>(jar(&get_page(&app, "/count", &bears).await));
            }
            Ok(String::new())
        }
    };
    let app = Router::new().route("/", get(page)).layer(renewing(&store));
    let response = get_page(&app, "/", &cookie).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(set_cookie(&response), None);
    assert_eq!(quiet(&inner, "/read", &cookie).await, "3");
    // The row under the old id is no session.
    assert_eq!(store.check().unwrap().sessions, 1);
    let container = store.container("").unwrap();
    assert_eq!(container.statistics().unwrap().live, 1);
    clock.advance(MINUTE);
    assert_eq!(container.statistics().unwrap().expired, 0);
    let swept = container.sweep().unwrap();
    // The row under the old id goes. On a server, a sweep does not look at sessions that cannot be over.
    let scanned = [swept.scanned, container.sweep().unwrap().scanned];
    assert!(swept.removed == 0 && (support::engine::is_postgres() || scanned == [2, 1]));
}

#[tokio::test]
async fn a_logout_and_a_login_with_the_old_id_are_the_sessions() {
    let (_clock, store, app, old) = due().await;
    let new = jar(&get_page(&app, "/read", &old).await);
    let login = jar(&get_page(&app, "/rotate", &old).await);
    assert_eq!(quiet(&app, "/read", &login).await, "1");
    assert_eq!(quiet(&app, "/read", &new).await, "0");
    assert_eq!(quiet(&app, "/read", &old).await, "0");
    // Both are refused, as after any log-in.
    for dead in [&new, &old] {
        let response = get_page(&app, "/count", dead).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(set_cookie(&response), None);
    }
    drop(store);

    let (_clock, _store, app, old) = due().await;
    let new = jar(&get_page(&app, "/read", &old).await);
    let response = get_page(&app, "/destroy", &old).await;
    assert!(set_cookie(&response).unwrap().contains("Max-Age=0"));
    assert_eq!(quiet(&app, "/read", &new).await, "0");
}

#[tokio::test]
async fn administration_sees_a_renewed_session_once() {
    let (_clock, store, app, old) = due().await;
    let id = id_of(&store, &old);
    let own = |txn: &cloakroom::Txn| txn.session(&id)?.set_owner(Some("ann"));
    store.transact(own).unwrap();
    let new = jar(&get_page(&app, "/read", &old).await);
    let (old, new) = (id_of(&store, &old).key(), id_of(&store, &new).key());
    let listed = store.sessions_of("ann").unwrap();
    assert_eq!(
        listed.iter().map(|info| info.client).collect::<Vec<_>>(),
        [new]
    );
    assert!(store.session_info(old).unwrap().is_none());
    assert!(store.session_info(new).unwrap().is_some());
    assert_eq!(store.end_all().unwrap(), 1);
    assert!(store.sessions_of("ann").unwrap().is_empty());
}

#[tokio::test]
async fn the_key_of_the_old_id_ends_the_renewed_session() {
    let (_clock, store, app, old) = due().await;
    let new = jar(&get_page(&app, "/read", &old).await);
    assert_eq!(store.end(id_of(&store, &old).key()).unwrap(), 1);
    assert_eq!(quiet(&app, "/read", &new).await, "0");
}

#[tokio::test]
async fn a_session_in_several_containers_is_found_in_each() {
    let (clock, store) = built(|builder| builder);
    store.register("file", ContainerSettings::new()).unwrap();
    store
        .register("ram", ContainerSettings::new().in_memory())
        .unwrap();
    let mark = |session: Session| async move {
        for package in ["ram", "file", "other"] {
            session.pkg(package).add("n", 1)?;
        }
        Ok::<_, Error>("")
    };
    let sum = |session: Session| async move {
        let mut sum = Vec::new();
        for package in ["ram", "file", "other", "visits"] {
            sum.push(session.pkg(package).get::<u8>("n")?.unwrap_or(0));
        }
        Ok::<_, Error>(format!("{sum:?}"))
    };
    let app = Router::new()
        .route("/mark", get(mark))
        .route("/sum", get(sum))
        .layer(renewing(&store));
    let old = jar(&get_page(&app, "/mark", "").await);
    clock.advance(11 * MINUTE);
    let new = jar(&get_page(&app, "/sum", &old).await);
    assert_eq!(quiet(&app, "/mark", &old).await, "");
    assert_eq!(quiet(&app, "/sum", &old).await, "[2, 2, 2, 0]");
    assert_eq!(quiet(&app, "/sum", &new).await, "[2, 2, 2, 0]");
}

#[tokio::test]
async fn the_old_id_leads_to_the_session_after_a_restart() {
    crate::support::engine::needs_files!("it reopens a file");
    let clock = clock();
    let (_folder, path) = crate::support::store::place();
    let open = || Store::builder().clock(clock.clone()).open(&path).unwrap();
    let old = {
        let app = site(renewing(&open()));
        let old = visitor(&app).await;
        clock.advance(11 * MINUTE);
        jar(&get_page(&app, "/read", &old).await);
        old
    };
    let app = site(renewing(&open()));
    assert_eq!(quiet(&app, "/count", &old).await, "2");
}

#[tokio::test]
async fn without_a_grace_the_old_id_is_worth_nothing_at_once() {
    let (clock, store) = built(|builder| builder);
    let app = site(renewing(&store).renew_grace(Duration::ZERO));
    let old = visitor(&app).await;
    clock.advance(11 * MINUTE);
    let new = jar(&get_page(&app, "/read", &old).await);
    assert_eq!(quiet(&app, "/read", &old).await, "0");
    assert_eq!(quiet(&app, "/read", &new).await, "1");
}

// C8.5
#[tokio::test]
async fn a_session_whose_cookie_never_comes_back_ends_early() {
    let (clock, store) = built(|builder| builder.unconfirmed_timeout(MINUTE));
    let app = site(SessionLayer::new(store.clone()));
    let bot = visitor(&app).await;
    let browser = visitor(&app).await;
    clock.advance(MINUTE);
    assert_eq!(page(&app, "/read", &browser).await, "1");
    clock.advance(Duration::from_millis(1));
    assert_eq!(page(&app, "/read", &bot).await, "0");
    clock.advance(40 * MINUTE);
    assert_eq!(page(&app, "/count", &browser).await, "2");
    // A log-in gives an id that has not come back.
    let login = jar(&get_page(&app, "/rotate", &browser).await);
    clock.advance(2 * MINUTE);
    assert_eq!(page(&app, "/read", &login).await, "0");
    store.container("").unwrap().sweep().unwrap();
    assert_eq!(store.check().unwrap().sessions, 0);
}

/// C8.4, C8.5
#[tokio::test]
async fn a_renewal_by_age_leaves_an_established_session_established() {
    let (clock, store) = built(|builder| builder.unconfirmed_timeout(MINUTE));
    let app = site(renewing(&store));
    let old = visitor(&app).await;
    assert_eq!(page(&app, "/read", &old).await, "1");
    clock.advance(11 * MINUTE);
    let new = jar(&get_page(&app, "/read", &old).await);
    assert_ne!(new, old);
    // The visitor reads the page for longer than a new session may stay unconfirmed.
    clock.advance(5 * MINUTE);
    assert_eq!(page(&app, "/count", &new).await, "2");
}

/// C8.5
#[tokio::test]
async fn an_id_that_came_back_is_confirmed_in_all_containers() {
    async fn fill(session: Session) -> Result<(), Error> {
        session.pkg("visits").insert("count", 1)?;
        session.pkg("cart").insert("tea", 1)
    }
    async fn cart(session: Session) -> Result<String, Error> {
        let tea = session.pkg("cart").get::<u32>("tea")?;
        Ok(tea.unwrap_or(0).to_string())
    }
    let (clock, store) = built(|builder| builder.unconfirmed_timeout(MINUTE));
    store.register("cart", ContainerSettings::new()).unwrap();
    let app = Router::new()
        .route("/fill", get(fill))
        .route("/cart", get(cart))
        .route("/read", get(reader))
        .layer(SessionLayer::new(store.clone()));
    let cookie = jar(&get_page(&app, "/fill", "").await);
    assert_eq!(page(&app, "/read", &cookie).await, "1");
    clock.advance(2 * MINUTE);
    assert_eq!(page(&app, "/cart", &cookie).await, "1");
}

/// C8.5: the visitor has not sent it.
#[tokio::test]
async fn an_id_that_only_its_own_request_used_is_not_confirmed() {
    async fn twice(session: Session) -> Result<String, Error> {
        count(&session)?;
        session.commit_now().await?;
        let n = count(&session)?;
        session.commit_now().await?;
        assert!(session.exists()?);
        Ok(n.to_string())
    }
    let (clock, store) = built(|builder| builder.unconfirmed_timeout(MINUTE));
    let layer = SessionLayer::new(store);
    let app = site(layer.clone()).merge(Router::new().route("/twice", get(twice)).layer(layer));
    let bot = jar(&get_page(&app, "/twice", "").await);
    let browser = jar(&get_page(&app, "/twice", "").await);
    clock.advance(MINUTE);
    assert_eq!(page(&app, "/read", &browser).await, "2");
    clock.advance(Duration::from_millis(1));
    assert_eq!(page(&app, "/read", &bot).await, "0");
    assert_eq!(page(&app, "/read", &browser).await, "2");
}

/// C8.4, C8.7
#[tokio::test]
async fn an_id_that_was_renewed_after_an_early_commit_is_not_sent() {
    let (clock, store) = built(|builder| builder);
    let inner = site(renewing(&store));
    let cookie = visitor(&inner).await;
    let name = cookie.split_once('=').unwrap().0.to_owned();
    let (app, time) = (inner.clone(), clock.clone());
    let slow = move |session: Session| async move {
        count(&session)?;
        session.commit_now().await?;
        let id = session.client_id().unwrap();
        let cookie = format!("{name}={}", id.as_str());
        time.advance(11 * MINUTE);
        Ok::<_, Error>(jar(&get_page(&app, "/read", &cookie).await))
    };
    let app = Router::new().route("/", get(slow)).layer(renewing(&store));
    let response = get_page(&app, "/", "").await;
    assert_eq!(set_cookie(&response), None);
    let renewed = text(response).await;
    assert_eq!(quiet(&inner, "/read", &renewed).await, "1");
}

/// C8.1, C8.4
#[tokio::test]
async fn under_a_renewed_id_the_session_has_a_key_and_no_id_of_its_own() {
    async fn names(session: Session) -> String {
        let id = session.client_id().map(|id| id.key());
        format!("{id:?} {:?}", session.client_key())
    }
    async fn moved(session: Session) -> Result<String, Error> {
        session.rotate()?;
        Ok(names(session).await)
    }
    let (_clock, store, app, old) = due().await;
    let layer = renewing(&store);
    let pages = Router::new().route("/names", get(names));
    let pages = pages.route("/moved", get(moved)).layer(layer);
    let own = |cookie: &str| id_of(&store, cookie).key();
    let key = own(&old);
    assert_eq!(
        quiet(&pages, "/names", "").await,
        "None None",
        "a visitor without a session"
    );
    let new = jar(&get_page(&app, "/read", &old).await);
    let renewed = own(&new);
    assert_ne!(renewed, key);
    let by_old = quiet(&pages, "/names", &old).await;
    assert_eq!(by_old, format!("None Some({renewed})"));
    let by_new = quiet(&pages, "/names", &new).await;
    assert_eq!(by_new, format!("Some({renewed}) Some({renewed})"));
    let response = get_page(&pages, "/moved", &old).await;
    let rotated = own(&jar(&response));
    assert_eq!(
        text(response).await,
        format!("Some({rotated}) Some({rotated})")
    );
}

/// C6.2, C8.4
#[tokio::test]
async fn requests_under_the_old_and_the_new_id_wait_for_one_turn() {
    let (_clock, store, app, old) = due().await;
    let new = jar(&get_page(&app, "/read", &old).await);
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, may) = (entered.clone(), go.clone());
    let slow = move |session: Session| {
        let (enter, may) = (enter.clone(), may.clone());
        async move {
            let n = count(&session)?;
            enter.notify_one();
            may.notified().await;
            Ok::<_, Error>(n.to_string())
        }
    };
    let layer = renewing(&store).turn_wait(Duration::from_secs(3600));
    let slow = Router::new().route("/slow", post(slow)).layer(layer);
    for (first, second) in [(&old, &new), (&new, &old)] {
        let first = tokio::spawn(slow.clone().oneshot(request("POST", "/slow", first)));
        entered.notified().await;
        let second = tokio::spawn(slow.clone().oneshot(request("POST", "/slow", second)));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        go.notify_one();
        assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
        go.notify_one();
        assert_eq!(second.await.unwrap().unwrap().status(), StatusCode::OK);
        entered.notified().await;
    }
    assert_eq!(quiet(&app, "/read", &new).await, "5");
}

/// C8.4, C2.14: another request may have overtaken one that took long, whatever the wall clock says.
#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_request_shorter() {
    let (clock, store, _, old) = due().await;
    let slow = move |session: Session| async move {
        let n = count(&session)?;
        clock.set(clock.now() - MINUTE);
        clock.advance(Duration::from_secs(3));
        Ok::<_, Error>(n.to_string())
    };
    let layer = renewing(&store).turn_wait(Duration::from_secs(2));
    let slow = Router::new().route("/slow", post(slow)).layer(layer);
    let response = send(&slow, request("POST", "/slow", &old)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(set_cookie(&response), None);
}

/// C8.4, C8.7: another request may renew it, and then the commit could not.
#[tokio::test]
async fn a_request_without_a_turn_renews_nothing() {
    let (_clock, store, app, old) = due().await;
    let (inner, bears) = (app.clone(), old.clone());
    let slow = move |session: Session| {
        let (inner, bears) = (inner.clone(), bears.clone());
        async move {
            session.pkg("other").insert("n", 1)?;
            session.commit_now().await?;
            assert_eq!(session.pkg("other").get("n")?, Some(1));
            jar(&get_page(&inner, "/read", &bears).await);
            session.pkg("other").insert("n", 2)
        }
    };
    let slow = Router::new()
        .route("/slow", post(slow))
        .layer(renewing(&store));
    let response = send(&slow, request("POST", "/slow", &old)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(set_cookie(&response), None);
}

/// C8.4, C8.9
#[tokio::test]
async fn what_a_request_under_the_old_id_ends_is_told_under_the_new_one() {
    let (tell, told) = std::sync::mpsc::channel();
    let due = due_with(|builder| builder.on_ended(move |it| tell.send(it.client).unwrap())).await;
    let store = due.1.clone();
    let Overtaken { renewed, .. } = overtaken_in(due, "/read", Session::destroy).await;
    assert_eq!(told.recv().unwrap(), id_of(&store, &renewed).key());
}

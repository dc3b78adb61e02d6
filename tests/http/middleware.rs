//! C6.1, C6.3: the session before and after the handler, in middleware and in services without axum.

use super::*;
use axum::extract::Request as AxumRequest;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Redirect};
use cloakroom::http::{Replay, session};
use cloakroom::{ErrorKind, Package, Pkg};
use std::sync::{Arc, Mutex};
use tower::{Layer as _, Service, service_fn};

/// Notes the pages that were found, after the handler has said whether they were.
async fn history(
    session: Session,
    request: AxumRequest,
    next: Next,
) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    if response.status().is_success() {
        let pages = session.pkg("history");
        pages.update("pages", |pages: Option<Vec<String>>| {
            let mut pages = pages.unwrap_or_default();
            pages.push(path.clone());
            pages
        })?;
    }
    Ok(response)
}

fn pages_of(store: &Store, cookie: &str) -> Vec<String> {
    let id = id_of(store, cookie);
    let pages = store.transact(|txn| txn.session(&id)?.pkg("history").get("pages"));
    pages.unwrap().unwrap_or_default()
}

/// C6.1
#[tokio::test]
async fn what_is_written_after_the_handler_is_committed_with_the_rest() {
    let store = Store::in_memory().unwrap();
    let app = Router::new()
        .route("/plain", get(|| async { "plain" }))
        .route("/count", get(counter))
        .layer(from_fn(history))
        .layer(SessionLayer::new(store.clone()));
    // The handler does not use the session, and the middleware creates it afterwards.
    let cookie = jar(&get_page(&app, "/plain", "").await);
    assert_eq!(page(&app, "/count", &cookie).await, "1");
    assert_eq!(
        get_page(&app, "/nowhere", &cookie).await.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(pages_of(&store, &cookie), ["/plain", "/count"]);
}

/// C6.1: the handler's failure takes what the middleware did along.
#[tokio::test]
async fn what_is_written_before_a_handler_that_fails_is_not_committed() {
    async fn before(
        session: Session,
        request: AxumRequest,
        next: Next,
    ) -> Result<Response<Body>, Error> {
        count(&session)?;
        Ok(next.run(request).await)
    }
    let store = Store::in_memory().unwrap();
    let layer = SessionLayer::new(store.clone());
    let app = Router::new()
        .route("/fail", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .layer(from_fn(before))
        .layer(layer.clone())
        .merge(site(layer));
    let cookie = visitor(&app).await;
    get_page(&app, "/fail", &cookie).await;
    assert_eq!(stored(&store, &cookie), Some(1));
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Login {
    user: Option<String>,
}

impl Package for Login {
    const ID: &'static str = "app.login";
}

/// A guard: visitors who have not logged in go elsewhere, and the handler does not run.
#[tokio::test]
async fn a_middleware_decides_by_the_session_whether_the_handler_runs() {
    async fn guard(login: Pkg<Login>, request: AxumRequest, next: Next) -> Response<Body> {
        match &login.user {
            Some(_) => next.run(request).await,
            None => Redirect::to("/login").into_response(),
        }
    }
    let login = |mut login: Pkg<Login>| async move {
        login.update(|login| login.user = Some("ann".to_owned()))
    };
    let app = Router::new()
        .route("/account", get(|| async { "welcome" }))
        .layer(from_fn(guard))
        .route("/login", get(login))
        .layer(SessionLayer::new(Store::in_memory().unwrap()));
    let response = get_page(&app, "/account", "").await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(set_cookie(&response), None);
    let cookie = jar(&get_page(&app, "/login", "").await);
    assert_eq!(page(&app, "/account", &cookie).await, "welcome");
}

/// C6.1: a middleware *around* the session layer has no session.
#[tokio::test]
async fn outside_the_layer_there_is_no_session() {
    let app = Router::new()
        .route("/count", get(counter))
        .layer(SessionLayer::new(Store::in_memory().unwrap()))
        .layer(from_fn(history));
    let response = get_page(&app, "/count", "").await;
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoSessionLayer);
}

/// C6.3: the handle that a middleware kept ends with the transaction.
#[tokio::test]
async fn a_session_that_was_kept_is_closed_after_the_response() {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let middleware = from_fn(move |session: Session, request: AxumRequest, next: Next| {
        keep.lock().unwrap().replace(session);
        next.run(request)
    });
    let app = Router::new()
        .route("/count", get(counter))
        .layer(middleware)
        .layer(SessionLayer::new(Store::in_memory().unwrap()));
    assert_eq!(page(&app, "/count", "").await, "1");
    let session = kept.lock().unwrap().take().unwrap();
    assert_eq!(session.exists().unwrap_err().kind(), ErrorKind::Closed);
}

/// C6.1: tower services alone, with bodies of any type: a middleware around a handler, before and after it.
#[tokio::test]
async fn services_without_axum_use_the_session_before_and_after_the_inner_one() {
    let store = Store::in_memory().unwrap();
    let handler = service_fn(|request: Request<Replay<String>>| async move {
        let session = session(request.extensions()).await?;
        Ok::<_, Error>(Response::new(count(&session)?.to_string()))
    });
    let middleware = service_fn(move |request: Request<Replay<String>>| {
        let mut handler = handler;
        async move {
            let session = session(request.extensions()).await?;
            count(&session)?;
            let response: Response<String> = handler.call(request).await?;
            let n = count(&session)?;
            Ok::<_, Error>(response.map(|inner| format!("{inner} of {n}")))
        }
    });
    let service = SessionLayer::new(store.clone()).generic().layer(middleware);
    let response = service.oneshot(Request::new(String::new())).await.unwrap();
    assert_eq!(response.body(), "2 of 3");
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(stored(&store, cookie), Some(3));
}

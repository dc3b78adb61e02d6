//! Messages between actix-web's types and those of the session layer: extensions of responses, header fields, URIs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use actix_http::Request;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode, Uri, header, uri::PathAndQuery};
use actix_web::middleware::{Next, from_fn};
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::{App, HttpRequest, HttpResponse, web};
use cloakroom::http::{Abort, CsrfLayer, SessionLayer};
use cloakroom::{ErrorKind, Store};
use cloakroom_actix::{CsrfMiddleware, Error, Session, SessionMiddleware};

fn sessions(store: &Store) -> SessionMiddleware {
    SessionMiddleware::new(SessionLayer::new(store.clone()))
}

fn live(store: &Store) -> u64 {
    store.container("").unwrap().statistics().unwrap().live
}

/// The response to a request, also if it is an error of middleware.
async fn answer<B: MessageBody>(
    app: &impl Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    request: TestRequest,
) -> HttpResponse {
    match app.call(request.to_request()).await {
        Ok(response) => {
            let (head, _) = response.into_parts().1.into_parts();
            head.map_body(|_, ()| BoxBody::new(()))
        }
        Err(error) => error.error_response(),
    }
}

async fn aborting(session: Session) -> Result<HttpResponse, Error> {
    session.pkg("visits").insert("count", 1)?;
    let mut response = HttpResponse::Ok().finish();
    response.extensions_mut().insert(Abort);
    Ok(response)
}

async fn failing(session: Session) -> Result<HttpResponse, Error> {
    session.pkg("visits").insert("count", 1)?;
    let error = session.data("nowhere").unwrap_err();
    let mut response = HttpResponse::Ok().finish();
    response.extensions_mut().insert(error);
    Ok(response)
}

/// C6.1: what a handler puts into the extensions of its response is read there, as from any other framework.
#[actix_web::test]
async fn a_response_aborts_by_its_own_extensions() {
    let store = Store::in_memory().unwrap();
    let app = App::new()
        .route("/abort", web::get().to(aborting))
        .route("/fail", web::get().to(failing))
        .wrap(sessions(&store));
    let app = init_service(app).await;
    let aborted = answer(&app, TestRequest::get().uri("/abort")).await;
    assert_eq!(aborted.status(), StatusCode::OK);
    assert!(!aborted.headers().contains_key(header::SET_COOKIE));
    assert_eq!(live(&store), 0);

    let failed = answer(&app, TestRequest::get().uri("/fail")).await;
    assert!(!failed.headers().contains_key(header::SET_COOKIE));
    let extensions = failed.extensions();
    let error = extensions.get::<cloakroom::Error>().expect("an error");
    assert_eq!(error.kind(), ErrorKind::NoSuchContainer);
    assert_eq!(live(&store), 0);
}

async fn visit(session: Session) -> Result<String, Error> {
    let count = |n: Option<u64>| n.unwrap_or(0) + 1;
    let n = session.pkg("visits").update("count", count)?;
    Ok(n.to_string())
}

/// A request with one value in each of so many fields.
fn with_fields(count: usize) -> TestRequest {
    let names = (0..count).map(|n| format!("x-{n}"));
    names.fold(TestRequest::get(), |request, name| {
        request.append_header((name, "1"))
    })
}

/// HTTP/2 has no limit of their number of its own.
#[actix_web::test]
async fn more_header_fields_than_fit_are_refused() {
    let store = Store::in_memory().unwrap();
    let app = App::new()
        .route("/", web::get().to(visit))
        .wrap(sessions(&store));
    let app = init_service(app).await;
    let checked = App::new()
        .route("/", web::get().to(HttpResponse::Ok))
        .wrap(CsrfMiddleware::new(CsrfLayer::new()));
    let checked = init_service(checked).await;
    let fits = answer(&app, with_fields(24_000)).await;
    assert_eq!(fits.status(), StatusCode::OK);
    let too_many = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    for count in [24_600, 40_000] {
        let refused = answer(&app, with_fields(count)).await;
        assert_eq!(refused.status(), too_many, "{count}");
        let refused = answer(&checked, with_fields(count)).await;
        assert_eq!(refused.status(), too_many, "{count}");
    }
    assert_eq!(live(&store), 1);
}

async fn uri_of(request: HttpRequest) -> String {
    let uri = request.uri();
    let parts = (
        uri.scheme_str(),
        uri.authority().map(|it| it.as_str()),
        uri.path(),
    );
    format!("{parts:?}")
}

/// RFC 9113, 8.3.1: `OPTIONS *` has a scheme and an authority in HTTP/2.
#[actix_web::test]
async fn a_request_for_the_whole_server_keeps_its_uri() {
    let store = Store::in_memory().unwrap();
    let app = App::new()
        .default_service(web::to(uri_of))
        .wrap(sessions(&store));
    let app = init_service(app).await;
    for (method, path) in [(Method::OPTIONS, "*"), (Method::GET, "/a?b")] {
        let uri = Uri::builder().scheme("https").authority("shop.example");
        let uri = uri.path_and_query(PathAndQuery::from_static(path));
        let mut request = TestRequest::default().method(method).to_request();
        *request.uri_mut() = uri.build().unwrap();
        let response = app.call(request).await.unwrap();
        let seen = String::from_utf8(read_body(response).await.to_vec()).unwrap();
        let path = path.trim_end_matches("?b");
        let sent = (Some("https"), Some("shop.example"), path);
        assert_eq!(seen, format!("{sent:?}"));
    }
}

async fn holds_a_clone(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let held = request.request().clone();
    let response = next.call(request).await;
    drop(held);
    response
}

async fn answers_itself(
    request: ServiceRequest,
    _: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    Ok(request.into_response(HttpResponse::Ok().finish()))
}

/// Middleware outside may hold a clone as long as no router is asked.
#[actix_web::test]
async fn a_request_of_which_a_clone_is_held_outside_is_not_touched() {
    let store = Store::in_memory().unwrap();
    let app = App::new()
        .wrap(from_fn(answers_itself))
        .wrap(sessions(&store))
        .wrap(from_fn(holds_a_clone));
    let app = init_service(app).await;
    let mut cookie = header::HeaderValue::from_static("a=b");
    cookie.set_sensitive(true);
    for request in [
        TestRequest::get(),
        TestRequest::get().insert_header((header::COOKIE, cookie)),
    ] {
        assert_eq!(answer(&app, request).await.status(), StatusCode::OK);
    }
}

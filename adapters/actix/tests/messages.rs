//! Messages between actix-web's types and those of the session layer: extensions of responses, header fields, URIs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use actix_http::Request;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, HttpResponse, web};
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
            head.map_body(|_, ()| actix_web::body::BoxBody::new(()))
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

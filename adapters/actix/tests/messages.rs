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
use cloakroom::http::{Abort, SessionLayer};
use cloakroom::{ErrorKind, Store};
use cloakroom_actix::{Error, Session, SessionMiddleware};

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

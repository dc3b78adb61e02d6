//! Pages for errors: actix-web's `ErrorHandlers` outside of the middleware (C6.5).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests are tests"
)]

use actix_web::body::{BoxBody, EitherBody};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::error::ErrorNotFound;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SET_COOKIE, VARY};
use actix_web::middleware::{ErrorHandlerResponse, ErrorHandlers};
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::{App, web};
use cloakroom::Store;
use cloakroom::http::SessionLayer;
use cloakroom_actix::{Error, Session, SessionMiddleware};

/// Names the error. Other errors stay as they are.
fn page<B>(answer: ServiceResponse<B>) -> actix_web::Result<ErrorHandlerResponse<B>> {
    let kind = answer
        .response()
        .extensions()
        .get()
        .map(cloakroom::Error::kind);
    let Some(kind) = kind else {
        return Ok(ErrorHandlerResponse::Response(answer.map_into_left_body()));
    };
    let text = format!("<p>{kind:?}</p>");
    let mut page = answer.map_body(|_, _| EitherBody::right(BoxBody::new(text)));
    let html = HeaderValue::from_static("text/html");
    page.headers_mut().insert(CONTENT_TYPE, html);
    Ok(ErrorHandlerResponse::Response(page))
}

/// Its commit fails.
async fn fill(session: Session) -> Result<&'static str, Error> {
    session.pkg("cart").insert("tea", "x".repeat(200))?;
    Ok("added")
}

/// It fails itself.
async fn lose(session: Session) -> Result<String, Error> {
    let drafts = session.data("drafts")?;
    Ok(drafts.packages()?.join(" "))
}

async fn miss(session: Session) -> actix_web::Result<String> {
    session.pkg("cart").insert("tea", 1).map_err(Error::from)?;
    Err(ErrorNotFound("no such tea"))
}

#[actix_web::test]
async fn a_page_outside_finds_the_error_and_keeps_what_the_layer_says() {
    let store = Store::builder().max_package_size(100).in_memory().unwrap();
    let app = App::new()
        .route("/fill", web::get().to(fill))
        .route("/lose", web::get().to(lose))
        .route("/miss", web::get().to(miss))
        .wrap(SessionMiddleware::new(SessionLayer::new(store)))
        .wrap(ErrorHandlers::new().default_handler(page));
    let app = init_service(app).await;
    for (path, status, body) in [
        ("/fill", 413, "<p>TooLarge</p>"),
        ("/lose", 500, "<p>NoSuchContainer</p>"),
    ] {
        let request = TestRequest::get().uri(path).to_request();
        let answer = app.call(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        let headers = answer.headers();
        assert_eq!(headers.get(CONTENT_TYPE).unwrap(), "text/html");
        assert_eq!(headers.get(CACHE_CONTROL).unwrap(), "no-store");
        assert_eq!(headers.get(VARY).unwrap(), "Cookie");
        assert!(!headers.contains_key(SET_COOKIE));
        assert_eq!(read_body(answer).await, body);
    }
    let request = TestRequest::get().uri("/miss").to_request();
    let answer = app.call(request).await.unwrap();
    assert!(answer.headers().contains_key(SET_COOKIE), "404 commits");
    assert_eq!(read_body(answer).await, "no such tea");
}

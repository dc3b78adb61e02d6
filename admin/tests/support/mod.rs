//! The pages without a network: requests, and what came back.

use axum::Router;
use axum::body::Body;
use axum::http::request::{Builder, Parts};
use axum::http::{HeaderMap, Request, StatusCode, header};
use cloakroom::Store;
use cloakroom_admin::{Access, Admin};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

/// A store in memory with its pages under `/internal/sessions`. The header `x-who` says who asks: `ann` may change,
/// `bob` may look, `cyd` may look but not at values.
pub(crate) struct Pages {
    pub(crate) store: Store,
    router: Router,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/json",
            "{}",
            self.text
        );
        serde_json::from_str(&self.text).unwrap()
    }

    /// Where it sends the browser.
    pub(crate) fn location(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.text);
        self.headers[header::LOCATION].to_str().unwrap()
    }

    /// The token of the forms on it.
    pub(crate) fn form_token(&self) -> String {
        let (_, rest) = self
            .text
            .split_once("name=\"form_token\" value=\"")
            .expect("a form");
        rest.split('"').next().unwrap().to_owned()
    }
}

pub(crate) const BASE: &str = "/internal/sessions";

async fn access(who: Option<String>) -> Access {
    match who.as_deref() {
        Some("ann") => Access::all("ann"),
        Some("bob") => Access::read_only("bob"),
        Some("cyd") => Access::read_only("cyd").without_values(),
        _ => Access::none(),
    }
}

impl Pages {
    pub(crate) fn new() -> Self {
        let store = Store::builder().implicit_sweeps(false).in_memory().unwrap();
        let resolver = |head: &Parts| {
            let who = head.headers.get("x-who");
            access(who.map(|who| who.to_str().unwrap().to_owned()))
        };
        Self::of(store.clone(), Admin::new(store, resolver))
    }

    pub(crate) fn of(store: Store, admin: Admin) -> Self {
        let router = Router::new().nest(BASE, admin.router());
        Self { store, router }
    }

    pub(crate) async fn send(&self, request: Builder, body: &str) -> Answer {
        let request = request.body(Body::from(body.to_owned())).unwrap();
        self.answer(request).await
    }

    /// An answer whose content is not read yet.
    pub(crate) async fn response(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn answer(&self, request: Request<Body>) -> Answer {
        let response = self.response(request).await;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(bytes.into()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, who: &str, path: &str) -> Answer {
        let request = Request::get(format!("{BASE}{path}")).header("x-who", who);
        let request = request.header(header::ACCEPT, "text/html,*/*;q=0.8");
        self.send(request, "").await
    }

    pub(crate) async fn json(&self, who: &str, path: &str) -> Answer {
        let request = Request::get(format!("{BASE}{path}")).header("x-who", who);
        self.send(request.header(header::ACCEPT, "application/json"), "")
            .await
    }

    /// Sends a form as the page sends it.
    pub(crate) async fn post(&self, who: &str, path: &str, fields: &str) -> Answer {
        let token = self.get(who, "/containers/edit?name=").await.form_token();
        self.post_with(who, path, &format!("form_token={token}&{fields}"))
            .await
    }

    pub(crate) async fn post_with(&self, who: &str, path: &str, fields: &str) -> Answer {
        let request = Request::post(format!("{BASE}{path}")).header("x-who", who);
        let request = request
            .header(header::HOST, "app.example")
            .header(header::ACCEPT, "text/html");
        let request = request.header("sec-fetch-site", "same-origin");
        let kind = "application/x-www-form-urlencoded";
        self.send(request.header(header::CONTENT_TYPE, kind), fields)
            .await
    }

    /// The bytes that a form's answer holds.
    pub(crate) async fn download(&self, who: &str, path: &str) -> Vec<u8> {
        let token = self.get(who, "/maintenance").await.form_token();
        let request = Request::post(format!("{BASE}{path}")).header("x-who", who);
        let kind = "application/x-www-form-urlencoded";
        let request = request.header(header::CONTENT_TYPE, kind);
        let request = request
            .body(Body::from(format!("form_token={token}")))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .into()
    }
}

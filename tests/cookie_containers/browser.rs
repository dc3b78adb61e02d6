//! A browser whose cookies a test can change.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use http_body_util::BodyExt as _;
use std::collections::BTreeMap;
use tower::ServiceExt as _;

#[derive(Clone)]
pub(crate) struct Browser {
    app: Router,
    pub(crate) cookies: BTreeMap<String, String>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The `Set-Cookie` field of this name.
    pub(crate) fn set(&self, name: &str) -> Option<&str> {
        let fields = self.headers.get_all(header::SET_COOKIE).iter();
        let mut fields = fields.map(|field| field.to_str().unwrap());
        fields.find(|field| field.split_once('=').unwrap().0 == name)
    }

    pub(crate) fn sets_any(&self) -> bool {
        self.headers.contains_key(header::SET_COOKIE)
    }
}

impl Browser {
    pub(crate) fn new(app: Router) -> Self {
        Self {
            app,
            cookies: BTreeMap::new(),
        }
    }

    /// The same browser, and another application.
    pub(crate) fn with(mut self, app: Router) -> Self {
        self.app = app;
        self
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path).await
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str) -> Answer {
        let pairs = self.cookies.iter();
        let pairs: Vec<_> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = Request::builder().uri(path).method(method);
        let request = request.header(header::COOKIE, pairs.join("; "));
        let request = request.body(Body::empty()).unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        for field in parts.headers.get_all(header::SET_COOKIE) {
            let field = field.to_str().unwrap();
            let (name, rest) = field.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if field.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// What the page of a package says.
    pub(crate) async fn read(&mut self, package: &str) -> String {
        let answer = self.get(&format!("/read?pkg={package}")).await;
        assert_eq!(answer.status, 200);
        answer.text
    }

    /// Puts a value, which must succeed.
    pub(crate) async fn put(&mut self, package: &str, value: &str) -> Answer {
        let answer = self.get(&format!("/put?pkg={package}&value={value}")).await;
        assert_eq!(answer.status, 200);
        answer
    }
}

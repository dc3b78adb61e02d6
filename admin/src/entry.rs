//! What each request passes before a page sees it: access, protection from other sites, and the headers of its answer.

use crate::access::Access;
use crate::admin::App;
use crate::audit::{Action, AuditEntry, Begun};
use crate::csrf;
use crate::failure::{Cause, Failure};
use crate::fields::{Fields, read_fields};
use crate::pages::{import, sign_in};
use crate::render::{self, Format, HEADERS};
use axum::body::Body;
use axum::extract::{FromRequestParts, NestedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// The pages that the navigation names.
const NAVIGATION: [(&str, &str); 7] = [
    ("/", "Overview"),
    ("/containers", "Containers"),
    ("/sessions", "Sessions"),
    ("/owners", "Owners"),
    ("/maintenance", "Maintenance"),
    ("/settings", "Settings"),
    ("/audit", "Audit log"),
];

/// A request with access, and how it is answered.
#[derive(Clone)]
pub(crate) struct Visit {
    pub(crate) app: Arc<App>,
    pub(crate) access: Access,
    pub(crate) format: Format,
    pub(crate) fields: Fields,
    base: String,
    /// Whether the pages are mounted under a path that ends with a slash.
    has_slash: bool,
    path: String,
    /// The number of the entry of the audit log that brought the visitor here.
    done: Option<u64>,
}

/// What work gave.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// For people.
    pub(crate) words: String,
    /// For programs.
    pub(crate) result: Option<serde_json::Value>,
}

impl From<String> for Done {
    fn from(words: String) -> Self {
        let result = None;
        Self { words, result }
    }
}

impl From<(String, serde_json::Value)> for Done {
    fn from((words, result): (String, serde_json::Value)) -> Self {
        let result = Some(result);
        Self { words, result }
    }
}

/// Lets a request in, or answers it.
pub(crate) async fn gate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let format = Format::wanted(&head.headers);
    let access = app.access(&head).await;
    let mut visit = Visit {
        base: app.base(&head),
        has_slash: head
            .extensions
            .get::<NestedPath>()
            .is_some_and(|it| it.as_str().ends_with('/')),
        path: head.uri.path().to_owned(),
        app,
        access,
        format,
        fields: Fields::default(),
        done: None,
    };
    let has_page = visit.access.who().is_some() || visit.app.sign_in.is_some();
    let mut response = match visit.let_in(head, body).await {
        Ok(request) => {
            let response = next.run(request).await;
            visit.with_error_page(response)
        }
        Err(Refusal::Answer(response)) => response,
        Err(Refusal::Failure(failure)) => visit.error_page(&failure),
    };
    // Who has no access gets no header that would tell that there is a page.
    if has_page {
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            // Only the style and the script say otherwise of `Cache-Control`.
            headers.entry(name).or_insert(value);
        }
    }
    response
}

enum Refusal {
    Answer(Response),
    Failure(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Visit {
    /// The request as a page gets it.
    async fn let_in(&mut self, mut head: Parts, body: Body) -> Result<Request, Refusal> {
        if self.access.who().is_none() {
            return self.without_access(head, body).await;
        }
        if head.method.is_safe() {
            let query = head.uri.query().unwrap_or_default();
            self.fields = Fields::of_form(query.as_bytes());
            self.done = self.fields.get("done").and_then(|it| it.parse().ok());
        } else if self.path == import::PATH {
            // Its content is as long as it is. The page reads it.
            self.fields = Fields::of_form(head.uri.query().unwrap_or_default().as_bytes());
            self.check_origin(&head.method, &head.headers)?;
            head.extensions.insert(self.clone());
            return Ok(Request::from_parts(head, body));
        } else {
            self.fields = read_fields(&head, body).await?;
            if self.path == sign_in::PATH {
                // Another window signed in meanwhile.
                return Err(Refusal::Answer(
                    Redirect::to(&self.url("/")).into_response(),
                ));
            }
            self.check_origin(&head.method, &head.headers)?;
        }
        head.extensions.insert(self.clone());
        Ok(Request::from_parts(head, Body::empty()))
    }

    /// Only a form that asks for the token is shown, if there is one.
    async fn without_access(&mut self, head: Parts, body: Body) -> Result<Request, Refusal> {
        let not_found = || Refusal::Answer(StatusCode::NOT_FOUND.into_response());
        let Some(token) = self.app.sign_in.clone() else {
            return Err(not_found());
        };
        let is_asset = self.path.starts_with("/assets/");
        if is_asset && head.method.is_safe() {
            return Ok(Request::from_parts(head, Body::empty()));
        }
        if self.path == sign_in::PATH && head.method == Method::POST {
            self.fields = read_fields(&head, body).await?;
            if csrf::is_from_elsewhere(&head.headers) {
                return Err(Failure::forbidden("The form was sent by another site.").into());
            }
            let answer = sign_in::give_token(self, &token).await;
            return Err(Refusal::Answer(
                answer.unwrap_or_else(|failure| self.error_page(&failure)),
            ));
        }
        if self.format == Format::Json {
            return Err(not_found());
        }
        let is_change = !head.method.is_safe();
        if is_change || self.path == sign_in::PATH {
            let ended =
                "You are not signed in any more. Nothing was changed: sign in and do it again.";
            let page = sign_in::form(self, is_change.then_some(ended));
            return Err(Refusal::Answer(
                page.unwrap_or_else(|failure| self.error_page(&failure)),
            ));
        }
        Err(Refusal::Answer(
            Redirect::to(&self.url(sign_in::PATH)).into_response(),
        ))
    }

    /// Whether a request that changes something comes from a page of ours, or from a program that carries its own right.
    fn check_origin(&self, method: &Method, headers: &HeaderMap) -> Result<(), Failure> {
        if method != Method::POST {
            return Ok(()); // No page takes it: 405.
        }
        if csrf::is_from_elsewhere(headers) {
            return Err(Failure::forbidden("The request was sent by another site."));
        }
        let who = self.access.who().unwrap_or_default();
        let token = self.fields.exact("form_token").unwrap_or_default();
        if csrf::has_bearer(headers) || self.app.tokens.accepts(who, token) {
            return Ok(());
        }
        Err(Failure::forbidden(
            "The form is out of date: the program was started again, or somebody else signed in. Go back, reload the \
             page, and send it again.",
        ))
    }

    /// Refuses who may only look.
    pub(crate) fn need_change(&self) -> Result<(), Failure> {
        match self.access.may_change() {
            true => Ok(()),
            false => Err(Failure::forbidden(
                "You may look at everything here, and change nothing.",
            )),
        }
    }

    /// The address of a page, as browsers know it. That of the overview ends as the path ends under which the pages are
    /// mounted, if it is known.
    pub(crate) fn url(&self, path: &str) -> String {
        match (&*self.base, path) {
            ("", path) => path.to_owned(),
            (base, "/") if self.has_slash => format!("{base}/"),
            (base, "/") => base.to_owned(),
            (base, path) => format!("{base}{path}"),
        }
    }

    /// The path for the cookie of a browser that signed in.
    pub(crate) fn cookie_path(&self) -> &str {
        match &*self.base {
            "" => "/",
            base => base,
        }
    }

    /// A page as HTML, or what it holds as JSON.
    pub(crate) fn show(
        &self,
        template: &str,
        title: &str,
        page: &impl Serialize,
    ) -> Result<Response, Failure> {
        self.show_as(StatusCode::OK, template, title, page)
    }

    pub(crate) fn show_as(
        &self,
        status: StatusCode,
        template: &str,
        title: &str,
        page: &impl Serialize,
    ) -> Result<Response, Failure> {
        if self.format == Format::Json {
            return Ok(render::json(status, page));
        }
        let html = render::html(&self.app.templates, template, self.frame(title), page)?;
        let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
        Ok((status, kind, html).into_response())
    }

    /// Makes a change as [`record`](Self::record) does. A browser is sent on to a page of ours, which tells the outcome; a
    /// program gets the entry of the audit log, and the result.
    pub(crate) async fn change<W, D>(
        &self,
        action: &'static str,
        subject: String,
        next: &str,
        work: W,
    ) -> Result<Response, Failure>
    where
        W: Future<Output = cloakroom::Result<D>> + Send + 'static,
        D: Into<Done>,
    {
        self.need_change()?;
        let (number, done) = self.record(action, subject, work).await?;
        Ok(self.done(number, next, done.result))
    }

    /// Keeps that this work begins, does it, and keeps its outcome (C9.3), also if the client goes away meanwhile. Returns
    /// the number of its entry, and what it gave. If it cannot be kept, it is not done.
    pub(crate) async fn record<W, D, E>(
        &self,
        action: &'static str,
        subject: String,
        work: W,
    ) -> Result<(u64, Done), Failure>
    where
        W: Future<Output = Result<D, E>> + Send + 'static,
        D: Into<Done>,
        E: Into<Failure> + fmt::Display + Send + 'static,
    {
        let visit = self.clone();
        let working = tokio::spawn(async move {
            let begun = visit.begin(action, subject).await?;
            let outcome: Result<Done, E> = work.await.map(Into::into);
            let recorded = match &outcome {
                Ok(done) => Ok(done.words.clone()),
                Err(error) => Err(error.to_string()),
            };
            let number = visit.end(begun, recorded).await;
            let done = outcome.map_err(Into::into)?;
            Ok((number?, done))
        });
        working.await.map_err(|_| Failure::fault())?
    }

    /// Keeps that an action begins. It must not be done if that fails.
    pub(crate) async fn begin(
        &self,
        action: &'static str,
        subject: String,
    ) -> Result<Begun, Failure> {
        let action = Action {
            who: self.access.who().unwrap_or_default().to_owned(),
            action,
            subject,
        };
        let log = self.app.log.clone();
        let beginning = tokio::task::spawn_blocking(move || log.begin(action)).await;
        let begun = beginning.map_err(|_| Failure::fault())?;
        begun.map_err(|error| {
            Failure::unrecorded(format!(
                "Nothing was done, because it cannot be kept in the audit log: {error}."
            ))
        })
    }

    /// Keeps the outcome of an action, and returns the number of its entry.
    pub(crate) async fn end(
        &self,
        begun: Begun,
        outcome: Result<String, String>,
    ) -> Result<u64, Failure> {
        let log = self.app.log.clone();
        let ending = tokio::task::spawn_blocking(move || log.end(begun, outcome)).await;
        let number = ending.map_err(|_| Failure::fault())?;
        number.map_err(|error| {
            Failure::unrecorded(format!(
                "It was done, and its outcome cannot be kept in the audit log: {error}."
            ))
        })
    }

    /// Records an action that is done, in the name of `who`.
    pub(crate) async fn record_as(
        &self,
        who: &str,
        action: &'static str,
        outcome: Result<String, String>,
    ) {
        let action = Action {
            who: who.to_owned(),
            action,
            subject: String::new(),
        };
        let log = self.app.log.clone();
        let recording = tokio::task::spawn_blocking(move || log.record(action, outcome));
        // A failure is shown by the overview. Nobody is kept from signing in or out by it.
        drop(recording.await);
    }

    /// The answer to a change that was made.
    fn done(&self, number: u64, next: &str, result: Option<serde_json::Value>) -> Response {
        #[derive(Serialize)]
        struct Change {
            #[serde(flatten)]
            entry: Option<AuditEntry>,
            #[serde(skip_serializing_if = "Option::is_none")]
            result: Option<serde_json::Value>,
        }
        if self.format == Format::Json {
            let entry = self.app.log.entry(number);
            return render::json(StatusCode::OK, &Change { entry, result });
        }
        let mark = if next.contains('?') { '&' } else { '?' };
        let url = self.url(next);
        Redirect::to(&format!("{url}{mark}done={number}")).into_response()
    }

    /// The page of an error.
    fn error_page(&self, failure: &Failure) -> Response {
        #[derive(Serialize)]
        struct Page<'a> {
            status: u16,
            title: &'a str,
            text: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            advice: Option<&'static str>,
            #[serde(flatten)]
            cause: Option<&'a Cause>,
        }
        let page = Page {
            status: failure.status.as_u16(),
            title: failure.title,
            text: &failure.text,
            advice: failure.advice,
            cause: failure.cause.as_deref(),
        };
        let shown = self.show_as(failure.status, "error.html", failure.title, &page);
        shown.unwrap_or_else(|_| failure.status.into_response())
    }

    /// Gives an error without a page its page: of a handler, or of the router.
    fn with_error_page(&self, mut response: Response) -> Response {
        let status = response.status();
        if let Some(failure) = response.extensions_mut().remove::<Arc<Failure>>() {
            return self.error_page(&failure);
        }
        let failure = match status {
            StatusCode::NOT_FOUND if self.access.who().is_some() => {
                Failure::not_found("There is no such page. The address may be mistyped.")
            }
            StatusCode::METHOD_NOT_ALLOWED => Failure::new(
                status,
                "This address takes no such request",
                "Open the page that has the form.",
            ),
            _ if status.is_client_error() && is_plain(&response) => Failure::new(
                status,
                "The request was not understood",
                "The address may be mistyped.",
            ),
            _ => return response,
        };
        self.error_page(&failure)
    }

    /// What the frame of each page shows.
    fn frame(&self, title: &str) -> Value {
        let who = self.access.who().unwrap_or_default();
        let navigation: Vec<_> = NAVIGATION
            .iter()
            .map(|(path, label)| {
                let is_here = match *path {
                    "/" => self.path == "/",
                    path => self.path.starts_with(path),
                };
                context! { url => self.url(path), label => *label, is_here => is_here }
            })
            .collect();
        // Only what this administrator did is told.
        let done = self.done.and_then(|number| self.app.log.entry(number));
        let done = done.filter(|entry| entry.who == who);
        context! {
            title => title,
            base => &*self.base,
            overview => self.url("/"),
            navigation => navigation,
            who => who,
            may_change => self.access.may_change(),
            may_see_values => self.access.may_see_values(),
            form_token => self.app.tokens.token(who),
            can_sign_out => self.app.sign_in.is_some() && !who.is_empty(),
            done => done.map(Serde),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = StatusCode;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // The gate, which is around every page, put it there.
        let visit = head.extensions.remove();
        visit.ok_or(StatusCode::NOT_FOUND)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Whether it is the words of an extractor.
fn is_plain(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"))
}

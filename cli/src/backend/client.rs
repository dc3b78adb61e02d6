//! Requests to an administration, and what is wrong with their answers. Everything that comes is bounded in length and in
//! time. No redirect is followed: the token goes to the address that was given alone.

use super::address::Address;
use super::wire::Refusal;
use crate::failure::Failure;
use serde::de::DeserializeOwned;
use std::io::{self, Read};
use std::time::Duration;
use ureq::http::{HeaderValue, Response, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Error, RequestBuilder, SendBody};

/// The longest answer that is read into memory.
const LONGEST: u64 = 64 << 20;
/// The longest one with the values of a package, which an application can make large.
const LONGEST_VALUES: u64 = 512 << 20;
/// The longest error.
const LONGEST_ERROR: u64 = 64 << 10;
/// An answer may come slowly, for so many times the time that it may take to begin.
const SLOWNESS: u32 = 10;

const JSON: &str = "application/json";

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a connection.
    pub(crate) connect: Duration,
    /// For an answer to begin, and then for each part of it.
    pub(crate) answer: Duration,
}

/// Why there is no answer.
pub(crate) enum Trouble {
    /// The administration says why.
    Refused(StatusCode, Refusal),
    Failure(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(status, refusal) => refusal.failure(status),
            Trouble::Failure(failure) => failure,
        }
    }
}

pub(crate) type Answered<T> = Result<T, Trouble>;

/// How large an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Usual,
    Values,
}

#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
    authorization: Option<HeaderValue>,
    patience: Patience,
}

/// The fields of a query or of a form.
pub(crate) type Fields<'a> = &'a [(&'a str, String)];

impl Client {
    pub(crate) fn new(
        address: &Address,
        authorization: Option<HeaderValue>,
        patience: Patience,
    ) -> Self {
        // Another provider of the process would do as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("cloakroom/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_per_read(Some(patience.answer))
            .timeout_per_write(Some(patience.answer))
            .timeout_recv_response(Some(patience.answer));
        Self {
            agent: config.build().new_agent(),
            base: address.text.clone(),
            authorization,
            patience,
        }
    }

    pub(crate) fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str, query: Fields<'_>) -> Answered<T> {
        let query = query.iter().map(|(name, value)| (*name, &**value));
        let request = self.agent.get(self.url(path)).query_pairs(query);
        let request = request
            .config()
            .timeout_recv_body(Some(self.patience.answer * SLOWNESS));
        let answer = self.head(request.build()).call();
        self.read(answer, Size::Usual)
    }

    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        form: Fields<'_>,
        size: Size,
    ) -> Answered<T> {
        let request = self.agent.post(self.url(path)).config();
        let request = request.timeout_recv_body(Some(self.patience.answer * SLOWNESS));
        let form = form.iter().map(|(name, value)| (*name, &**value));
        let answer = self.head(request.build()).send_form(form);
        self.read(answer, size)
    }

    /// An answer that is as long as it is. Content of another kind is none.
    pub(crate) fn download(&self, path: &str, form: Fields<'_>) -> Answered<Body> {
        let form = form.iter().map(|(name, value)| (*name, &**value));
        let answer = self.head(self.agent.post(self.url(path))).send_form(form);
        let answer = self.accept(answer)?;
        if is_json(&answer) || kind(&answer).starts_with("text/html") {
            return Err(self.no_administration().into());
        }
        Ok(answer.into_body())
    }

    /// Sends content that is as long as it is.
    pub(crate) fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Fields<'_>,
        content: &mut dyn Read,
    ) -> Answered<T> {
        let query = query.iter().map(|(name, value)| (*name, &**value));
        let request = self.agent.post(self.url(path)).query_pairs(query);
        let request = request.content_type("application/x-ndjson");
        // A refusal comes before the content is sent.
        let request = request.header(header::EXPECT, "100-continue");
        let answer = self.head(request).send(SendBody::from_reader(content));
        self.read(answer, Size::Usual)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn head<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        let request = request.header(header::ACCEPT, JSON);
        match &self.authorization {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        }
    }

    fn read<T: DeserializeOwned>(
        &self,
        answer: Result<Response<Body>, Error>,
        size: Size,
    ) -> Answered<T> {
        let mut answer = self.accept(answer)?;
        if !is_json(&answer) {
            return Err(self.no_administration().into());
        }
        let limit = match size {
            Size::Usual => LONGEST,
            Size::Values => LONGEST_VALUES,
        };
        let content = answer.body_mut().with_config().limit(limit).read_to_vec();
        let content = content.map_err(|error| self.unanswered(&error))?;
        Ok(serde_json::from_slice(&content).map_err(|_| self.no_administration())?)
    }

    /// The answer, if it is none that refuses.
    fn accept(&self, answer: Result<Response<Body>, Error>) -> Answered<Response<Body>> {
        let mut answer = answer.map_err(|error| self.unanswered(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if status.is_redirection() {
            return Err(self.redirected(&answer).into());
        }
        let refusal = is_json(&answer).then(|| {
            let content = answer
                .body_mut()
                .with_config()
                .limit(LONGEST_ERROR)
                .read_to_vec();
            serde_json::from_slice(&content.ok()?).ok()
        });
        match refusal.flatten() {
            Some(refusal) => Err(Trouble::Refused(status, refusal)),
            None => Err(self.unexplained(status).into()),
        }
    }

    /// The store's administration answers errors with reasons, unless there is no access.
    fn unexplained(&self, status: StatusCode) -> Failure {
        let base = &self.base;
        match status {
            StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let token = match self.has_token() {
                    true => "or the token gives no access",
                    false => "or it needs a token, and none was given",
                };
                let what = format!("there is no administration at {base}, {token} ({status})");
                let advice = "Check the address: the path under which the application mounts the page. Give the token with \
                              --token-file FILE or in the environment variable CLOAKROOM_TOKEN.";
                Failure::unusable("no-access", what, advice)
            }
            status => {
                let what = format!("{base} answers {status}");
                let advice = "Look at the log of the application, or of the proxy in front of it, then try again.";
                Failure::unusable("unreachable", what, advice)
            }
        }
    }

    fn redirected(&self, answer: &Response<Body>) -> Failure {
        let to = answer.headers().get(header::LOCATION);
        let to = to.map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
        let to = to.unwrap_or_else(|| "nowhere".to_owned());
        let what = format!(
            "{} sends on to {to}: the token was not sent there",
            self.base
        );
        let advice = "If you trust that address, give it with --at.";
        Failure::unusable("redirected", what, advice)
    }

    pub(crate) fn no_administration(&self) -> Failure {
        let what = format!(
            "{} answers, but not as an administration of cloakroom does",
            self.base
        );
        let advice = "Check the address: the path under which the application mounts the administration page.";
        Failure::unusable("no-administration", what, advice)
    }

    /// The rest of a long answer has not come.
    pub(crate) fn cut_short(&self, error: &io::Error) -> Failure {
        let what = format!("the answer of {} was cut short: {error}", self.base);
        let advice = "Nothing is left of it. The audit log of the administration, or the log of the application, may tell \
                      why. Try again.";
        Failure::unusable("cut-short", what, advice)
    }

    /// There is no answer, or only a part of one.
    pub(crate) fn unanswered(&self, error: &Error) -> Failure {
        let (base, patience) = (&self.base, self.patience);
        let (what, advice) = match error {
            Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => (
                format!("{base} cannot be reached within {:?}", patience.connect),
                "Check the address and the network, and whether the application runs. --connect-timeout waits longer.",
            ),
            Error::Timeout(_) => (
                format!("{base} has not answered within {:?}", patience.answer),
                "What was asked for may or may not have been done: look before you repeat it. --answer-timeout waits longer.",
            ),
            Error::Tls(_) | Error::Rustls(_) => (
                format!("there is no safe connection to {base}: {error}"),
                "Check the address and the server's certificate. The system's authorities count, and those in the file that \
                 SSL_CERT_FILE names.",
            ),
            Error::BodyExceedsLimit(most) => (
                format!("the answer of {base} is longer than {most} bytes"),
                "Ask for less, for example with --limit.",
            ),
            Error::Protocol(_) => return self.no_administration(),
            error => (
                format!("{base} cannot be reached: {error}"),
                "Check the address and the network, and whether the application runs.",
            ),
        };
        Failure::unusable("unreachable", what, advice)
    }
}

fn kind(answer: &Response<Body>) -> &str {
    let kind = answer.headers().get(header::CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

fn is_json(answer: &Response<Body>) -> bool {
    let kind = kind(answer).split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case(JSON)
}

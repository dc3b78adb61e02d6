//! The rules of a session layer over HTTP (C4, C6, C8.7), as cases that know no web framework. A back end serves a site of
//! theirs with one framework. The package of each framework includes this folder, and runs every case.

#[path = "aborts.rs"]
mod aborts;
#[path = "caches.rs"]
mod caches;
#[path = "commits.rs"]
mod commits;
#[path = "containers.rs"]
mod containers;
#[path = "cookies.rs"]
mod cookies;
#[path = "errors.rs"]
mod errors;
#[path = "ids.rs"]
mod ids;
#[path = "reruns.rs"]
mod reruns;

use bytes::Bytes;
use cloakroom::http::{Rerun, SessionLayer};
use cloakroom::{ClientId, Clock, Error, ErrorKind, Session, Store};
use http::{Extensions, HeaderName, Request, Response, header, request, response};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What a page answers.
pub(crate) type Reply = Result<Response<ReplyBody>, Error>;
pub(crate) type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;

pub(crate) enum ReplyBody {
    Text(String),
    /// Made when it is sent.
    Late(Box<dyn FnOnce() -> String + Send>),
}

/// What a page gets to see of a request.
pub(crate) struct Visit {
    pub(crate) head: request::Parts,
    /// The pattern of the route.
    pub(crate) pattern: Option<String>,
    pub(crate) peer: Option<SocketAddr>,
    /// Those that the layer has put there.
    pub(crate) extensions: Extensions,
    pub(crate) body: Bytes,
}

#[derive(Clone)]
pub(crate) enum Page {
    /// It takes the session as an argument, after the body was read.
    Session(Arc<dyn Fn(Session, Visit) -> Answering + Send + Sync>),
    /// It takes none.
    Plain(Arc<dyn Fn(Visit) -> Answering + Send + Sync>),
}

#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) page: Page,
    pub(crate) rerun: Option<Rerun>,
}

/// Routes for all methods, and the layers around them, the innermost first.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) routes: Vec<Route>,
    pub(crate) layers: Vec<SessionLayer>,
}

impl Site {
    /// The usual pages under a layer.
    fn new(layer: SessionLayer) -> Self {
        let site = Self {
            routes: Vec::new(),
            layers: vec![layer],
        };
        site.page("/count", |s, _| async move { text(count(&s)?) })
            .page("/read", |s, _| async move { text(read(&s)?) })
            .page(
                "/rotate",
                |s, _| async move { text(s.rotate()?.as_str().len()) },
            )
            .page("/destroy", |s, _| async move {
                s.destroy()?;
                text("")
            })
            .plain("/plain", |_| async { text("plain") })
    }

    fn page<F, A>(mut self, path: &'static str, page: F) -> Self
    where
        F: Fn(Session, Visit) -> A + Send + Sync + 'static,
        A: Future<Output = Reply> + Send + 'static,
    {
        let page = move |session, visit| -> Answering { Box::pin(page(session, visit)) };
        self.routes.push(Route {
            path,
            page: Page::Session(Arc::new(page)),
            rerun: None,
        });
        self
    }

    fn plain<F, A>(mut self, path: &'static str, page: F) -> Self
    where
        F: Fn(Visit) -> A + Send + Sync + 'static,
        A: Future<Output = Reply> + Send + 'static,
    {
        let page = move |visit| -> Answering { Box::pin(page(visit)) };
        self.routes.push(Route {
            path,
            page: Page::Plain(Arc::new(page)),
            rerun: None,
        });
        self
    }

    /// Gives the last route a setting of its own.
    fn rerun(mut self, rerun: Rerun) -> Self {
        self.routes.last_mut().unwrap().rerun = Some(rerun);
        self
    }
}

/// The body of a request.
pub(crate) enum Sent {
    Empty,
    Whole(Bytes),
    /// Of unknown size.
    Pieces(Vec<Bytes>),
}

/// A case that fails where it would wait for ever.
pub(crate) async fn bounded(case: impl Future<Output = ()>) {
    let bounded = tokio::time::timeout(60 * SECOND, case);
    bounded.await.expect("it waits for ever");
}

/// What a client gets.
pub(crate) struct Answer {
    pub(crate) head: response::Parts,
    pub(crate) body: Pin<Box<dyn Future<Output = String>>>,
}

/// A web framework.
pub(crate) trait Backend: Sized + 'static {
    /// Runs a case on the framework's runtime.
    fn run(case: impl Future<Output = ()>);

    async fn start(site: Site) -> Self;

    /// Serves a request. The answer's extensions have the error from which it was made.
    async fn send(&self, request: Request<Sent>) -> Answer;

    /// A request without a body. `cookie` is a whole `name=value`, or empty.
    async fn get(&self, path: &str, cookie: &str) -> Answer {
        self.send(request("GET", path, cookie)).await
    }

    async fn post(&self, path: &str, cookie: &str) -> Answer {
        self.send(request("POST", path, cookie)).await
    }

    /// What a page says to this cookie.
    async fn page(&self, path: &str, cookie: &str) -> String {
        let answer = self.get(path, cookie).await;
        assert!(answer.head.status.is_success(), "{:?}", answer.head.status);
        answer.body.await
    }

    /// A visitor who has counted once.
    async fn visitor(&self) -> String {
        self.get("/count", "").await.jar()
    }
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    fn values(&self, name: HeaderName) -> Vec<&str> {
        let values = self.head.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    /// The one `Set-Cookie`, if it has any.
    fn set_cookie(&self) -> Option<&str> {
        let mut all = self.values(header::SET_COOKIE);
        assert!(all.len() < 2, "more than one cookie");
        all.pop()
    }

    /// What a browser would send back.
    fn jar(&self) -> String {
        let field = self.set_cookie().expect("a cookie");
        field.split(';').next().unwrap().to_owned()
    }

    fn kind(&self) -> Option<ErrorKind> {
        self.head.extensions.get::<Error>().map(Error::kind)
    }

    /// `Cache-Control`, and what `Vary` lists.
    fn cache(&self) -> (Vec<&str>, Vec<&str>) {
        (
            self.values(header::CACHE_CONTROL),
            self.values(header::VARY),
        )
    }
}

fn text(text: impl ToString) -> Reply {
    Ok(Response::new(ReplyBody::Text(text.to_string())))
}

fn status(status: u16) -> Reply {
    let mut response = Response::new(ReplyBody::Text(String::new()));
    *response.status_mut() = status.try_into().unwrap();
    Ok(response)
}

fn request(method: &str, path: &str, cookie: &str) -> Request<Sent> {
    let mut request = Request::builder().method(method).uri(path);
    if !cookie.is_empty() {
        request = request.header(header::COOKIE, cookie);
    }
    request.body(Sent::Empty).unwrap()
}

fn with_body(method: &str, path: &str, cookie: &str, body: Sent) -> Request<Sent> {
    request(method, path, cookie).map(|_| body)
}

const PACKAGE: &str = "visits";

/// The counter that every case counts on: read, then written.
fn count(session: &Session) -> Result<u64, Error> {
    let visits = session.pkg(PACKAGE);
    let n = visits.get::<u64>("count")?.unwrap_or(0) + 1;
    visits.insert("count", n)?;
    Ok(n)
}

fn read(session: &Session) -> Result<u64, Error> {
    Ok(session.pkg(PACKAGE).get::<u64>("count")?.unwrap_or(0))
}

fn halves(cookie: &str) -> (&str, &str) {
    cookie.split_once('=').unwrap()
}

fn id_of(store: &Store, cookie: &str) -> ClientId {
    store.client_ids().verify(halves(cookie).1).expect("an id")
}

/// The count in the store, read past the web.
fn stored(store: &Store, cookie: &str) -> Option<u64> {
    let id = id_of(store, cookie);
    store
        .transact(|txn| txn.session(&id)?.pkg(PACKAGE).get::<u64>("count"))
        .unwrap()
}

/// Another's write to the count, between a request's reading and its commit.
fn interfere(store: &Store, id: &ClientId, count: u64) {
    store
        .transact(|txn| txn.session(id)?.pkg(PACKAGE).insert("count", count))
        .unwrap();
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A store in memory, and its clock, which stands still.
fn timed() -> (Clock, Store) {
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    (clock, store)
}

/// A store in memory, and the usual site on it.
async fn usual<B: Backend>() -> (Store, B) {
    let store = Store::in_memory().unwrap();
    let app = B::start(Site::new(SessionLayer::new(store.clone()))).await;
    (store, app)
}

/// Lists all cases: `cases` returns them, and `each_rule` makes a test of each.
macro_rules! cases {
    (($d:tt) $($module:ident { $($case:ident)* })*) => {
        type Case = fn() -> Pin<Box<dyn Future<Output = ()>>>;

        /// All cases, by name.
        #[allow(dead_code, reason = "one of the packages plants faults")]
        pub(crate) fn all<B: Backend>() -> Vec<(&'static str, Case)> {
            vec![$($((stringify!($case), || Box::pin($module::$case::<B>())),)*)*]
        }

        /// One case by its function, for the tests that `each_rule` makes.
        pub(crate) mod cases {
            $($(pub(crate) use super::$module::$case;)*)*
        }

        macro_rules! each_rule {
            ($d backend:ty) => {
                $($(
                    #[test]
                    fn $case() {
                        <$d backend as $crate::suite::Backend>::run($crate::suite::cases::$case::<$d backend>());
                    }
                )*)*
            };
        }
        pub(crate) use each_rule;
    };
}

cases! {
    ($)
    commits {
        a_session_that_is_not_asked_for_touches_no_store
        a_response_below_500_commits
        the_commit_comes_before_the_body
        later_extractions_give_the_same_transaction
        commit_when_replaces_the_rule
        a_commit_that_fails_becomes_the_response
        a_body_that_is_sent_finds_the_session_closed
        what_was_committed_now_stays_and_its_cookie_is_sent
        after_commit_now_the_request_never_runs_again
        after_commit_now_the_request_holds_no_turn
    }
    containers {
        a_handler_chooses_a_container_for_a_new_visitor
        a_container_that_is_not_there_is_an_error_and_begins_no_session
    }
    aborts {
        responses_of_500_and_408_abort
        an_error_of_the_handler_aborts
        a_handler_that_panics_leaves_no_trace
        a_dropped_request_aborts
        a_response_can_say_that_it_aborts
    }
    reruns {
        an_idempotent_request_runs_again
        any_other_request_runs_once_and_is_answered_503
        always_runs_a_post_again
        never_runs_not_even_a_get_again
        a_routes_own_setting_replaces_the_layers
        attempts_are_bounded
        an_upgrade_runs_once
        a_request_that_runs_once_waits_for_its_turn
        a_body_is_replayed_up_to_the_limit
        a_body_of_unknown_size_is_replayed_up_to_the_limit
        the_request_is_there_again_as_it_arrived
        a_conflict_that_the_handler_passes_on_runs_again
    }
    cookies {
        reading_hands_out_no_cookie
        the_cookie_is_safe_by_default
        settings_are_those_of_the_cookie
        the_cookie_is_sent_again_with_a_due_touch
        a_sessions_own_timeout_is_its_cookies_max_age
        destruction_removes_the_cookie_with_its_attributes
        rotation_sends_a_new_cookie_and_ends_the_old_one
        an_old_id_is_renewed
        post_only_refuses_a_get
        the_cookie_of_a_front_server_is_read_and_never_sent
        an_id_travels_in_a_header
        the_handlers_own_cookies_stay
    }
    ids {
        several_cookie_fields_are_read_as_bytes
        rubbish_and_oversize_cookies_are_no_ids
        eight_cookies_of_our_name_are_checked
        the_first_cookie_that_is_live_counts
        a_late_request_with_a_dead_id_brings_nothing_back
        parallel_requests_without_an_id_are_different_visitors
        headers_print_no_id_inside_the_layer
    }
    caches {
        a_response_with_our_cookie_is_not_stored
        a_response_that_read_the_session_is_private_and_varies
        the_handlers_vary_stays
    }
    errors {
        a_missing_layer_is_named
        a_nested_layer_steps_aside
        what_is_too_large_is_answered_413
        a_visitor_that_is_not_admitted_is_answered_429
        an_error_that_the_handler_returns_is_the_layers_answer
        a_store_that_is_closed_is_an_error
    }
}

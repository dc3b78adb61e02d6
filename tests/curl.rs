//! C4.3, C4.4, C4.7: the cookie as curl's jar judges it, not we ourselves. Where there is no curl, nothing is tested, which
//! is said.
//!
//! curl takes plain HTTP with `localhost` for a secure context, and with every other name for an insecure one. It knows
//! the prefixes `__Host-` and `__Secure-`, but keeps no `SameSite`.
#![cfg(feature = "axum")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use axum::Router;
use axum::routing::get;
use cloakroom::http::{CookieLifetime, CookieSettings, SameSite, SessionLayer};
use cloakroom::{Error, Session, Store};
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn count(session: Session) -> Result<String, Error> {
    let visits = session.pkg("visits");
    visits.update("count", |n: Option<u32>| n.unwrap_or(0) + 1)?;
    Ok(visits.get::<u32>("count")?.unwrap_or(0).to_string())
}

async fn read(session: Session) -> Result<String, Error> {
    let n = session.pkg("visits").get::<u32>("count")?;
    Ok(n.unwrap_or(0).to_string())
}

async fn rotate(session: Session) -> Result<(), Error> {
    session.rotate().map(drop)
}

async fn destroy(session: Session) -> Result<(), Error> {
    session.destroy()
}

async fn remember(session: Session) -> Result<(), Error> {
    session.set_timeout(Some(30 * DAY))
}

fn pages() -> Router {
    Router::new()
        .route("/count", get(count))
        .route("/read", get(read))
        .route("/rotate", get(rotate))
        .route("/destroy", get(destroy))
        .route("/remember", get(remember))
}

/// A server on a port of its own, and a visitor with a jar.
struct Visit {
    port: u16,
    folder: TempDir,
    _runtime: Runtime,
}

/// A cookie in the jar. Its file has the format of Netscape's: fields that tabs divide.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    domain: String,
    is_http_only: bool,
    is_for_subdomains: bool,
    path: String,
    is_secure: bool,
    /// In seconds since 1970; 0 if it ends with the browser.
    expires: u64,
    name: String,
    value: String,
}

impl Kept {
    fn parse(line: &str) -> Option<Self> {
        let (line, is_http_only) = match line.strip_prefix("#HttpOnly_") {
            Some(line) => (line, true),
            None => (line, false),
        };
        if line.starts_with('#') || line.is_empty() {
            return None;
        }
        let fields: Vec<_> = line.split('\t').collect();
        let [domain, subdomains, path, secure, expires, name, value] = fields[..] else {
            panic!("{line}");
        };
        Some(Self {
            domain: domain.to_owned(),
            is_http_only,
            is_for_subdomains: subdomains == "TRUE",
            path: path.to_owned(),
            is_secure: secure == "TRUE",
            expires: expires.parse().unwrap(),
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }

    fn line(&self) -> String {
        let is = |yes: bool| if yes { "TRUE" } else { "FALSE" };
        let prefix = if self.is_http_only { "#HttpOnly_" } else { "" };
        format!(
            "{prefix}{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
            self.domain,
            is(self.is_for_subdomains),
            self.path,
            is(self.is_secure),
            self.expires,
            self.name,
            self.value,
        )
    }
}

impl Visit {
    /// `None` where there is no curl.
    fn new(settings: CookieSettings) -> Option<Self> {
        let mut curl = Command::new("curl");
        curl.arg("--version").stdout(Stdio::null());
        if !curl.status().is_ok_and(|status| status.success()) {
            // Past the test's captured output.
            let why = "SKIPPED: there is no curl that could judge the cookie\n";
            std::io::stderr().write_all(why.as_bytes()).unwrap();
            return None;
        }
        let layer = SessionLayer::new(Store::in_memory().unwrap()).cookie(settings);
        let app = pages()
            .nest("/shop", pages().nest("/deep", pages()))
            .nest("/shopping", pages())
            .layer(layer);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let runtime = Runtime::new().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
        Some(Self {
            port,
            folder: tempfile::tempdir().unwrap(),
            _runtime: runtime,
        })
    }

    fn jar(&self) -> std::path::PathBuf {
        self.folder.path().join("jar")
    }

    /// Requests a page with the jar's cookies, and updates the jar. Returns the fields of the answer, and its body.
    fn ask(&self, host: &str, path: &str) -> (String, String) {
        let (jar, port) = (self.jar(), self.port);
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
            .args(["--include", "--max-time", "60"])
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
            .arg("--cookie")
            .arg(&jar)
            .arg("--cookie-jar")
            .arg(&jar)
            .arg(format!("http://{host}:{port}{path}"))
            .output()
            .unwrap();
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{host}{path}: {problem}");
        let answer = String::from_utf8(output.stdout).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    fn get(&self, host: &str, path: &str) -> String {
        self.ask(host, path).1
    }

    fn kept(&self) -> Vec<Kept> {
        let jar = fs::read_to_string(self.jar()).unwrap_or_default();
        jar.lines().filter_map(Kept::parse).collect()
    }

    /// The only cookie in the jar.
    fn only(&self) -> Kept {
        let mut kept = self.kept();
        assert_eq!(kept.len(), 1, "{kept:?}");
        kept.remove(0)
    }

    /// Puts another cookie into the jar, and nothing else.
    fn keep(&self, cookie: &Kept) {
        let head = "# Netscape HTTP Cookie File\n";
        fs::write(self.jar(), format!("{head}{}", cookie.line())).unwrap();
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

// C4.4
#[test]
fn the_default_cookie_is_kept_and_sent_back() {
    let Some(visit) = Visit::new(CookieSettings::new()) else {
        return;
    };
    assert_eq!(visit.get("localhost", "/read"), "0");
    assert_eq!(visit.kept(), [], "reading makes no cookie");
    for n in ["1", "2", "3"] {
        assert_eq!(visit.get("localhost", "/count"), n);
    }
    let kept = visit.only();
    assert!(kept.name.starts_with("__Host-id-"), "{}", kept.name);
    assert!(kept.is_secure && kept.is_http_only);
    assert!(!kept.is_for_subdomains && kept.domain == "localhost");
    assert_eq!((&*kept.path, kept.expires), ("/", 0));
}

// C4.4: `Secure`
#[test]
fn a_secure_cookie_is_neither_kept_nor_sent_without_tls() {
    let Some(visit) = Visit::new(CookieSettings::new()) else {
        return;
    };
    assert_eq!(visit.get("shop.test", "/count"), "1");
    assert_eq!(visit.kept(), []);
    assert_eq!(visit.get("localhost", "/count"), "1");
    let mut kept = visit.only();
    kept.domain = "shop.test".to_owned();
    visit.keep(&kept);
    assert_eq!(
        visit.get("shop.test", "/read"),
        "0",
        "was sent in the clear"
    );
    kept.domain = "localhost".to_owned();
    visit.keep(&kept);
    assert_eq!(visit.get("localhost", "/read"), "1", "is the same there");
}

// C4.4
#[test]
fn a_cookie_for_plain_http_is_kept_and_sent_without_tls() {
    let Some(visit) = Visit::new(CookieSettings::new().plain_http()) else {
        return;
    };
    assert_eq!(visit.get("shop.test", "/count"), "1");
    assert_eq!(visit.get("shop.test", "/count"), "2");
    assert!(!visit.only().is_secure);
    assert_eq!(visit.get("other.test", "/read"), "0", "is of another host");
}

// C4.3: `HttpOnly`
#[test]
fn a_cookie_that_scripts_may_read_is_kept_as_one() {
    let Some(visit) = Visit::new(CookieSettings::new().script_readable()) else {
        return;
    };
    assert_eq!(visit.get("localhost", "/count"), "1");
    assert!(!visit.only().is_http_only);
}

// C4.3: `Path`
#[test]
fn a_cookie_with_a_path_is_sent_below_that_path_alone() {
    let settings = CookieSettings::new().path("/shop").unwrap();
    let Some(visit) = Visit::new(settings) else {
        return;
    };
    assert_eq!(visit.get("localhost", "/shop/count"), "1");
    let kept = visit.only();
    assert_eq!(kept.path, "/shop");
    assert!(kept.name.starts_with("__Secure-id-"), "{}", kept.name);
    for (path, n) in [
        ("/shop/read", "1"),
        ("/shop/deep/read", "1"),
        ("/shopping/read", "0"),
        ("/read", "0"),
    ] {
        assert_eq!(visit.get("localhost", path), n, "{path}");
    }
}

// C4.3: `Domain`
#[test]
fn a_cookie_with_a_domain_is_sent_to_its_subdomains() {
    let settings = CookieSettings::new().plain_http();
    let Some(visit) = Visit::new(settings.domain("shop.test").unwrap()) else {
        return;
    };
    assert_eq!(visit.get("www.shop.test", "/count"), "1");
    assert!(visit.only().is_for_subdomains);
    for (host, n) in [
        ("shop.test", "1"),
        ("www.shop.test", "1"),
        ("bookshop.test", "0"),
    ] {
        assert_eq!(visit.get(host, "/read"), n, "{host}");
    }
}

// C4.3: `SameSite`, which curl does not keep. A client takes the cookie with each of its values.
#[test]
fn a_cookie_is_kept_with_each_value_of_same_site() {
    for (value, text) in [
        (SameSite::Strict, "SameSite=Strict"),
        (SameSite::Lax, "SameSite=Lax"),
        (SameSite::None, "SameSite=None"),
    ] {
        let settings = CookieSettings::new().same_site(value).unwrap();
        let Some(visit) = Visit::new(settings) else {
            return;
        };
        let (head, _) = visit.ask("localhost", "/count");
        let is_field = |line: &&str| line.to_ascii_lowercase().starts_with("set-cookie:");
        let field = head.lines().find(is_field).unwrap();
        assert!(field.split("; ").any(|it| it == text), "{text}");
        assert_eq!(visit.get("localhost", "/count"), "2", "{text}");
    }
}

// C4.3: `Max-Age`
#[test]
fn a_cookie_with_a_lifetime_is_kept_for_so_long() {
    for (lifetime, seconds) in [
        (CookieLifetime::For(2 * HOUR), 7200),
        (CookieLifetime::Max, 400 * 86_400),
    ] {
        let Some(visit) = Visit::new(CookieSettings::new().lifetime(lifetime)) else {
            return;
        };
        let before = now();
        assert_eq!(visit.get("localhost", "/count"), "1");
        let mut kept = visit.only();
        let times = before + seconds..=now() + seconds;
        // curl keeps no cookie for longer than 400 days, by its own clock.
        assert!(
            times.contains(&kept.expires),
            "{lifetime:?}: {}",
            kept.expires
        );
        assert_eq!(visit.get("localhost", "/read"), "1");
        kept.expires = now() - 1;
        visit.keep(&kept);
        assert_eq!(visit.get("localhost", "/read"), "0", "{lifetime:?} is over");
    }
}

// C4.3
#[test]
fn a_session_that_is_remembered_has_a_cookie_that_lasts_as_long() {
    let Some(visit) = Visit::new(CookieSettings::new()) else {
        return;
    };
    assert_eq!(visit.get("localhost", "/count"), "1");
    assert_eq!(visit.only().expires, 0);
    let before = now();
    visit.get("localhost", "/remember");
    let month = 30 * 86_400;
    assert!((before + month..=now() + month).contains(&visit.only().expires));
}

// C4.7
#[test]
fn a_renewed_cookie_replaces_the_old_one() {
    let Some(visit) = Visit::new(CookieSettings::new()) else {
        return;
    };
    assert_eq!(visit.get("localhost", "/count"), "1");
    let old = visit.only();
    visit.get("localhost", "/rotate");
    let new = visit.only();
    assert_eq!(new.name, old.name);
    assert_ne!(new.value, old.value);
    assert_eq!(visit.get("localhost", "/read"), "1");
    visit.keep(&old);
    assert_eq!(
        visit.get("localhost", "/read"),
        "0",
        "the old id is worth something"
    );
}

// C4.7: a removal that differs in an attribute leaves the cookie where it is.
#[test]
fn the_cookie_of_a_destroyed_session_is_removed() {
    let settings = CookieSettings::new;
    for (settings, host, path) in [
        (settings(), "localhost", ""),
        (settings().path("/shop").unwrap(), "localhost", "/shop"),
        (settings().lifetime(CookieLifetime::Max), "localhost", ""),
        (
            settings().same_site(SameSite::None).unwrap(),
            "localhost",
            "",
        ),
        (settings().partitioned().unwrap(), "localhost", ""),
        (settings().plain_http(), "shop.test", ""),
        (
            settings().plain_http().domain("shop.test").unwrap(),
            "www.shop.test",
            "",
        ),
    ] {
        let what = format!("{settings:?}");
        let Some(visit) = Visit::new(settings) else {
            return;
        };
        assert_eq!(visit.get(host, &format!("{path}/count")), "1", "{what}");
        visit.only();
        visit.get(host, &format!("{path}/destroy"));
        assert_eq!(visit.kept(), [], "{what}");
    }
}

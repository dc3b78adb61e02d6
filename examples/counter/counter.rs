//! A small web application that counts each visitor's visits and remembers a favourite colour.
//!
//! `cargo run --release --example counter -- --listen 127.0.0.1:3000 --store counter.redb`

use axum::Router;
use axum::extract::Form;
use axum::extract::rejection::FormRejection;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use cloakroom::http::{CookieSettings, SessionLayer};
use cloakroom::{PkgData, Session, Store};
use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Counts this visit and shows the page.
async fn index(session: Session) -> cloakroom::Result<Response> {
    let counter = session.pkg("counter");
    let visits = count_visit(&counter)?;
    let color: Option<String> = counter.get("color")?;
    Ok(page(
        StatusCode::OK,
        "Visits",
        &index_html(visits, color.as_deref()),
    ))
}

/// Counts this visit and answers the bare number.
async fn count(session: Session) -> cloakroom::Result<String> {
    Ok(count_visit(&session.pkg("counter"))?.to_string())
}

fn count_visit(counter: &PkgData) -> cloakroom::Result<u64> {
    counter.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)
}

#[derive(serde::Deserialize)]
struct ColorForm {
    color: String,
}

async fn set_color(
    session: Session,
    form: Result<Form<ColorForm>, FormRejection>,
) -> cloakroom::Result<Response> {
    let sent = form.ok().map(|Form(form)| form.color);
    let Some(color) = sent.as_deref().and_then(parse_color) else {
        let sent = match sent {
            Some(text) => format!("<code>{}</code> is not one.", escape(&text)),
            None => "The form field <code>color</code> is missing.".to_owned(),
        };
        let text = format!(
            "<h1>That is not a colour</h1>\n<p>A colour looks like <code>#1e90ff</code>. {sent} \
             Nothing was changed.</p>\n{BACK}"
        );
        return Ok(page(StatusCode::BAD_REQUEST, "Not a colour", &text));
    };
    session.pkg("counter").insert("color", &color)?;
    Ok(Redirect::to("/").into_response())
}

/// Changes the session and then fails: nobody will ever see the change.
async fn fail(session: Session) -> cloakroom::Result<Response> {
    let counter = session.pkg("counter");
    counter.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1_000_000)?;
    counter.insert("color", "#000000")?;
    let text = format!(
        "<h1>500, on purpose</h1>\n<p>This request added a million visits, painted your colour \
         black, and then failed. Its transaction was aborted with it: go back and see that \
         nothing of it was kept.</p>\n{BACK}"
    );
    Ok(page(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Failed on purpose",
        &text,
    ))
}

async fn logout(session: Session) -> cloakroom::Result<Redirect> {
    session.destroy()?;
    Ok(Redirect::to("/"))
}

fn app(store: Store) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/count", get(count))
        .route("/color", post(set_color))
        .route("/fail", post(fail))
        .route("/logout", post(logout))
        // The example speaks plain HTTP; behind TLS, leave `plain_http` out.
        .layer(SessionLayer::new(store).cookie(CookieSettings::new().plain_http()))
        .route("/style.css", get(style))
}

/// `#rrggbb`, as a colour field sends it, in lower case.
fn parse_color(text: &str) -> Option<String> {
    let digits = text.strip_prefix('#')?;
    let valid = digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    valid.then(|| text.to_ascii_lowercase())
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

const BACK: &str = "<p><a href=\"/\">Back to the counter</a></p>";
const DEFAULT_COLOR: &str = "#7a5af0";

fn index_html(visits: u64, color: Option<&str>) -> String {
    let noun = if visits == 1 { "visit" } else { "visits" };
    let greeting = if visits == 1 {
        "Welcome. You have been here once."
    } else {
        "Good to see you again."
    };
    let shown = escape(color.unwrap_or(DEFAULT_COLOR));
    let saved = match color {
        Some(_) => format!("Yours is <code>{shown}</code>."),
        None => "You have not chosen one yet.".to_owned(),
    };
    format!(
        r##"<h1>{greeting}</h1>
<div class="count">
<svg viewBox="0 0 120 120" aria-hidden="true"><circle class="groove" cx="60" cy="60" r="53" /><circle cx="60" cy="60" r="53" fill="none" stroke="{shown}" stroke-width="9" /></svg>
<p><strong>{visits}</strong> {noun}</p>
</div>
<p>This page counts itself. Reload it, restart the server, or kill it: the count goes on.</p>
<section aria-labelledby="favourite">
<h2 id="favourite">Favourite colour</h2>
<form method="post" action="/color">
<label for="color">Colour of the ring</label>
<input type="color" id="color" name="color" value="{shown}">
<button>Save</button>
</form>
<p class="note">{saved}</p>
</section>
<section aria-labelledby="failure">
<h2 id="failure">When a request fails</h2>
<form method="post" action="/fail"><button class="quiet">Fail on purpose</button></form>
<p class="note">It changes your session, then answers 500. Nothing of the change is kept.</p>
</section>
<section aria-labelledby="end">
<h2 id="end">Your session</h2>
<form method="post" action="/logout"><button class="quiet">Log out</button></form>
<p class="note">The session ends, and the next visit is your first.</p>
</section>"##
    )
}

/// No inline style and no script, so that this policy can be strict.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

fn page(status: StatusCode, title: &str, main: &str) -> Response {
    let html = format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · cloakroom</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main>
{main}
</main>
</body>
</html>
"#
    );
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY)];
    (status, headers, Html(html)).into_response()
}

async fn style() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, STYLE)
}

const STYLE: &str = "\
:root {
  color-scheme: light dark;
  --ground: #f3f1f8; --card: #fff; --ink: #1d1a26; --faint: #5c5769; --line: #dcd7e6;
  --accent: #5b3fd6; --on-accent: #fff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #131118; --card: #1d1a26; --ink: #f0edf7; --faint: #aca6bb; --line: #37324a;
    --accent: #b5a4ff; --on-accent: #17122b;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 1.5rem 1rem; min-height: 100vh; display: grid; place-items: center;
  background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif;
}
main {
  width: 100%; max-width: 27rem; padding: 2rem 1.75rem;
  background: var(--card); border: 1px solid var(--line); border-radius: 1rem;
}
h1 { margin: 0 0 1rem; font-size: 1.4rem; line-height: 1.25; text-align: center; }
h2 { margin: 0 0 .6rem; font-size: 1rem; }
p { margin: 1rem 0 0; }
section { margin-top: 1.25rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
.count { position: relative; width: 11rem; height: 11rem; margin: 0 auto; display: grid; place-items: center; }
.count svg { position: absolute; inset: 0; }
.groove { fill: none; stroke: var(--line); stroke-width: 13; }
.count p { position: relative; margin: 0; color: var(--faint); text-align: center; }
.count strong {
  display: block; color: var(--ink); font-size: 2.5rem; line-height: 1.1; font-variant-numeric: tabular-nums;
}
form { display: flex; flex-wrap: wrap; align-items: center; gap: .75rem; }
label { flex: 1; }
input[type=color] {
  width: 3.5rem; height: 2.5rem; padding: .2rem; cursor: pointer;
  background: var(--card); border: 1px solid var(--faint); border-radius: .5rem;
}
button {
  font: inherit; font-weight: 600; min-height: 2.5rem; padding: .4rem 1.1rem; cursor: pointer;
  color: var(--on-accent); background: var(--accent); border: 1px solid var(--accent); border-radius: .5rem;
}
button.quiet { color: var(--accent); background: transparent; }
button:hover { filter: brightness(1.08); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.note { margin-top: .6rem; color: var(--faint); font-size: .9rem; }
a { color: var(--accent); }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
";

const USAGE: &str = "\
Usage: counter [--listen ADDR] [--store PATH]

  --listen ADDR  where to listen (default 127.0.0.1:3000)
  --store PATH   the file that holds the sessions (default counter.redb)
  --help         print this";

struct Settings {
    listen: String,
    store: PathBuf,
}

/// The settings, or `None` where only help is wanted.
fn parse_args(args: impl IntoIterator<Item = OsString>) -> Result<Option<Settings>, String> {
    let mut settings = Settings {
        listen: "127.0.0.1:3000".to_owned(),
        store: PathBuf::from("counter.redb"),
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || {
            let missing = || format!("{} needs a value", arg.display());
            args.next().filter(|v| !v.is_empty()).ok_or_else(missing)
        };
        match arg.to_str() {
            Some("--listen") => {
                settings.listen = value()?
                    .into_string()
                    .map_err(|text| format!("not an address: {}", text.display()))?;
            }
            Some("--store") => settings.store = value()?.into(),
            Some("--help" | "-h") => return Ok(None),
            _ => return Err(format!("unknown argument: {}", arg.display())),
        }
    }
    Ok(Some(settings))
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match parse_args(std::env::args_os().skip(1)) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("counter: {problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match serve(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("counter: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> Result<(), String> {
    let listen = &settings.listen;
    let on_listen = |e| format!("cannot listen on {listen}: {e}");
    // First the port, so that a second start by mistake leaves no file behind.
    let listener = TcpListener::bind(listen).await.map_err(on_listen)?;
    let address = listener.local_addr().map_err(on_listen)?;
    let path = settings.store.display();
    let on_store = |what, e| format!("cannot {what} the store {path}: {}", with_causes(&e));
    let store = Store::open(&settings.store).map_err(|e| on_store("open", e))?;
    let mut stop = StopSignal::new().map_err(|e| format!("cannot wait for signals: {e}"))?;

    let (ask, asked) = oneshot::channel::<()>();
    let server = axum::serve(listener, app(store.clone()))
        .with_graceful_shutdown(async { drop(asked.await) });
    let stopping = async {
        stop.wait().await;
        drop(ask);
        // Open requests may end, but not for ever; a second signal means now.
        drop(tokio::time::timeout(Duration::from_secs(10), stop.wait()).await);
        Ok(())
    };
    say(&format!("listening on http://{address}"));
    let served = tokio::select! {
        served = server.into_future() => served,
        late = stopping => late,
    };
    let closed = store.close().map_err(|e| on_store("close", e));
    served.map_err(|e| format!("cannot serve: {e}")).and(closed)
}

/// An error and what caused it, on one line.
fn with_causes(error: &cloakroom::Error) -> String {
    let causes = std::iter::successors(error.source(), |&e| e.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Prints a line; nobody listening is no reason to fail.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Ctrl-C, and on Unix the signal that service managers send.
struct StopSignal {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl StopSignal {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl StopSignal {
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn wait(&mut self) {
        drop(tokio::signal::ctrl_c().await);
    }
}

//! `admin`: serves the administration page of a store that no application has open.

use crate::args::{AdminArguments, Global};
use crate::backend::read_token;
use crate::failure::{Failure, Found, Outcome};
use crate::interrupt::Interrupt;
use crate::output::{is_unread, json, line};
use cloakroom_admin::{Access, Admin, AuditLog, TokenAccess};
use serde_json::json;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;
use tokio::net::TcpListener;

/// How often the command looks whether it is to stop.
const LOOKED: Duration = Duration::from_millis(50);
/// How long open requests may take to end.
const LAST_REQUESTS: Duration = Duration::from_secs(3);

/// Where the token comes from.
enum Token {
    Given(String),
    /// Nobody knows it yet.
    Made(String),
}

pub(crate) fn run(global: &Global, wanted: &AdminArguments, interrupt: &Interrupt) -> Outcome {
    let token = token(global)?;
    let (Token::Given(text) | Token::Made(text)) = &token;
    let access = match wanted.read_only {
        true => Access::read_only("operator"),
        false => Access::all("operator"),
    };
    let advice = "Write 16 characters or more into the file: without white space around them.";
    let access = TokenAccess::new(text, access)
        .ok_or_else(|| Failure::usage("the token is shorter than 16 characters", advice))?;
    let log = match &wanted.audit_log {
        None => AuditLog::in_memory(),
        Some(path) => AuditLog::in_file(path).map_err(|error| {
            Failure::file(
                format!("the audit log {} cannot be used", path.display()),
                &error,
            )
        })?,
    };
    global.on_store(|store| {
        let mut pages = Admin::new(store.clone(), access.clone())
            .sign_in(access)
            .audit_log(log);
        if wanted.listen.ip().is_loopback() {
            // Nobody is on the way.
            pages = pages.plain_http();
        }
        serve(global, wanted, pages, (&token, interrupt.asks()))
    })
}

fn token(global: &Global) -> Outcome<Token> {
    if let Some(path) = &global.token_file {
        return Ok(Token::Given(read_token(path)?.trim().to_owned()));
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let mut text = String::new();
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(Token::Made(text))
}

fn serve(
    global: &Global,
    wanted: &AdminArguments,
    pages: Admin,
    (token, interrupt): (&Token, &Interrupt),
) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let listener = TcpListener::bind(wanted.listen).await.map_err(|error| {
            let advice = "Choose another address with --listen.";
            let what = format!("nobody can listen on {}: {error}", wanted.listen);
            Failure::unusable("io", what, advice)
        })?;
        tell(global, listener.local_addr()?.to_string(), token)?;
        if is_unread() && matches!(token, Token::Made(_)) {
            // Nobody knows the token.
            return Ok(());
        }
        let asked = is_asked_to_stop(interrupt.clone());
        let server = axum::serve(listener, pages.router()).with_graceful_shutdown(asked);
        tokio::select! {
            served = async { server.await } => served?,
            // Streams of live figures end later.
            () = async { is_asked_to_stop(interrupt.clone()).await; tokio::time::sleep(LAST_REQUESTS).await } => {}
        }
        Ok::<(), Failure>(())
    });
    // Its tasks hold the store.
    runtime.shutdown_timeout(LAST_REQUESTS);
    served?;
    Ok(Found::Nothing)
}

async fn is_asked_to_stop(interrupt: Interrupt) {
    while !interrupt.has_come() {
        tokio::time::sleep(LOOKED).await;
    }
}

fn tell(global: &Global, address: String, token: &Token) -> Outcome<()> {
    let url = format!("http://{address}/");
    if global.json {
        let made = match token {
            Token::Made(text) => Some(text),
            Token::Given(_) => None,
        };
        return json(&json!({ "url": url, "token": made }));
    }
    line(&format!("The page is at {url}. Ctrl-C ends it."))?;
    match token {
        Token::Made(text) => line(&format!("It asks for this token: {text}")),
        Token::Given(_) => Ok(()),
    }
}

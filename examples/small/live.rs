//! Connections that stay open: server-sent events and a WebSocket. Both end when their visitor logs out or the session
//! expires, and neither keeps the session alive by being open.
//!
//! `cargo run -p cloakroom-examples --example live`

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};
use cloakroom::http::{CookieSettings, SessionLayer};
use cloakroom::{ClientKey, Error, Session, SessionHandle, Store, StoreBuilder};
use futures_channel::mpsc;
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

/// Expiry tells nobody before a sweep, so open connections also ask from time to time.
const ASKS: Duration = Duration::from_secs(10);

/// The sessions that have changed or ended, by their keys.
type Changes = broadcast::Sender<ClientKey>;

/// The settings of a store that tells open connections of sessions that end.
pub fn store() -> (StoreBuilder, Changes) {
    let (changes, _) = broadcast::channel(256);
    let (ended, renewed) = (changes.clone(), changes.clone());
    let builder = Store::builder()
        .on_ended(move |event| drop(ended.send(event.client)))
        // A login gives a new id. What was opened under the old one ends.
        .on_renewed(move |event| drop(renewed.send(event.former)));
    (builder, changes)
}

/// The pages, and the connections that stay open.
pub fn app(store: Store, changes: Changes) -> Router {
    // The example speaks plain HTTP; behind TLS, leave `plain_http` out.
    let sessions = SessionLayer::new(store).cookie(CookieSettings::new().plain_http());
    Router::new()
        .route("/", get(page))
        .route("/say", post(say))
        .route("/logout", post(log_out))
        .route("/events", get(events))
        .route("/socket", get(socket))
        .layer(sessions)
        .with_state(changes)
}

async fn page(session: Session) -> Result<Html<&'static str>, Error> {
    session.pkg("live").add("visits", 1)?;
    Ok(Html(PAGE))
}

/// Stores a line, and tells the visitor's open connections once it is durable.
async fn say(
    State(changes): State<Changes>,
    session: Session,
    line: String,
) -> Result<&'static str, Error> {
    add_line(&session, &line)?;
    if let Some(id) = session.client_id() {
        let tell = move || drop(changes.send(id.key()));
        session.txn().after_commit(tell);
    }
    Ok("stored\n")
}

fn add_line(session: &Session, line: &str) -> Result<usize, Error> {
    session
        .pkg("live")
        .update("lines", |lines: Option<Vec<String>>| {
            let mut lines = lines.unwrap_or_default();
            lines.push(line.to_owned());
            lines
        })
        .map(|lines| lines.len())
}

async fn log_out(session: Session) -> Result<&'static str, Error> {
    session.log_out()?;
    Ok("goodbye\n")
}

type Lines = mpsc::Receiver<Result<Event, Infallible>>;

/// The lines as server-sent events: those of before, then each that is added.
async fn events(State(changes): State<Changes>, session: Session) -> Result<Response, Error> {
    if !session.exists()? {
        return Ok(StatusCode::CONFLICT.into_response());
    }
    let handle = session.handle()?;
    let (sender, receiver): (_, Lines) = mpsc::channel(16);
    tokio::spawn(follow(handle, changes.subscribe(), sender));
    let events = Sse::new(receiver).keep_alive(KeepAlive::default());
    Ok(events.into_response())
}

/// Sends what the session holds, until it ends or nobody listens any more.
async fn follow(
    handle: SessionHandle,
    mut changes: broadcast::Receiver<ClientKey>,
    mut listener: mpsc::Sender<Result<Event, Infallible>>,
) {
    let mut sent = 0;
    loop {
        let read = async |session: Session| session.pkg("live").get::<Vec<String>>("lines");
        // An access, but only because the visitor did something.
        let lines = handle.transact_async(read).await;
        let Ok(lines) = lines.map(Option::unwrap_or_default) else {
            let goodbye = Event::default().event("ended").data("log in again");
            drop(listener.try_send(Ok(goodbye)));
            return;
        };
        for line in lines.iter().skip(sent) {
            // Drops a listener that has not read for so long.
            if listener.try_send(Ok(Event::default().data(line))).is_err() {
                return;
            }
        }
        sent = lines.len();
        while !has_changed(&handle, &mut changes).await {
            if listener.is_closed() {
                return;
            }
        }
    }
}

/// Waits until the session has changed or ended, or returns `false` after a while.
async fn has_changed(handle: &SessionHandle, changes: &mut broadcast::Receiver<ClientKey>) -> bool {
    let own = handle.client_id().key();
    let changed = async {
        loop {
            match changes.recv().await {
                Ok(key) if key != own => {}
                // Some were missed; ours may be among them.
                _ => return,
            }
        }
    };
    match tokio::time::timeout(ASKS, changed).await {
        Ok(()) => true,
        // No access: an open page does not keep its visitor logged in.
        Err(_) => !handle.is_live_async().await.unwrap_or(true),
    }
}

/// A WebSocket: each text is stored as a line, and answered with their number.
async fn socket(
    State(changes): State<Changes>,
    session: Session,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Error> {
    if !session.exists()? {
        return Ok(StatusCode::CONFLICT.into_response());
    }
    let handle = session.handle()?;
    let changes = changes.subscribe();
    Ok(upgrade.on_upgrade(move |socket| async move {
        // Whether it could be told does not matter: it is over.
        drop(talk(socket, handle, changes).await);
    }))
}

async fn talk(
    mut socket: WebSocket,
    handle: SessionHandle,
    mut changes: broadcast::Receiver<ClientKey>,
) -> Result<(), axum::Error> {
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(line))) => {
                    let store = async |session: Session| add_line(&session, &line);
                    match handle.transact_async(store).await {
                        Ok(count) => socket.send(count.to_string().into()).await?,
                        Err(_) => break,
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(()),
            },
            changed = has_changed(&handle, &mut changes) => {
                if changed && !handle.is_live_async().await.unwrap_or(true) {
                    break;
                }
            }
        }
    }
    let why = CloseFrame {
        code: close_code::POLICY,
        reason: "log in again".into(),
    };
    socket.send(Message::Close(Some(why))).await
}

const PAGE: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><title>live</title>
<form id="form"><input id="line" aria-label="a line" autofocus><button>send</button></form>
<button id="out">log out</button>
<ul id="lines" aria-live="polite"></ul>
<script>
const show = text => lines.append(Object.assign(document.createElement("li"), { textContent: text }));
const events = new EventSource("/events");
events.onmessage = event => show(event.data);
events.addEventListener("ended", () => { events.close(); show("logged out"); });
form.onsubmit = event => { event.preventDefault(); fetch("/say", { method: "POST", body: line.value }); form.reset(); };
out.onclick = () => fetch("/logout", { method: "POST" });
</script>
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let (builder, changes) = store();
    let store = builder.open("live.redb")?;
    let server = axum::serve(listener, app(store.clone(), changes));
    // Open connections never end by themselves, so the server does not wait for them.
    tokio::select! {
        served = server.into_future() => served?,
        stop = tokio::signal::ctrl_c() => stop?,
    }
    store.close()?;
    Ok(())
}

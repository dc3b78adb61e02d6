//! The page that follows the cart while it is open, by server-sent events.

use crate::answers::ShopError;
use crate::app::Shop;
use crate::cart::Cart;
use crate::pages::Page;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use cloakroom::{ClientKey, ErrorKind, Pkg, Session, SessionHandle, Store};
use futures_channel::mpsc;
use minijinja::context;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const MOST_OF_A_SESSION: usize = 4;

pub(crate) async fn page(page: Page, cart: Pkg<Cart>) -> Result<Response, ShopError> {
    page.show("live.html", context! { count => cart.count() })
}

/// Sends the number of articles when it changes. The request's transaction ends with the response, so the stream has a
/// handle on the session.
pub(crate) async fn events(
    State(shop): State<Shop>,
    session: Session,
) -> Result<Response, ShopError> {
    let handle = match session.handle() {
        Ok(handle) => handle,
        // There is no session to follow. After this status a browser does not connect again.
        Err(error) if error.kind() == ErrorKind::SessionEnded => {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Err(error) => return Err(error.into()),
    };
    let Some(open) = shop.streams.open(handle.client_id().key()) else {
        return Ok(StatusCode::TOO_MANY_REQUESTS.into_response());
    };
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(follow(shop.store, handle, open, sender));
    Ok(Sse::new(receiver)
        .keep_alive(KeepAlive::default())
        .into_response())
}

async fn follow(
    store: Store,
    handle: SessionHandle,
    mut open: OpenStream,
    mut events: mpsc::Sender<Result<Event, Infallible>>,
) {
    let mut shown = None;
    while !events.is_closed() {
        let event = match look(&store, &handle).await {
            Ok(Some(count)) if shown == Some(count) => None,
            Ok(Some(count)) => {
                shown = Some(count);
                Some(Event::default().event("cart").data(count.to_string()))
            }
            // Logged out here or from another device, or logged in under another id.
            Ok(None) => {
                // Browsers drop an event without data.
                let ended = Event::default().event("ended").data("ended");
                drop(events.try_send(Ok(ended)));
                return;
            }
            // The next look may succeed.
            Err(_) => None,
        };
        if let Some(event) = event
            && events.try_send(Ok(event)).is_err()
        {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = open.stop.wait_for(|is_stopped| *is_stopped) => return,
        }
    }
}

/// The number of articles; `None` if the session has ended. The transaction is dropped and not committed, so a look is no
/// access: an open page does not keep a session from expiring. (`SessionHandle::transact_async` would.)
async fn look(store: &Store, handle: &SessionHandle) -> Result<Option<u32>, cloakroom::Error> {
    let txn = store.begin_async().await?;
    let session = txn.visit(Some(handle.client_id())).await?;
    if !session.exists()? {
        return Ok(None);
    }
    let cart = Pkg::<Cart>::of(&session)?;
    Ok(Some(cart.count()))
}

/// The open streams: a few of each session, and all end when the server stops.
#[derive(Clone)]
pub(crate) struct Streams {
    open: Arc<Mutex<HashMap<ClientKey, usize>>>,
    stop: watch::Sender<bool>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            open: Arc::default(),
            stop: watch::Sender::new(false),
        }
    }
}

impl Streams {
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// `None` if the session has enough of them.
    fn open(&self, client: ClientKey) -> Option<OpenStream> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = open.entry(client).or_default();
        if *streams >= MOST_OF_A_SESSION {
            return None;
        }
        *streams += 1;
        Some(OpenStream {
            client,
            streams: self.clone(),
            stop: self.stop.subscribe(),
        })
    }
}

/// One stream; it is counted until it is dropped.
struct OpenStream {
    client: ClientKey,
    streams: Streams,
    stop: watch::Receiver<bool>,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let open = &self.streams.open;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(streams) = open.get_mut(&self.client) {
            *streams = streams.saturating_sub(1);
            if *streams == 0 {
                open.remove(&self.client);
            }
        }
    }
}

//! What the shop consists of: its files, its routes, and the layers around them.

use crate::accounts::Accounts;
use crate::answers::finish;
use crate::attempts::Attempts;
use crate::live::Streams;
use crate::pages::Pages;
use crate::{Proxy, Settings, cart, devices, live, login, password};
use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::header;
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{get, post};
use cloakroom::http::{CookieSettings, CsrfLayer, RequireFresh, SessionLayer, TrustedProxies};
use cloakroom::{ContainerSettings, Store};
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// What handlers need besides the session.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) store: Store,
    pub(crate) accounts: Accounts,
    pub(crate) attempts: Attempts,
    pub(crate) streams: Streams,
    pub(crate) pages: Pages,
}

impl Shop {
    pub(crate) fn open(folder: &Path) -> Result<Self, Box<dyn Error + Send + Sync>> {
        create_private(folder)?;
        let store = Store::builder().require_private_files(true);
        let store = store.open(folder.join("sessions.redb"))?;
        // The cart ends with its session. "Remember me" gives a session a longer timeout of its own; no session outlives
        // the maximum.
        let settings = ContainerSettings::new()
            .timeout(DAY / 2)
            .max_lifetime(Some(90 * DAY));
        store.container("")?.configure(settings)?;
        Ok(Self {
            store,
            accounts: Accounts::open(&folder.join("accounts.redb"))?,
            attempts: Attempts::default(),
            streams: Streams::default(),
            pages: Pages::new()?,
        })
    }

    pub(crate) fn router(
        self,
        settings: &Settings,
        address: SocketAddr,
    ) -> Result<Router, cloakroom::Error> {
        let pages = self.pages.clone();
        let sessions = sessions(&self.store, settings.proxy, address)?;
        // What a thief of an unlocked device must not do.
        let devices_fresh = RequireFresh::within(settings.fresh)
            .or_else(|_request| Redirect::to("/login?next=/devices"));
        let password_fresh = RequireFresh::within(settings.fresh)
            .or_else(|_request| Redirect::to("/login?next=/password"));
        let change_password = get(password::show).post(password::change);
        let router = Router::new()
            .route("/", get(cart::shelf))
            .route("/cart", get(cart::show))
            .route("/cart/add", post(cart::add))
            .route("/cart/remove", post(cart::remove))
            .route("/live", get(live::page))
            .route("/live/events", get(live::events))
            .route("/register", get(login::register_page).post(login::register))
            .route("/login", get(login::login_page).post(login::log_in))
            .route("/logout", post(login::log_out))
            .route("/password", change_password.layer(password_fresh))
            .route("/devices", get(devices::list))
            .route("/devices/name", post(devices::name))
            .route(
                "/devices/end",
                post(devices::end).layer(devices_fresh.clone()),
            )
            .route(
                "/devices/end-others",
                post(devices::end_others).layer(devices_fresh),
            )
            // Inside the session layer, because it needs the session. Browsers tell where a form comes from, so that
            // forms of visitors without a session need no token, and looking around founds no session.
            .layer(CsrfLayer::new().accept_same_origin())
            .layer(sessions)
            .route("/style.css", get(style))
            .route("/live.js", get(script))
            .with_state(self)
            // The outermost: it sees the answers of all routes and layers, and those to unknown paths.
            .layer(map_response_with_state(pages, finish));
        Ok(router)
    }
}

fn sessions(
    store: &Store,
    proxy: Proxy,
    address: SocketAddr,
) -> Result<SessionLayer, cloakroom::Error> {
    let mut cookie = CookieSettings::new();
    // For trying it out. Everywhere else the cookie needs HTTPS.
    if proxy == Proxy::None && address.ip().is_loopback() {
        cookie = cookie.plain_http();
    }
    let mut proxies = TrustedProxies::new(|request| {
        let peer = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(peer.0.ip())
    });
    if proxy == Proxy::OnThisHost {
        proxies = proxies.network("127.0.0.0/8")?.network("::1")?;
    }
    let layer = SessionLayer::new(store.clone());
    Ok(layer.cookie(cookie).proxies(proxies).clear_site_data())
}

/// Password hashes and sessions are nobody else's business.
fn create_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

async fn style() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, include_str!("style.css"))
}

async fn script() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, include_str!("live.js"))
}

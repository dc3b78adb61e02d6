//! A small shop: a cart, registration and login, "remember me", a list of devices that can be logged out, flash
//! messages, CSRF protection, and a page that follows the cart while it is open.
//!
//! `cargo run --release -p cloakroom-shop -- --listen 127.0.0.1:3000 --data shop-data`

mod accounts;
mod cart;
mod devices;
mod login;
mod pages;

use accounts::Accounts;
use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use cloakroom::http::{CookieSettings, CsrfLayer, SessionLayer};
use cloakroom::{ContainerSettings, Package, Store};
use pages::{Pages, error_page};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;

const DAY: Duration = Duration::from_secs(86_400);

/// What handlers need besides the session.
#[derive(Clone)]
struct Shop {
    store: Store,
    accounts: Accounts,
    pages: Pages,
}

impl Shop {
    fn open(folder: &Path) -> Result<Self, Box<dyn Error + Send + Sync>> {
        std::fs::create_dir_all(folder)?;
        let store = Store::open(folder.join("sessions.redb"))?;
        let settings = ContainerSettings::new().timeout(DAY / 2);
        store.container("")?.configure(settings)?;
        // A cart outlives a login. It has a container of its own, with a longer timeout.
        let settings = ContainerSettings::new().timeout(30 * DAY);
        store.register(cart::Cart::ID, settings)?;
        let accounts = Accounts::open(&folder.join("accounts.redb"))?;
        let pages = Pages::new()?;
        Ok(Self {
            store,
            accounts,
            pages,
        })
    }

    fn router(self) -> Router {
        let pages = self.pages.clone();
        // The example speaks plain HTTP; behind TLS, leave `plain_http` out.
        let sessions = SessionLayer::new(self.store.clone())
            .cookie(CookieSettings::new().plain_http())
            .on_error(move |error, _request| error_page(&pages, error));
        Router::new()
            .route("/", get(cart::shelf))
            .route("/cart", get(cart::show))
            .route("/cart/add", post(cart::add))
            .route("/cart/remove", post(cart::remove))
            .route("/live", get(cart::live_page))
            .route("/live/events", get(cart::live_events))
            .route("/register", get(login::register_page).post(login::register))
            .route("/login", get(login::login_page).post(login::log_in))
            .route("/logout", post(login::log_out))
            .route("/devices", get(devices::list))
            .route("/devices/end", post(devices::end))
            .route("/devices/end-others", post(devices::end_others))
            // Inside the session layer, because it needs the session.
            .layer(CsrfLayer::new())
            .layer(sessions)
            .route("/style.css", get(style))
            .route("/live.js", get(script))
            .with_state(self)
    }
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

const USAGE: &str = "\
Usage: shop [--listen ADDR] [--data FOLDER]

  --listen ADDR  where to listen (default 127.0.0.1:3000)
  --data FOLDER  the folder of the sessions and the accounts (default shop-data)
  --help         print this";

struct Settings {
    listen: String,
    folder: PathBuf,
}

/// The settings, or `None` if only help is wanted.
fn parse_args(args: impl IntoIterator<Item = String>) -> Result<Option<Settings>, String> {
    let mut settings = Settings {
        listen: "127.0.0.1:3000".to_owned(),
        folder: PathBuf::from("shop-data"),
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match &*arg {
            "--listen" => settings.listen = value()?,
            "--data" => settings.folder = value()?.into(),
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("unknown argument: {arg}")),
        }
    }
    Ok(Some(settings))
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match parse_args(std::env::args().skip(1)) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("shop: {problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match serve(&settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("shop: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: &Settings) -> Result<(), Box<dyn Error + Send + Sync>> {
    let listener = TcpListener::bind(&settings.listen).await?;
    let address = listener.local_addr()?;
    let shop = Shop::open(&settings.folder)?;
    let store = shop.store.clone();
    println!("listening on http://{address}");
    let server = axum::serve(listener, shop.router());
    // Pages that follow the cart never end by themselves, so the server does not wait for open requests.
    tokio::select! {
        served = server.into_future() => served?,
        stop = tokio::signal::ctrl_c() => stop?,
    }
    store.close()?;
    Ok(())
}

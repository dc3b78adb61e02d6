//! A small shop: a cart, registration and login, "remember me", a list of devices that can be logged out, a change of
//! the password, flash messages, CSRF protection, and a page that follows the cart while it is open.
//!
//! `cargo run --release -p cloakroom-shop -- --listen 127.0.0.1:3000 --data shop-data`

mod accounts;
mod answers;
mod app;
mod attempts;
mod cart;
mod devices;
mod live;
mod login;
mod pages;
mod password;

use app::Shop;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const USAGE: &str = "\
Usage: shop [--listen ADDR] [--data FOLDER] [--behind-proxy] [--fresh SECONDS]

  --listen ADDR    where to listen (default 127.0.0.1:3000)
  --data FOLDER    the folder of the sessions and the accounts (default shop-data)
  --behind-proxy   a proxy on this host speaks HTTPS and sets X-Forwarded-For
  --fresh SECONDS  how long after a login devices and the password may be changed (default 600)
  --help           print this

Without --behind-proxy, cookies are sent over plain HTTP only if ADDR is a loopback address.";

struct Settings {
    listen: String,
    folder: PathBuf,
    proxy: Proxy,
    fresh: Duration,
}

/// Who speaks to the visitors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proxy {
    None,
    OnThisHost,
}

/// The settings, or `None` if only help is wanted.
fn parse_args(args: impl IntoIterator<Item = String>) -> Result<Option<Settings>, String> {
    let mut settings = Settings {
        listen: "127.0.0.1:3000".to_owned(),
        folder: PathBuf::from("shop-data"),
        proxy: Proxy::None,
        fresh: Duration::from_secs(600),
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match &*arg {
            "--listen" => settings.listen = value()?,
            "--data" => settings.folder = value()?.into(),
            "--behind-proxy" => settings.proxy = Proxy::OnThisHost,
            "--fresh" => {
                let seconds = value()?.parse().map_err(|e| format!("--fresh: {e}"))?;
                settings.fresh = Duration::from_secs(seconds);
            }
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
    let mut stop = StopSignal::new()?;
    let shop = Shop::open(&settings.folder)?;
    let (store, streams) = (shop.store.clone(), shop.streams.clone());
    let app = shop.router(settings, address)?;
    let app = app.into_make_service_with_connect_info::<SocketAddr>();

    let (ask, asked) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(asked.await) });
    let stopping = async {
        stop.wait().await;
        drop(ask);
        // Pages that follow the cart never end by themselves.
        streams.stop();
        // Open requests may end, but not for ever; a second signal means now.
        drop(tokio::time::timeout(Duration::from_secs(10), stop.wait()).await);
        Ok(())
    };
    println!("listening on http://{address}");
    let served = tokio::select! {
        served = server.into_future() => served,
        late = stopping => late,
    };
    store.close()?;
    Ok(served?)
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

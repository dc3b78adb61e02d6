//! An application that mounts its administration, and the program at its address.

#![allow(dead_code, reason = "each test uses a part")]

use crate::support::{Place, Run, session};
use axum::Router;
use cloakroom::{Clock, ContainerSettings, Store};
use cloakroom_admin::{Access, TokenAccess};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::runtime::Runtime;

pub(crate) const TOKEN: &str = "correct horse battery staple";

/// An application that mounts the administration under a path of its own.
pub(crate) struct Application {
    /// Ends the server when it is dropped.
    _runtime: Runtime,
    pub(crate) store: Store,
    pub(crate) address: String,
}

impl Application {
    pub(crate) fn serve(store: Store, access: Access) -> Self {
        let access = TokenAccess::new(TOKEN, access).unwrap();
        let pages = cloakroom_admin::router(store.clone(), access);
        let (runtime, address) = serve(Router::new().nest("/internal/sessions", pages));
        Self {
            _runtime: runtime,
            store,
            address: format!("http://{address}/internal/sessions"),
        }
    }

    pub(crate) fn with_all(place: &Place) -> Self {
        let store = Store::builder().implicit_sweeps(false).open(&place.path);
        Self::serve(store.unwrap(), Access::all("operator"))
    }
}

pub(crate) fn serve(app: Router) -> (Runtime, String) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    runtime.spawn(async move { axum::serve(listener, app).await });
    (runtime, address)
}

/// The program at this address, in this folder.
pub(crate) fn at(place: &Place, address: &str, token: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    command.args(["--at", address]).args(arguments);
    command.current_dir(place.folder());
    for name in ["CLOAKROOM_STORE", "CLOAKROOM_TOKEN", "CLOAKROOM_TOKEN_FILE"] {
        command.env_remove(name);
    }
    if let Some(token) = token {
        command.env("CLOAKROOM_TOKEN", token);
    }
    command
}

pub(crate) fn run(mut command: Command) -> Run {
    Run::of(&command.stdin(Stdio::null()).output().unwrap())
}

/// A store with three sessions in two containers, begun days ago, and one that has expired.
pub(crate) fn filled() -> Place {
    let place = Place::empty();
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    place.edit_at(clock.clone(), |store| {
        let never = ContainerSettings::new().timeout(Duration::ZERO);
        store
            .container("")
            .unwrap()
            .configure(never.clone())
            .unwrap();
        store.register("shop.cart", never).unwrap();
        store.register_alias("basket", "shop.cart").unwrap();
        let brief = ContainerSettings::new().timeout(Duration::from_secs(60));
        store.register("brief", brief).unwrap();
        let packages = [
            ("ann", "cart"),
            ("bob", "cart"),
            ("bob", "shop.cart"),
            ("cat", "brief"),
        ];
        for (owner, package) in packages {
            session(store, |session| {
                session.set_owner(Some(owner))?;
                session.set_label("red \u{202e} phone")?;
                session.pkg(package).insert("tea", "gr\u{7}een")?;
                session.pkg(package).insert("nothing", ())?;
                session
                    .pkg(package)
                    .insert("prices", vec![1.5_f32, f32::INFINITY])
            });
        }
    });
    place
}

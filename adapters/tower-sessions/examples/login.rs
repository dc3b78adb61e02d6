//! Users, permissions and messages: axum-login and axum-messages with their sessions in a file.
//!
//! `cargo run -p tower-sessions-cloakroom-store --features core-014 --example login -- sessions.redb 127.0.0.1:3000`, then:
//!
//! ```text
//! curl -c jar -b jar -L -d 'name=ann&password=hunter42' http://127.0.0.1:3000/login
//! curl -b jar http://127.0.0.1:3000/audit
//! ```
//!
//! Stop it, start it again, and ann is still logged in.

use anyhow::Context as _;
use axum::extract::Form;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, serve};
use axum_login::{
    AuthManagerLayerBuilder, AuthUser, AuthnBackend, AuthzBackend, UserId, login_required,
    permission_required,
};
use axum_messages::{Messages, MessagesManagerLayer};
use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::future::IntoFuture as _;
use std::sync::Arc;
use tower_sessions_014::cookie::time::Duration;
use tower_sessions_014::{Expiry, SessionManagerLayer};
use tower_sessions_cloakroom_store::CloakroomStore;

#[derive(Clone, Debug)]
struct User {
    name: String,
    /// An application keeps a hash of it.
    password: String,
    permissions: HashSet<&'static str>,
}

impl AuthUser for User {
    type Id = String;

    fn id(&self) -> String {
        self.name.clone()
    }

    fn session_auth_hash(&self) -> &[u8] {
        self.password.as_bytes()
    }
}

/// All users by name. An application asks its database.
#[derive(Clone, Debug)]
struct Users(Arc<BTreeMap<&'static str, User>>);

impl Users {
    fn new() -> Self {
        let user = |name: &'static str, password: &str, permissions: &[&'static str]| {
            let user = User {
                name: name.to_owned(),
                password: password.to_owned(),
                permissions: permissions.iter().copied().collect(),
            };
            (name, user)
        };
        let users = [
            user("ann", "hunter42", &["audit"]),
            user("bob", "hunter43", &[]),
        ];
        Self(Arc::new(users.into()))
    }
}

#[derive(Clone, serde::Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

impl AuthnBackend for Users {
    type User = User;
    type Credentials = Credentials;
    type Error = Infallible;

    async fn authenticate(&self, given: Credentials) -> Result<Option<User>, Infallible> {
        let user = self.0.get(&*given.name);
        Ok(user.filter(|user| user.password == given.password).cloned())
    }

    async fn get_user(&self, name: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(self.0.get(&**name).cloned())
    }
}

impl AuthzBackend for Users {
    type Permission = &'static str;

    async fn get_user_permissions(&self, user: &User) -> Result<HashSet<&'static str>, Infallible> {
        Ok(user.permissions.clone())
    }
}

type AuthSession = axum_login::AuthSession<Users>;

fn failed<E: std::fmt::Display>(error: E) -> Response {
    eprintln!("{error}");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

async fn log_in(
    mut auth: AuthSession,
    messages: Messages,
    Form(given): Form<Credentials>,
) -> Result<Response, Response> {
    let Some(user) = auth.authenticate(given).await.map_err(failed)? else {
        messages.error("no such user, or another password");
        return Ok((StatusCode::UNAUTHORIZED, "try again\n").into_response());
    };
    auth.login(&user).await.map_err(failed)?;
    messages.success(format!("welcome, {}", user.name));
    Ok(Redirect::to("/").into_response())
}

async fn log_out(mut auth: AuthSession) -> Result<Redirect, Response> {
    auth.logout().await.map_err(failed)?;
    Ok(Redirect::to("/"))
}

async fn home(auth: AuthSession, messages: Messages) -> String {
    let name = auth.user.map_or("nobody".to_owned(), |user| user.name);
    let lines = messages.into_iter().map(|it| format!("{it}\n"));
    format!("{}you are {name}\n", lines.collect::<String>())
}

async fn audit() -> &'static str {
    "the books are in order\n"
}

async fn profile(auth: AuthSession) -> String {
    let name = auth.user.map_or_else(String::new, |user| user.name);
    format!("all about {name}\n")
}

/// The application, with its sessions in a store.
pub(crate) fn app(store: CloakroomStore) -> Router {
    let sessions = SessionManagerLayer::new(store)
        .with_secure(false) // for plain HTTP
        .with_expiry(Expiry::OnInactivity(Duration::days(1)));
    Router::new()
        .route("/audit", get(audit))
        .route_layer(permission_required!(Users, "audit"))
        .route("/profile", get(profile))
        .route_layer(login_required!(Users, login_url = "/login"))
        .route("/", get(home))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .layer(MessagesManagerLayer)
        .layer(AuthManagerLayerBuilder::new(Users::new(), sessions).build())
}

/// Serves the application on an address, and prints it.
pub(crate) async fn run(path: &str, address: &str) -> anyhow::Result<()> {
    let store = CloakroomStore::open(path)?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, app(store)).into_future().await?;
    Ok(())
}

#[tokio::main]
#[allow(dead_code, reason = "the tests run the application without it")]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().context("login FILE [ADDRESS]")?;
    let address = args.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    run(&path, &address).await
}

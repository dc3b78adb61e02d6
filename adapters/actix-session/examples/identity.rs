//! Users who log in and out: actix-identity with its sessions in a file.
//!
//! `cargo run -p actix-session-cloakroom --example identity -- sessions.redb 127.0.0.1:8080`, then:
//!
//! ```text
//! curl -c jar -b jar -X POST http://127.0.0.1:8080/login/ann
//! curl -b jar http://127.0.0.1:8080/
//! ```
//!
//! Stop it, start it again, and ann is still logged in.

use actix_identity::{Identity, IdentityMiddleware};
use actix_session::SessionMiddleware;
use actix_session::config::PersistentSession;
use actix_session_cloakroom::CloakroomSessionStore;
use actix_web::cookie::{Key, time::Duration};
use actix_web::{App, HttpMessage as _, HttpRequest, HttpServer, Result, web};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

async fn home(user: Option<Identity>) -> Result<String> {
    let name = match user {
        Some(user) => user.id()?,
        None => "stranger".to_owned(),
    };
    Ok(format!("welcome, {name}\n"))
}

async fn log_in(request: HttpRequest, name: web::Path<String>) -> Result<&'static str> {
    // An application checks a password first.
    Identity::login(&request.extensions(), name.into_inner())?;
    Ok("logged in\n")
}

async fn log_out(user: Option<Identity>) -> &'static str {
    if let Some(user) = user {
        user.logout();
    }
    "logged out\n"
}

/// The key that cookies are signed with. It lies beside the store, as it must outlive the process. Only its owner may
/// read the file.
fn key(path: &Path) -> std::io::Result<Key> {
    if !path.exists() {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)?.write_all(Key::generate().master())?;
    }
    Ok(Key::from(&std::fs::read(path)?))
}

/// Serves the application on an address, and prints it.
pub(crate) async fn run(path: &str, address: &str) -> std::io::Result<()> {
    let key = key(&Path::new(path).with_extension("key"))?;
    let store = CloakroomSessionStore::open(path).map_err(std::io::Error::other)?;
    let server = HttpServer::new(move || {
        let lasting = PersistentSession::default().session_ttl(Duration::days(1));
        let sessions = SessionMiddleware::builder(store.clone(), key.clone())
            .cookie_secure(false) // for plain HTTP
            .session_lifecycle(lasting)
            .build();
        App::new()
            .wrap(IdentityMiddleware::default())
            .wrap(sessions)
            .route("/", web::get().to(home))
            .route("/login/{name}", web::post().to(log_in))
            .route("/logout", web::post().to(log_out))
    });
    let server = server.workers(2).bind(address)?;
    for address in server.addrs() {
        println!("listening on http://{address}");
    }
    server.run().await
}

#[actix_web::main]
#[allow(dead_code, reason = "the tests run the application without it")]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "sessions.redb".to_owned());
    let address = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    run(&path, &address).await
}

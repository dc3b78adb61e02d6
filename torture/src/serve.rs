//! The server for the soak: long-lived sessions, visitors who never come back, and a transaction that stays open.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use clap::Args;
use cloakroom::http::{CookieSettings, SessionLayer};
use cloakroom::{ContainerSettings, Result, Session, Store, Transaction};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serves a store on a free port of the loopback until SIGTERM.
#[derive(Args)]
pub struct Arguments {
    #[arg(long)]
    store: PathBuf,
    /// Ids of sessions, one a line; a transaction that has read the first is kept open to the end.
    #[arg(long)]
    stall: Option<PathBuf>,
}

/// The package and container of the long-lived sessions.
pub(crate) const ACCOUNT: &str = "account";
/// The package of visitors who come once.
pub(crate) const VISIT: &str = "visit";

/// So much of the file is kept in memory: less than a run writes, so that memory can level off.
const CACHE: usize = 64 << 20;

/// The store of the soak, with timeouts short enough that much expires in it.
pub(crate) fn open(path: &Path) -> Result<Store> {
    let store = Store::builder().cache_size(CACHE).open(path)?;
    let settings = |timeout, resolution| {
        ContainerSettings::new()
            .timeout(Duration::from_secs(timeout))
            .resolution(Duration::from_secs(resolution))
    };
    store.register(ACCOUNT, settings(86_400, 30))?;
    store.register(VISIT, settings(60, 10))?;
    Ok(store)
}

async fn read(session: Session) -> Result<String> {
    let count: Option<u64> = session.pkg(ACCOUNT).get("count")?;
    Ok(format!("read {}", count.unwrap_or(0)))
}

async fn write(session: Session) -> Result<String> {
    let account = session.pkg(ACCOUNT);
    let number: Option<u64> = account.get("number")?;
    let count = account.update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    match number {
        Some(number) => Ok(format!("written {number} {count}")),
        None => Ok("a session without a number".to_owned()),
    }
}

async fn visit(session: Session) -> Result<&'static str> {
    session.pkg(VISIT).insert("seen", "x".repeat(200))?;
    Ok("welcome")
}

/// Counts as JSON; it looks at every session.
async fn figures(State(store): State<Store>) -> Result<String> {
    let statistics = store.statistics()?;
    let mut sessions = [0; 2];
    let mut expired = 0;
    for (count, name) in sessions.iter_mut().zip([ACCOUNT, VISIT]) {
        let counted = store.container(name)?.statistics()?;
        *count = counted.live;
        expired += counted.expired;
    }
    let figures = serde_json::json!({
        "accounts": sessions[0],
        "visitors": sessions[1],
        "expired": expired,
        "file": statistics.file_len(),
        "commits": statistics.commits(),
        "conflicts": statistics.conflicts(),
        "reopened": statistics.reopened(),
    });
    Ok(figures.to_string())
}

fn app(store: Store) -> Router {
    let cookie = CookieSettings::new().name("soak").unwrap().plain_http();
    Router::new()
        .route("/read", get(read))
        .route("/write", post(write))
        .route("/visit", get(visit))
        .layer(SessionLayer::new(store.clone()).cookie(cookie))
        .route("/figures", get(figures))
        .with_state(store)
}

/// Runs the hidden subcommand.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let store = open(&arguments.store).unwrap();
    let stalled = arguments.stall.map(|ids| Stalled::begin(&store, &ids));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(serve(store.clone(), stalled));
    drop(runtime);
    store.close().unwrap();
    ExitCode::SUCCESS
}

async fn serve(store: Store, mut stalled: Option<Stalled>) {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening {}", listener.local_addr().unwrap());
    let server = axum::serve(listener, app(store)).into_future();
    tokio::pin!(server);
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            served = &mut server => served.unwrap(),
            _ = terminate.recv() => return,
            _ = every_second.tick() => {
                if let Some(stalled) = &mut stalled {
                    stalled.look();
                }
            }
        }
    }
}

/// A transaction that has read one session and is never ended.
struct Stalled {
    txn: Transaction,
    begun: Instant,
    /// Sessions that it has not read yet.
    rest: Vec<cloakroom::ClientId>,
    refused: bool,
}

impl Stalled {
    fn begin(store: &Store, ids: &Path) -> Self {
        let ids = std::fs::read_to_string(ids).unwrap();
        let mut ids = ids.lines().map(|id| store.client_ids().verify(id).unwrap());
        let txn = store.begin().unwrap();
        assert!(txn.session(&ids.next().unwrap()).unwrap().exists().unwrap());
        Self {
            txn,
            begun: Instant::now(),
            rest: ids.collect(),
            refused: false,
        }
    }

    /// Reads one more session, and says once when it can no longer (C2.14).
    fn look(&mut self) {
        if self.refused {
            return;
        }
        let Some(id) = self.rest.pop() else { return };
        let seen = self.txn.session(&id).and_then(|session| session.exists());
        if let Err(error) = seen {
            self.refused = true;
            let after = self.begun.elapsed().as_secs();
            println!("stalled {:?} {after}", error.kind());
        }
    }
}

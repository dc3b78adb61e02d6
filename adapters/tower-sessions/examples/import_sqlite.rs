//! Moves all sessions of tower-sessions' SQLite store at once, while no server runs:
//!
//! `cargo run -p tower-sessions-cloakroom-store --features core-014 --example import_sqlite -- sessions.sqlite sessions.redb`
//!
//! Each keeps its id, its data and its end, so nobody is logged out. To move them while a server runs, give the server a
//! `MigratingStore`.

use anyhow::Context as _;
use tower_sessions_014::SessionStore as _;
use tower_sessions_cloakroom_store::{CloakroomStore, MigratingStore};
use tower_sessions_sqlx_store::{
    SqliteStore,
    sqlx::{self, SqlitePool},
};

/// Returns how many sessions were moved. Those that have expired are left where they are.
pub(crate) async fn import(from: &str, to: &str) -> anyhow::Result<u64> {
    let pool = SqlitePool::connect(&format!("sqlite://{from}")).await?;
    let store = MigratingStore::new(CloakroomStore::open(to)?, SqliteStore::new(pool.clone()));
    let ids: Vec<(String,)> = sqlx::query_as("select id from tower_sessions")
        .fetch_all(&pool)
        .await?;
    let mut moved = 0;
    for (id,) in ids {
        let id = id.parse().context("an id in the table is none")?;
        // Whatever is loaded is moved.
        moved += u64::from(store.load(&id).await?.is_some());
    }
    Ok(moved)
}

#[tokio::main]
#[allow(dead_code, reason = "the tests import without it")]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (from, to) = args
        .next()
        .zip(args.next())
        .context("import_sqlite FROM TO")?;
    println!("{} sessions moved", import(&from, &to).await?);
    Ok(())
}

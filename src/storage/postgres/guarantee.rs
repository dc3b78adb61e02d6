//! Settings of the server with which an acknowledged commit may be lost at a crash.

use super::connection::late;
use super::failure::{Failure, sent};
use super::pool::Pool;
use super::rules::PostgresRules;
use crate::error::Result;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

const ASKED: &str = "SELECT name, setting FROM pg_settings \
     WHERE name IN ('synchronous_commit', 'fsync', 'full_page_writes')";

/// What makes the server's guarantee weaker than the store's. Each is a sentence for the log.
pub(super) async fn weaknesses(
    pool: &Arc<Pool>,
    rules: &PostgresRules,
) -> Result<Vec<&'static str>> {
    let until = Instant::now() + rules.server.deadline;
    loop {
        let connection = pool.get(until).await.map_err(Failure::into_error)?;
        let failure = match timeout_at(until, connection.probe(ASKED)).await {
            Ok(Ok(rows)) => {
                connection.give_back();
                let rows = rows.iter().filter_map(|row| {
                    let (name, value) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
                    weakness(name, value)
                });
                return Ok(rows.collect());
            }
            Ok(Err(error)) => sent(error),
            Err(_) => late(rules.server.deadline),
        };
        connection.after(&failure);
        if !failure.may_be_repeated() || Instant::now() >= until {
            return Err(failure.into_error());
        }
    }
}

fn weakness(name: &str, value: &str) -> Option<&'static str> {
    match (name, value) {
        ("synchronous_commit", "off") => Some(
            "the server acknowledges commits before they are on its disk (synchronous_commit = off): a crash \
             of the server may lose acknowledged commits",
        ),
        ("fsync", "off") => Some(
            "the server does not write through to its disk (fsync = off): a crash of its machine may lose \
             acknowledged commits, and damage sessions",
        ),
        ("full_page_writes", "off") => Some(
            "the server does not protect pages against torn writes (full_page_writes = off): a crash of its \
             machine may damage sessions",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C10.1
    #[test]
    fn only_what_weakens_the_guarantee_is_told() {
        for name in ["synchronous_commit", "fsync", "full_page_writes"] {
            assert!(weakness(name, "off").is_some_and(|told| told.contains(name)));
            assert_eq!(weakness(name, "on"), None);
        }
        for strong in ["local", "remote_write", "remote_apply"] {
            assert_eq!(weakness("synchronous_commit", strong), None);
        }
    }
}

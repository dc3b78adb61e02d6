//! Locks of the server that somebody else holds for a while.

use crate::support::wait::until;
use cloakroom_postgres_server::Database;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// Carries out `statements` in a transaction that stays open while `work` runs, and is rolled back then.
pub(crate) fn while_held(database: &Database, statements: &str, work: impl FnOnce()) {
    let statements = format!("{statements}; SELECT pg_sleep(60)");
    thread::scope(|scope| {
        // It is ended by force.
        scope.spawn(|| drop(catch_unwind(AssertUnwindSafe(|| database.sql(&statements)))));
        until("the locks are held", || is_sleeping(database));
        work();
        database.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event = 'PgSleep'",
        );
    });
}

/// Whether a transaction of a test stays open.
pub(crate) fn is_sleeping(database: &Database) -> bool {
    let sleeping = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event = 'PgSleep'";
    database.sql(sleeping).trim() != "0"
}

/// Whether somebody waits for a lock.
pub(crate) fn is_waited_for(database: &Database) -> bool {
    waiting(database) > 0
}

/// How many wait for a lock.
pub(crate) fn waiting(database: &Database) -> u64 {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    database.sql(waiting).trim().parse().unwrap()
}

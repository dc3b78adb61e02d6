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

const LOOP: &str = "LOOP EXIT WHEN (SELECT is_open FROM gate); PERFORM pg_sleep(0.01); END LOOP";

/// What stops statements until it is opened.
pub(crate) struct Gate<'a>(&'a Database);

impl<'a> Gate<'a> {
    /// A statement that waits for it. [`is_sleeping`] tells that one waits.
    pub(crate) fn wait() -> String {
        format!("DO $$ BEGIN {LOOP}; END $$")
    }

    pub(crate) fn new(database: &'a Database) -> Self {
        database.sql("CREATE TABLE gate (is_open bool); INSERT INTO gate VALUES (false)");
        Self(database)
    }

    /// Makes statements wait: `trigger` is the kind of the trigger that waits, and `when` says for which rows.
    pub(crate) fn stops(self, trigger: &str, when: &str) -> Self {
        self.0.sql(&format!(
            "CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {LOOP}; RETURN NEW; END $$;
             CREATE {trigger} pass {when} EXECUTE FUNCTION pass()"
        ));
        self
    }

    pub(crate) fn open(&self) {
        self.0.sql("UPDATE gate SET is_open = true");
    }
}

/// A test that fails must not wait for those whom the gate stops.
impl Drop for Gate<'_> {
    fn drop(&mut self) {
        let opened = catch_unwind(AssertUnwindSafe(|| self.open()));
        drop(opened);
    }
}

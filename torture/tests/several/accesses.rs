//! C3: access times on their way to a server.

use crate::held::{Gate, is_sleeping};
use crate::place::connect;
use crate::support::visitors::put;
use crate::support::wait::until;
use cloakroom::{Clock, Store};
use cloakroom_postgres_server::database;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

// C3.5: a visit has met the access and relies on its being lowered, while the server writes it as it was.
#[test]
fn an_access_of_a_clock_that_was_ahead_is_lowered_even_while_it_is_written() {
    let Some(database) = database() else {
        return;
    };
    let right = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = Clock::manual(right);
    let builder = Store::builder().clock(clock.clone()).implicit_sweeps(false);
    let store = connect(builder, &database.url());
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let gate = Gate::new(&database).stops(
        "TRIGGER",
        "BEFORE UPDATE ON cloakroom_client FOR EACH ROW WHEN (OLD.version = NEW.version)",
    );
    clock.advance(50 * MINUTE);
    let click = || {
        let txn = store.begin().unwrap();
        let n: Option<u64> = txn.session(&id).unwrap().pkg("p").get("n").unwrap();
        txn.commit().unwrap();
        n
    };
    assert_eq!(click(), Some(1));
    until("the access is being written", || is_sleeping(&database));
    clock.set(right);
    assert_eq!(click(), Some(1));
    clock.advance(61 * MINUTE);
    gate.open();
    until("the session is over, a timeout after the visit", || {
        let txn = store.begin().unwrap();
        !txn.session(&id).unwrap().exists().unwrap()
    });
}

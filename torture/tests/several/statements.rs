//! Every statement of the engine on PostgreSQL is one that the server takes.

use cloakroom::Store;
use cloakroom::torture::prepare_statements;
use cloakroom_postgres_server::database;

// Some statements run rarely. None of them is broken unseen.
#[test]
fn the_server_prepares_every_statement() {
    let Some(database) = database() else {
        return;
    };
    let url = database.url();
    let missing = pollster::block_on(prepare_statements(&url));
    assert!(missing.is_err(), "there are no tables yet");
    pollster::block_on(Store::migrate(&url)).unwrap();
    let prepared = pollster::block_on(prepare_statements(&url)).unwrap();
    assert!(prepared > 20, "{prepared}");
}

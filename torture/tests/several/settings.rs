//! C1.8, C10.2: changes of the settings whose answers are lost.

use crate::held::{waiting, while_held};
use crate::place::connect;
use crate::support::wait::until;
use cloakroom::{ContainerSettings, PostgresSettings, Store};
use cloakroom_postgres_server::{Proxy, shared};
use std::thread;
use std::time::Duration;

/// The statement waits for a lock. The server carries it out later, when its connection is long lost, and the store has sent
/// it once more.
#[test]
fn a_change_of_the_settings_that_comes_late_is_made_once() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let proxy = Proxy::start(server.address());
    let settings = PostgresSettings::new().deadline(Duration::from_secs(30));
    let builder = Store::builder().implicit_sweeps(false).postgres(settings);
    let store = connect(builder, &server.url_at(proxy.address(), database.name()));
    let epoch = || -> u64 {
        let epoch = database.sql("SELECT epoch FROM cloakroom_meta");
        epoch.trim().parse().unwrap()
    };
    let before = epoch();
    thread::scope(|scope| {
        let mut changing = None;
        while_held(&database, "SELECT FROM cloakroom_meta FOR UPDATE", || {
            changing = Some(scope.spawn(|| store.register("late", ContainerSettings::new())));
            until("the change waits", || waiting(&database) == 1);
            proxy.renew();
            until("it was sent again", || waiting(&database) == 2);
        });
        changing.unwrap().join().unwrap().unwrap();
    });
    assert_eq!(epoch(), before + 1);
    let other = connect(Store::builder().implicit_sweeps(false), &database.url());
    assert!(other.container("late").is_ok());
}

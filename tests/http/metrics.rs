//! C4.1, C4.8: ids that are refused are counted, by why.

use super::support::metrics::Counters;
use super::*;
use ::metrics::{Counter, CounterFn, Key, with_local_recorder};
use cloakroom::{ContainerSettings, Txn};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

type Counts = Arc<Mutex<BTreeMap<String, u64>>>;

#[derive(Default)]
struct Refusals(Counts);

struct One(Counts, String);

impl CounterFn for One {
    fn increment(&self, value: u64) {
        *self.0.lock().unwrap().entry(self.1.clone()).or_default() += value;
    }

    fn absolute(&self, _: u64) {
        unreachable!("counters are counted up");
    }
}

impl Refusals {
    fn counter(&self, key: &Key) -> Counter {
        if key.name() != "cloakroom_refused_ids_total" {
            return Counter::noop();
        }
        let reason = key.labels().find(|label| label.key() == "reason").unwrap();
        let one = One(Arc::clone(&self.0), reason.value().to_owned());
        Counter::from_arc(Arc::new(one))
    }
}

/// What these requests add to the counters.
fn refused(app: &Router, path: &str, cookies: &[&str]) -> Vec<(String, u64)> {
    let refusals = Refusals::default();
    let recorder = Counters(|key: &Key| refusals.counter(key));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    with_local_recorder(&recorder, || {
        for cookie in cookies {
            runtime.block_on(get_page(app, path, cookie));
        }
    });
    let counts = std::mem::take(&mut *refusals.0.lock().unwrap());
    counts.into_iter().collect()
}

fn block<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

/// C4.1, C4.2
#[test]
fn ids_that_do_not_verify_are_counted_by_why() {
    let (store, app) = usual();
    let cookie = block(visitor(&app));
    let (name, id) = halves(&cookie);
    let flipped = if id.starts_with('A') { "B" } else { "A" }.to_owned() + &id[1..];
    let count = |value: &str| refused(&app, "/read", &[&format!("{name}={value}")]);
    assert_eq!(count(id), []);
    assert_eq!(count("short"), [("garbled".to_owned(), 1)]);
    assert_eq!(count(&"*".repeat(68)), [("garbled".to_owned(), 1)]);
    assert_eq!(count(&flipped), [("forged".to_owned(), 1)]);

    store.rotate_secret().unwrap();
    assert_eq!(count(id), []);
    store.retire_secret(0).unwrap();
    assert_eq!(count(id), [("retired".to_owned(), 1)]);
    assert_eq!(refused(&app, "/read", &[""]), []);
}

/// C4.8
#[test]
fn ids_without_a_session_are_counted_once_a_request() {
    let (clock, _, app) = timed();
    let (ended, expired) = (block(visitor(&app)), block(visitor(&app)));
    block(get_page(&app, "/destroy", &ended));
    assert_eq!(refused(&app, "/read", &[&expired, ""]), []);
    assert_eq!(refused(&app, "/count", &[""]), [], "a new visitor");
    let dead = |n| [("dead".to_owned(), n)];
    assert_eq!(refused(&app, "/read", &[&ended]), dead(1));
    assert_eq!(refused(&app, "/count", &[&ended]), dead(1));
    assert_eq!(refused(&app, "/plain", &[&ended]), []);
    clock.advance(std::time::Duration::from_secs(7200));
    assert_eq!(refused(&app, "/count", &[&expired, &expired]), dead(2));
}

/// C4.8: a request that only writes, and looks at nothing.
#[test]
fn a_dead_id_is_counted_where_the_request_only_writes() {
    let (store, _) = usual();
    let blind = |session: Session| async move { session.pkg(PACKAGE).insert("blind", true) };
    let app = site(SessionLayer::new(store.clone()));
    let app = app.merge(
        Router::new()
            .route("/blind", get(blind))
            .layer(SessionLayer::new(store)),
    );
    let ended = block(visitor(&app));
    block(get_page(&app, "/destroy", &ended));
    assert_eq!(refused(&app, "/blind", &[&ended]), [("dead".to_owned(), 1)]);
}

/// C4.8: an id whose session lives in a container that nobody asked for is not dead.
#[test]
fn an_id_whose_session_lives_elsewhere_is_not_counted() {
    let (store, app) = usual();
    let cart = ContainerSettings::new();
    store.register("cart", cart).unwrap();
    let id = store.client_ids().issue();
    let insert = |txn: &Txn| txn.session(&id)?.pkg("cart").insert("n", 1);
    store.transact(insert).unwrap();
    let cookie = block(visitor(&app));
    let elsewhere = format!("{}={}", halves(&cookie).0, id.as_str());
    assert_eq!(refused(&app, "/read", &[&elsewhere]), []);
    assert_eq!(refused(&app, "/count", &[&elsewhere]), []);
    block(get_page(&app, "/destroy", &cookie));
    assert_eq!(
        refused(&app, "/count", &[&cookie]),
        [("dead".to_owned(), 1)]
    );
}

//! The asynchronous forms of long work do none of it on the thread that awaits them.

use super::*;
use crate::block_on::block_on;
use crate::container::{Container, ContainerSettings};
use crate::steps;

fn store() -> (Store, Container) {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    for _ in 0..10 {
        let session = txn.session(&store.client_ids().issue()).unwrap();
        session.pkg("a").insert("k", 1).unwrap();
    }
    txn.commit().unwrap();
    let container = store.container("").unwrap();
    (store, container)
}

// C5.5
#[test]
fn a_sweep_a_count_and_a_registration_scan_on_a_thread_of_the_store() {
    let (store, container) = store();
    let swept = || assert_eq!(container.sweep().unwrap().scanned, 10);
    assert!(steps::of(swept) >= 10);
    let here = steps::of(|| {
        let swept = block_on(container.sweep_async()).unwrap();
        assert_eq!((swept.scanned, swept.removed), (10, 0));
        let counts = block_on(container.statistics_async()).unwrap();
        assert_eq!((counts.live, counts.packages), (10, 10));
        let settings = ContainerSettings::new();
        let registered = block_on(store.register_async("b", settings)).unwrap();
        assert_eq!(registered.name(), "b");
    });
    assert_eq!(here, 0);
}

#[test]
fn work_that_is_asked_of_a_closed_store_is_refused() {
    let (store, container) = store();
    store.clone().close().unwrap();
    let swept = block_on(container.sweep_async()).unwrap_err();
    let checked = block_on(store.check_async()).unwrap_err();
    assert_eq!(
        [swept.kind(), checked.kind()],
        [crate::ErrorKind::Closed; 2]
    );
}

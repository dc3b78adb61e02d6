//! What registering a container costs.

use super::*;
use crate::container::ContainerSettings;

fn store_with_sessions(sessions: usize) -> Store {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    for _ in 0..sessions {
        let session = txn.session(&store.client_ids().issue()).unwrap();
        session.pkg("a").insert("k", 1).unwrap();
    }
    txn.commit().unwrap();
    store
}

// C1.2, C5.5
#[test]
fn registering_a_container_takes_as_many_steps_in_a_larger_store() {
    let steps = |sessions| {
        let store = store_with_sessions(sessions);
        crate::steps::of(|| {
            let registered = store.register("b", ContainerSettings::new());
            assert_eq!(registered.unwrap().name(), "b");
        })
    };
    assert!(steps(3) >= 3, "the sessions are looked at");
    let many = 1100;
    assert_eq!(steps(many), steps(2 * many));
}

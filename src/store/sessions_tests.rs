//! C8.2: sessions that are ended by their owner while others change them.

use super::Store;
use crate::container::ContainerSettings;
use crate::error::ErrorKind;
use std::sync::Arc;

#[test]
fn a_session_that_got_another_owner_meanwhile_does_not_end_with_the_former_owners() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let give_to = |owner: &str| {
        let change = |txn: &crate::Txn| txn.session(&id)?.set_owner(Some(owner));
        store.transact(change).unwrap();
    };
    give_to("ann");
    let txn = store.begin().unwrap();
    let ann = Arc::from("ann");
    let ended = txn.with(|state| state.end_by_key(&[id.key()], Some(&ann)));
    assert_eq!(ended.unwrap().sessions, 1);
    give_to("bob");
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(store.end_all_of("ann").unwrap(), 0);
    assert_eq!(store.sessions_of("bob").unwrap().len(), 1);
}

// C5.5
#[test]
fn a_page_of_an_owners_sessions_costs_no_more_if_the_owner_has_many() {
    let store = Store::in_memory().unwrap();
    store.register("cart", ContainerSettings::new()).unwrap();
    let own = |sessions: usize| {
        let change = |txn: &crate::Txn| {
            (0..sessions).try_for_each(|_| {
                let session = txn.session(&store.client_ids().issue())?;
                session.set_owner(Some("ann"))?;
                session.pkg("cart").insert("tea", 1)
            })
        };
        store.transact(change).unwrap();
    };
    let page = || {
        crate::steps::of(|| {
            let page = store.owner_sessions("ann", None, 10).unwrap();
            assert_eq!(page.sessions.len(), 10);
            assert!(page.next.is_some());
        })
    };
    own(20);
    let few = page();
    own(500);
    let many = page();
    assert!(few > 0 && many <= few + 20, "{few}, {many}");
}

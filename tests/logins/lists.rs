//! C8.1: the lists of an owner's sessions.

use super::{info, logged_in, with};
use crate::support::clock::{HOUR, MINUTE, secs};
use crate::support::store::{keys_of, timed};
use cloakroom::ContainerSettings;

#[test]
fn the_sessions_of_an_owner_are_listed_newest_access_first() {
    let (clock, store) = timed();
    let settings = ContainerSettings::new().timeout(2 * HOUR);
    store.register("cart", settings).unwrap();
    let founded = clock.now();
    let old = logged_in(&store, "ann");
    with(&store, &old, |s| s.set_label("desk"));
    clock.advance(MINUTE);
    let new = store.client_ids().issue();
    with(&store, &new, |session| session.set_owner(Some("ann")));
    logged_in(&store, "bob");
    assert_eq!(keys_of(&store, "ann"), [new.key(), old.key()]);
    clock.advance(15 * MINUTE);
    with(&store, &old, |s| s.pkg("other").insert("n", 1));
    let listed = store.sessions_of("ann").unwrap();
    let [first, second] = &listed[..] else {
        panic!("{listed:?}")
    };
    assert_eq!(first.client, old.key());
    assert_eq!(first.containers, ["", "cart"]);
    assert_eq!(first.created, Some(founded));
    assert_eq!(first.last_access, Some(clock.now()));
    // As long as any container has it.
    let expires = first.expires.unwrap() - founded;
    assert_eq!(expires.num_milliseconds(), 2 * 3_600_000 + 1);
    assert_eq!(first.owner.as_deref(), Some("ann"));
    assert_eq!(first.label.as_deref(), Some("desk"));
    assert_eq!(first.authenticated_at, Some(founded));
    assert_eq!(
        (second.client, &*second.containers),
        (new.key(), &[String::new()][..])
    );
    assert_eq!(
        (second.label.as_deref(), second.authenticated_at),
        (None, None)
    );
    assert_eq!(first, &info(&store, &old));
}

#[test]
fn what_is_told_of_a_session_ends_with_it_and_is_no_access() {
    let (clock, store) = timed();
    let id = logged_in(&store, "ann");
    clock.advance(59 * MINUTE);
    assert!(store.session_info(id.key()).unwrap().is_some());
    assert_eq!(
        info(&store, &id).expires.unwrap(),
        clock.now() + MINUTE + secs(0) + crate::support::clock::MOMENT
    );
    clock.advance(2 * MINUTE);
    assert_eq!(store.session_info(id.key()).unwrap(), None);
    assert!(store.sessions_of("ann").unwrap().is_empty());
    assert_eq!(
        store
            .session_info(store.client_ids().issue().key())
            .unwrap(),
        None
    );
    let forever = store.client_ids().issue();
    with(&store, &forever, |s| s.set_timeout(Some(secs(0))));
    assert_eq!(info(&store, &forever).expires, None);
}

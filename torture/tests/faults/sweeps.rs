//! Sweeps that fail.

use super::fault;
use crate::support::clock::{HOUR, MINUTE, clock};
use crate::support::store::builder;
use crate::support::visitors::put;
use crate::support::wait::{eventually, until};
use cloakroom_torture::disk::{Call, Disk, EIO, Failure, Fault};

// C3.7, C2.13: another round comes.
#[test]
fn sweeps_go_on_after_one_that_failed() {
    let (clock, disk) = (clock(), Disk::default());
    let store = builder(&clock).implicit_sweeps(true).cache_size(0);
    let store = store.open_in(disk.folder(), "store").unwrap();
    for n in 0..300 {
        put(&store, &store.client_ids().issue(), n);
    }
    store.checkpoint().unwrap();
    let sessions = || {
        let found = store.container("")?.statistics()?;
        Ok::<_, cloakroom::Error>(found.live + found.expired)
    };
    assert_eq!(eventually(sessions), 300);

    let failure = Failure::Error(EIO);
    disk.fail(fault(
        |call| call == Call::Read,
        0,
        Fault::FOR_GOOD,
        failure,
    ));
    clock.advance(HOUR + MINUTE);
    until("a sweep fails", || disk.has_failed());
    assert!(disk.heal());
    // A sweep goes round what cannot be read until the store has read it again, which it tries by itself.
    until("a later one removes what has expired", || {
        clock.advance(HOUR);
        sessions().is_ok_and(|left| left == 0)
    });
}

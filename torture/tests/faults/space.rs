//! A file that cannot grow, and checkpoints that fail.

use super::{fault, get, prepare, put, writing_much};
use crate::support::wait::eventually;
use cloakroom::{ErrorKind, Store};
use cloakroom_torture::disk::{Call, EIO, ENOSPC, Failure, Fault};

// C2.13
#[test]
fn a_journal_that_cannot_grow_refuses_what_needs_room_and_nothing_else() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    let large = |store: &Store| writing_much(store, &id, 2)?.commit();
    disk.fail(fault(
        Call::changes,
        0,
        Fault::FOR_GOOD,
        Failure::Half(ENOSPC),
    ));
    for _ in 0..3 {
        assert_eq!(large(&store).unwrap_err().kind(), ErrorKind::NotWritten);
        assert_eq!(get(&store, &id).unwrap(), 1);
    }
    disk.heal();
    put(&store, &id, 3).unwrap();
    large(&store).unwrap();
    assert_eq!(store.statistics().unwrap().reopened(), 0);
    assert_eq!(prepared.found_in(&disk.all_kept()), 2);
}

// C2.13: commits in the journal are served and durable, and further commits go on.
#[test]
fn a_checkpoint_that_fails_costs_nothing_and_is_made_again() {
    let prepared = prepare();
    for failure in [Failure::Error(ENOSPC), Failure::Half(EIO), Failure::Panic] {
        for after in 0.. {
            let (disk, store, id) = prepared.open();
            put(&store, &id, 2).unwrap();
            disk.fail(fault(Call::changes, after, 1, failure));
            let answer = store.checkpoint();
            let struck = disk.heal();
            assert_eq!(eventually(|| get(&store, &id)), 2);
            assert_eq!(prepared.found_in(&disk.all_kept()), 2, "call {after}");
            put(&store, &id, 3).unwrap();
            eventually(|| store.checkpoint());
            assert_eq!(get(&store, &id).unwrap(), 3);
            assert_eq!(prepared.found_in(&disk.all_kept()), 3, "call {after}");
            store.close().unwrap();
            assert_eq!(disk.names(), ["store"]);
            assert_eq!(prepared.found_in(&disk.all_kept()), 3, "call {after}");
            if !struck {
                answer.unwrap();
                break;
            }
        }
    }
}

// C2.13
#[test]
fn a_full_disk_is_survived() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    disk.fail(fault(
        Call::changes,
        0,
        Fault::FOR_GOOD,
        Failure::Half(ENOSPC),
    ));
    assert_eq!(
        put(&store, &id, 2).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
    for _ in 0..3 {
        let refused = put(&store, &id, 2).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
    }
    disk.heal();
    eventually(|| put(&store, &id, 2));
    assert_eq!(get(&store, &id).unwrap(), 2);
    assert_eq!(prepared.found_in(&disk.all_kept()), 2);
}

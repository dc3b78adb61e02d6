//! The answer of a commit when a call fails, and the state served and on the disk afterwards.

use super::{fault, get, prepare, put, queue, writing};
use crate::support::store::file_builder;
use crate::support::wait::eventually;
use cloakroom::{ClientId, ContainerSettings, ErrorKind, Result, Store, StoreBuilder};
use cloakroom_torture::disk::{Call, Disk, EIO, ENOSPC, Failure, Fault};
use std::task::{Context, Poll, Waker};

/// Fails each call of a commit in turn. Compares every answer with the state served afterwards and with the state after
/// a power loss. Returns the answers.
fn each_call_fails(
    builder: fn() -> StoreBuilder,
    fault: Fault,
    change: fn(&Store, &ClientId) -> Result<()>,
) -> Vec<ErrorKind> {
    let prepared = prepare();
    let mut answers = Vec::new();
    for after in 0.. {
        let disk = Disk::holding("store", prepared.image.clone());
        let store = builder().open_in(disk.folder(), "store").unwrap();
        let id = prepared.id(&store);
        disk.fail(Fault { after, ..fault });
        let answer = change(&store, &id);
        let struck = disk.heal();
        let found = eventually(|| get(&store, &id));
        let kept = prepared.found_in(&disk.all_kept());
        assert_eq!(found, kept, "call {after}: served is what is kept");
        match answer {
            // A page that is written early to make room may fail and be written again.
            Ok(()) => assert_eq!(found, 2, "acknowledged"),
            Err(e) => {
                match e.kind() {
                    ErrorKind::NotWritten => assert_eq!(found, 1, "call {after}"),
                    ErrorKind::OutcomeUnknown => {
                        assert!(found == 1 || found == 2);
                        assert!(store.statistics().unwrap().reopened() > 0);
                    }
                    other => panic!("call {after}: {other:?}"),
                }
                answers.push(e.kind());
            }
        }
        if !struck {
            break;
        }
        put(&store, &id, 3).unwrap();
        assert_eq!(prepared.found_in(&disk.all_kept()), 3, "call {after}");
    }
    answers
}

/// Nothing of a commit reaches the disk before its frame, so only the write of that and the sync after it
/// leave the outcome open.
fn assert_unknown_only_at_the_end(answers: &[ErrorKind]) {
    let (certain, open) = answers.split_at(answers.len() - 2);
    assert!(
        certain.iter().all(|k| *k == ErrorKind::NotWritten),
        "{answers:?}"
    );
    assert_eq!(open, [ErrorKind::OutcomeUnknown; 2], "{answers:?}");
}

// C2.13
#[test]
fn a_commit_tells_whether_it_may_have_been_written_when_a_call_fails() {
    let change = |store: &Store, id: &ClientId| put(store, id, 2);
    for failure in [
        Failure::Error(EIO),
        Failure::Half(EIO),
        Failure::Error(ENOSPC),
    ] {
        for times in [1, Fault::FOR_GOOD] {
            let fault = fault(Call::changes, 0, times, failure);
            assert_unknown_only_at_the_end(&each_call_fails(file_builder, fault, change));
        }
    }
}

// C2.13
#[test]
fn a_commit_that_makes_the_file_grow_tells_no_less() {
    fn grow(store: &Store, id: &ClientId) -> Result<()> {
        let txn = writing(store, id, 2)?;
        let pages = txn.session(id)?;
        for i in 0..2 {
            let package = pages.pkg(&format!("large {i}"));
            package.insert("text", "x".repeat(900_000))?;
        }
        txn.commit()
    }
    assert!(prepare().image.len() < 2 * 900_000, "nothing would grow");
    let fault = fault(Call::changes, 0, 1, Failure::Half(ENOSPC));
    let answers = each_call_fails(file_builder, fault, grow);
    assert!(answers.len() > 5, "{answers:?}");
    assert_unknown_only_at_the_end(&answers);
}

// C2.13, C5.4
#[test]
fn a_panic_below_fails_the_commit_and_nothing_else() {
    let change = |store: &Store, id: &ClientId| put(store, id, 2);
    let fault = fault(Call::changes, 0, 1, Failure::Panic);
    assert_unknown_only_at_the_end(&each_call_fails(file_builder, fault, change));
}

// C2.13, C5.4: redb panics over what it reads with its locks held and its tables open.
#[test]
fn a_panic_in_any_read_of_a_commit_or_a_checkpoint_ends_there() {
    let prepared = prepare();
    let mut failed = 0;
    for after in 0.. {
        let disk = Disk::holding("store", prepared.image.clone());
        // So that each page is read again each time.
        let store = file_builder().cache_size(0).open_in(disk.folder(), "store");
        let store = store.unwrap();
        let id = prepared.id(&store);
        disk.fail(fault(|call| call == Call::Read, after, 1, Failure::Panic));
        let answer = put(&store, &id, 2);
        let checkpoint = store.checkpoint();
        failed += usize::from(answer.is_ok() && checkpoint.is_err());
        let struck = disk.heal();
        let found = eventually(|| get(&store, &id));
        match answer.map_err(|e| e.kind()) {
            Ok(()) => assert_eq!(found, 2, "read {after}"),
            // The commit's own reads, and those of the transaction.
            Err(ErrorKind::NotWritten | ErrorKind::Corrupt) => assert_eq!(found, 1, "read {after}"),
            Err(ErrorKind::OutcomeUnknown) => assert!(found == 1 || found == 2),
            Err(other) => panic!("read {after}: {other:?}"),
        }
        put(&store, &id, 3).unwrap();
        eventually(|| store.checkpoint());
        assert_eq!(prepared.found_in(&disk.all_kept()), 3, "read {after}");
        if !struck {
            break;
        }
    }
    assert!(failed > 5, "{failed}");
}

// C2.13
#[test]
fn a_store_that_cannot_reopen_is_unavailable_until_it_can() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    let older = store.begin().unwrap();
    let reading = older.session(&id).unwrap();
    assert_eq!(reading.pkg("a").get("n").unwrap(), Some(1_u64));
    let begun = writing(&store, &id, 3).unwrap();

    disk.fail(fault(
        Call::changes,
        0,
        Fault::FOR_GOOD,
        Failure::Error(EIO),
    ));
    assert_eq!(
        put(&store, &id, 2).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );

    assert_eq!(store.begin().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(begun.commit().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(
        store.rotate_secret().unwrap_err().kind(),
        ErrorKind::Unsupported,
        "the secrets are the application's"
    );
    let registered = store.register("late", ContainerSettings::new());
    assert_eq!(registered.unwrap_err().kind(), ErrorKind::Unavailable);
    // Rows that were read stay readable; no others can be read any more.
    assert_eq!(reading.pkg("a").get("n").unwrap(), Some(1_u64));
    let unread = reading.pkg("b").get::<u64>("n").unwrap_err();
    assert_eq!(unread.kind(), ErrorKind::SnapshotTooOld);

    disk.heal();
    assert_eq!(eventually(|| get(&store, &id)), 1);
    let unread = reading.pkg("b").get::<u64>("n").unwrap_err();
    assert_eq!(unread.kind(), ErrorKind::SnapshotTooOld);
    put(&store, &id, 4).unwrap();
    assert_eq!(get(&store, &id).unwrap(), 4);
}

// C2.13
#[test]
fn what_waits_is_answered_although_the_store_cannot_reopen() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    disk.hold();
    let first = queue(writing(&store, &id, 2).unwrap());
    disk.wait_until_held();
    let mut second = queue(writing(&store, &id, 3).unwrap());
    disk.fail(fault(|_| true, 0, Fault::FOR_GOOD, Failure::Error(EIO)));
    disk.release();
    let answer = pollster::block_on(first).unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::OutcomeUnknown);
    let mut context = Context::from_waker(Waker::noop());
    let answer = eventually(|| match second.as_mut().poll(&mut context) {
        Poll::Ready(answer) => Ok(answer),
        Poll::Pending => Err("no answer yet"),
    });
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    disk.heal();
    let found = eventually(|| get(&store, &id));
    assert!(found == 1 || found == 2);
    assert_eq!(prepared.found_in(&disk.all_kept()), found);
}

// C2.13, C2.14
#[test]
fn a_transaction_begun_before_the_failure_still_commits_after_it() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    let begun = writing(&store, &id, 3).unwrap();
    disk.fail(fault(Call::changes, 0, 1, Failure::Error(EIO)));
    assert_eq!(
        put(&store, &id, 2).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
    eventually(|| store.begin().map(drop));
    begun.commit().unwrap();
    assert_eq!(get(&store, &id).unwrap(), 3);
}

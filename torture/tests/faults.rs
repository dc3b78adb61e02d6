//! C2.13: what a commit answers when storage fails, what is on the disk then, and that the store
//! goes on by itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{
    ClientId, ContainerSettings, Error, ErrorKind, Result, Store, StoreBuilder, Transaction, Txn,
};
use cloakroom_torture::disk::{Call, Disk, EIO, ENOSPC, Failure, Fault};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use support::clock::clock;
use support::store::file_builder;
use support::wait::eventually;

/// A disk that holds a store with one session, in which "a" and "b" hold the number 1.
struct Prepared {
    image: Vec<u8>,
    id: String,
}

fn open(disk: &Disk) -> Store {
    file_builder().open_in(disk.folder(), "store").unwrap()
}

fn prepare() -> Prepared {
    let disk = Disk::default();
    let store = open(&disk);
    let id = store.client_ids().issue();
    put(&store, &id, 1).unwrap();
    store.close().unwrap();
    Prepared {
        image: disk.kept("store"),
        id: id.as_str().to_owned(),
    }
}

impl Prepared {
    fn open(&self) -> (Disk, Store, ClientId) {
        let disk = Disk::holding("store", self.image.clone());
        let store = open(&disk);
        let id = self.id(&store);
        (disk, store, id)
    }

    fn id(&self, store: &Store) -> ClientId {
        store.client_ids().verify(&self.id).unwrap()
    }

    /// What a store on this disk serves.
    fn found_in(&self, disk: &Disk) -> u64 {
        let store = open(disk);
        let found = get(&store, &self.id(&store)).unwrap();
        assert!(store.check().unwrap().is_clean());
        found
    }
}

/// One change in two packages.
fn put(store: &Store, id: &ClientId, n: u64) -> Result<()> {
    writing(store, id, n)?.commit()
}

fn writing(store: &Store, id: &ClientId, n: u64) -> Result<Transaction> {
    let txn = store.begin()?;
    let session = txn.session(id)?;
    session.pkg("a").insert("n", n)?;
    session.pkg("b").insert("n", n)?;
    Ok(txn)
}

/// One that the journal has to grow for.
fn writing_much(store: &Store, id: &ClientId, n: u64) -> Result<Transaction> {
    let txn = writing(store, id, n)?;
    let package = txn.session(id)?.pkg("large");
    package.insert("text", "x".repeat(200_000))?;
    Ok(txn)
}

/// The number that both packages hold.
fn get(store: &Store, id: &ClientId) -> Result<u64> {
    let txn = store.begin()?;
    let session = txn.session(id)?;
    let a: Option<u64> = session.pkg("a").get("n")?;
    let b: Option<u64> = session.pkg("b").get("n")?;
    assert_eq!(a, b, "half a commit");
    Ok(a.unwrap())
}

fn fault(on: fn(Call) -> bool, after: usize, times: usize, failure: Failure) -> Fault {
    Fault {
        on,
        after,
        times,
        failure,
    }
}

/// The first so many polls of a commit, without anyone who would be woken.
fn queue(txn: Transaction) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>> {
    let mut committing: std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>> =
        Box::pin(txn.commit_async());
    let polled = committing
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    committing
}

/// Lets each call of a commit go wrong in turn. Holds every answer against what is served afterwards
/// and what a power loss would leave; returns the answers.
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
    // What was read stays; what was not cannot be read any more.
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

// C2.13: what is in the journal is served and durable, and commits go on in it.
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

/// A store that keeps nothing in memory but root pages: what lies below them is read each time.
fn spread(prepared: &Prepared) -> (Disk, Store, ClientId) {
    let disk = Disk::holding("store", prepared.image.clone());
    let store = file_builder().cache_size(0);
    let store = store.open_in(disk.folder(), "store").unwrap();
    let id = prepared.id(&store);
    let spread = |txn: &Txn| {
        for i in 0..8 {
            let package = txn.session(&id)?.pkg(&format!("spread {i}"));
            package.insert("bytes", vec![7_u8; 3000])?;
        }
        Ok::<_, Error>(())
    };
    store.transact(spread).unwrap();
    store.checkpoint().unwrap();
    (disk, store, id)
}

/// Nothing can be read.
fn no_read() -> Fault {
    let failure = Failure::Error(EIO);
    fault(|call| call == Call::Read, 0, Fault::FOR_GOOD, failure)
}

// C2.13
#[test]
fn a_failed_read_is_cured_by_reopening() {
    let (disk, store, id) = spread(&prepare());
    disk.fail(no_read());
    assert_eq!(get(&store, &id).unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(disk.heal());
    assert_eq!(eventually(|| get(&store, &id)), 1);
    eventually(|| put(&store, &id, 2));
    assert_eq!(get(&store, &id).unwrap(), 2);
}

/// A transaction that writes 2, and has read all that it is held against.
fn having_read(store: &Store, id: &ClientId) -> Transaction {
    let txn = writing(store, id, 2).unwrap();
    let session = txn.session(id).unwrap();
    for package in ["a", "b"] {
        assert_eq!(session.pkg(package).get("n").unwrap(), Some(2_u64));
        assert_eq!(session.pkg(package).len().unwrap(), 1);
    }
    txn
}

// C2.13
#[test]
fn a_commit_that_cannot_read_what_it_is_held_against_is_not_written() {
    let prepared = prepare();
    let (disk, store, id) = spread(&prepared);
    let txn = having_read(&store, &id);
    // What it has read may have been changed since.
    put(&store, &store.client_ids().issue(), 1).unwrap();
    store.checkpoint().unwrap();
    disk.fail(no_read());
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::NotWritten);
    assert!(disk.heal());
    assert_eq!(eventually(|| get(&store, &id)), 1);
    eventually(|| put(&store, &id, 3));
    assert_eq!(prepared.found_in(&disk.all_kept()), 3);
}

// C2.7
#[test]
fn what_was_read_since_the_last_checkpoint_is_not_read_again_to_be_held_against() {
    let prepared = prepare();
    let (disk, store, id) = spread(&prepared);
    let txn = having_read(&store, &id);
    disk.fail(no_read());
    txn.commit().unwrap();
    assert!(!disk.heal(), "it read");
    assert_eq!(get(&store, &id).unwrap(), 2);
    assert_eq!(prepared.found_in(&disk.all_kept()), 2);
}

// C2.11, C3.2: a write begun in time is on its way to the disk when another one looks.
#[test]
fn who_looks_while_a_write_is_synced_finds_its_session_in_use() {
    let prepared = prepare();
    let clock = clock();
    let disk = Disk::holding("store", prepared.image.clone());
    let builder = file_builder().clock(clock.clone());
    let store = builder.open_in(disk.folder(), "store").unwrap();
    let id = prepared.id(&store);
    let exists = || store.begin().unwrap().session(&id).unwrap().exists();
    clock.advance(Duration::from_secs(3599));
    let txn = writing(&store, &id, 2).unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
    clock.advance(Duration::from_secs(2));
    disk.hold();
    let commit = queue(txn);
    disk.wait_until_held();
    assert!(exists().unwrap());
    disk.release();
    pollster::block_on(commit).unwrap();
    assert!(exists().unwrap());
    assert_eq!(get(&store, &id).unwrap(), 2);
}

// C2.13
#[test]
fn all_members_of_a_failed_group_are_told_and_none_leaves_a_trace() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    let others: Vec<ClientId> = (0..4).map(|_| store.client_ids().issue()).collect();
    disk.hold();
    let first = queue(writing(&store, &id, 2).unwrap());
    disk.wait_until_held();
    // These wait together while the first is being synced.
    let group: Vec<_> = others
        .iter()
        .map(|other| queue(writing_much(&store, other, 5).unwrap()))
        .collect();
    disk.fail(fault(|call| call == Call::Write, 0, 1, Failure::Error(EIO)));
    disk.release();
    pollster::block_on(first).unwrap();
    for member in group {
        let answer = pollster::block_on(member).unwrap_err();
        assert_eq!(answer.kind(), ErrorKind::NotWritten);
    }
    assert_eq!(eventually(|| get(&store, &id)), 2);
    let txn = store.begin().unwrap();
    for other in &others {
        assert!(!txn.session(other).unwrap().exists().unwrap());
    }
    assert_eq!(store.statistics().unwrap().reopened(), 0);
}

// C2.13
#[test]
fn a_member_that_fails_leaves_no_trace_in_its_group() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    let [before, at_fault, after] = std::array::from_fn(|_| store.client_ids().issue());
    let fill = |txn: &Txn| {
        let session = txn.session(&at_fault)?;
        session.pkg("counter").insert("n", u64::MAX)
    };
    store.transact(fill).unwrap();
    put(&store, &at_fault, 1).unwrap();
    let groups = store.statistics().unwrap().groups();
    disk.hold();
    let first = queue(writing(&store, &id, 2).unwrap());
    disk.wait_until_held();
    let overflow = writing(&store, &at_fault, 9).unwrap();
    let counters = overflow.session(&at_fault).unwrap();
    counters.pkg("counter").add("n", 1).unwrap();
    let group = [
        queue(writing(&store, &before, 9).unwrap()),
        queue(overflow),
        queue(writing(&store, &after, 9).unwrap()),
    ];
    disk.release();
    pollster::block_on(first).unwrap();
    let [a, b, c] = group.map(pollster::block_on);
    a.unwrap();
    assert_eq!(b.unwrap_err().kind(), ErrorKind::Overflow);
    c.unwrap();
    assert_eq!(store.statistics().unwrap().groups(), groups + 2);
    assert_eq!(get(&store, &before).unwrap(), 9);
    assert_eq!(get(&store, &at_fault).unwrap(), 1);
    assert_eq!(get(&store, &after).unwrap(), 9);
}

// C2.13
#[test]
fn a_refusal_that_rests_on_a_failed_group_is_none() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    disk.hold();
    let first = queue(writing(&store, &id, 2).unwrap());
    disk.wait_until_held();
    let add = |n: i64| {
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        session.pkg("counter").add("n", n).unwrap();
        let text = "x".repeat(200_000);
        session.pkg("large").insert("text", text).unwrap();
        queue(txn)
    };
    // The second overflows only because the first of its group is there.
    let (full, more) = (add(i64::MAX), add(i64::MAX));
    let (huge, most) = (add(i64::MAX), add(i64::MAX));
    disk.fail(fault(|call| call == Call::Write, 0, 1, Failure::Error(EIO)));
    disk.release();
    pollster::block_on(first).unwrap();
    for member in [full, more, huge, most] {
        let answer = pollster::block_on(member).unwrap_err();
        assert_eq!(answer.kind(), ErrorKind::NotWritten);
    }
}

// C2.13
#[test]
fn what_waits_is_answered_when_the_store_closes() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    disk.hold();
    let first = queue(writing(&store, &id, 2).unwrap());
    disk.wait_until_held();
    let others: Vec<ClientId> = (0..4).map(|_| store.client_ids().issue()).collect();
    let waiting: Vec<_> = others
        .iter()
        .map(|other| queue(writing(&store, other, 5).unwrap()))
        .collect();
    let closing = std::thread::spawn({
        let store = store.clone();
        move || store.close()
    });
    disk.release();
    pollster::block_on(first).unwrap();
    for commit in waiting {
        pollster::block_on(commit).unwrap();
    }
    closing.join().unwrap().unwrap();
    assert_eq!(put(&store, &id, 3).unwrap_err().kind(), ErrorKind::Closed);
    drop(store);
    let store = open(&disk.all_kept());
    for other in &others {
        assert_eq!(get(&store, other).unwrap(), 5);
    }
}

// C2.13
#[test]
fn what_waits_is_answered_when_the_store_closes_while_the_disk_fails() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    disk.hold();
    let first = queue(writing(&store, &id, 2).unwrap());
    disk.wait_until_held();
    let waiting: Vec<_> = (3..6)
        .map(|n| queue(writing(&store, &id, n).unwrap()))
        .collect();
    disk.fail(fault(|_| true, 0, Fault::FOR_GOOD, Failure::Error(EIO)));
    let closing = std::thread::spawn({
        let store = store.clone();
        move || store.close()
    });
    disk.release();
    assert_eq!(
        pollster::block_on(first).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
    for commit in waiting {
        let answer = pollster::block_on(commit).unwrap_err();
        assert_eq!(answer.kind(), ErrorKind::Unavailable);
    }
    assert!(closing.join().unwrap().is_err());
    disk.heal();
    let found = prepared.found_in(&disk.all_kept());
    assert!(found == 1 || found == 2);
}

/// Panics when it is woken.
struct Startled;

impl Wake for Startled {
    fn wake(self: Arc<Self>) {
        panic!("woken");
    }
}

// C2.13: neither its own death nor anyone's waker makes the committer forget who waits.
#[test]
fn a_waker_that_panics_harms_nobody_else() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    disk.hold();
    let startled = writing(&store, &id, 2).unwrap().commit_async();
    let mut startled = pin!(startled);
    let waker = Waker::from(Arc::new(Startled));
    let polled = startled.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Pending));
    disk.wait_until_held();
    let other = queue(writing(&store, &id, 3).unwrap());
    disk.release();
    pollster::block_on(other).unwrap();
    put(&store, &id, 4).unwrap();
    assert_eq!(get(&store, &id).unwrap(), 4);
    store.close().unwrap();
}

// C7.1, C2.13: another process that finds the file free would leave this store locked out.
#[test]
fn the_file_stays_locked_while_the_store_reopens() {
    let disk = Disk::default();
    let rival = || file_builder().open_in(disk.folder(), "store").map(drop);
    let store = open(&disk);
    let id = store.client_ids().issue();
    put(&store, &id, 1).unwrap();
    assert_eq!(rival().unwrap_err().kind(), ErrorKind::Locked);
    disk.fail(fault(
        Call::changes,
        0,
        Fault::FOR_GOOD,
        Failure::Error(EIO),
    ));
    put(&store, &id, 2).unwrap_err();
    assert_eq!(
        put(&store, &id, 2).unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_eq!(rival().unwrap_err().kind(), ErrorKind::Locked);
    disk.heal();
    eventually(|| put(&store, &id, 2));
    assert_eq!(rival().unwrap_err().kind(), ErrorKind::Locked);
    store.close().unwrap();
    rival().unwrap();
}

/// A group over file and memory whose outcome is open when it fails.
fn mixed(store: &Store, id: &ClientId, n: u64) -> Result<()> {
    store.transact(|txn| {
        let session = txn.session(id)?;
        session.pkg("a").insert("n", n)?;
        session.pkg("in memory").insert("n", n)
    })
}

fn mixed_values(store: &Store, id: &ClientId) -> Result<(Option<u64>, Option<u64>)> {
    let txn = store.begin()?;
    let session = txn.session(id)?;
    let file = session.pkg("a").get("n")?;
    Ok((file, session.pkg("in memory").get("n")?))
}

// C1.7, C2.2
#[test]
fn a_commit_over_file_and_memory_is_in_both_or_in_neither_after_a_failure() {
    let prepared = prepare();
    let mut unknown = 0;
    for failure in [Failure::Error(EIO), Failure::Half(EIO)] {
        for after in 0.. {
            let (disk, store, id) = prepared.open();
            store
                .register("in memory", ContainerSettings::new().in_memory())
                .unwrap();
            mixed(&store, &id, 2).unwrap();
            disk.fail(fault(Call::changes, after, 1, failure));
            let answer = mixed(&store, &id, 3);
            disk.heal();
            let (file, memory) = eventually(|| mixed_values(&store, &id));
            assert_eq!(file, memory, "call {after}: {answer:?}");
            match answer {
                Ok(()) => {
                    assert_eq!(file, Some(3));
                    break;
                }
                Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {
                    assert!([Some(2), Some(3)].contains(&file));
                    unknown += 1;
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::NotWritten);
                    assert_eq!(file, Some(2));
                }
            }
            mixed(&store, &id, 4).unwrap();
            let both = mixed_values(&store, &id).unwrap();
            assert_eq!(both, (Some(4), Some(4)));
        }
    }
    assert!(unknown > 0);
}

// C1.2, C2.13: the process and its file must agree on the containers.
#[test]
fn a_container_whose_removal_failed_keeps_what_is_committed_to_it() {
    let prepared = prepare();
    for failure in [Failure::Error(EIO), Failure::Half(EIO)] {
        for after in 0.. {
            let (disk, store, id) = prepared.open();
            store.register("kept", ContainerSettings::new()).unwrap();
            disk.fail(fault(Call::changes, after, 1, failure));
            let answer = store.unregister("kept");
            disk.heal();
            if answer.is_ok() {
                break;
            }
            eventually(|| store.begin().map(drop));
            store.container("kept").unwrap();
            let write = |txn: &Txn| txn.session(&id)?.pkg("kept").insert("n", 5);
            store.transact(write).unwrap();
            store.close().unwrap();
            let store = open(&disk.all_kept());
            let container = store.container("kept");
            assert!(container.is_ok(), "call {after}: {answer:?}");
            let txn = store.begin().unwrap();
            let session = txn.session(&prepared.id(&store)).unwrap();
            assert_eq!(session.pkg("kept").get("n").unwrap(), Some(5));
        }
    }
}

// C1.2, C2.13
#[test]
fn containers_whose_registration_failed_never_share_a_number() {
    let prepared = prepare();
    for after in 0.. {
        let (disk, store, id) = prepared.open();
        disk.fail(fault(Call::changes, after, 1, Failure::Error(EIO)));
        let answer = store.register("first", ContainerSettings::new());
        disk.heal();
        if answer.is_ok() {
            break;
        }
        eventually(|| store.begin().map(drop));
        store.register("second", ContainerSettings::new()).unwrap();
        let write = |txn: &Txn| txn.session(&id)?.pkg("second").insert("n", 5);
        store.transact(write).unwrap();
        store.close().unwrap();
        let store = open(&disk.all_kept());
        store.register("first", ContainerSettings::new()).unwrap();
        let second = store.container("second").unwrap().statistics().unwrap();
        let first = store.container("first").unwrap().statistics().unwrap();
        assert_eq!((first.live, second.live), (0, 1), "call {after}");
    }
}

// C2.13, C4.2: the process and its file must agree on the secrets.
#[test]
fn a_secret_whose_making_failed_is_not_in_use_after_a_restart_either() {
    let open = |disk: &Disk| Store::builder().open_in(disk.folder(), "store").unwrap();
    let new = Disk::default();
    open(&new).close().unwrap();
    let mut unknown = 0;
    for after in 0.. {
        let disk = Disk::holding("store", new.kept("store"));
        let store = open(&disk);
        disk.fail(fault(Call::changes, after, 1, Failure::Error(EIO)));
        let answer = store.rotate_secret();
        disk.heal();
        let Err(error) = answer else { break };
        unknown += u32::from(error.kind() == ErrorKind::OutcomeUnknown);
        eventually(|| store.begin().map(drop));
        let id = store.client_ids().issue();
        store.close().unwrap();
        let store = open(&disk.all_kept());
        assert!(store.client_ids().verify(id.as_str()).is_some());
        let first = store.retire_secret(0).unwrap_err();
        assert_eq!(first.kind(), ErrorKind::InvalidInput, "call {after}");
        assert_eq!(store.rotate_secret().unwrap(), 1, "call {after}");
    }
    assert!(unknown > 0);
}

// C7.3
#[test]
fn an_opening_that_fails_loses_nothing() {
    let prepared = prepare();
    for failure in [Failure::Error(EIO), Failure::Half(ENOSPC), Failure::Panic] {
        for after in 0.. {
            let disk = Disk::holding("store", prepared.image.clone());
            disk.fail(fault(Call::changes, after, Fault::FOR_GOOD, failure));
            let opened = file_builder().open_in(disk.folder(), "store").map(drop);
            let struck = disk.heal();
            assert_eq!(prepared.found_in(&disk.all_kept()), 1, "call {after}");
            assert_eq!(prepared.found_in(&disk.after_kill()), 1, "call {after}");
            if opened.is_ok() && !struck {
                break;
            }
        }
    }
}

// C4.8, C2.13: nobody knows whether the first commit founded a session.
#[test]
fn an_id_founds_no_second_session_after_a_commit_whose_outcome_is_unknown() {
    let prepared = prepare();
    for after in 0.. {
        let (disk, store, _) = prepared.open();
        let id = store.client_ids().issue();
        disk.fail(fault(Call::changes, after, 1, Failure::Half(EIO)));
        let answer = put(&store, &id, 2).map_err(|e| e.kind());
        disk.heal();
        eventually(|| store.begin().map(drop));
        let found = |store: &Store| {
            let txn = store.begin().unwrap();
            txn.session(&id).unwrap().exists().unwrap()
        };
        if found(&store) {
            let destroy = |txn: &Txn| txn.session(&id)?.destroy();
            store.transact(destroy).unwrap();
        }
        let again = store.begin().unwrap();
        let session = again.session(&id).unwrap();
        session.pkg("a").insert("n", 3).unwrap();
        let is_new = session.client_id().unwrap() != id;
        match answer {
            Ok(()) => {
                assert!(is_new, "a session was founded under it");
                break;
            }
            Err(ErrorKind::OutcomeUnknown) => assert!(is_new, "call {after}"),
            Err(_) => assert!(!is_new, "call {after}: nothing was written"),
        }
    }
}

// C3.4, C2.13: who reads while the file is away was there all the same.
#[test]
fn an_access_while_the_store_reopens_is_recorded() {
    let disk = Disk::default();
    let clock = clock();
    let store = file_builder().clock(clock.clone());
    let store = store.open_in(disk.folder(), "store").unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1).unwrap();
    clock.advance(Duration::from_secs(1000));
    let reading = store.begin().unwrap();
    let n: Option<u64> = reading.session(&id).unwrap().pkg("a").get("n").unwrap();
    assert_eq!(n, Some(1));
    disk.fail(fault(
        Call::changes,
        0,
        Fault::FOR_GOOD,
        Failure::Error(EIO),
    ));
    put(&store, &store.client_ids().issue(), 1).unwrap_err();
    reading.commit().unwrap();
    disk.heal();
    let accessed = eventually(|| store.begin()?.session(&id)?.last_access());
    assert_eq!(accessed.unwrap(), clock.now());
}

// C7.4: what the journal holds is read where it is, whatever bears its names by then.
#[test]
fn a_store_whose_journals_were_replaced_comes_back_after_a_failed_sync() {
    let prepared = prepare();
    for leaves_others in [false, true] {
        let (disk, store, id) = prepared.open();
        put(&store, &id, 2).unwrap();
        let folder = disk.folder();
        for n in 1..=4 {
            let name = format!("store.journal-{n}");
            let renamed = folder.rename(name.as_ref(), format!("away-{n}").as_ref());
            if renamed.is_ok() && leaves_others {
                folder.make().unwrap().publish(name.as_ref()).unwrap();
            }
        }
        disk.fail(fault(|call| call == Call::Sync, 0, 1, Failure::Error(EIO)));
        let error = put(&store, &id, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
        assert!(disk.heal());
        let found = eventually(|| get(&store, &id));
        assert!([2, 3].contains(&found), "{found}");
        put(&store, &id, 4).unwrap();
        store.close().unwrap();
        assert_eq!(prepared.found_in(&disk), 4);
    }
}

/// The first sync that comes fails.
fn fail_a_sync(disk: &Disk, store: &Store, id: &ClientId) {
    disk.fail(fault(|call| call == Call::Sync, 0, 1, Failure::Error(EIO)));
    let error = put(store, id, 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    assert!(disk.heal());
}

// C7.4: a copy says the same of itself as what it was copied from.
#[test]
fn a_store_that_reopens_leaves_the_journals_of_its_own_copy_alone() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    put(&store, &id, 2).unwrap();
    let folder = disk.folder();
    for name in disk.names() {
        let name = name.to_str().unwrap();
        let content = disk.seen(name);
        let old = format!("old-{name}");
        folder.rename(name.as_ref(), old.as_ref()).unwrap();
        let made = folder.make().unwrap();
        made.disk().unwrap().write(0, &content).unwrap();
        made.disk().unwrap().sync_data().unwrap();
        made.publish(name.as_ref()).unwrap();
    }
    for round in 0..3 {
        fail_a_sync(&disk, &store, &id);
        eventually(|| put(&store, &id, 10 + round));
    }
    store.close().unwrap();
    assert_eq!(prepared.found_in(&disk), 2);
    let old = Disk::holding("store", disk.seen("old-store"));
    assert_eq!(prepared.found_in(&old), 12);
}

// C7.4, C2.13: what bears the names of its journals does not keep a store away.
#[test]
fn a_store_beside_the_journals_of_one_that_is_open_comes_back_after_a_failed_sync() {
    let prepared = prepare();
    for other_is_older in [false, true] {
        let (disk, store, id) = prepared.open();
        put(&store, &id, 2).unwrap();
        let folder = disk.folder();
        for name in disk.names() {
            let old = format!("old-{}", name.display());
            folder.rename(&name, old.as_ref()).unwrap();
        }
        let mut other = open(&disk);
        if other_is_older {
            other.close().unwrap();
            other = open(&disk);
        }
        let other_id = other.client_ids().issue();
        put(&other, &other_id, 7).unwrap();
        fail_a_sync(&disk, &store, &id);
        eventually(|| put(&store, &id, 4));
        store.close().unwrap();
        put(&other, &other_id, 8).unwrap();
        let killed = open(&disk.after_kill());
        let other_id = killed.client_ids().verify(other_id.as_str()).unwrap();
        assert_eq!(get(&killed, &other_id).unwrap(), 8);
        let old = Disk::holding("store", disk.seen("old-store"));
        assert_eq!(prepared.found_in(&old), 4);
    }
}

//! Containers in memory beside a file: what concerns them alone waits for no disk.

use super::{prepare, queue};
use cloakroom::{ClientId, ContainerSettings, Result, Store, Transaction};

fn writing(store: &Store, id: &ClientId, packages: &[&str], n: u64) -> Result<Transaction> {
    let txn = store.begin()?;
    let session = txn.session(id)?;
    for package in packages {
        session.pkg(package).insert("n", n)?;
    }
    Ok(txn)
}

const BOTH: [&str; 2] = ["a", "in memory"];

fn values(store: &Store, id: &ClientId) -> [Option<u64>; 2] {
    let txn = store.begin().unwrap();
    let session = txn.session(id).unwrap();
    BOTH.map(|package| session.pkg(package).get("n").unwrap())
}

// C1.7, C2.1
#[test]
fn nothing_in_memory_waits_for_a_disk_that_holds_a_commit_of_both_up() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    let container = ContainerSettings::new().in_memory();
    let container = store.register("in memory", container).unwrap();
    let other = store.client_ids().issue();
    for id in [&id, &other] {
        writing(&store, id, &BOTH, 2).unwrap().commit().unwrap();
    }
    let before = store.begin().unwrap();
    let session = before.session(&id).unwrap();
    assert_eq!(session.pkg("in memory").get("n").unwrap(), Some(2));
    disk.hold();
    let first = queue(writing(&store, &id, &BOTH, 3).unwrap());
    disk.wait_until_held();
    // A snapshot shows nothing of it, in either part.
    assert_eq!(values(&store, &id), [Some(2); 2]);
    let memory = ["in memory"];
    let alone = writing(&store, &other, &memory, 4).unwrap();
    alone.commit().unwrap();
    assert_eq!(values(&store, &other), [Some(2), Some(4)]);
    assert_eq!(container.statistics().unwrap().live, 2);
    // Of the same session, it comes after the commit that was validated before.
    let second = queue(writing(&store, &id, &memory, 5).unwrap());
    let third = queue(writing(&store, &id, &BOTH, 6).unwrap());
    assert_eq!(values(&store, &id), [Some(2); 2]);
    disk.release();
    pollster::block_on(first).unwrap();
    pollster::block_on(second).unwrap();
    pollster::block_on(third).unwrap();
    assert_eq!(values(&store, &id), [Some(6); 2]);
    assert_eq!(session.pkg("a").get::<u64>("n").unwrap(), Some(2));
}

// C1.7, C2.4: dropped before the other engine has it, a commit of both leaves no trace, and holds nobody up.
#[test]
fn a_commit_of_both_that_waits_for_another_can_be_taken_back() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    let container = ContainerSettings::new().in_memory();
    store.register("in memory", container).unwrap();
    disk.hold();
    let first = queue(writing(&store, &id, &BOTH, 2).unwrap());
    disk.wait_until_held();
    let second = queue(writing(&store, &id, &BOTH, 3).unwrap());
    let third = queue(writing(&store, &id, &["in memory"], 4).unwrap());
    drop(second);
    disk.release();
    pollster::block_on(first).unwrap();
    pollster::block_on(third).unwrap();
    assert_eq!(values(&store, &id), [Some(2), Some(4)]);
}

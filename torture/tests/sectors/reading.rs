//! What lies on an unreadable sector, and reads that fail for a while.

use super::{House, PAGE, Table, builder, text};
use crate::support::wait::{eventually, until};
use cloakroom::{ErrorKind, Txn};
use cloakroom_torture::disk::{Call, EIO, Failure, Fault};

// C5.4, C2.13
#[test]
fn an_unreadable_sector_is_corrupt_for_what_lies_there_and_for_nobody_else() {
    let house = House::new();
    let older = house.store.begin().unwrap();
    assert_eq!(house.read(&older, 0).unwrap(), Some(text(0)));
    house.spoil(Table::Packages, 7);
    let (served, corrupt) = house.served();
    assert!(corrupt.contains(&7) && corrupt.len() < 60, "{corrupt:?}");
    for n in &served {
        assert_eq!(
            house.read(&older, *n).unwrap(),
            Some(text(*n)),
            "a snapshot is gone"
        );
        let change = |txn: &Txn| txn.session(&house.ids[*n])?.pkg("more").insert("n", *n);
        if let Err(e) = house.store.transact(change) {
            // Its place is on the same page.
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:?}");
        }
        assert!(house.get(7).is_err());
    }
    let statistics = house.store.statistics().unwrap();
    assert_eq!(
        (statistics.reopened(), statistics.unreadable_parts()),
        (0, 1)
    );
    let found = house.store.check().unwrap();
    assert_eq!(found.damaged_pages, 1, "{found:?}");
    let hit: Vec<_> = found
        .findings
        .iter()
        .filter_map(|damage| damage.client)
        .collect();
    assert!(corrupt.iter().all(|n| hit.contains(&house.ids[*n].key())));
}

// C5.4: redb joins a page that has become small with its neighbour.
#[test]
fn what_cannot_be_read_is_not_lost_by_what_is_removed_beside_it() {
    let house = House::new();
    house.spoil(Table::Packages, 7);
    let (served, corrupt) = house.served();
    for n in &served {
        let destroy = |txn: &Txn| txn.session(&house.ids[*n])?.destroy();
        house.store.transact(destroy).unwrap();
    }
    house.store.checkpoint().unwrap();
    house.disk.mend();
    eventually(|| house.store.checkpoint());
    for n in corrupt {
        assert_eq!(eventually(|| house.get(n)), Some(text(n)));
    }
    let image = house.disk.seen("store");
    let no_page = [0xFF; PAGE];
    assert!(image.chunks(PAGE).all(|page| page != no_page));
    let House {
        disk, store, clock, ..
    } = house;
    store.close().unwrap();
    let builder = builder(&clock).verify_on_open(true);
    let store = builder.open_in(disk.folder(), "store").unwrap();
    assert!(store.check().unwrap().is_clean());
}

fn failing_read(times: usize) -> Fault {
    Fault {
        on: |call| call == Call::Read,
        after: 0,
        times,
        failure: Failure::Error(EIO),
    }
}

// C2.13
#[test]
fn a_read_that_fails_once_is_made_again() {
    let house = House::new();
    house.disk.fail(failing_read(1));
    assert_eq!(house.get(7).unwrap(), Some(text(7)));
    assert!(house.disk.heal());
    assert_eq!(house.store.statistics().unwrap().reopened(), 0);
}

// C2.13
#[test]
fn what_can_be_read_again_is_served_again() {
    let house = House::new();
    house.disk.fail(failing_read(2));
    assert_eq!(house.get(7).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(eventually(|| house.get(7)), Some(text(7)));
    until("it is opened again", || {
        house.store.statistics().unwrap().unreadable_parts() == 0
    });
}

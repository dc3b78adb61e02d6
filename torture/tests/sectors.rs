//! C5.4, C2.13: a part of the file that the disk cannot read is `Corrupt` for what lies there. Everybody else
//! goes on, and nothing that cannot be read is lost by what is written beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom::{ClientId, Clock, Error, ErrorKind, Result, Store, StoreBuilder, Transaction, Txn};
use cloakroom_torture::disk::{Call, Disk, EIO, Failure, Fault};
use std::time::{Duration, Instant};

const SESSIONS: usize = 300;
const PAGE: u64 = 4096;

/// Without a cache, so that each page is read again each time.
fn builder() -> StoreBuilder {
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let builder = Store::builder().clock(clock).secret([7; 32]);
    builder.implicit_sweeps(false).cache_size(0)
}

/// A text that is nowhere else in the file.
fn text(n: usize) -> String {
    format!(
        "the text of session {n:04}, and of no other{}",
        "; ".repeat(40)
    )
}

struct House {
    disk: Disk,
    store: Store,
    ids: Vec<ClientId>,
}

impl House {
    fn new() -> Self {
        let disk = Disk::default();
        let store = builder().open_in(disk.folder(), "store").unwrap();
        let ids: Vec<_> = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
        let house = Self { disk, store, ids };
        let fill = |txn: &Txn| {
            for (n, id) in house.ids.iter().enumerate() {
                txn.session(id)?.pkg("app").insert("text", text(n))?;
            }
            Ok::<_, Error>(())
        };
        house.store.transact(fill).unwrap();
        house.store.checkpoint().unwrap();
        house
    }

    fn get(&self, n: usize) -> Result<Option<String>> {
        self.read(&self.store.begin()?, n)
    }

    fn read(&self, txn: &Transaction, n: usize) -> Result<Option<String>> {
        txn.session(&self.ids[n])?.pkg("app").get("text")
    }

    /// One sector of the page that holds the text of session `n` cannot be read any more, nor can what is left
    /// of earlier versions of the page.
    fn spoil(&self, n: usize) {
        let image = self.disk.seen("store");
        let text = text(n);
        let places = image.windows(text.len()).enumerate();
        for (at, _) in places.filter(|(_, part)| *part == text.as_bytes()) {
            let sector = at as u64 / 512 * 512;
            self.disk.spoil("store", sector..sector + 512);
        }
    }

    /// The sessions whose text is served, and those for which it is `Corrupt`.
    fn served(&self) -> (Vec<usize>, Vec<usize>) {
        (0..SESSIONS).partition(|n| match self.get(*n) {
            Ok(found) => {
                assert_eq!(found, Some(text(*n)));
                true
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Corrupt, "session {n}: {e:?}");
                false
            }
        })
    }
}

/// Asks until the store answers.
fn eventually<T>(mut ask: impl FnMut() -> Result<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(e) => assert!(Instant::now() < until, "{e:?}"),
        }
        std::thread::yield_now();
    }
}

// C5.4, C2.13
#[test]
fn an_unreadable_sector_is_corrupt_for_what_lies_there_and_for_nobody_else() {
    let house = House::new();
    let older = house.store.begin().unwrap();
    assert_eq!(house.read(&older, 0).unwrap(), Some(text(0)));
    house.spoil(7);
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
    house.spoil(7);
    let (served, corrupt) = house.served();
    for n in &served {
        let destroy = |txn: &Txn| txn.session(&house.ids[*n])?.destroy();
        house.store.transact(destroy).unwrap();
    }
    // It may fail, but does no harm.
    let made = house.store.checkpoint();
    house.disk.mend();
    eventually(|| house.store.checkpoint());
    for n in corrupt {
        assert_eq!(eventually(|| house.get(n)), Some(text(n)), "{made:?}");
    }
    let image = house.disk.seen("store");
    let no_page = [0xFF; PAGE as usize];
    assert!(image.chunks(PAGE as usize).all(|page| page != no_page));
    let House { disk, store, .. } = house;
    store.close().unwrap();
    let builder = builder().verify_on_open(true);
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
    let until = Instant::now() + Duration::from_secs(60);
    while house.store.statistics().unwrap().unreadable_parts() > 0 {
        assert!(Instant::now() < until, "it is not opened again");
        std::thread::yield_now();
    }
}

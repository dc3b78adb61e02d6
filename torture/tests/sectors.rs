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
const PAGE: usize = 4096;
const JOURNAL: u64 = 256 << 10;

fn clock() -> Clock {
    Clock::manual("2026-01-01T00:00:00Z".parse().unwrap())
}

/// Without a cache, so that each page is read again each time, and with a small journal.
fn builder(clock: &Clock) -> StoreBuilder {
    let builder = Store::builder().clock(clock.clone()).secret([7; 32]);
    let builder = builder.implicit_sweeps(false).cache_size(0);
    builder.journal_size(JOURNAL)
}

fn owner(n: usize) -> String {
    format!("owner {n}")
}

/// A text that is nowhere else in the file.
fn text(n: usize) -> String {
    format!(
        "the text of session {n:04}, and of no other{}",
        "; ".repeat(40)
    )
}

/// What may lie on a bad sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Sessions,
    Packages,
    Owners,
}

#[derive(Debug)]
struct House {
    disk: Disk,
    clock: Clock,
    store: Store,
    ids: Vec<ClientId>,
}

impl House {
    fn new() -> Self {
        let disk = Disk::default();
        let clock = clock();
        let store = builder(&clock).open_in(disk.folder(), "store").unwrap();
        let ids: Vec<_> = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
        let house = Self {
            disk,
            clock,
            store,
            ids,
        };
        let fill = |txn: &Txn| {
            for (n, id) in house.ids.iter().enumerate() {
                let session = txn.session(id)?;
                session.pkg("app").insert("text", text(n))?;
                session.set_owner(Some(&owner(n)))?;
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

    /// One sector of the page on which a table has session `n` cannot be read any more, nor can what is left of
    /// earlier versions of the page.
    fn spoil(&self, table: Table, n: usize) {
        for at in self.places(table, n) {
            let sector = at as u64 / 512 * 512;
            self.disk.spoil("store", sector..sector + 512);
        }
    }

    /// Where a table has session `n`.
    fn places(&self, table: Table, n: usize) -> Vec<usize> {
        let image = self.disk.seen("store");
        let key = *self.ids[n].key().as_bytes();
        let found = |at: &usize| {
            let page = &image[at / PAGE * PAGE..(at / PAGE + 1) * PAGE];
            let (pairs, at) = (
                usize::from(u16::from_le_bytes([page[2], page[3]])),
                at % PAGE,
            );
            // Where the keys of a leaf begin, how wide they are, and where in them the session is.
            let is_key = |from: usize, width: usize, inner: usize| {
                let before = at.checked_sub(from + inner);
                before.is_some_and(|before| before % width == 0 && before / width < pairs)
            };
            // A leaf of sessions lists first where its values end. One of owners begins with a key, which is a hash.
            let first = u32::from_le_bytes(page[4..8].try_into().unwrap());
            let lists_values = first as usize <= PAGE;
            page[0] == 1
                && match table {
                    Table::Sessions => lists_values && is_key(4 + 4 * pairs, 20, 4),
                    Table::Owners => !lists_values && is_key(4, 36, 20),
                    Table::Packages => page[at..].starts_with(&[&key[..], b"app"].concat()),
                }
        };
        let places = image.windows(key.len()).enumerate();
        let places = places.filter(|(_, part)| *part == key).map(|(at, _)| at);
        let places: Vec<_> = places.filter(found).collect();
        assert!(!places.is_empty(), "no {table:?} of session {n}");
        places
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
    let until = Instant::now() + Duration::from_secs(60);
    while house.store.statistics().unwrap().unreadable_parts() > 0 {
        assert!(Instant::now() < until, "it is not opened again");
        std::thread::yield_now();
    }
}

/// Opens a store. Where redb checks itself it looks at all pages for that, so that all have to be readable
/// meanwhile.
fn opened_beside(disk: &Disk, clock: &Clock) -> Store {
    if cfg!(debug_assertions) {
        disk.mend();
    }
    builder(clock).open_in(disk.folder(), "store").unwrap()
}

impl House {
    fn put(&self, n: usize, key: &str, value: usize) -> Result<()> {
        let put = |txn: &Txn| txn.session(&self.ids[n])?.pkg("app").insert(key, value);
        self.store.transact(put)
    }

    /// As it is after the process was killed; the sectors of a session are as bad as before.
    fn killed(self, bad: (Table, usize)) -> Self {
        let disk = self.disk.after_kill();
        drop(self.store);
        let store = opened_beside(&disk, &self.clock);
        let house = Self {
            disk,
            store,
            ..self
        };
        house.spoil(bad.0, bad.1);
        house
    }

    /// Closed and opened again, with what closing gave.
    fn closed(self, bad: Option<(Table, usize)>) -> (Self, Result<()>) {
        let closed = self.store.close();
        let store = opened_beside(&self.disk, &self.clock);
        let house = Self { store, ..self };
        if let Some((table, n)) = bad {
            house.spoil(table, n);
        }
        (house, closed)
    }

    fn value(&self, n: usize, key: &str) -> Result<Option<usize>> {
        let txn = self.store.begin()?;
        txn.session(&self.ids[n])?.pkg("app").get(key)
    }
}

// C5.4: what a checkpoint cannot bring into the file is not in the way of the rest, and is not lost.
#[test]
fn commits_go_on_for_ever_beside_an_unreadable_page() {
    let house = House::new();
    // These have read what they write beside, so that they can commit.
    let late: Vec<_> = (0..SESSIONS)
        .map(|_| house.store.begin().unwrap())
        .collect();
    for (n, txn) in late.iter().enumerate() {
        house.read(txn, n).unwrap();
    }
    house.spoil(Table::Packages, 7);
    let (served, corrupt) = house.served();
    for (n, txn) in late.into_iter().enumerate() {
        if corrupt.contains(&n) && n != 7 {
            let package = txn.session(&house.ids[n]).unwrap().pkg("app");
            package.insert("late", n).unwrap();
            txn.commit().unwrap();
        }
    }
    let mut last = vec![0; SESSIONS];
    let mut house = house;
    for round in 1..=2 {
        let before = house.store.statistics().unwrap().checkpoints();
        for i in 0..1500 {
            let n = served[(i * 7) % served.len()];
            house.put(n, "n", round * 10_000 + i).unwrap();
            last[n] = round * 10_000 + i;
        }
        let statistics = house.store.statistics().unwrap();
        assert!(statistics.checkpoints() >= before + 3, "{statistics:?}");
        assert!(
            statistics.journal_len() <= JOURNAL + JOURNAL / 2,
            "{statistics:?}"
        );
        assert_eq!(statistics.unreadable_parts(), 1);
        if round == 1 {
            assert_eq!(statistics.reopened(), 0);
        }
        for n in 0..SESSIONS {
            let late = corrupt.contains(&n) && n != 7;
            assert_eq!(house.get(n).is_ok(), n != 7, "session {n}");
            if n != 7 {
                assert_eq!(house.get(n).unwrap(), Some(text(n)));
                assert_eq!(house.value(n, "late").unwrap(), late.then_some(n));
                let last = Some(last[n]).filter(|last| *last > 0);
                assert_eq!(house.value(n, "n").unwrap(), last);
            }
        }
        let found = house.store.check().unwrap();
        assert_eq!(found.damaged_pages, 1, "{found:?}");
        house = house.killed((Table::Packages, 7));
    }
    assert_eq!(house.get(7).unwrap_err().kind(), ErrorKind::Corrupt);
    house.disk.mend();
    assert_eq!(eventually(|| house.get(7)), Some(text(7)));
    let House {
        disk,
        store,
        clock,
        ids,
    } = house;
    store.close().unwrap();
    assert_eq!(disk.names().len(), 1, "all is in the file");
    let store = builder(&clock).verify_on_open(true);
    let store = store.open_in(disk.folder(), "store").unwrap();
    let house = House {
        disk,
        clock,
        store,
        ids,
    };
    for n in 0..SESSIONS {
        assert_eq!(house.get(n).unwrap(), Some(text(n)));
        let late = corrupt.contains(&n) && n != 7;
        assert_eq!(house.value(n, "late").unwrap(), late.then_some(n));
        let last = Some(last[n]).filter(|last| *last > 0);
        assert_eq!(house.value(n, "n").unwrap(), last);
    }
}

// C5.4, C3.7
#[test]
fn what_scans_goes_round_an_unreadable_page() {
    for table in [Table::Sessions, Table::Packages, Table::Owners] {
        let house = House::new();
        house.spoil(table, 7);
        let of = |n: usize| house.store.sessions_of(&owner(n));
        let mut unknown = Vec::new();
        for n in 0..SESSIONS {
            match of(n) {
                Ok(found) => {
                    let keys: Vec<_> = found.iter().map(|info| info.client).collect();
                    assert_eq!(keys, [house.ids[n].key()], "{table:?} {n}");
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:?}");
                    unknown.push(n);
                }
            }
        }
        assert_eq!(unknown.contains(&7), table == Table::Owners, "{table:?}");
        assert!(unknown.len() < SESSIONS / 2, "{table:?}: {unknown:?}");
        let container = house.store.container("").unwrap();
        let counts = container.statistics().unwrap();
        let gaps = u64::from(table == Table::Sessions);
        assert_eq!(counts.unreadable, gaps, "{table:?}");
        let hidden = SESSIONS as u64 - counts.live;
        assert_eq!(
            hidden > 0,
            table == Table::Sessions,
            "{table:?}: {counts:?}"
        );
        assert!(hidden < SESSIONS as u64 / 2, "{counts:?}");

        house.clock.advance(Duration::from_secs(7200));
        let swept = container.sweep().unwrap();
        assert_eq!((swept.removed, swept.unreadable), (counts.live, gaps));
        house.store.checkpoint().unwrap();
        house.clock.advance(Duration::from_secs(3600));
        assert_eq!(container.sweep().unwrap().removed, 0, "{table:?}");
        assert_eq!(container.statistics().unwrap().live, 0);
        assert_eq!(house.store.statistics().unwrap().reopened(), 0, "{table:?}");

        house.disk.mend();
        // The store may open its file again first, as all of it can be read.
        eventually(|| {
            container.sweep()?;
            house.store.checkpoint()
        });
        let counts = container.statistics().unwrap();
        assert_eq!((counts.expired, counts.unreadable), (0, 0), "{table:?}");
        let House {
            disk, store, clock, ..
        } = house;
        drop(container);
        store.close().unwrap();
        let store = builder(&clock).verify_on_open(true);
        let store = store.open_in(disk.folder(), "store").unwrap();
        let found = store.check().unwrap();
        assert!(found.is_clean() && found.sessions == 0, "{found:?}");
    }
}

// C5.4
#[test]
fn a_store_is_closed_and_opened_beside_an_unreadable_page() {
    const BAD: Option<(Table, usize)> = Some((Table::Packages, 7));
    let house = House::new();
    house.spoil(Table::Packages, 7);
    assert_eq!(house.get(7).unwrap_err().kind(), ErrorKind::Corrupt);
    let (served, _) = house.served();
    let (house, closed) = house.closed(BAD);
    closed.unwrap();
    assert_eq!(house.get(7).unwrap_err().kind(), ErrorKind::Corrupt);
    house.put(served[0], "n", 1).unwrap();
    let (house, closed) = house.closed(None);
    closed.unwrap();
    assert_eq!(house.value(served[0], "n").unwrap(), Some(1));

    house.disk.mend();
    let txn = house.store.begin().unwrap();
    eventually(|| house.read(&txn, 7));
    house.spoil(Table::Packages, 7);
    assert_eq!(house.get(7).unwrap_err().kind(), ErrorKind::Corrupt);
    let package = txn.session(&house.ids[7]).unwrap().pkg("app");
    package.insert("late", 7).unwrap();
    txn.commit().unwrap();
    // What was committed cannot be brought into the file, so the journal stays.
    let (house, closed) = house.closed(BAD);
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(house.value(7, "late").unwrap(), Some(7));
    house.disk.mend();
    let (house, closed) = house.closed(None);
    closed.unwrap();
    assert_eq!(house.disk.names().len(), 3, "a store and its journal");
    assert_eq!(house.value(7, "late").unwrap(), Some(7));
    assert_eq!(house.get(7).unwrap(), Some(text(7)));
}

// C5.4: what cannot be brought into the file is no reason for another checkpoint, however much it is.
#[test]
fn rows_that_stay_in_the_journal_alone_make_no_checkpoint_due() {
    const FULL: usize = 16 << 10;
    let house = House::new();
    let House {
        disk, clock, store, ..
    } = house;
    store.close().unwrap();
    // Made with the commit that they are due with, so that it does not return if there is no end to them.
    let builder = builder(&clock).checkpoints_in_the_foreground(FULL);
    let store = builder.open_in(disk.folder(), "store").unwrap();
    let house = House {
        disk,
        clock,
        store,
        ids: house.ids,
    };
    // Only where it lies now: what is free is written again.
    for at in house.places(Table::Owners, 7) {
        let sector = at as u64 / 512 * 512;
        house.disk.spoil("store", sector..sector + 512);
        if house.store.sessions_of(&owner(7)).is_err() {
            break;
        }
        house.disk.mend();
    }
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Entries of the index of owners are written without being read.
        let enter = |txn: &Txn| {
            for _ in 0..FULL / 100 {
                let session = txn.session(&house.store.client_ids().issue())?;
                session.set_owner(Some(&owner(7)))?;
            }
            Ok::<_, Error>(())
        };
        let entered = house.store.transact(enter);
        let _ = done.send((entered, house));
    });
    let entered = is_done.recv_timeout(Duration::from_secs(60));
    let (entered, house) = entered.expect("checkpoints go on for ever");
    entered.unwrap();
    house.put(8, "n", 1).unwrap();
    assert_eq!(house.value(8, "n").unwrap(), Some(1));
    assert_eq!(house.store.statistics().unwrap().reopened(), 0);
}

impl House {
    /// A new session of an owner.
    fn enter(&self, owner: &str) -> Result<ClientId> {
        let id = self.store.client_ids().issue();
        let enter = |txn: &Txn| txn.session(&id)?.set_owner(Some(owner));
        self.store.transact(enter).map(|()| id)
    }

    /// How many bytes a commit and a checkpoint write.
    fn written_by_a_round(&self, n: usize, round: usize) -> u64 {
        let before = self.disk.counts().bytes_written;
        self.put(n, "round", round).unwrap();
        self.store.checkpoint().unwrap();
        self.disk.counts().bytes_written - before
    }
}

// C5.4
#[test]
fn what_is_kept_back_for_an_unreadable_page_has_a_limit() {
    // Of a journal file, which is half of the journal.
    const MOST: u64 = JOURNAL / 2 / 8;
    let house = House::new();
    let healthy = (0..4).map(|round| house.written_by_a_round(20, round));
    let healthy = healthy.max().unwrap();
    house.spoil(Table::Owners, 7);
    let mut entered = vec![house.ids[7].clone(), house.enter(&owner(7)).unwrap()];
    house.store.checkpoint().unwrap();
    let refused = loop {
        match house.enter(&owner(7)) {
            Ok(id) => entered.push(id),
            Err(refused) => break refused,
        }
        assert!(entered.len() < 2000, "there is no limit");
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    assert!(refused.to_string().contains("cannot be read"), "{refused}");
    assert!(entered.len() > 100, "{}", entered.len());

    // Everybody else goes on, and so do they who end.
    let others = (0..SESSIONS).filter(|n| house.store.sessions_of(&owner(*n)).is_ok());
    let others: Vec<_> = others.collect();
    assert!(others.len() > SESSIONS / 2);
    for n in others.iter().step_by(7) {
        house.enter(&owner(*n)).unwrap();
        house.put(*n, "n", *n).unwrap();
    }
    for id in entered.drain(10..20) {
        house
            .store
            .transact(|txn: &Txn| txn.session(&id)?.destroy())
            .unwrap();
    }
    house.enter(&owner(7)).map(drop).unwrap_err();

    house.store.checkpoint().unwrap();
    // What is kept is written again by each checkpoint, but does not grow.
    for (round, n) in others.iter().enumerate().take(10) {
        let written = house.written_by_a_round(*n, round);
        assert!(written <= healthy + 2 * MOST, "{written} of {healthy}");
    }
    let statistics = house.store.statistics().unwrap();
    assert_eq!(statistics.reopened(), 0, "{statistics:?}");
    assert!(statistics.journal_len() <= JOURNAL + JOURNAL / 2);

    house.disk.mend();
    eventually(|| {
        house.store.checkpoint()?;
        house.enter(&owner(7)).map(|id| entered.push(id))
    });
    eventually(|| house.store.checkpoint());
    let mut all: Vec<_> = entered.iter().map(ClientId::key).collect();
    let found = eventually(|| house.store.sessions_of(&owner(7)));
    all.sort_by_key(|key| *key.as_bytes());
    let mut found: Vec<_> = found.into_iter().map(|info| info.client).collect();
    found.sort_by_key(|key| *key.as_bytes());
    assert_eq!(found, all);
    assert!(house.store.check().unwrap().is_clean());
}

//! Commits, scans and checkpoints go on beside an unreadable page.

use super::{House, JOURNAL, SESSIONS, Table, builder, owner, text};
use crate::support::wait::eventually;
use cloakroom::{ClientId, Error, ErrorKind, Txn};
use std::time::Duration;

// C5.4: rows that a checkpoint cannot bring into the file neither stop the others nor get lost.
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
    // A commit cannot be brought into the file, so the journal stays.
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

// C5.4: rows that cannot be brought into the file, however many, make no other checkpoint due.
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
    // Only at its present place: free pages are written again.
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

    // All others go on, and sessions can be ended.
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
    // Each checkpoint writes the kept rows again, but they do not grow.
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

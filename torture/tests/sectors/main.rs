//! C5.4, C2.13: a part of the file that the disk cannot read is `Corrupt` for the sessions in it. All others go on, and
//! no write beside it loses unreadable data.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod going_on;
mod reading;
#[path = "../support/mod.rs"]
mod support;

use cloakroom::{ClientId, Clock, Error, ErrorKind, Result, Store, StoreBuilder, Transaction, Txn};
use cloakroom_torture::disk::Disk;
use support::clock::clock;

const SESSIONS: usize = 300;
const PAGE: usize = 4096;
const JOURNAL: u64 = 256 << 10;

/// Without a cache, so that each page is read again each time, and with a small journal.
fn builder(clock: &Clock) -> StoreBuilder {
    let builder = support::store::builder(clock).secret([7; 32]);
    builder.cache_size(0).journal_size(JOURNAL)
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

    /// Makes a sector of the page with session `n` of a table unreadable, and earlier versions of the page as well.
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

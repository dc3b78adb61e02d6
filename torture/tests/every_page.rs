//! C5.4, C2.13: if any one page of the file cannot be read any more, everything on other pages is read and written, and
//! checkpoints go on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{
    ClientId, Clock, ContainerSettings, Error, ErrorKind, Result, Store, StoreBuilder, Txn,
};
use cloakroom_torture::disk::Disk;
use support::clock::clock;

const SESSIONS: usize = 120;
const ENDED: usize = 40;
const PAGE: usize = 4096;
const JOURNAL: u64 = 256 << 10;
/// What does not fit into the journal.
const MANY: usize = 30;
const LARGE: usize = 6000;

fn builder(clock: &Clock) -> StoreBuilder {
    let builder = support::store::builder(clock).secret([7; 32]);
    builder.journal_size(JOURNAL)
}

fn text(n: usize) -> String {
    format!("the text of session {n:04}{}", "; ".repeat(40))
}

fn owner(n: usize) -> String {
    format!("owner {n}")
}

/// A store with rows in all of its tables, and no more pages than it needs.
struct Base {
    clock: Clock,
    disk: Disk,
    ids: Vec<ClientId>,
}

impl Base {
    fn new() -> Self {
        let (disk, clock) = (Disk::default(), clock());
        let store = builder(&clock).open_in(disk.folder(), "store").unwrap();
        let ids: Vec<_> = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
        for name in ["carts", "former"] {
            store.register(name, ContainerSettings::default()).unwrap();
        }
        let fill = |txn: &Txn| {
            for (n, id) in ids.iter().enumerate() {
                let session = txn.session(id)?;
                session.pkg("app").insert("text", text(n))?;
                session.set_owner(Some(&owner(n)))?;
            }
            let former = txn.session(&ids[0])?;
            former.pkg("former").insert("n", 1)
        };
        store.transact(fill).unwrap();
        let found = |_: &Txn| Ok::<_, Error>(store.client_ids().issue());
        for _ in 0..ENDED {
            let id = store.transact(found).unwrap();
            let begin = |txn: &Txn| txn.session(&id)?.pkg("app").insert("n", 1);
            store.transact(begin).unwrap();
            store
                .transact(|txn: &Txn| txn.session(&id)?.destroy())
                .unwrap();
        }
        store.checkpoint().unwrap();
        store.unregister("former").unwrap();
        store.close().unwrap();
        Self { clock, disk, ids }
    }

    fn pages(&self) -> usize {
        self.disk.seen("store").len() / PAGE
    }

    /// A copy of it, open without a cache, so that each page is read again each time.
    fn open(&self) -> House<'_> {
        let disk = self.disk.after_kill();
        let store = builder(&self.clock).cache_size(0);
        let store = store.open_in(disk.folder(), "store").unwrap();
        House {
            base: self,
            disk,
            store,
        }
    }
}

struct House<'a> {
    base: &'a Base,
    disk: Disk,
    store: Store,
}

fn spoil(disk: &Disk, page: usize) {
    let at = (page * PAGE) as u64;
    disk.spoil("store", at..at + 512);
}

/// What cannot be read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lost {
    sessions: Vec<usize>,
    owners: Vec<usize>,
}

impl House<'_> {
    fn get(&self, n: usize) -> Result<Option<String>> {
        let txn = self.store.begin()?;
        txn.session(&self.base.ids[n])?.pkg("app").get("text")
    }

    fn lost(&self) -> Lost {
        let mut lost = Lost::default();
        for n in 0..SESSIONS {
            match self.get(n) {
                Ok(found) => assert_eq!(found, Some(text(n))),
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:?}");
                    lost.sessions.push(n);
                }
            }
            match self.store.sessions_of(&owner(n)) {
                Ok(found) => {
                    let keys: Vec<_> = found.iter().map(|info| info.client).collect();
                    assert_eq!(keys, [self.base.ids[n].key()]);
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:?}");
                    lost.owners.push(n);
                }
            }
        }
        lost
    }

    fn put(&self, n: usize, key: &str, value: &str) -> Result<()> {
        let put = |txn: &Txn| txn.session(&self.base.ids[n])?.pkg(key).insert(key, value);
        self.store.transact(put)
    }

    /// New sessions are refused if their keys lie among those of a page that cannot be read.
    fn found_sessions(&self, page: usize, may_fail: bool) {
        for _ in 0..8 {
            let id = self.store.client_ids().issue();
            let found = |txn: &Txn| txn.session(&id)?.pkg("app").insert("n", 1);
            match self.store.transact(found) {
                Ok(()) => return,
                Err(e) => assert!(may_fail && e.kind() == ErrorKind::Corrupt, "{page}: {e:?}"),
            }
        }
        assert!(may_fail, "page {page}");
    }

    /// Writes more than the journal holds, and all else that writes to the file. Nothing of that may fail.
    fn live(&self, page: usize, lost: &Lost) {
        let served: Vec<_> = (0..SESSIONS)
            .filter(|n| !lost.sessions.contains(n))
            .collect();
        assert!(served.len() > SESSIONS / 4, "page {page}: {lost:?}");
        for round in 0..2 {
            for n in served.iter().step_by(9) {
                self.put(*n, "app", &round.to_string()).unwrap();
            }
            self.found_sessions(page, !lost.sessions.is_empty());
            self.store.checkpoint().unwrap();
            for i in 0..MANY {
                let n = served[(i * 7) % served.len()];
                let value = format!("{round} {i} {}", "x".repeat(LARGE));
                self.put(n, "large", &value).unwrap();
            }
            let name = format!("more {round}");
            self.store
                .register(&name, ContainerSettings::default())
                .unwrap();
        }
        self.store.checkpoint().unwrap();
        let statistics = self.store.statistics().unwrap();
        assert_eq!(statistics.reopened(), 0, "page {page}");
        assert!(statistics.checkpoints() >= 3, "page {page}: {statistics:?}");
        assert!(
            statistics.journal_len() <= JOURNAL + JOURNAL / 2,
            "{statistics:?}"
        );
    }
}

// C5.4, C2.13
#[test]
fn whichever_page_cannot_be_read_nobody_else_is_disturbed() {
    let base = Base::new();
    let (mut upper, mut branches, mut rows) = (0, 0, 0);
    for page in 0..base.pages() {
        let house = base.open();
        let is_branch = house.disk.seen("store")[page * PAGE] == 2;
        spoil(&house.disk, page);
        let lost = house.lost();
        if page == 0 {
            // Without the header nobody can be sure which commit is the current one.
            assert_eq!(lost, Lost::default());
            house.live(page, &lost);
            let unchecked = house.store.check().unwrap_err();
            assert_eq!(unchecked.kind(), ErrorKind::Unavailable, "{unchecked:?}");
            continue;
        }
        let found = house.store.check().unwrap();
        let is_lost = lost != Lost::default();
        assert!(
            !is_lost || found.damaged_pages == 1,
            "page {page}: {found:?}"
        );
        house.live(page, &lost);
        let now = house.store.check().unwrap();
        if is_lost {
            rows += 1;
            assert_eq!(house.lost(), lost, "page {page}");
            house.disk.mend();
            continue;
        }
        if found.damaged_pages > 0 {
            // Its copy was used until a checkpoint had written it elsewhere.
            upper += 1;
            branches += usize::from(is_branch);
            assert!(
                found.damaged == 0 && now.is_clean(),
                "{page}: {found:?} {now:?}"
            );
            assert_eq!(house.store.statistics().unwrap().unreadable_parts(), 0);
        }
        if now.is_clean() {
            let killed = house.disk.after_kill();
            let again = builder(&base.clock)
                .open_in(killed.folder(), "store")
                .unwrap();
            assert!(again.check().unwrap().is_clean(), "page {page}");
        }
    }
    // redb's bookkeeping, the store's own tables, and the upper pages of the others; and what lies below these.
    assert!(
        upper >= 10 && branches >= 3 && rows >= 6,
        "{upper} {branches} {rows}"
    );
}

// C5.4: at the opening, no memory holds a copy of the unreadable page.
#[test]
fn a_closed_store_with_an_unreadable_page_opens_or_says_what_to_do() {
    let base = Base::new();
    let (mut refused, mut salvaged) = (0, Vec::new());
    for page in 0..base.pages() {
        let disk = base.disk.after_kill();
        spoil(&disk, page);
        let before = disk.seen("store");
        let Err(error) = builder(&base.clock).open_in(disk.folder(), "store") else {
            continue;
        };
        refused += 1;
        assert!(
            [ErrorKind::Io, ErrorKind::Corrupt].contains(&error.kind()),
            "{error:?}"
        );
        assert_eq!(disk.seen("store"), before, "page {page}: it was changed");
        if page == 0 {
            assert!(error.to_string().contains("cannot be read"), "{error}");
            continue;
        }
        assert!(
            error.to_string().contains("salvage"),
            "page {page}: {error}"
        );
        let folder = disk.folder();
        match builder(&base.clock).salvage_in(&folder, "store", "copy") {
            Ok(copied) => salvaged.push((page, copied.sessions)),
            Err(error) => {
                // The list of tables: nothing can be reached without it.
                assert_eq!(error.kind(), ErrorKind::NotAStore, "page {page}: {error:?}");
                continue;
            }
        }
        let store = builder(&base.clock).open_in(folder, "copy").unwrap();
        assert!(store.check().unwrap().is_clean(), "page {page}");
    }
    // All but the header and the list of tables.
    assert!(
        refused >= 5 && salvaged.len() == refused - 2,
        "{refused} {salvaged:?}"
    );
}

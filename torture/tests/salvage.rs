//! C5.4, C7.3: a salvage that crashes, or whose disk fails, never changes what it reads, and leaves a whole store or
//! none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ClientId, Error, ErrorKind, Salvage, Store, Txn};
use cloakroom_torture::disk::{Call, Disk, EIO, ENOSPC, Failure, Fault};
use fastrand::Rng;
use std::collections::BTreeMap;
use support::store::file_builder;

const SESSIONS: usize = 40;
const SOURCE: &str = "from";
const TARGET: &str = "to";
/// What follows the name of a store in those of its files.
const SUFFIXES: [&str; 5] = ["", ".journal-1", ".journal-2", ".journal-3", ".journal-4"];

fn open(disk: &Disk, name: &str) -> cloakroom::Result<Store> {
    file_builder().open_in(disk.folder(), name)
}

/// The files of a store that was killed, and the ids of its sessions. A part of it is in its journal alone.
struct Base {
    files: BTreeMap<&'static str, Vec<u8>>,
    ids: Vec<String>,
}

impl Base {
    fn new() -> Self {
        let disk = Disk::default();
        let store = open(&disk, SOURCE).unwrap();
        let ids: Vec<ClientId> = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
        let put = |ids: &[ClientId], value: &str| {
            let put = |txn: &Txn| {
                for id in ids {
                    let session = txn.session(id)?;
                    session.pkg("a").insert("text", value)?;
                    session.set_owner(Some("ann"))?;
                }
                Ok::<_, Error>(())
            };
            store.transact(put).unwrap();
        };
        put(&ids, "old");
        store.checkpoint().unwrap();
        put(&ids[..SESSIONS / 2], "new");
        put(&ids[SESSIONS / 2..], "new");
        let suffix_of = |name: &str| {
            let suffix = name.strip_prefix(SOURCE).unwrap();
            *SUFFIXES.iter().find(|known| **known == suffix).unwrap()
        };
        let names = disk.names();
        let files = names.iter().map(|name| {
            let name = name.to_str().unwrap();
            (suffix_of(name), disk.seen(name))
        });
        let files: BTreeMap<_, _> = files.collect();
        assert_eq!(files.len(), 3);
        let ids = ids.iter().map(|id| id.as_str().to_owned()).collect();
        Self { files, ids }
    }

    fn disk(&self) -> Disk {
        Disk::holding_all(SOURCE, &self.files)
    }

    fn assert_source_unchanged(&self, disk: &Disk, trial: &str) {
        for (suffix, content) in &self.files {
            let name = format!("{SOURCE}{suffix}");
            assert!(disk.seen(&name) == *content, "{trial}: {name} was changed");
        }
        let is_known = |name: &String| {
            let suffix = name.strip_prefix(SOURCE);
            name == TARGET || suffix.is_some_and(|suffix| self.files.contains_key(suffix))
        };
        let names = disk.names().into_iter().map(|it| it.into_string().unwrap());
        let unknown: Vec<_> = names.filter(|name| !is_known(name)).collect();
        assert!(unknown.is_empty(), "{trial}: {unknown:?}");
    }

    /// How many sessions the target serves as they were. It is a clean store.
    fn served(&self, disk: &Disk, trial: &str) -> usize {
        let verified = file_builder()
            .verify_on_open(true)
            .open_in(disk.folder(), TARGET);
        let store = verified.unwrap_or_else(|error| panic!("{trial}: {error:?}"));
        assert!(store.check().unwrap().is_clean(), "{trial}");
        let txn = store.begin().unwrap();
        let is_served = |id: &&String| {
            let id = store.client_ids().verify(id).unwrap();
            let value = txn.session(&id).unwrap().pkg("a").get::<String>("text");
            value.unwrap().as_deref() == Some("new")
        };
        self.ids.iter().filter(is_served).count()
    }

    /// The source is as it was; the target is whole, or not there. Tells which.
    fn judge(&self, disk: &Disk, trial: &str) -> bool {
        self.assert_source_unchanged(disk, trial);
        let is_there = is_there(disk);
        if is_there {
            assert_eq!(self.served(disk, trial), SESSIONS, "{trial}");
        }
        is_there
    }

    /// What a kill and power losses now leave.
    fn judge_what_is_left(&self, disk: &Disk, seed: u64, trial: &str) -> [bool; 3] {
        let mut chance = Rng::with_seed(seed);
        let kill = disk.after_kill();
        let power_losses = [(); 2].map(|()| disk.after_power_loss(&mut chance));
        let [one, other] = power_losses;
        [kill, one, other].map(|left| self.judge(&left, trial))
    }
}

fn is_there(disk: &Disk) -> bool {
    disk.names().iter().any(|name| name == TARGET)
}

fn salvage(disk: &Disk) -> cloakroom::Result<Salvage> {
    file_builder().salvage_in(&disk.folder(), SOURCE, TARGET)
}

#[test]
fn a_salvage_that_crashes_at_any_operation_leaves_the_source_and_a_whole_store_or_none() {
    let base = Base::new();
    let (mut crashes, mut whole) = (0, 0);
    for n in 1.. {
        let disk = base.disk();
        disk.crash_at(n);
        let salvaged = salvage(&disk);
        let trial = format!("operation {n}");
        let left = base.judge_what_is_left(&disk, n, &trial);
        whole += left.iter().filter(|is_there| **is_there).count();
        if !disk.has_crashed() {
            assert!(salvaged.unwrap().is_whole());
            assert_eq!(left, [true; 3], "it was told that it is there");
            break;
        }
        crashes += 1;
        salvaged.unwrap_err();
        // The next attempt finds nothing in its way.
        let again = disk.after_kill();
        if !left[0] {
            assert!(salvage(&again).unwrap().is_whole(), "{trial}");
            assert!(base.judge(&again, &trial));
        }
    }
    assert!(crashes > 20, "{crashes}");
    assert!(whole > 3, "also where only the name was not sure to last");
}

#[test]
fn a_salvage_whose_disk_does_not_write_leaves_the_source_and_a_whole_store_or_none() {
    let base = Base::new();
    let mut faults = 0;
    let failures = [Failure::Error(ENOSPC), Failure::Half(EIO)];
    for (failure, times) in failures
        .into_iter()
        .flat_map(|failure| [1, Fault::FOR_GOOD].map(|times| (failure, times)))
    {
        for after in 0.. {
            let disk = base.disk();
            disk.fail(Fault {
                on: Call::changes,
                after,
                times,
                failure,
            });
            let salvaged = salvage(&disk);
            let trial = format!("{failure:?} after {after}, {times} times");
            let has_failed = disk.heal();
            let left = base.judge_what_is_left(&disk, after as u64, &trial);
            if salvaged.is_ok() {
                assert_eq!(left, [true; 3], "{trial}");
            }
            if !has_failed {
                assert!(salvaged.unwrap().is_whole());
                break;
            }
            faults += 1;
            if !left[0] {
                assert!(salvage(&disk).unwrap().is_whole(), "{trial}");
                assert!(base.judge(&disk, &trial));
            }
        }
    }
    assert!(faults > 50, "{faults}");
}

#[test]
fn a_salvage_on_a_full_disk_leaves_nothing() {
    let base = Base::new();
    let disk = base.disk();
    disk.fill();
    let error = salvage(&disk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(!base.judge(&disk, "full"));
    disk.free();
    assert!(salvage(&disk).unwrap().is_whole());
    assert!(base.judge(&disk, "free again"));
}

/// The outcome of a salvage from a disk with unreadable parts. The report names them, and the rest is salvaged.
#[derive(Debug, PartialEq)]
enum Read {
    All,
    Part,
    Refused,
}

fn judge_read(base: &Base, disk: &Disk, trial: &str) -> Read {
    let salvaged = salvage(disk);
    disk.heal();
    disk.mend();
    base.assert_source_unchanged(disk, trial);
    match salvaged {
        Ok(report) => {
            let served = base.served(disk, trial);
            assert!(served == SESSIONS || report.lost > 0, "{trial}: {served}");
            if report.is_whole() {
                Read::All
            } else {
                Read::Part
            }
        }
        Err(_) => {
            assert!(!is_there(disk), "{trial}");
            Read::Refused
        }
    }
}

#[test]
fn a_salvage_with_a_bad_sector_reports_what_is_lost_and_copies_the_rest() {
    const SECTOR: u64 = 4096;
    let base = Base::new();
    let mut reads = Vec::new();
    for (suffix, content) in &base.files {
        for start in (0..content.len() as u64).step_by(SECTOR as usize) {
            let disk = base.disk();
            disk.spoil(&format!("{SOURCE}{suffix}"), start..start + SECTOR);
            let trial = format!("{suffix:?} at {start}");
            reads.push(judge_read(&base, &disk, &trial));
        }
    }
    for kind in [Read::All, Read::Part, Read::Refused] {
        assert!(reads.contains(&kind), "{kind:?}");
    }
}

#[test]
fn a_salvage_that_fails_to_read_once_reports_what_is_lost_or_loses_nothing() {
    let base = Base::new();
    for after in 0.. {
        let disk = base.disk();
        disk.fail(Fault {
            on: |call| call == Call::Read,
            after,
            times: 1,
            failure: Failure::Error(EIO),
        });
        let before = disk.counts().faults;
        let read = judge_read(&base, &disk, &format!("read {after}"));
        if disk.counts().faults == before {
            assert_eq!(read, Read::All);
            assert!(after > 5, "{after}");
            break;
        }
    }
}

#[test]
fn a_target_that_exists_is_left_alone() {
    let base = Base::new();
    let disk = base.disk();
    salvage(&disk).unwrap();
    let before = disk.seen(TARGET);
    let error = salvage(&disk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(disk.seen(TARGET) == before);
    assert!(base.judge(&disk, "the second salvage"));
}

#[test]
fn an_open_store_is_not_salvaged() {
    let base = Base::new();
    let disk = base.disk();
    let store = open(&disk, SOURCE).unwrap();
    let error = salvage(&disk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(!is_there(&disk));
    store.close().unwrap();
    assert!(salvage(&disk).unwrap().is_whole());
}

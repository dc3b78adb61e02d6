//! C5.4: damage anywhere in a file is found and named before and while it is served, and what is
//! readable of it can be had in a new store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom::{
    ClientId, ClientKey, Clock, ContainerSettings, ErrorKind, Salvage, Store, StoreBuilder,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PAGE: usize = 4096;
const SESSIONS: usize = 200;

fn clock() -> Clock {
    Clock::manual("2026-01-01T00:00:00Z".parse().unwrap())
}

fn builder() -> StoreBuilder {
    Store::builder()
        .clock(clock())
        .implicit_sweeps(false)
        .cache_size(1 << 20)
}

/// A store that was closed in order, and the ids of its sessions.
struct House {
    folder: tempfile::TempDir,
    image: Vec<u8>,
    ids: Vec<String>,
    ended: String,
}

fn value(n: usize) -> String {
    format!("the value of session {n}, and of no other;")
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        let store = builder().open(&path).unwrap();
        let minute = Duration::from_secs(60);
        let settings = ContainerSettings::new().timeout(minute);
        store.register("short", settings).unwrap();
        store.rotate_secret().unwrap();
        let txn = store.begin().unwrap();
        let mut ids: Vec<ClientId> = Vec::new();
        for n in 0..SESSIONS {
            let id = store.client_ids().issue();
            let session = txn.session(&id).unwrap();
            session.pkg("app").insert("value", value(n)).unwrap();
            session.pkg("short").insert("n", n as u64).unwrap();
            if n.is_multiple_of(2) {
                session.set_owner(Some("ann")).unwrap();
            }
            ids.push(id);
        }
        txn.commit().unwrap();
        let ended = ids.pop().unwrap();
        let txn = store.begin().unwrap();
        txn.session(&ended).unwrap().destroy().unwrap();
        txn.commit().unwrap();
        store.close().unwrap();
        Self {
            image: std::fs::read(&path).unwrap(),
            ids: ids.iter().map(|id| id.as_str().to_owned()).collect(),
            ended: ended.as_str().to_owned(),
            folder,
        }
    }

    fn place(&self, name: &str, image: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, image).unwrap();
        path
    }

    fn to(&self) -> PathBuf {
        self.folder.path().join("to")
    }

    /// The image, with something done to every page of it that `is` one. Older versions of the page may
    /// lie about.
    fn with(&self, is: impl Fn(&[u8]) -> bool, change: impl Fn(&mut [u8])) -> Vec<u8> {
        let mut image = self.image.clone();
        let mut any = false;
        for page in image.chunks_mut(PAGE).skip(1).filter(|page| is(page)) {
            change(page);
            any = true;
        }
        assert!(any);
        image
    }

    fn salvage(&self, image: &[u8]) -> Salvage {
        let from = self.place("from", image);
        let report = builder().salvage(&from, self.to()).unwrap();
        assert_eq!(std::fs::read(&from).unwrap(), image);
        report
    }

    /// The sessions that have their value; the others read empty.
    fn read(&self, store: &Store) -> BTreeSet<usize> {
        let mut there = BTreeSet::new();
        for (n, id) in self.ids.iter().enumerate() {
            let id = store.client_ids().verify(id).unwrap();
            let txn = store.begin().unwrap();
            let session = txn.session(&id).unwrap();
            match session.pkg("app").get::<String>("value").unwrap() {
                Some(found) if found == value(n) => drop(there.insert(n)),
                Some(_) => panic!("another value"),
                None => {}
            }
        }
        there
    }

    fn key(&self, n: usize) -> ClientKey {
        key_of(&self.folder.path().join("base"), &self.ids[n])
    }
}

fn key_of(path: &Path, id: &str) -> ClientKey {
    let store = builder().open(path).unwrap();
    store.client_ids().verify(id).unwrap().key()
}

fn contains(page: &[u8], text: &[u8]) -> bool {
    page.windows(text.len()).any(|part| part == text)
}

fn open_salvaged(house: &House) -> Store {
    builder().verify_on_open(true).open(house.to()).unwrap()
}

#[test]
fn a_healthy_store_is_salvaged_whole() {
    let house = House::new();
    let report = house.salvage(&house.image);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.sessions, 2 * (SESSIONS as u64 - 1));
    assert_eq!(report.packages, 2 * (SESSIONS as u64 - 1));
    assert_eq!(report.mended_pages, 0);
    let old = builder().open(house.place("old", &house.image)).unwrap();
    let new = open_salvaged(&house);
    assert_eq!(new.identity(), old.identity());
    assert_eq!(house.read(&new).len(), SESSIONS - 1);
    let settings = |store: &Store| store.container("short").unwrap().settings().unwrap();
    assert_eq!(settings(&new), settings(&old));
    let owned = |store: &Store| {
        let owned = store.sessions_of("ann").unwrap().into_iter();
        let mut keys: Vec<_> = owned.map(|info| info.client).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(owned(&new), owned(&old));
    assert_eq!(owned(&new).len(), SESSIONS / 2);
    // The tombstone: a late request under the ended id writes nothing.
    let id = new.client_ids().verify(&house.ended).unwrap();
    let txn = new.begin().unwrap();
    txn.session(&id).unwrap().pkg("app").insert("n", 1).unwrap();
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    // Later commits have later numbers.
    let id = new.client_ids().verify(&house.ids[0]).unwrap();
    let put = |txn: &cloakroom::Txn| txn.session(&id)?.pkg("app").insert("n", 1);
    new.transact(put).unwrap();
    assert!(new.check().unwrap().is_clean());
}

#[test]
fn one_flipped_bit_in_a_page_is_mended() {
    let house = House::new();
    let text = value(7);
    let image = house.with(|page| contains(page, text.as_bytes()), |page| page[4] ^= 1);
    let report = house.salvage(&image);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.mended_pages, 1);
    assert_eq!(house.read(&open_salvaged(&house)).len(), SESSIONS - 1);
}

#[test]
fn a_lost_page_takes_its_rows_along_and_each_is_named() {
    let house = House::new();
    let text = value(7);
    let image = house.with(|page| contains(page, text.as_bytes()), |page| page.fill(0));
    let report = house.salvage(&image);
    assert_eq!(report.damaged_pages, 1, "{report:?}");
    let store = open_salvaged(&house);
    let there = house.read(&store);
    assert!(!there.contains(&7) && there.len() > SESSIONS / 2);
    for n in (0..SESSIONS - 1).filter(|n| !there.contains(n)) {
        let key = store.client_ids().verify(&house.ids[n]).unwrap().key();
        let named = |d: &cloakroom::Damage| {
            (d.client, d.container.as_deref(), d.package.as_deref())
                == (Some(key), Some(""), Some("app"))
        };
        assert!(report.losses.iter().any(named), "{report:?}");
        // Its other package is there.
        let id = store.client_ids().verify(&house.ids[n]).unwrap();
        let txn = store.begin().unwrap();
        let short = txn.session(&id).unwrap().pkg("short");
        assert_eq!(short.get::<usize>("n").unwrap(), Some(n));
    }
}

/// Nothing but its record tells a container's name, so what was in it is named without.
#[test]
fn without_the_list_of_containers_each_session_of_theirs_is_named() {
    let house = House::new();
    let lists = |page: &[u8]| page[0] == 1 && page[2..4] == [2, 0] && contains(page, b"short");
    let image = house.with(lists, |page| page.fill(0));
    let report = house.salvage(&image);
    let named: BTreeSet<ClientKey> = report
        .losses
        .iter()
        .filter(|loss| loss.container.is_none() && loss.package.as_deref() == Some("short"))
        .filter_map(|loss| loss.client)
        .collect();
    let sessions = house.ids.len();
    let verified = open_salvaged(&house);
    let keys = house.ids.iter().map(|id| {
        let id = verified.client_ids().verify(id).unwrap();
        id.key()
    });
    assert_eq!(named, keys.collect());
    assert_eq!(house.read(&verified).len(), sessions);
}

#[test]
fn an_existing_target_is_left_alone() {
    let house = House::new();
    let from = house.place("from", &house.image);
    std::fs::write(house.to(), b"something").unwrap();
    let error = builder().salvage(&from, house.to()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(std::fs::read(house.to()).unwrap(), b"something");
}

// C7.1
#[test]
fn an_open_store_is_not_salvaged() {
    let house = House::new();
    let from = house.place("from", &house.image);
    let store = builder().open(&from).unwrap();
    let error = builder().salvage(&from, house.to()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(!house.to().exists());
    store.close().unwrap();
    builder().salvage(&from, house.to()).unwrap();
}

#[test]
fn what_is_no_store_is_not_salvaged() {
    let house = House::new();
    let other = house.folder.path().join("other");
    drop(redb::Database::create(&other).unwrap());
    for from in [other, house.place("text", &[b'x'; 100_000])] {
        let error = builder().salvage(&from, house.to()).unwrap_err();
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::NotAStore | ErrorKind::Corrupt),
            "{error}"
        );
        assert!(!house.to().exists());
    }
}

// C7.2: nothing waits for the other end of a pipe.
#[test]
#[cfg(unix)]
fn what_is_no_regular_file_is_not_salvaged() {
    let house = House::new();
    let fifo = house.folder.path().join("fifo");
    make_fifo(&fifo);
    let socket = house.folder.path().join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let folder = house.folder.path().to_owned();
    for from in [fifo, socket, folder, PathBuf::from("/dev/null")] {
        let to = house.to();
        let error = at_once(move || builder().salvage(&from, to)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAStore, "{error}");
        assert!(
            error.to_string().ends_with("it is no regular file"),
            "{error}"
        );
        assert!(!house.to().exists());
    }
}

#[cfg(unix)]
fn make_fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

/// Without an end to this test, it would hang.
#[cfg(unix)]
fn at_once<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(work()));
    let long = std::time::Duration::from_secs(60);
    told.recv_timeout(long).expect("it hangs")
}

// C4.2
#[test]
fn a_store_without_its_secrets_is_salvaged_only_under_a_given_one() {
    let house = House::new();
    let image = house.with(
        |page| contains(page, b"next-container") && page[0] == 1,
        |page| page.fill(0),
    );
    let from = house.place("from", &image);
    let error = builder().salvage(&from, house.to()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!house.to().exists());
    let report = builder()
        .secret([5; 32])
        .salvage(&from, house.to())
        .unwrap();
    assert!(report.new_identity && report.new_secrets);
    assert_eq!(report.sessions, 2 * (SESSIONS as u64 - 1));
    let store = builder().secret([5; 32]).open(house.to()).unwrap();
    assert!(store.check().unwrap().is_clean());
    assert!(store.client_ids().verify(&house.ids[0]).is_none());
    let id = store.client_ids().issue();
    store
        .transact(|txn| txn.session(&id)?.pkg("app").insert("n", 1))
        .unwrap();
}

#[test]
fn verifying_refuses_names_the_session_and_changes_nothing() {
    let house = House::new();
    let text = value(7);
    let image = house.with(
        |page| contains(page, text.as_bytes()),
        |page| {
            let at = (0..PAGE)
                .find(|at| page[*at..].starts_with(text.as_bytes()))
                .unwrap();
            page[at] ^= 1;
        },
    );
    let path = house.place("damaged", &image);
    let error = builder().verify_on_open(true).open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let key = house.key(7).to_string();
    assert!(error.to_string().contains(&key), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), image);
    let check = builder().open(&path).unwrap().check().unwrap();
    assert_eq!((check.damaged, check.damaged_pages), (1, 1), "{check:?}");
    let named = |d: &cloakroom::Damage| d.client.is_some_and(|c| c.to_string() == key);
    assert!(check.findings.iter().any(named));
}

const CURRENT_COMMIT: u8 = 1;
const TWO_PHASES: u8 = 4;

fn with_header_flipped(house: &House, bit: u8) -> Vec<u8> {
    let mut image = house.image.clone();
    image[9] ^= bit;
    image
}

/// redb would fall back to an older commit without a word.
#[test]
fn a_header_that_says_one_phase_is_refused() {
    let house = House::new();
    let image = with_header_flipped(&house, TWO_PHASES);
    let path = house.place("damaged", &image);
    let error = builder().open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), image);
    let to = house.folder.path().join("to");
    let report = builder().salvage(&path, to).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

/// A store that was closed ends with a commit of redb's own, so that both hold the same rows.
#[test]
fn a_header_that_names_the_last_commit_but_one_serves_the_same() {
    let house = House::new();
    let counted = |image: &[u8], name: &str| {
        let store = builder().open(house.place(name, image)).unwrap();
        let check = store.check().unwrap();
        assert!(check.is_clean(), "{check:?}");
        (check.sessions, check.packages)
    };
    let image = with_header_flipped(&house, CURRENT_COMMIT);
    assert_eq!(counted(&image, "damaged"), counted(&house.image, "whole"));
}

#[test]
fn a_session_whose_row_is_lost_is_named_by_what_is_left() {
    let house = House::new();
    let key = house.key(7);
    let row = [&[0, 0, 0, 0], &key.as_bytes()[..]].concat();
    // Session keys stand one after the other, without the packages' ids between them.
    let is_row = |page: &[u8]| {
        page[0] == 1 && contains(page, &row) && !contains(page, b"the value of session") && {
            let at = (0..PAGE - 20)
                .find(|at| page[*at..].starts_with(&row))
                .unwrap();
            page[at + 20..at + 24] == [0, 0, 0, 0] || page[at - 20..at - 16] == [0, 0, 0, 0]
        }
    };
    let image = house.with(is_row, |page| page.fill(0));
    let path = house.place("damaged", &image);
    // Where redb is built for debugging, it refuses such a file when it is opened.
    if let Ok(store) = builder().open(&path) {
        let check = store.check().unwrap();
        let named =
            |d: &cloakroom::Damage| (d.client, d.container.as_deref()) == (Some(key), Some(""));
        assert!(check.findings.iter().any(named), "{check:?}");
    }
    let report = builder().salvage(&path, house.to()).unwrap();
    let named = |d: &cloakroom::Damage| (d.client, d.container.as_deref()) == (Some(key), Some(""));
    assert!(report.losses.iter().any(named), "{report:?}");
    assert!(!house.read(&open_salvaged(&house)).contains(&7));
}

/// What a kill leaves of a store: its files by what follows the store's name.
type Files = BTreeMap<String, Vec<u8>>;

/// A store that was killed after some commits that only its journal holds, one group each.
struct Killed {
    house: House,
    files: Files,
    late: String,
}

const CHANGED: &str = "changed later";
/// How many groups of commits are in the journal.
const GROUPS: usize = 6;

impl Killed {
    fn new() -> Self {
        let house = House::new();
        let path = house.place("alive", &house.image);
        let store = builder().open(&path).unwrap();
        let id = |n: usize| store.client_ids().verify(&house.ids[n]).unwrap();
        let set = |n| {
            let put =
                |txn: &cloakroom::Txn| txn.session(&id(n))?.pkg("app").insert("value", CHANGED);
            store.transact(put).unwrap();
        };
        set(7);
        store
            .transact(|txn| txn.session(&id(8))?.destroy())
            .unwrap();
        set(9);
        let own = |txn: &cloakroom::Txn| txn.session(&id(11))?.set_owner(Some("ann"));
        store.transact(own).unwrap();
        let late = store.client_ids().issue();
        let found = |txn: &cloakroom::Txn| txn.session(&late)?.pkg("app").insert("value", CHANGED);
        store.transact(found).unwrap();
        set(13);
        // Nothing is under way, so this is what the kernel keeps of a process killed now.
        let files = files(&path);
        assert_eq!(files.len(), 3);
        let late = late.as_str().to_owned();
        Self { house, files, late }
    }

    /// What follows the store's name in that of the journal file that is written.
    fn active(&self) -> String {
        let journals = self.files.iter().filter(|(name, _)| !name.is_empty());
        let active = journals.max_by_key(|(_, file)| frames(file).len());
        active.unwrap().0.clone()
    }

    fn place(&self, name: &str) -> PathBuf {
        let path = self.house.folder.path().join(name);
        for (suffix, content) in &self.files {
            std::fs::write(with(&path, suffix), content).unwrap();
        }
        path
    }

    /// Salvages it, and leaves all its files as they are.
    fn salvage(&self) -> (Salvage, Store) {
        let from = self.place("from");
        let report = builder().salvage(&from, self.house.to()).unwrap();
        assert!(files(&from) == self.files, "a salvage changed what it read");
        let store = open_salvaged(&self.house);
        assert!(store.check().unwrap().is_clean());
        (report, store)
    }

    fn value(&self, store: &Store, n: usize) -> Option<String> {
        value_of(store, &self.house.ids[n])
    }

    /// Damages the frame of a group, counted from 1. Returns its number.
    fn damage(&mut self, group: usize) -> u64 {
        let active = self.active();
        let file = self.files.get_mut(&active).unwrap();
        let at = frames(file)[group - 1];
        file[at + 40] ^= 1;
        u64::from_le_bytes(file[at + 16..at + 24].try_into().unwrap())
    }

    /// Whether a finding says this of a file.
    fn says(&self, report: &Salvage, suffix: &str, what: &str) -> bool {
        let name = format!("from{suffix}: ");
        let texts = report.losses.iter().map(|loss| loss.error.to_string());
        texts
            .into_iter()
            .any(|text| text.contains(&name) && text.contains(what))
    }
}

fn value_of(store: &Store, id: &str) -> Option<String> {
    let id = store.client_ids().verify(id).unwrap();
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().pkg("app").get("value").unwrap()
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A store's file, and the journal beside it.
fn files(path: &Path) -> Files {
    let mut files = Files::new();
    for suffix in ["", ".journal-1", ".journal-2", ".journal-3", ".journal-4"] {
        if let Ok(content) = std::fs::read(with(path, suffix)) {
            files.insert(suffix.to_owned(), content);
        }
    }
    files
}

/// Where the frames of a journal file begin: behind its header, at sectors.
fn frames(file: &[u8]) -> Vec<usize> {
    let sectors = (8192..file.len()).step_by(512);
    sectors
        .filter(|at| file[*at..].starts_with(b"CLOK"))
        .collect()
}

#[test]
fn a_killed_store_is_salvaged_with_its_journal() {
    let killed = Killed::new();
    assert_eq!(frames(&killed.files[&killed.active()]).len(), GROUPS);
    let (report, store) = killed.salvage();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.sessions, 2 * (SESSIONS as u64 - 2) + 1);
    assert_eq!(report.packages, report.sessions);
    for n in 0..SESSIONS - 1 {
        let expected = match n {
            8 => None,
            7 | 9 | 13 => Some(CHANGED.to_owned()),
            n => Some(value(n)),
        };
        assert_eq!(killed.value(&store, n), expected, "{n}");
    }
    assert_eq!(value_of(&store, &killed.late).as_deref(), Some(CHANGED));
    let owned = store.sessions_of("ann").unwrap().into_iter();
    let owned: Vec<_> = owned.map(|info| info.client).collect();
    let key = |n: usize| {
        store
            .client_ids()
            .verify(&killed.house.ids[n])
            .unwrap()
            .key()
    };
    assert!(
        owned.contains(&key(11)) && !owned.contains(&key(8)),
        "{owned:?}"
    );
    // The tombstone of the one that was destroyed: a late request under its id writes nothing.
    let id = store.client_ids().verify(&killed.house.ids[8]).unwrap();
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().pkg("app").insert("n", 1).unwrap();
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn what_the_journal_has_newer_is_not_lost_with_its_page() {
    let mut killed = Killed::new();
    let text = value(7);
    let file = killed.files.get_mut("").unwrap();
    for page in file.chunks_mut(PAGE).skip(1) {
        if contains(page, text.as_bytes()) {
            page.fill(0);
        }
    }
    let (report, store) = killed.salvage();
    assert_eq!(report.damaged_pages, 1, "{report:?}");
    assert_eq!(killed.value(&store, 7).as_deref(), Some(CHANGED));
    let key = store
        .client_ids()
        .verify(&killed.house.ids[7])
        .unwrap()
        .key();
    let named = |loss: &cloakroom::Damage| loss.client == Some(key);
    assert!(
        report.lost > 0 && !report.losses.iter().any(named),
        "{report:?}"
    );
}

#[test]
fn groups_behind_a_damaged_one_are_salvaged_and_those_lost_are_named() {
    let mut killed = Killed::new();
    let (first, last) = (killed.damage(2), killed.damage(3));
    let (report, store) = killed.salvage();
    assert_eq!(report.lost, 1, "{report:?}");
    let lost = format!("groups of commits {first} to {last} are lost");
    assert!(killed.says(&report, &killed.active(), &lost), "{report:?}");
    let found = [7, 8, 9, 13].map(|n| killed.value(&store, n).unwrap());
    assert_eq!(found, [CHANGED, &value(8), &value(9), CHANGED]);
    assert_eq!(value_of(&store, &killed.late).as_deref(), Some(CHANGED));
}

#[test]
fn a_damaged_first_group_is_named() {
    let mut killed = Killed::new();
    let first = killed.damage(1);
    let (report, store) = killed.salvage();
    assert_eq!(report.lost, 1, "{report:?}");
    let lost = format!("groups of commits {first} to {first} are lost");
    assert!(killed.says(&report, &killed.active(), &lost), "{report:?}");
    assert_eq!(killed.value(&store, 7), Some(value(7)));
    assert_eq!(killed.value(&store, 9).as_deref(), Some(CHANGED));
}

#[test]
fn a_damaged_last_group_is_named() {
    let mut killed = Killed::new();
    killed.damage(GROUPS);
    let (report, store) = killed.salvage();
    assert_eq!(report.lost, 1, "{report:?}");
    assert!(killed.says(&report, &killed.active(), "last group"));
    assert_eq!(killed.value(&store, 13), Some(value(13)));
    assert_eq!(value_of(&store, &killed.late).as_deref(), Some(CHANGED));
}

#[test]
fn a_missing_journal_is_named_and_the_rest_is_salvaged() {
    let mut killed = Killed::new();
    let gone: Vec<_> = killed
        .files
        .keys()
        .filter(|s| !s.is_empty())
        .cloned()
        .collect();
    killed.files.retain(|suffix, _| suffix.is_empty());
    let (report, store) = killed.salvage();
    assert_eq!(report.lost, 2, "{report:?}");
    for suffix in gone {
        assert!(killed.says(&report, &suffix, "missing"), "{report:?}");
    }
    assert_eq!(killed.house.read(&store).len(), SESSIONS - 1);
}

// C5.4
#[test]
#[cfg(unix)]
fn a_journal_that_cannot_be_read_is_named_and_the_rest_is_salvaged() {
    let killed = Killed::new();
    let house = &killed.house;
    let from = house.folder.path().join("from");
    for (suffix, content) in &killed.files {
        let path = with(&from, suffix);
        if *suffix == killed.active() {
            make_fifo(&path);
        } else {
            std::fs::write(path, content).unwrap();
        }
    }
    let to = house.to();
    let report = at_once(move || builder().salvage(&from, to)).unwrap();
    let why = "the journal cannot be read: it is no regular file";
    assert!(killed.says(&report, &killed.active(), why), "{report:?}");
    assert!(!killed.says(&report, &killed.active(), "missing"));
    assert_eq!(killed.value(&open_salvaged(house), 8), Some(value(8)));
}

#[test]
fn a_journal_without_its_headers_is_salvaged_by_its_name() {
    let mut killed = Killed::new();
    let active = killed.active();
    killed.files.get_mut(&active).unwrap()[..8192].fill(0);
    let (report, store) = killed.salvage();
    assert_eq!(report.lost, 1, "{report:?}");
    assert!(killed.says(&report, &active, "headers"));
    assert_eq!(killed.value(&store, 13).as_deref(), Some(CHANGED));
}

// C7.2: what the store's file knows to be there, and what the header says of the length.
#[test]
fn a_journal_that_lacks_its_end_is_named() {
    let mut killed = Killed::new();
    let again = killed.place("again");
    let store = builder().open(&again).unwrap();
    killed.files = files(&again);
    drop(store);
    let active = killed.active();
    let whole = killed.files[&active].clone();
    let last_two = frames(&whole)[GROUPS - 2];
    killed.files.get_mut(&active).unwrap()[last_two..].fill(0);
    let (report, store) = killed.salvage();
    assert_eq!(report.lost, 1, "{report:?}");
    // It may have been in either, and both are named.
    let says =
        |suffix: &String| killed.says(&report, suffix, "are lost, which were in this file or in");
    assert!(killed.files.keys().any(says), "{report:?}");
    assert_ne!(killed.value(&store, 13).as_deref(), Some(CHANGED));
    store.close().unwrap();

    let mut cut = Killed::new();
    let active = cut.active();
    let file = cut.files.get_mut(&active).unwrap();
    file.truncate(file.len() - 1);
    let (report, store) = cut.salvage();
    assert_eq!(report.lost, 1, "{report:?}");
    assert!(cut.says(&report, &active, "cut short"));
    assert_eq!(cut.value(&store, 13).as_deref(), Some(CHANGED));
}

#[test]
fn a_journal_of_another_store_is_named_and_left_out() {
    let mut killed = Killed::new();
    let other = Killed::new();
    let active = killed.active();
    killed
        .files
        .insert(active.clone(), other.files[&other.active()].clone());
    let (report, store) = killed.salvage();
    assert_eq!(report.lost, 1, "{report:?}");
    assert!(killed.says(&report, &active, "another store"));
    assert_eq!(killed.house.read(&store).len(), SESSIONS - 1);
}

/// Writes into the store's own table as a damage would that its page's checksum does not tell.
fn garble(path: &Path, record: &str) {
    const META: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    let database = redb::Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(META)
        .unwrap()
        .insert(record, b"garbled".as_slice())
        .unwrap();
    txn.commit().unwrap();
}

#[test]
fn without_the_records_of_the_journal_all_of_it_is_taken() {
    for record in ["journal", "covered"] {
        let mut killed = Killed::new();
        let path = killed.place("garbled");
        garble(&path, record);
        let error = builder().open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        killed.files = files(&path);
        let (report, store) = killed.salvage();
        assert_eq!(report.lost, 1, "{report:?}");
        assert!(report.losses[0].error.to_string().contains(record));
        assert_eq!(killed.value(&store, 8), None);
        assert_eq!(killed.value(&store, 13).as_deref(), Some(CHANGED));
    }
}

#[test]
fn without_any_record_of_its_own_a_store_is_salvaged_with_the_journal_beside_it() {
    let mut killed = Killed::new();
    let file = killed.files.get_mut("").unwrap();
    for page in file.chunks_mut(PAGE).skip(1) {
        if page[0] == 1 && contains(page, b"next-container") {
            page.fill(0);
        }
    }
    let from = killed.place("from");
    let secret = builder().secret([5; 32]);
    let report = secret.salvage(&from, killed.house.to()).unwrap();
    assert!(report.new_identity && report.new_secrets);
    // One was destroyed, and one founded in one container alone.
    assert_eq!(report.sessions, 2 * (SESSIONS as u64 - 2) + 1);
}

/// It has no journal yet.
#[test]
fn a_store_of_format_1_is_salvaged() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1.redb");
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    let report = builder().salvage(&fixture, &to).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.sessions, report.packages), (4, 5));
    assert!(builder().open(&to).unwrap().check().unwrap().is_clean());
}

#[test]
fn a_check_of_a_busy_store_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let store = builder()
        .clock(clock.clone())
        .open(folder.path().join("busy"))
        .unwrap();
    let minute = ContainerSettings::new().timeout(Duration::from_secs(60));
    let memory = ContainerSettings::new().in_memory();
    let over = AtomicBool::new(false);
    let going = || !over.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for worker in 0..2_u64 {
            let (store, going) = (&store, &going);
            scope.spawn(move || {
                let mut ids: Vec<ClientId> = Vec::new();
                let mut n = worker;
                while going() {
                    n += 1;
                    let id = store.client_ids().issue();
                    let put = |txn: &cloakroom::Txn| {
                        let session = txn.session(&id)?;
                        session.set_owner(Some(&format!("owner {}", n % 5)))?;
                        session.pkg("memory").insert("n", n)?;
                        session.pkg("short").insert("n", n)?;
                        session
                            .pkg("app")
                            .insert("text", "x".repeat(n as usize % 6000))
                    };
                    // The containers come and go.
                    if store.transact(put).is_ok() {
                        ids.push(id);
                    }
                    // The store stays small, however many commits there are between two checks.
                    if n.is_multiple_of(3) && !ids.is_empty() || ids.len() > 100 {
                        let id = ids.swap_remove(n as usize % ids.len());
                        let are_many = ids.len() > 99;
                        let end = |txn: &cloakroom::Txn| match n % 2 {
                            1 if !are_many => txn.session(&id)?.rotate().map(Some),
                            _ => txn.session(&id)?.destroy().map(|()| None),
                        };
                        ids.extend(store.transact(end).ok().flatten());
                    }
                }
            });
        }
        scope.spawn(|| {
            while going() {
                store.register("short", minute.clone()).unwrap();
                store.register("memory", memory.clone()).unwrap();
                clock.advance(Duration::from_secs(40));
                store.container("").unwrap().sweep().unwrap();
                store.container("short").unwrap().sweep().unwrap();
                store.unregister("short").unwrap();
                store.unregister("memory").unwrap();
            }
        });
        let mut most = 0;
        for _ in 0..60 {
            let check = store.check();
            if !check.as_ref().is_ok_and(cloakroom::Check::is_clean) {
                over.store(true, Ordering::Relaxed);
            }
            let check = check.unwrap();
            assert!(check.is_clean(), "{check:?}");
            most = most.max(check.sessions);
        }
        over.store(true, Ordering::Relaxed);
        assert!(most > 0);
    });
}

//! C5.4, C7.2: the journal of a killed store is salvaged with it.

use super::{
    House, PAGE, SESSIONS, at_once, builder, contains, make_fifo, open_salvaged, value, with,
};
use cloakroom::{ErrorKind, Salvage, Store};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

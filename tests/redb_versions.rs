//! C7.6: the versions of redb that a store works with, and what becomes of a file of a format of redb's that this
//! build does not know (C7.2).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom::{Clock, ErrorKind, Store, StoreBuilder};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use twox_hash::XxHash3_128;

/// Where redb's header has its two commits. The first byte of each is the version of the file's format.
const COMMITS: [usize; 2] = [64, 192];
const COMMIT: usize = 128;
/// How much of a commit its checksum covers; it follows.
const COVERED: usize = 112;
/// The byte whose lowest bit says which commit is the current one, and the next bit that the file was not closed.
const STATE: usize = 9;

fn builder() -> StoreBuilder {
    Store::builder()
        .clock(Clock::manual("2026-01-01T00:00:00Z".parse().unwrap()))
        .secret([7; 32])
        .implicit_sweeps(false)
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    (folder, path)
}

fn image(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|file| (file.clone(), fs::read(file).unwrap()))
        .collect()
}

/// A store that was closed, and one as a kill leaves it, with its journal.
fn stores() -> [(TempDir, PathBuf); 2] {
    let (folder, path) = place();
    let store = builder().open(&path).unwrap();
    let id = store.client_ids().issue();
    let put = |txn: &cloakroom::Txn| txn.session(&id)?.pkg("p").insert("n", 1);
    store.transact(put).unwrap();
    let killed = place();
    for (file, content) in image(folder.path()) {
        fs::write(killed.0.path().join(file.file_name().unwrap()), content).unwrap();
    }
    let header = fs::read(&killed.1).unwrap();
    assert_ne!(header[STATE] & 2, 0, "it needs no repair");
    assert_eq!(image(killed.0.path()).len(), 3, "a store and its journal");
    store.close().unwrap();
    [(folder, path), killed]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Checksum {
    AsItWas,
    Right,
}

fn set_version(file: &mut [u8], commit: usize, version: u8, checksum: Checksum) {
    let commit = &mut file[commit..commit + COMMIT];
    commit[0] = version;
    if checksum == Checksum::Right {
        let sum = XxHash3_128::oneshot(&commit[..COVERED]);
        commit[COVERED..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// The file is refused, also to salvage, and it and all beside it stay as they were, byte for byte.
fn assert_refused_untouched(path: &Path, kind: ErrorKind, what: &str) {
    let folder = path.parent().unwrap();
    let before = image(folder);
    for verify in [false, true] {
        let error = builder().verify_on_open(verify).open(path);
        let error = error.map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
        let name = path.to_str().unwrap();
        assert!(error.to_string().contains(name), "{what}: {error}");
    }
    if kind != ErrorKind::Corrupt {
        let error = builder().salvage(path, folder.join("salvaged"));
        let error = error.map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
    }
    assert!(image(folder) == before, "{what}: a file was changed");
}

// C7.6, C7.2
#[test]
fn a_file_of_an_unknown_format_of_redb_is_refused_untouched() {
    for (_folder, path) in &stores() {
        let whole = fs::read(path).unwrap();
        for version in (0..=u8::MAX).filter(|version| *version != 3) {
            let kind = match version {
                0 => ErrorKind::Corrupt,
                1..3 => ErrorKind::NotAStore,
                _ => ErrorKind::TooNew,
            };
            for checksum in [Checksum::AsItWas, Checksum::Right] {
                let mut file = whole.clone();
                for commit in COMMITS {
                    set_version(&mut file, commit, version, checksum);
                }
                fs::write(path, &file).unwrap();
                assert_refused_untouched(path, kind, &format!("version {version}, {checksum:?}"));
            }
        }
    }
}

// C7.6: as a newer redb leaves a file that it was killed in.
#[test]
fn one_commit_of_a_newer_format_of_redb_is_enough() {
    for (_folder, path) in &stores() {
        let whole = fs::read(path).unwrap();
        for commit in COMMITS {
            let mut file = whole.clone();
            set_version(&mut file, commit, 4, Checksum::Right);
            fs::write(path, &file).unwrap();
            assert_refused_untouched(path, ErrorKind::TooNew, &format!("the commit at {commit}"));
        }
    }
}

// C5.4: the checksum tells a flipped bit from a version.
#[test]
fn a_damaged_version_in_one_commit_is_damage() {
    for (folder, path) in &stores() {
        let whole = fs::read(path).unwrap();
        for commit in COMMITS {
            for bit in 0..8 {
                let mut file = whole.clone();
                set_version(&mut file, commit, 3 ^ 1 << bit, Checksum::AsItWas);
                fs::write(path, &file).unwrap();
                let what = format!("bit {bit} at {commit}");
                assert_refused_untouched(path, ErrorKind::Corrupt, &what);
                let to = folder.path().join("salvaged");
                let salvaged = builder().salvage(path, &to).unwrap();
                assert_eq!(salvaged.packages, 1, "{what}: {salvaged:?}");
                fs::remove_file(to).unwrap();
            }
        }
    }
}

/// Stores of two chapters at most, each written by one version of redb and left as a kill leaves it. Their names say by
/// which, in order.
const FIXTURES: [&str; 4] = [
    "redb-4.5.0",
    "redb-4.6.0",
    "redb-4.5.0-4.6.0",
    "redb-4.6.0-4.5.0",
];

/// How many sessions a chapter founds.
const SESSIONS: usize = 60;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn text(n: usize, writing: usize) -> String {
    // One takes several pages.
    let times = if n % SESSIONS == 9 {
        900
    } else {
        1 + n * 7 % 40
    };
    format!("text {n} of {writing};").repeat(times)
}

/// What the session `n` holds at the end of its chapter; nothing if it was destroyed.
fn expected(n: usize) -> Option<String> {
    match n {
        n if n.is_multiple_of(3) => Some(text(n, 2)),
        n if n.is_multiple_of(5) => None,
        n => Some(text(n, 1)),
    }
}

fn owner(n: usize) -> Option<&'static str> {
    n.is_multiple_of(4).then_some("ann")
}

/// Founds the sessions of the next chapter; the checkpoint of a close brings them into redb.
fn begin_chapter(path: &Path, ids: &mut Vec<String>) {
    let store = builder().open(path).unwrap();
    let txn = store.begin().unwrap();
    for n in ids.len()..ids.len() + SESSIONS {
        let id = store.client_ids().issue();
        let session = txn.session(&id).unwrap();
        session.set_owner(owner(n)).unwrap();
        session.pkg("count").insert("n", n).unwrap();
        session.pkg("app").insert("text", text(n, 1)).unwrap();
        ids.push(id.as_str().to_owned());
    }
    txn.commit().unwrap();
    store.close().unwrap();
}

/// Changes and ends some of the chapter's sessions, which stays in the journal as long as the store is open.
fn end_chapter(path: &Path, ids: &[String]) -> Store {
    let store = builder().open(path).unwrap();
    for (n, id) in ids.iter().enumerate().skip(ids.len() - SESSIONS) {
        let id = store.client_ids().verify(id).unwrap();
        let end = |txn: &cloakroom::Txn| match expected(n) {
            None => txn.session(&id)?.destroy(),
            Some(text) => txn.session(&id)?.pkg("app").insert("text", text),
        };
        if n.is_multiple_of(3) || n.is_multiple_of(5) {
            store.transact(end).unwrap();
        }
    }
    store
}

/// How the fixtures were made. Not a test: it does something only where the environment names one, whose first
/// chapters are there already if its name has a part before the last hyphen. To be run with the version of redb that
/// the name ends with:
///
/// ```sh
/// CLOAKROOM_WRITE_FIXTURE=$PWD/tests/fixtures/redb-4.6.0 \
///     .ci/with-redb 4.6.0 -p cloakroom --test redb_versions -- write_the_fixture
/// ```
#[test]
fn write_the_fixture() {
    let Some(target) = std::env::var_os("CLOAKROOM_WRITE_FIXTURE") else {
        return;
    };
    let target = PathBuf::from(target);
    let name = target.file_name().unwrap().to_str().unwrap();
    let (folder, path) = place();
    let mut ids = match name.rsplit_once('-') {
        Some((before, _)) if before != "redb" => copy(before, &path),
        _ => Vec::new(),
    };
    begin_chapter(&path, &mut ids);
    // Nothing but its size changes.
    redb::Database::open(&path).unwrap().compact().unwrap();
    let _store = end_chapter(&path, &ids);
    for (file, content) in image(folder.path()) {
        let file = file.file_name().unwrap().to_str().unwrap();
        let file = file.replace("sessions", name);
        fs::write(target.with_file_name(file), content).unwrap();
    }
    fs::write(target.with_file_name(format!("{name}.ids")), ids.join("\n")).unwrap();
}

/// Copies a fixture, with its journal; gives the ids of its sessions.
fn copy(name: &str, to: &Path) -> Vec<String> {
    let mut journals = 0;
    for file in image(&fixtures()).into_keys() {
        let file = file.file_name().unwrap().to_str().unwrap();
        if let Some(rest) = file.strip_prefix(&format!("{name}.redb")) {
            let to = format!("{}{rest}", to.to_str().unwrap());
            fs::copy(fixtures().join(file), to).unwrap();
            journals += usize::from(!rest.is_empty());
        }
    }
    assert_eq!(journals, 2, "{name}");
    let ids = fs::read_to_string(fixtures().join(format!("{name}.ids"))).unwrap();
    ids.lines().map(str::to_owned).collect()
}

/// Holds all that is in a store against what was written to it.
fn assert_holds(store: &Store, ids: &[String]) {
    assert!(store.check().unwrap().is_clean());
    let txn = store.begin().unwrap();
    for (n, id) in ids.iter().enumerate() {
        let id = store.client_ids().verify(id).unwrap();
        let session = txn.session(&id).unwrap();
        let found: Option<String> = session.pkg("app").get("text").unwrap();
        assert!(found == expected(n), "session {n}");
        let count: Option<usize> = session.pkg("count").get("n").unwrap();
        assert_eq!(count, expected(n).map(|_| n));
    }
    let owned = (0..ids.len()).filter(|n| expected(*n).is_some() && owner(*n).is_some());
    assert_eq!(store.sessions_of("ann").unwrap().len(), owned.count());
}

/// Each fixture in a folder of its own, with its path and ids.
fn written_by_each() -> impl Iterator<Item = (&'static str, TempDir, PathBuf, Vec<String>)> {
    FIXTURES.iter().map(|name| {
        println!("{name}");
        let (folder, path) = place();
        let ids = copy(name, &path);
        (*name, folder, path, ids)
    })
}

// C7.6: after a kill, with a part in the journal.
#[test]
fn what_another_version_of_redb_wrote_is_read() {
    for (_, _folder, path, ids) in written_by_each() {
        let store = builder().verify_on_open(true).open(&path).unwrap();
        assert_holds(&store, &ids);
    }
}

// C7.6
#[test]
fn what_another_version_of_redb_wrote_is_written_to() {
    for (name, folder, path, mut ids) in written_by_each() {
        for _ in 0..2 {
            begin_chapter(&path, &mut ids);
            let store = end_chapter(&path, &ids);
            assert_holds(&store, &ids);
            let killed = tempfile::tempdir().unwrap();
            for (file, content) in image(folder.path()) {
                fs::write(killed.path().join(file.file_name().unwrap()), content).unwrap();
            }
            let path = killed.path().join(path.file_name().unwrap());
            let after_kill = builder().verify_on_open(true).open(path).unwrap();
            assert_holds(&after_kill, &ids);
        }
        let mut database = redb::Database::open(&path).unwrap();
        assert!(database.check_integrity().unwrap(), "{name}");
    }
}

// C7.6, C5.4
#[test]
fn what_another_version_of_redb_wrote_is_salvaged() {
    for (name, folder, path, ids) in written_by_each() {
        let to = folder.path().join("salvaged");
        let report = builder().salvage(&path, &to).unwrap();
        assert!(report.is_whole() && report.mended_pages == 0, "{report:?}");
        assert_holds(&builder().open(&to).unwrap(), &ids);
        fs::remove_file(to).unwrap();

        let mut file = fs::read(&path).unwrap();
        let pages = file.chunks_mut(4096).skip(1);
        let is_leaf = |page: &&mut [u8]| page[0] == 1 && page.windows(9).any(|w| w == b"text 1 of");
        let damaged = pages.filter(is_leaf).step_by(3);
        let damaged = damaged.map(|page| page[100] ^= 1).count();
        assert!(damaged > 0, "{name}");
        fs::write(&path, file).unwrap();
        let to = folder.path().join("mended");
        let report = builder().salvage(&path, &to).unwrap();
        assert!(report.is_whole() && report.mended_pages > 0, "{report:?}");
        assert_holds(&builder().open(&to).unwrap(), &ids);
    }
}

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

//! Stores that are migrated, salvaged, exported, backed up and compacted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::Store;
use serde_json::json;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use support::{Place, Run, session};

#[test]
fn an_old_store_is_migrated_only_on_asking() {
    let place = Place::empty();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/format-1.redb");
    fs::copy(fixture, &place.path).unwrap();
    let before = fs::read(&place.path).unwrap();
    place
        .run(&["stats"])
        .fails(3, "format 1", "cloakroom migrate");
    place
        .run(&["migrate"])
        .fails(2, "nothing was changed", "Give --yes");
    assert!(fs::read(&place.path).unwrap() == before);
    place.run(&["migrate", "--yes"]).exits(0);
    let again = place.run(&["migrate", "--json"]).exits(0);
    assert_eq!(again.json(), json!({ "migrated": false }));
    place.run(&["check"]).exits(0);
    let swept = place.run(&["sweep"]).exits(0).out;
    assert!(
        swept.ends_with("expired sessions removed\n") && !swept.starts_with("0 "),
        "{swept}"
    );
}

#[test]
fn damage_is_found_named_and_left_behind() {
    let (place, _) = Place::with(&["ann", "bob"]);
    place.run(&["check"]).exits(0);
    // In the middle of the only pages that hold sessions.
    let mut bytes = fs::read(&place.path).unwrap();
    let at = bytes
        .windows(5)
        .rposition(|window| window == b"green")
        .unwrap();
    bytes[at] ^= 1;
    fs::write(&place.path, bytes).unwrap();
    let check = place.run(&["check", "--json"]).exits(1).json();
    let damaged = ["damaged_records", "damaged_pages"].map(|name| check[name].as_u64().unwrap());
    assert!(damaged.iter().sum::<u64>() > 0, "{check}");
    let check = place.run(&["check"]).exits(1).out;
    assert!(check.contains("cloakroom salvage --to NEW"), "{check}");
    place
        .run(&["salvage", "--to", "sessions.redb"])
        .fails(2, "exists already", "Name a file");
    // A flipped bit is mended.
    let salvage = place.run(&["salvage", "--to", "new.redb", "--json"]).json();
    assert_eq!(salvage["sessions"], 2, "{salvage}");
    let new = Place::empty();
    fs::copy(place.file("new.redb"), &new.path).unwrap();
    new.run(&["check"]).exits(0);
}

// C5.3
#[test]
fn what_an_application_with_larger_limits_has_stored_is_imported() {
    let place = Place::empty();
    let (long, large) = ("k".repeat(2000), "x".repeat(3 << 20));
    let builder = Store::builder()
        .max_package_size(8 << 20)
        .max_name_len(2000);
    let store = builder.max_keys(5000).open(&place.path).unwrap();
    session(&store, |session| {
        session.pkg("p").insert(&long, &large)?;
        (0..2000).try_for_each(|n| session.pkg("q").insert(&n.to_string(), n))
    });
    store.close().unwrap();
    let lines = place.run(&["export"]).exits(0).out;
    let (other, _) = Place::with(&[]);
    fs::write(other.file("all.jsonl"), &lines).unwrap();
    let short = ["import", "all.jsonl", "--max-line", "1MiB"];
    other
        .run(&short)
        .fails(3, "line 3 of the export", "--max-line");
    other.run(&["import", "all.jsonl"]).exits(0);
    assert_eq!(
        other.run(&["export"]).out.lines().nth(2),
        lines.lines().nth(2)
    );
}

// C5.4
#[test]
fn damage_is_told_by_the_exit_code_in_every_form() {
    let (place, ids) = Place::with(&["ann", "bobby-the-builder", "cat"]);
    let mut bytes = fs::read(&place.path).unwrap();
    let owner = b"bobby-the-builder";
    let is_owner = |at: &usize| bytes[*at..].starts_with(owner);
    let places: Vec<_> = (0..bytes.len()).filter(is_owner).collect();
    places.iter().for_each(|at| bytes[at + 3] ^= 1);
    fs::write(&place.path, bytes).unwrap();
    for arguments in [&["stats"][..], &["list"], &["check"], &["export"]] {
        place.run(arguments).exits(1);
        let run = place.run(&[arguments, &["--json"]].concat()).exits(1);
        assert!(!run.out.is_empty());
    }
    let damaged = ids[1].key().to_string();
    let run = place.run(&["end", &damaged, "--yes"]).exits(1);
    assert!(
        run.out == "0 sessions ended\n" && run.err.contains("cloakroom check"),
        "{run:?}"
    );
    let run = place.run(&["end", "--all", "--yes", "--json"]).exits(1);
    assert_eq!(run.json()["ended"], 2);
    assert!(run.json()["damage"].is_string());
    place.run(&["list"]).exits(1);
}

#[test]
fn an_export_is_imported_again() {
    let (place, ids) = Place::with(&["ann", "bob"]);
    let lines = place.run(&["export"]).exits(0).out;
    assert_eq!(lines.lines().count(), 5);
    assert_eq!(
        place.run(&["export", "-o", "all.jsonl"]).exits(0).out,
        "2 sessions exported\n"
    );
    assert!(place.names().contains(&"all.jsonl".to_owned()));
    place
        .run(&["export", "-o", "all.jsonl"])
        .fails(2, "exists already", "Name a file");
    place
        .run(&["import", "all.jsonl"])
        .fails(3, "line 3", "--on-duplicate");
    let skipped = place
        .run(&["import", "all.jsonl", "--on-duplicate", "skip"])
        .exits(0);
    assert!(skipped.out.contains("2 were there already"), "{skipped:?}");

    let (other, _) = Place::with(&[]);
    let imported = other.run_with(&["import", "-", "--json"], &lines).exits(0);
    assert_eq!(imported.json()["sessions"], 2);
    let key = ids[1].key().to_string();
    let shown = other.run(&["show", &key, "--values"]).exits(0).out;
    assert!(shown.contains("bob") && shown.contains("green"), "{shown}");
    let rubbish = lines.replace("\"owner\"", "owner");
    other
        .run_with(&["import", "-"], &rubbish)
        .fails(3, "line 3 of the export", "Correct the file");
    let cut: Vec<_> = lines.lines().take(4).collect();
    let (third, _) = Place::with(&[]);
    third
        .run_with(&["import", "-"], &cut.join("\n"))
        .fails(3, "cut short", "Correct the file");
    assert_eq!(third.run(&["list"]).exits(0).out, "no sessions\n");
    other.run(&["import", "missing.jsonl"]).fails(
        3,
        "missing.jsonl cannot be read",
        "Check the path",
    );
}

// C9.1
#[test]
fn a_backup_is_verified_and_restored_alone_and_in_a_chain() {
    let (place, ids) = Place::with(&["ann"]);
    let said = place.run(&["backup", "one"]).exits(0).out;
    assert!(
        said.starts_with("1 session backed up, as of commit"),
        "{said}"
    );
    place
        .run(&["backup", "one"])
        .fails(2, "one exists already", "Name a file");
    place.edit(|store| {
        session(store, |session| session.set_owner(Some("bob")));
    });
    place.run(&["backup", "two", "--since", "one"]).exits(0);
    place
        .run(&["backup", "-", "--since", "one"])
        .fails(2, "no stream", "Name a file");
    let verified = place
        .run(&["verify", "one", "two", "--json"])
        .exits(0)
        .json();
    assert_eq!(verified[1]["previous"]["id"], verified[0]["id"]);

    place.run(&["end", "--all", "--yes"]).exits(0);
    let restore = ["restore", "one", "two", "--to", "new"];
    let restored = place
        .run(&[&restore[..], &["--json"]].concat())
        .exits(0)
        .json();
    assert_eq!(restored["id"], verified[1]["id"]);
    place
        .run(&restore)
        .fails(2, "new exists already", "Name a file");
    place
        .run(&["restore", "two", "--to", "gap"])
        .fails(2, "", "Correct it");
    assert!(!place.names().contains(&"gap".to_owned()));
    let new = Place::empty();
    fs::copy(place.file("new"), &new.path).unwrap();
    let list = new.run(&["list", "--json"]).exits(0).json();
    assert_eq!(list["sessions"].as_array().unwrap().len(), 2);
    new.run(&["show", &ids[0].key().to_string()]).exits(0);

    let mut damaged = fs::read(place.file("one")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(place.file("one"), damaged).unwrap();
    place.run(&["verify", "one"]).fails(3, "one", "damage");
    place
        .run(&["verify", "missing"])
        .fails(3, "missing", "Check the path");
}

#[test]
fn compacting_gives_free_space_back() {
    let (place, ids) = Place::with(&["ann"]);
    place.edit(|store| {
        let large: Vec<_> = (0..60)
            .map(|_| {
                session(store, |session| {
                    session.pkg("p").insert("k", "x".repeat(50_000))
                })
            })
            .collect();
        store.checkpoint().unwrap();
        large
            .iter()
            .for_each(|id| assert_eq!(store.end(id.key()).unwrap(), 1));
    });
    let size = || fs::metadata(&place.path).unwrap().len();
    let before = size();
    let compacted = place.run(&["compact", "--json"]).exits(0).json();
    assert_eq!(compacted["bytes_before"], before);
    assert_eq!(compacted["bytes_after"], size());
    assert!(
        before > 3_000_000 && size() < 1_000_000,
        "{before} {}",
        size()
    );
    assert_eq!(place.names(), ["sessions.redb"]);
    place.run(&["check"]).exits(0);
    place.run(&["show", &ids[0].key().to_string()]).exits(0);
    let said = place.run(&["compact"]).exits(0).out;
    assert!(said.starts_with("the file has "), "{said}");
}

// C9.1: each of these files is too long to be read at once.
#[cfg(unix)]
#[test]
fn a_long_chain_is_restored_with_few_open_files() {
    let place = Place::empty();
    let mut chain: Vec<String> = Vec::new();
    place.edit(|store| {
        for n in 0..200 {
            let name = format!("{n}.backup");
            let path = place.file(&name);
            session(store, |session| {
                session.pkg("p").insert("blob", "x".repeat(70_000))
            });
            let go_on = |_| ControlFlow::Continue(());
            match chain.is_empty() {
                true => store.backup(&path, go_on),
                false => {
                    store.backup_since(chain.iter().map(|name| place.file(name)), &path, go_on)
                }
            }
            .unwrap();
            chain.push(name);
        }
    });
    let mut command = Command::new("sh");
    let script = "ulimit -n 128 && exec \"$@\"";
    command.args([
        "-c",
        script,
        "sh",
        env!("CARGO_BIN_EXE_cloakroom"),
        "restore",
        "--json",
    ]);
    command
        .args(["--to", "new.redb"])
        .args(&chain)
        .current_dir(place.folder());
    let restored = Run::of(&command.output().unwrap()).exits(0).json();
    assert_eq!(restored["sessions"], 200);
    let check = place
        .beside("new.redb", &["check", "--json"])
        .output()
        .unwrap();
    assert_eq!(Run::of(&check).exits(0).json()["sessions"], 200);
}

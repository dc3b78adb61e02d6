//! The program as scripts use it: output, exit codes, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{Clock, ContainerSettings, Store};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{Place, session};

/// Every command, with arguments of its own.
const COMMANDS: [&[&str]; 16] = [
    &["stats"],
    &["containers"],
    &["containers", "set", "", "--timeout", "1h"],
    &["list"],
    &["show", "00"],
    &["end", "--all", "--yes"],
    &["sweep"],
    &["check"],
    &["salvage", "--to", "new"],
    &["compact"],
    &["migrate", "--yes"],
    &["backup", "new"],
    &["export"],
    &["import", "-"],
    &["secrets", "list"],
    &["secrets", "rotate"],
];

#[test]
fn no_command_creates_a_store_or_changes_a_file_that_is_none() {
    let place = Place::empty();
    for arguments in COMMANDS {
        place
            .run(arguments)
            .fails(3, "sessions.redb", "Check the path");
        assert!(
            place.names().is_empty(),
            "{arguments:?} left {:?}",
            place.names()
        );
    }
    for content in ["", "another file"] {
        fs::write(&place.path, content).unwrap();
        for arguments in COMMANDS {
            // Whatever is damaged might be salvaged.
            if arguments[0] == "salvage" {
                place.run(arguments).exits(3);
            } else {
                let run = place.run(arguments);
                run.fails(3, "this is not a store", "Check the path");
            }
            assert_eq!(fs::read_to_string(&place.path).unwrap(), content);
            assert_eq!(place.names(), ["sessions.redb"], "{arguments:?}");
        }
    }
}

#[test]
fn a_store_that_an_application_has_open_is_told_so() {
    let (place, _) = Place::with(&["ann"]);
    let store = Store::open(&place.path).unwrap();
    for arguments in COMMANDS {
        place.run(arguments).fails(
            3,
            "sessions.redb",
            "An application, or another command, has the store open",
        );
    }
    let watched = place.run(&["watch", "--count", "1"]).exits(0);
    assert!(watched.out.contains("KiB"), "{watched:?}");
    store.close().unwrap();
    place.run(&["stats"]).exits(0);
}

#[test]
fn wrong_usage_is_told_with_the_right_one() {
    let (place, ids) = Place::with(&["ann"]);
    for (arguments, says) in [
        (&["unknown"][..], "unrecognized subcommand"),
        (&["end"], "required"),
        (&["end", "--all", "--owner", "ann"], "cannot be used with"),
        (&["end", "xyz", "--yes"], "32 hexadecimal digits"),
        (&["show", "xyz"], "32 hexadecimal digits"),
        (&["show", ids[0].as_str()], "32 hexadecimal digits"),
        (
            &["containers", "set", "nowhere", "--timeout", "1h"],
            "no container of this name",
        ),
        (&["containers", "set", ""], "no setting is named"),
        (&["containers", "set", "", "--timeout", "soon"], "30m"),
        (&["list", "--size-at-least", "much"], "10kB"),
        (&["secrets", "retire", "0", "--yes"], "only an older secret"),
        (
            &["import", "-", "--on-duplicate", "maybe"],
            "possible values",
        ),
    ] {
        let run = place.run(arguments).exits(2);
        assert!(run.err.contains(says), "{arguments:?}: {run:?}");
        assert!(
            !run.err.contains(ids[0].as_str()) || arguments[1] != ids[0].as_str(),
            "{run:?}"
        );
    }
    let mut nameless = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    let output = nameless
        .arg("stats")
        .env_remove("CLOAKROOM_STORE")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--store PATH"));
    place.run(&["--help"]).exits(0);
    place.run(&["--version"]).exits(0);
}

#[test]
fn sessions_are_counted_listed_and_shown() {
    let (place, ids) = Place::with(&["ann", "bob", "bob"]);
    let stats = place.run(&["stats"]).exits(0).out;
    assert!(
        stats.contains("CONTAINER") && stats.contains("AGE") && stats.contains("####"),
        "{stats}"
    );
    let stats = place.run(&["stats", "--json"]).exits(0).json();
    assert_eq!(stats["containers"][0]["sessions"], 3);
    assert_eq!(stats["containers"][0]["packages"], 3);
    assert_eq!(
        place.run(&["stats", "--quick", "--json"]).json()["containers"],
        json!(null)
    );

    let list = place.run(&["list", "--owner", "bob"]).exits(0).out;
    let (ann, bob) = (ids[0].key().to_string(), ids[1].key().to_string());
    assert!(list.contains(&bob) && !list.contains(&ann), "{list}");
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let arguments = ["list", "--json", "--limit", "2", "--after", &after];
        let count = if after.is_empty() { 4 } else { 6 };
        let page = place.run(&arguments[..count]).exits(0).json();
        let sessions = page["sessions"].as_array().unwrap().clone();
        found.extend(
            sessions
                .iter()
                .map(|it| it["client"].as_str().unwrap().to_owned()),
        );
        match page["next"]["after"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    let mut keys: Vec<_> = ids.iter().map(|id| id.key().to_string()).collect();
    keys.sort();
    assert_eq!(found, keys);

    let shown = place.run(&["show", &ann]).exits(0).out;
    assert!(
        shown.contains("owner         ann") && shown.contains("tea = 6 B"),
        "{shown}"
    );
    assert!(!shown.contains("green"), "{shown}");
    let values = place.run(&["show", &ann[..12], "--values"]).exits(0).out;
    assert!(values.contains("tea = \"green\""), "{values}");
    let entry = place.run(&["show", &ann, "--json"]).exits(0).json();
    assert_eq!(entry["containers"][0]["owner"], "ann");
    assert_eq!(
        entry["containers"][0]["packages"][0]["keys"][0].get("value"),
        None
    );
    let entry = place.run(&["show", &ann, "--json", "--values"]).json();
    assert_eq!(
        entry["containers"][0]["packages"][0]["keys"][0]["value"],
        "green"
    );
    place
        .run(&["show", &"0".repeat(32)])
        .fails(1, "no session of this key", "cloakroom list");
    for run in [place.run(&["list", "--json"]), place.run(&["show", &ann])] {
        assert!(ids.iter().all(|id| !run.out.contains(id.as_str())));
    }
}

#[test]
fn pages_go_through_all_containers() {
    let place = Place::empty();
    place.edit(|store| {
        for name in ["shop", "wiki", "zoo"] {
            store.register(name, ContainerSettings::new()).unwrap();
        }
        store.register_alias("shelf", "shop").unwrap();
        for (package, count) in [("p", 5), ("shop", 4), ("zoo", 3)] {
            for _ in 0..count {
                session(store, |session| session.pkg(package).insert("k", 1));
            }
        }
    });
    for limit in 1..=13 {
        let limit = limit.to_string();
        let mut found = Vec::new();
        let mut next: Vec<String> = Vec::new();
        loop {
            let arguments = ["list", "--json", "--limit", &limit];
            let next_ref = next.iter().map(String::as_str);
            let arguments: Vec<_> = arguments.into_iter().chain(next_ref).collect();
            let page = place.run(&arguments).exits(0).json();
            for session in page["sessions"].as_array().unwrap() {
                found.push((
                    session["container"].to_string(),
                    session["client"].to_string(),
                ));
            }
            let Some(container) = page["next"]["container"].as_str() else {
                break;
            };
            next = vec!["--from".to_owned(), container.to_owned()];
            if let Some(after) = page["next"]["after"].as_str() {
                next.extend(["--after".to_owned(), after.to_owned()]);
            }
        }
        assert_eq!(found.len(), 12, "{limit}");
        assert!(found.is_sorted(), "{found:?}");
        found.dedup();
        assert_eq!(found.len(), 12, "{limit}");
    }
    let told = place.run(&["list", "--limit", "6"]).exits(0).out;
    assert!(
        told.contains("There may be more: add --from shop --after "),
        "{told}"
    );
    let rest = place
        .run(&["list", "--json", "--from", "shelf"])
        .exits(0)
        .json();
    assert_eq!(rest["sessions"].as_array().unwrap().len(), 7);
    place.run(&["list", "--limit", "0"]).exits(2);
    place
        .run(&["list", "--from", "shop", "--container", "zoo"])
        .exits(2);
    place.run(&["list", "--from", "nowhere"]).fails(
        2,
        "no container of this name",
        "cloakroom containers",
    );
}

#[test]
fn a_filter_takes_times_and_sizes_as_people_write_them() {
    let place = Place::empty();
    let now = chrono::Utc::now();
    let old = Clock::manual(now - chrono::TimeDelta::minutes(40));
    place.edit_at(old, |store| {
        session(store, |session| {
            session.set_label("Firefox on Linux")?;
            session.pkg("p").insert("large", "x".repeat(20_000))
        });
    });
    place.edit(|store| {
        session(store, |session| session.pkg("p").insert("small", 1));
    });
    let count = |arguments: &[&str]| {
        let run = place
            .run(&[&["list", "--json"], arguments].concat())
            .exits(0);
        run.json()["sessions"].as_array().unwrap().len()
    };
    for arguments in [
        ["--idle-at-least", "30m"],
        ["--idle-at-most", "1min"],
        ["--age-at-least", "39m 30s"],
        ["--age-at-most", "90s"],
        ["--size-at-least", "10kB"],
        ["--size-at-most", "1KiB"],
        ["--label", "fox"],
    ] {
        assert_eq!(count(&arguments), 1, "{arguments:?}");
    }
    assert_eq!(count(&["--age-at-least", "2h"]), 0);
    assert_eq!(count(&["--container", ""]), 2);
}

#[test]
fn sessions_end_by_key_by_owner_and_all_and_only_on_a_yes() {
    let (place, ids) = Place::with(&["ann", "bob", "bob", "cat"]);
    let ann = ids[0].key().to_string();
    let left = || {
        place.run(&["list", "--json"]).json()["sessions"]
            .as_array()
            .unwrap()
            .len()
    };
    for arguments in [
        &["end", &ann][..],
        &["end", "--owner", "bob"],
        &["end", "--all"],
    ] {
        place
            .run(arguments)
            .fails(2, "nothing was changed", "Give --yes");
        place
            .run_with(arguments, "y\n")
            .fails(2, "nothing was changed", "Give --yes");
    }
    assert_eq!(left(), 4);
    assert_eq!(
        place.run(&["end", &ann, "--yes"]).exits(0).out,
        "1 session ended\n"
    );
    assert_eq!(
        place.run(&["end", &ann, "--yes"]).exits(1).out,
        "0 sessions ended\n"
    );
    let ended = place
        .run(&["end", "--owner", "bob", "--yes", "--json"])
        .exits(0);
    assert_eq!(ended.json(), json!({ "ended": 2, "damage": null }));
    assert_eq!(
        place.run(&["end", "--owner", "nobody"]).exits(0).out,
        "0 sessions ended\n"
    );
    assert_eq!(left(), 1);
    assert_eq!(
        place.run(&["end", "--all", "-y"]).exits(0).out,
        "1 session ended\n"
    );
    assert_eq!(left(), 0);
}

#[test]
fn settings_are_changed_one_by_one_and_stay() {
    let (place, _) = Place::with(&["ann"]);
    place.edit(|store| {
        let settings = ContainerSettings::new().max_lifetime(Some(Duration::from_secs(86_400)));
        store.register("shop", settings).unwrap();
        store.register_alias("wishlist", "shop").unwrap();
    });
    let set = [
        "containers",
        "set",
        "shop",
        "--timeout",
        "30m",
        "--implicit-sweeps",
        "no",
    ];
    let said = place.run(&set).exits(0).out;
    assert!(
        said.contains("shop: timeout 30m, resolution 10m, max lifetime 1day"),
        "{said}"
    );
    assert!(place.run(&set).exits(0).out.contains("already"));
    let set = [
        "containers",
        "set",
        "shop",
        "--max-lifetime",
        "never",
        "--json",
    ];
    assert_eq!(
        place.run(&set).exits(0).json()["max_lifetime_ms"],
        json!(null)
    );
    let all = place.run(&["containers", "--json"]).exits(0).json();
    assert_eq!(
        all[1],
        json!({
            "name": "shop", "aliases": ["wishlist"], "residence": "file", "timeout_ms": 1_800_000, "resolution_ms": 600_000,
            "max_lifetime_ms": null, "implicit_sweeps": false,
        })
    );
    let table = place.run(&["containers"]).exits(0).out;
    assert!(
        table.contains("\"\"") && table.contains("shop") && table.contains("30m"),
        "{table}"
    );
}

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

// C4.2, C1.6
#[test]
fn secrets_are_listed_by_number_rotated_and_retired() {
    let (place, _) = Place::with(&["ann"]);
    assert_eq!(
        place.run(&["secrets", "list"]).exits(0).out,
        "secret 0    signs new ids\n"
    );
    let run = place.run(&["secrets", "rotate"]).exits(0);
    assert!(run.err.contains("StoreBuilder::secret"), "{run:?}");
    let list = place.run(&["secrets", "list", "--json"]).exits(0).json();
    let expected =
        json!([{ "number": 0, "is_issuing": false }, { "number": 1, "is_issuing": true }]);
    assert_eq!(list, expected);
    place
        .run(&["secrets", "retire", "0"])
        .fails(2, "logged out", "Give --yes");
    place.run(&["secrets", "retire", "0", "--yes"]).exits(0);
    assert_eq!(
        place.run(&["secrets", "list"]).out,
        "secret 1    signs new ids\n"
    );
}

// C9.2
#[test]
fn hostile_texts_are_shown_harmless() {
    let place = Place::empty();
    let mut key = String::new();
    place.edit(|store| {
        let id = session(store, |session| {
            session.set_owner(Some("\u{1b}]0;owned\u{7}ann"))?;
            session.set_label("\u{202e}gnp.exe\r\nfake line")?;
            let package = session.pkg("\u{1b}[2Jp");
            package.insert("k\u{9b}31m", "<script>\u{1b}[31m\u{202e}\u{200b}\u{7f}")?;
            package.insert("long", "x".repeat(900_000))
        });
        key = id.key().to_string();
    });
    let runs = [
        place.run(&["list"]).exits(0),
        place.run(&["show", &key]).exits(0),
        place.run(&["show", &key, "--values"]).exits(0),
    ];
    for run in runs {
        let is_harmful = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{200b}".contains(c);
        assert!(!run.out.contains(is_harmful), "{}", &run.out[..500]);
        assert!(run.out.lines().all(|line| !line.starts_with("fake")));
    }
    let run = place.run(&["show", &key, "--values", "--json"]).exits(0);
    let exported = place.run(&["export"]).exits(0);
    for out in [&run.out, &exported.out] {
        let is_harmful = |c: char| (c.is_control() && c != '\n') || "\u{202e}".contains(c);
        assert!(!out.contains(is_harmful), "{}", &out[..500]);
    }
    let entry = run.json();
    let value = &entry["containers"][0]["packages"][0]["keys"][0]["value"];
    assert_eq!(value, "<script>\u{1b}[31m\u{202e}\u{200b}\u{7f}");
    let other = Place::empty();
    other.edit(|_| {});
    other.run_with(&["import", "-"], &exported.out).exits(0);
    assert_eq!(
        other.run(&["show", &key, "--values", "--json"]).json(),
        entry
    );
}

#[test]
fn an_encrypted_store_opens_with_its_keys_alone() {
    let place = Place::empty();
    let ring = cloakroom::KeyRing::new(3, [0xab; 32]);
    let store = Store::builder().encryption(ring).open(&place.path).unwrap();
    session(&store, |session| session.pkg("p").insert("k", 1));
    store.close().unwrap();
    place
        .run(&["stats"])
        .fails(3, "sessions.redb", "--key-file");
    fs::write(place.file("keys"), format!("3 {}\n", "ab".repeat(32))).unwrap();
    place.run(&["--key-file", "keys", "check"]).exits(0);
    fs::write(place.file("keys"), format!("3 {}\n", "cd".repeat(32))).unwrap();
    place
        .run(&["--key-file", "keys", "check"])
        .fails(3, "sessions.redb", "--key-file");
    fs::write(place.file("keys"), "3 abc\n").unwrap();
    place.run(&["--key-file", "keys", "check"]).fails(
        2,
        "line 1 of keys is no key",
        "64 hexadecimal",
    );
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let place = Place::empty();
    let run = place.run(&["--json", "stats"]).exits(3);
    let error: serde_json::Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!(error["error"]["kind"], "Io");
    assert!(
        error["error"]["advice"]
            .as_str()
            .unwrap()
            .contains("Check the path")
    );
    assert_eq!(run.out, "");
    for arguments in [
        &["unknown", "--json"][..],
        &["--json", "list", "--limit", "0"],
    ] {
        let run = place.run(arguments).exits(2);
        let error: serde_json::Value = serde_json::from_str(&run.err).unwrap();
        assert_eq!(error["error"]["kind"], "usage");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(
            !message.starts_with("error") && message.len() > 10,
            "{message}"
        );
        assert_eq!(run.out, "");
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let place = Place::empty();
    place.edit(|store| {
        for _ in 0..300 {
            session(store, |session| {
                session.pkg("p").insert("k", "x".repeat(2000))
            });
        }
    });
    // What is cut short is told by the exit code. Of the others, the code is that of what they found.
    for (arguments, code) in [
        (&["export"][..], 4),
        (&["backup", "-"], 4),
        (&["list", "--limit", "1000"], 0),
        (&["end", &"0".repeat(32), "--yes"], 1),
        (&["watch", "--interval", "1ms"], 0),
    ] {
        let mut command = place.command(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(
            output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    place.run(&["check"]).exits(0);
}

#[test]
fn colours_and_progress_are_for_terminals_only() {
    let (place, _) = Place::with(&["ann"]);
    for arguments in [&["list"][..], &["stats"], &["check"], &["show", "00000000"]] {
        let run = place.run(arguments);
        assert!(
            !run.out.contains('\u{1b}') && !run.err.contains('\u{1b}'),
            "{run:?}"
        );
    }
}

#[test]
fn completions_and_manual_pages_are_made() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).exits(0).out;
        assert!(
            script.contains("cloakroom") && script.contains("salvage"),
            "{shell}"
        );
    }
    assert!(place.run(&["man"]).exits(0).out.contains(".TH cloakroom"));
    place.run(&["man", "pages"]).exits(0);
    assert!(place.file("pages/cloakroom-salvage.1").exists());
}

#[test]
fn the_bench_leaves_nothing_behind() {
    let place = Place::empty();
    let figures = place
        .run(&["bench", "--time", "300ms", "--json"])
        .exits(0)
        .json();
    assert_eq!(figures[0]["threads"], 1);
    assert!(figures[0]["commits"].as_u64().unwrap() > 0);
    assert!(place.names().is_empty());
    place
        .run(&["bench", "--folder", "missing"])
        .fails(3, "missing cannot be written to", "Check");
}

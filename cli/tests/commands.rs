//! The program as scripts use it: output, exit codes, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ContainerSettings, Store};
use serde_json::json;
use std::fs;
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
    assert_eq!(
        ended.json(),
        json!({ "ended": 2, "removed_expired": 0, "damage": null })
    );
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

// C4.2, C1.6
#[test]
fn secrets_are_listed_by_number_rotated_and_retired() {
    let (place, _) = Place::with(&["ann"]);
    let list = place.run(&["secrets", "list"]).exits(0).out;
    assert!(
        list.starts_with("secret 0    signs new ids       made 20"),
        "{list}"
    );
    let run = place.run(&["secrets", "rotate"]).exits(0);
    assert!(run.err.contains("StoreBuilder::secret"), "{run:?}");
    let list = place.run(&["secrets", "list", "--json"]).exits(0).json();
    let created = |at: usize| list[at]["created"].as_str().unwrap();
    let expected = json!([
        { "number": 0, "is_issuing": false, "created": created(0) },
        { "number": 1, "is_issuing": true, "created": created(1) },
    ]);
    assert_eq!(list, expected);
    assert!(created(0) <= created(1) && created(0).ends_with('Z'));
    place
        .run(&["secrets", "retire", "0"])
        .fails(2, "logged out", "Give --yes");
    place.run(&["secrets", "retire", "0", "--yes"]).exits(0);
    let list = place.run(&["secrets", "list"]).out;
    assert!(list.starts_with("secret 1    signs new ids"), "{list}");
    assert_eq!(list.lines().count(), 1);
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
        (&["completions", "bash"], 0),
        (&["man"], 0),
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

//! `--at`: the same commands on the store of a running application, through its administration.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "support/application.rs"]
mod application;
mod support;

use application::{Application, TOKEN, at, filled, run};
use cloakroom::Store;
use cloakroom_admin::Access;
use std::fs;
use support::{Place, Run, session};

/// Two equal stores: one is that of an application.
struct Both {
    ours: Place,
    theirs: Application,
    _place: Place,
}

impl Both {
    fn new() -> Self {
        let ours = filled();
        let copy = Place::empty();
        fs::copy(&ours.path, &copy.path).unwrap();
        Self {
            theirs: Application::with_all(&copy),
            ours,
            _place: copy,
        }
    }

    /// What both say, which is the same.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Run {
        let ours = self.ours.run(arguments);
        let theirs = run(at(&self.ours, &self.theirs.address, Some(TOKEN), arguments));
        let of = |run: &Run| (run.code, run.out.clone(), run.err.clone());
        assert_eq!(of(&ours), of(&theirs), "{arguments:?}");
        ours
    }
}

#[test]
fn every_command_says_the_same_of_a_path_and_of_a_running_application() {
    let both = Both::new();
    let list = both.run(&["list", "--json"]).exits(0).json();
    let key = |at: usize| list["sessions"][at]["client"].as_str().unwrap().to_owned();
    assert!(list["sessions"].as_array().unwrap().len() >= 3, "{list}");
    let (first, second) = (key(0), key(1));
    for arguments in [
        &["containers"][..],
        &["containers", "--json"],
        &["list"],
        &["list", "--limit", "1"],
        &["list", "--json", "--limit", "2"],
        &["list", "--json", "--from", "basket"],
        &["list", "--container", "", "--after", &first],
        &[
            "list",
            "--owner",
            "bob",
            "--size-at-least",
            "1",
            "--age-at-least",
            "1d",
            "--idle-at-most",
            "1000000d",
        ],
        &["list", "--label", "nothing like this"],
        &["list", "--key", &first[..4], "--json"],
        &["show", &first],
        &["show", &first[..8], "--json"],
        &["show", &first, "--values"],
        &["show", &first, "--values", "--json"],
        &["sweep"],
        &["sweep", "--json"],
        &[
            "containers",
            "set",
            "basket",
            "--timeout",
            "30m",
            "--max-lifetime",
            "7d",
        ],
        &["containers", "set", "basket", "--timeout", "30m"],
        &[
            "containers",
            "set",
            "",
            "--max-lifetime",
            "never",
            "--implicit-sweeps",
            "no",
            "--json",
        ],
        &["secrets", "rotate"],
        &["secrets", "list"],
        &["secrets", "list", "--json"],
        &["end", &first, &second, "--yes", "--json"],
        &["end", "--owner", "nobody", "--yes"],
    ] {
        both.run(arguments).exits(0);
    }
    for arguments in [
        &["list", "--container", "nowhere"][..],
        &["list", "--from", "nowhere"],
        &["list", "--after", &second],
        &["list", "--key", "xyz"],
        &["list", "--owner", ""],
        &["containers", "set", "nowhere", "--timeout", "1h"],
        &["containers", "set", ""],
        &["secrets", "retire", "1", "--yes"],
        &["end", "xyz", "--yes"],
        &["end", "--all"],
        &["list", "--json", "--container", "nowhere"],
    ] {
        let said = both.ours.run(arguments);
        let theirs = run(at(&both.ours, &both.theirs.address, Some(TOKEN), arguments));
        assert_eq!(
            (said.code, theirs.code),
            (2, 2),
            "{arguments:?}: {said:?} {theirs:?}"
        );
    }
    both.run(&["show", &first]).exits(1);
    both.run(&["end", &first, "--yes"]).exits(1);
    for arguments in [&["stats", "--json"][..], &["check", "--json"]] {
        let ours = both.ours.run(arguments).exits(0).json();
        let theirs = run(at(&both.ours, &both.theirs.address, Some(TOKEN), arguments));
        let theirs = theirs.exits(0).json();
        for member in [
            "containers",
            "container_names",
            "sessions",
            "packages",
            "findings",
            "unreadable_parts",
        ] {
            assert_eq!(ours[member], theirs[member], "{member}");
        }
    }
    // All but the first line, which tells the time.
    let rest = |run: Run| run.exits(0).out.split_once('\n').unwrap().1.to_owned();
    let theirs = run(at(
        &both.ours,
        &both.theirs.address,
        Some(TOKEN),
        &["export"],
    ));
    assert_eq!(rest(both.ours.run(&["export"])), rest(theirs));
    both.run(&["end", "--all", "--yes"]).exits(0);
    assert_eq!(both.run(&["list"]).out, "no sessions\n");
}

// C9.1
#[test]
fn backups_and_exports_are_fetched_whole_and_sessions_imported() {
    let place = filled();
    let application = Application::with_all(&place);
    let there = |arguments: &[&str]| run(at(&place, &application.address, Some(TOKEN), arguments));
    let told = there(&["backup", "new.backup", "--json"]).exits(0).json();
    let verified = place
        .run(&["verify", "new.backup", "--json"])
        .exits(0)
        .json();
    assert_eq!(told["id"], verified[0]["id"]);
    let again = there(&["backup", "new.backup"]);
    again.fails(2, "exists already", "Name a file");
    let told = there(&["export", "--output", "all.jsonl", "--json"])
        .exits(0)
        .json();
    let count = told["sessions"].as_u64().unwrap();
    assert!(count >= 3, "{told}");
    let lines = fs::read_to_string(place.file("all.jsonl")).unwrap();
    assert_eq!(told["bytes"], lines.len());

    there(&["import", "all.jsonl"]).fails(3, "line", "--on-duplicate");
    let skipped = there(&["import", "all.jsonl", "--on-duplicate", "skip"]).exits(0);
    let expected =
        format!("0 sessions imported\n{count} were there already, and stayed as they were\n");
    assert_eq!(skipped.out, expected);
    there(&["end", "--all", "--yes"]).exits(0);
    assert_eq!(
        there(&["import", "all.jsonl"]).exits(0).out,
        format!("{count} sessions imported\n")
    );
    let cut = &lines[..lines.len() - 20];
    fs::write(place.file("cut.jsonl"), cut).unwrap();
    there(&["import", "cut.jsonl", "--on-duplicate", "skip"]).fails(3, "", "Correct the file");
    assert_eq!(application.store.sessions_of("bob").unwrap().len(), 2);
    assert!(
        place.names().iter().all(|name| !name.starts_with('.')),
        "{:?}",
        place.names()
    );
}

// C9.1: the application may remember what changed, or not. Either way, only that is kept.
#[test]
fn a_chain_of_backups_is_fetched_and_restored() {
    let place = filled();
    let application = Application::with_all(&place);
    let there = |arguments: &[&str]| run(at(&place, &application.address, Some(TOKEN), arguments));
    let change = |n: u32| {
        session(&application.store, |session| {
            session.pkg("cart").insert("n", n)
        });
    };
    let mut last = there(&["backup", "0.backup", "--json"]).exits(0).json();
    let mut chain = vec!["0.backup".to_owned()];
    for n in 1..=3 {
        change(n);
        if n == 2 {
            // It does not remember any more, and sends everything.
            application.store.checkpoint().unwrap();
        }
        let name = format!("{n}.backup");
        let mut arguments = vec!["backup", &name, "--json"];
        for earlier in &chain {
            arguments.extend(["--since", earlier]);
        }
        let told = there(&arguments).exits(0).json();
        assert_eq!(told["previous"]["id"], last["id"], "{told}");
        assert_eq!(told["sessions"], 1, "{told}");
        last = told;
        chain.push(name);
    }
    let mut arguments = vec!["restore", "--to", "restored.redb"];
    arguments.extend(chain.iter().map(String::as_str));
    place.run(&arguments).exits(0);
    let list = |run: Run| run.exits(0).json()["sessions"].as_array().unwrap().len();
    let all = &["list", "--expired", "--json"];
    let expected = list(there(all));
    assert!(expected >= 7);
    let restored = place.beside("restored.redb", all);
    assert_eq!(list(run(restored)), expected);
    let (other, _) = Place::with(&["ann"]);
    other.run(&["backup", "other.backup"]).exits(0);
    let of_other = other.file("other.backup");
    let of_other = ["backup", "x.backup", "--since", of_other.to_str().unwrap()];
    there(&of_other).fails(2, "another store", "Name a backup of this store");
    assert!(!place.names().contains(&"x.backup".to_owned()));
}

// C9.3
#[test]
fn a_token_that_may_only_look_changes_nothing() {
    let place = filled();
    let store = Store::open(&place.path).unwrap();
    let application = Application::serve(store, Access::read_only("guest").without_values());
    let there = |arguments: &[&str]| run(at(&place, &application.address, Some(TOKEN), arguments));
    let list = there(&["list", "--json"]).exits(0).json();
    let key = list["sessions"][0]["client"].as_str().unwrap();
    there(&["stats"]).exits(0);
    there(&["show", key]).exits(0);
    for arguments in [
        &["show", key, "--values"][..],
        &["end", key, "--yes"],
        &["end", "--all", "--yes"],
        &["sweep"],
        &["check"],
        &["backup", "new"],
        &["export"],
        &["import", "-"],
        &["secrets", "rotate"],
        &["containers", "set", "", "--timeout", "1h"],
    ] {
        there(arguments).fails(3, "", "Use a token that gives the right");
    }
    assert_eq!(there(&["list", "--json"]).json(), list);
    assert!(!place.names().contains(&"new".to_owned()));
}

//! Sessions that are counted, listed, filtered and shown.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{Clock, ContainerSettings};
use serde_json::json;
use support::{Place, session};

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

// C3.2: not served any more, but still there until a sweep.
#[test]
fn expired_sessions_are_found_until_they_are_removed() {
    let place = Place::empty();
    let mut keys = Vec::new();
    place.edit_at(
        Clock::manual("2026-01-01T00:00:00Z".parse().unwrap()),
        |store| {
            for _ in 0..3 {
                let id = session(store, |session| session.pkg("p").insert("k", 1));
                keys.push(id.key().to_string());
            }
        },
    );
    keys.sort();
    assert_eq!(place.run(&["list"]).exits(0).out, "no sessions\n");
    let list = place.run(&["list", "--expired"]).exits(0).out;
    assert_eq!(list.matches("expired").count(), 3, "{list}");
    let list = place.run(&["list", "--expired", "--json"]).exits(0).json();
    for (listed, key) in list["sessions"].as_array().unwrap().iter().zip(&keys) {
        assert_eq!(
            (&listed["client"], &listed["is_expired"]),
            (&json!(key), &json!(true))
        );
    }
    for digits in [&keys[0][..10], &keys[0]] {
        let shown = place.run(&["show", digits]).exits(0).out;
        assert!(shown.contains("it has expired"), "{shown}");
    }
    let nobody = "0".repeat(32);
    let ended = place.run(&["end", &keys[0], &nobody, "--yes"]).exits(1).out;
    assert_eq!(
        ended,
        "0 sessions ended\n1 session had expired before, and is removed\n"
    );
    let ended = place
        .run(&["end", &keys[1], "--yes", "--json"])
        .exits(0)
        .json();
    assert_eq!(
        ended,
        json!({ "ended": 0, "removed_expired": 1, "damage": null })
    );
    place.run(&["show", &keys[0]]).exits(1);
    place.run(&["show", &keys[2]]).exits(0);
}

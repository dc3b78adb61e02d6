//! `--json`: what each command prints is described.
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

use application::{Application, TOKEN, at, run};
use serde_json::Value;
use std::collections::BTreeSet;
use support::Place;

fn members(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(parts) => parts.iter().for_each(|part| members(part, found)),
        Value::Object(parts) => {
            for (name, part) in parts {
                found.insert(name.clone());
                members(part, found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_command_prints_json_whose_members_are_described() {
    let (place, ids) = Place::with(&["ann", "bob", "bob"]);
    let [ann, bob, _] = [0, 1, 2].map(|n| ids[n].key().to_string());
    let mut found = BTreeSet::new();
    for command in [
        &["stats"][..],
        &["stats", "--quick"],
        &["containers"],
        &["containers", "set", "", "--timeout", "2h"],
        &["list", "--limit", "1"],
        &["list", "--expired"],
        &["show", &ann, "--values"],
        &["end", &ann, "--yes"],
        &["end", "--owner", "bob", "--yes"],
        &["sweep"],
        &["check"],
        &["salvage", "--to", "salvaged.redb"],
        &["compact"],
        &["migrate"],
        &["backup", "0.backup"],
        &["backup", "1.backup", "--since", "0.backup"],
        &["verify", "0.backup", "1.backup"],
        &["restore", "0.backup", "1.backup", "--to", "new.redb"],
        &["export", "--output", "all.jsonl"],
        &["import", "all.jsonl", "--on-duplicate", "skip"],
        &["secrets", "list"],
        &["secrets", "rotate"],
        &["secrets", "retire", "0", "--yes"],
        &["watch", "--count", "1"],
        &["bench", "--time", "10ms"],
    ] {
        let mut all = vec!["--json"];
        all.extend(command);
        let printed = place.run(&all).exits(0);
        assert_eq!(printed.out.matches('\n').count(), 1, "{command:?}");
        members(&printed.json(), &mut found);
    }
    let error = place.run(&["--json", "show", "x"]).exits(2).err;
    members(&serde_json::from_str(&error).unwrap(), &mut found);
    let none = place.run(&["--json", "show", &bob]).exits(1);
    assert_eq!(none.json(), Value::Null);
    let document = include_str!("../../docs/cli-json.md");
    let is_described = |name: &String| {
        document.contains(&format!("`{name}`")) || document.contains(&format!("\"{name}\""))
    };
    let missing: Vec<_> = found.iter().filter(|name| !is_described(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(found.len() > 50, "{}", found.len());
}

#[test]
fn the_figures_are_followed_in_the_file_and_in_the_application() {
    let (place, _) = Place::with(&["ann"]);
    let lines = |out: String| -> Vec<Value> {
        let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    };
    let watch = &["watch", "--json", "--count", "2", "--interval", "1ms"];
    let ours = lines(place.run(watch).exits(0).out);
    let application = Application::with_all(&place);
    let theirs = run(at(&place, &application.address, Some(TOKEN), watch)).exits(0);
    let theirs = lines(theirs.out);
    assert_eq!((ours.len(), theirs.len()), (2, 2));
    for figures in ours.iter().chain(&theirs) {
        assert!(figures["file_bytes"].as_u64().unwrap() > 0, "{figures}");
    }
    assert!(ours[0]["changed"].is_string() && theirs[0]["changed"].is_null());
    for name in ["commits", "conflicts", "reruns", "bytes_written", "syncs"] {
        assert!(
            theirs[0][name].is_u64() && ours[0].get(name).is_none(),
            "{name}"
        );
    }
}

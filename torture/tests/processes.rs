//! The short forms of the tests with real processes. `--rounds` of the program makes them longer.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

/// Runs the program; gives its last line. It judges by itself, by its exit code.
fn torture(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cloakroom-torture"))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let noted = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}{noted}");
    println!("{said}{noted}");
    said.lines().last().unwrap().to_owned()
}

/// The number after a name.
fn figure(line: &str, name: &str) -> u64 {
    let rest = line.split(", ").find_map(|part| part.strip_prefix(name));
    rest.unwrap().trim().parse().unwrap()
}

// C2.2, C2.4, C7.3
#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let line = torture(&["kill", "--rounds", "15"]);
    assert_eq!(figure(&line, "rounds"), 15);
    assert!(figure(&line, "commits") > 0, "{line}");
}

// C7.2
#[test]
fn a_store_whose_migration_was_ended_has_all_that_was_in_it() {
    let line = torture(&["making", "--migrating", "--rounds", "15"]);
    assert!(line.contains("broken 0"), "{line}");
}

// C7.3
#[test]
fn a_store_whose_making_was_ended_is_whole_or_not_there() {
    let line = torture(&["making", "--rounds", "15"]);
    assert_eq!(figure(&line, "rounds"), 15);
}

// C3.2, C3.7
#[test]
fn a_sweep_that_was_ended_takes_no_live_session_with_it() {
    let line = torture(&["sweeping", "--rounds", "4", "--sessions", "800"]);
    assert_eq!(figure(&line, "rounds"), 4);
}

// C9.1
#[test]
fn a_process_that_is_killed_in_backups_leaves_whole_ones_and_an_unharmed_store() {
    let line = torture(&["backups", "--rounds", "15"]);
    assert!(figure(&line, "backups") > 0, "{line}");
    assert!(figure(&line, "killed within one") > 0, "{line}");
}

// C7.1
#[test]
fn one_of_many_processes_has_the_store() {
    let line = torture(&["owners", "--rounds", "3"]);
    assert_eq!(figure(&line, "rounds"), 3);
}

// C2.2
#[test]
fn an_open_store_needs_no_more_descriptors() {
    let line = torture(&["descriptors", "--commits", "20"]);
    assert!(figure(&line, "openings refused") > 0, "{line}");
}

// C2.13. Where mounting is not permitted, the program says so and takes the limit on files.
#[test]
fn a_full_disk_is_survived() {
    let line = torture(&["full"]);
    assert!(figure(&line, "refused") > 0, "{line}");
}

// C2.13
#[test]
fn a_limit_on_files_is_survived() {
    let line = torture(&["full", "--by", "limit"]);
    assert!(figure(&line, "refused") > 0, "{line}");
}

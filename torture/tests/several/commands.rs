//! The short forms of the commands. `--rounds` makes them longer.

use cloakroom_postgres_server::{are_namespaces_available, is_available};
use std::process::Command;

/// Runs the program, which judges by itself; gives its last line.
fn torture(arguments: &[&str]) -> Option<String> {
    if !is_available() {
        return None;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_cloakroom-torture"))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let noted = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}{noted}");
    println!("{said}{noted}");
    said.lines().last().map(str::to_owned)
}

// C2.2, C2.4, C10.3
#[test]
fn killed_processes_lose_nothing_and_disturb_nobody() {
    if let Some(line) = torture(&["several", "--rounds", "3"]) {
        assert!(line.starts_with("rounds 3, "), "{line}");
        assert!(!line.contains("commits 0,"), "{line}");
    }
}

// C10.2
#[test]
fn a_promoted_standby_has_all_that_was_acknowledged() {
    if let Some(line) = torture(&["failover", "--rounds", "2", "--seconds", "1"]) {
        assert!(line.contains("lost 0, broken 0"), "{line}");
    }
}

// The control: where the standby need not have what was acknowledged, the same test finds it lost.
#[test]
fn a_stalled_standby_has_not() {
    torture(&[
        "failover",
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--asynchronous",
    ]);
}

// C10.2
#[test]
fn packets_that_are_lost_or_reset_lose_no_commit() {
    if !are_namespaces_available() {
        return;
    }
    if let Some(line) = torture(&["network", "--rounds", "1"]) {
        assert_eq!(line, "lost 0, faults 0");
    }
}

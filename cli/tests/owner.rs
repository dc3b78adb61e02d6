//! Whose the files are that a command makes beside the store of another user. Only root can give files away.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use support::{Place, Run};

const OWNER: u32 = 54_321;
const GUEST: u32 = 54_322;

/// A store of another user. `None` if this user cannot give it away.
fn of_another() -> Option<Place> {
    let (place, _) = Place::with(&["ann"]);
    if chown(&place.path, Some(OWNER), Some(OWNER)).is_err() {
        eprintln!("SKIPPED: only root can give a file to another user");
        return None;
    }
    Some(place)
}

fn owners(place: &Place) -> Vec<(String, u32)> {
    let names = place.names().into_iter();
    names
        .map(|name| (name.clone(), fs::metadata(place.file(&name)).unwrap().uid()))
        .collect()
}

// C7.1: files of root's beside a store would keep its application from opening it.
#[test]
fn files_that_root_makes_beside_a_store_belong_to_its_user() {
    let Some(place) = of_another() else { return };
    for command in [
        &["list"][..],
        &["stats"],
        &["check"],
        &["sweep"],
        &["compact"],
    ] {
        place.run(command).exits(0);
        assert_eq!(
            owners(&place),
            [("sessions.redb".to_owned(), OWNER)],
            "{command:?}"
        );
    }
    // A kill leaves the journals.
    let mut serving = place.command(&["--json", "admin", "--listen", "127.0.0.1:0"]);
    let serving = serving.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut serving = serving.spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(serving.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    serving.kill().unwrap();
    serving.wait().unwrap();
    let left = owners(&place);
    assert!(
        left.len() > 1 && left.iter().all(|(_, owner)| *owner == OWNER),
        "{left:?}"
    );
}

#[test]
fn a_salvaged_store_belongs_to_the_user_of_the_damaged_one() {
    let Some(place) = of_another() else { return };
    place.run(&["salvage", "--to", "new.redb"]).exits(0);
    assert_eq!(owners(&place)[0], ("new.redb".to_owned(), OWNER));
}

#[test]
fn a_user_who_cannot_give_files_away_is_refused_and_told_what_to_do() {
    let Some(place) = of_another() else { return };
    let for_all = |mode| Permissions::from_mode(mode);
    fs::set_permissions(place.folder(), for_all(0o777)).unwrap();
    fs::set_permissions(&place.path, for_all(0o666)).unwrap();
    let program = place.file("program");
    fs::copy(env!("CARGO_BIN_EXE_cloakroom"), &program).unwrap();
    fs::set_permissions(&program, for_all(0o755)).unwrap();
    let before = fs::read(&place.path).unwrap();
    let as_guest = |more: &[&str]| {
        let mut command = std::process::Command::new(&program);
        command
            .arg("--store")
            .arg(&place.path)
            .args(more)
            .uid(GUEST)
            .gid(GUEST);
        Run::of(&command.current_dir(place.folder()).output().unwrap())
    };
    for command in [
        &["stats"][..],
        &["list", "--json"],
        &["compact"],
        &["migrate", "--yes"],
        &["salvage", "--to", "new.redb"],
    ] {
        let refused = as_guest(command);
        refused.fails(
            3,
            "belongs to the user with the number 54321",
            "sudo -u '#54321'",
        );
    }
    assert!(fs::read(&place.path).unwrap() == before);
    assert_eq!(place.names(), ["program", "sessions.redb"]);
    as_guest(&["list", "--any-user"]).exits(0);
}

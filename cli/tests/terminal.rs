//! The program as a person drives it in a terminal: prompts, progress, colours and Ctrl-C.
#![cfg(unix)]
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

use application::{Application, TOKEN, at};
use cloakroom::Clock;
use expectrl::process::unix::WaitStatus;
use expectrl::{ControlCode, Eof, Expect as _, session::OsSession as Terminal};
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use support::{Place, session};

/// Longer than any command of a test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn begin(mut command: Command) -> Terminal {
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    let mut terminal = Terminal::spawn(command).unwrap();
    terminal.set_expect_timeout(Some(PATIENCE));
    terminal
}

/// The rest of the output, and the exit code.
fn finish(mut terminal: Terminal) -> (String, i32) {
    let rest = terminal.expect(Eof).unwrap();
    let text = String::from_utf8_lossy(rest.as_bytes()).into_owned();
    match terminal.get_process().wait().unwrap() {
        WaitStatus::Exited(_, code) => (text, code),
        other => panic!("{other:?}: {text}"),
    }
}

fn count(place: &Place) -> usize {
    let list = place.run(&["list", "--json"]).json();
    list["sessions"].as_array().unwrap().len()
}

#[test]
fn a_prompt_goes_on_with_yes_alone() {
    let (place, _) = Place::with(&["ann", "bob"]);
    for (answer, code, left) in [("", 4, 2), ("n", 4, 2), ("yess", 4, 2), ("Yes", 0, 0)] {
        let mut terminal = begin(place.command(&["end", "--all"]));
        terminal.expect("End all sessions of").unwrap();
        terminal.expect("[y/N] ").unwrap();
        terminal.send_line(answer).unwrap();
        let (text, found) = finish(terminal);
        assert_eq!((found, count(&place)), (code, left), "{answer}: {text}");
        let says = if code == 0 {
            "2 sessions ended"
        } else {
            "nothing was changed"
        };
        assert!(text.contains(says), "{answer}: {text}");
    }
}

// C9.4
#[test]
fn ctrl_c_at_a_prompt_changes_nothing() {
    let (place, _) = Place::with(&["ann"]);
    let mut terminal = begin(place.command(&["end", "--owner", "ann"]));
    terminal.expect("End the session of ann? [y/N] ").unwrap();
    terminal.send(ControlCode::EndOfText).unwrap();
    assert_eq!(finish(terminal).1, 4);
    assert_eq!(count(&place), 1);
}

// C9.4
#[test]
fn ctrl_c_ends_a_measurement_and_leaves_nothing_of_it() {
    let place = Place::empty();
    let mut terminal = begin(place.command(&["bench", "--time", "10min"]));
    terminal.expect("durable commits").unwrap();
    terminal.send(ControlCode::EndOfText).unwrap();
    let (text, code) = finish(terminal);
    assert_eq!(code, 4, "{text}");
    assert!(
        text.contains("broken off") && text.contains("Nothing is left of it"),
        "{text}"
    );
    assert!(place.names().is_empty(), "{:?}", place.names());
}

// C9.4
#[test]
fn ctrl_c_during_an_import_leaves_whole_batches_and_tells_how_to_go_on() {
    let (place, _) = Place::with(&[]);
    let lines = {
        let (from, _) = Place::with(&[]);
        from.edit(|store| {
            for n in 0..600 {
                session(store, |session| session.pkg("p").insert("n", n));
            }
        });
        from.run(&["export"]).out
    };
    // The rest of the lines never comes: the command waits for it in the middle.
    let all: Vec<_> = lines.split_inclusive('\n').collect();
    let fifo = place.file("lines");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let mut terminal = begin(place.command(&["import", "lines"]));
    let mut writer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    std::io::Write::write_all(&mut writer, all[..400].concat().as_bytes()).unwrap();
    terminal.expect("sessions imported 256").unwrap();
    terminal.send(ControlCode::EndOfText).unwrap();
    let (text, code) = finish(terminal);
    drop(writer);
    assert_eq!(code, 4, "{text}");
    let after = text.split("--after-line ").nth(1).unwrap();
    let after: String = after.chars().take_while(char::is_ascii_digit).collect();
    let there = place.run(&["stats", "--json"]).json()["containers"][0]["sessions"].clone();
    // The header and the settings are two lines.
    assert_eq!(there.as_u64().unwrap(), after.parse::<u64>().unwrap() - 2);
    assert_eq!(there, 256);
    let rest = place
        .run_with(&["import", "-", "--after-line", &after], &lines)
        .exits(0);
    assert_eq!(
        place.run(&["stats", "--json"]).json()["containers"][0]["sessions"],
        600,
        "{rest:?}"
    );
}

#[test]
fn colours_are_shown_in_a_terminal_unless_they_are_not_wanted() {
    let (place, _) = Place::with(&["ann"]);
    let (text, code) = finish(begin(place.command(&["list"])));
    assert!(code == 0 && text.contains("\u{1b}[1mKEY"), "{text:?}");
    let mut command = place.command(&["list"]);
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    let mut terminal = Terminal::spawn(command).unwrap();
    terminal.set_expect_timeout(Some(PATIENCE));
    let (text, code) = finish(terminal);
    assert!(
        code == 0 && text.contains("KEY") && !text.contains("\u{1b}[1m"),
        "{text:?}"
    );
}

#[test]
fn progress_is_drawn_and_taken_away() {
    let (place, _) = Place::with(&["ann"]);
    let mut terminal = begin(place.command(&["check"]));
    terminal.expect("rows read").unwrap();
    let (text, code) = finish(terminal);
    assert!(code == 0 && text.contains("no damage"), "{text:?}");
}

/// A store with so many sessions, whose timeout passed long ago. The tests' own programs are slow enough to be
/// interrupted in the middle.
fn large() -> Place {
    let place = Place::empty();
    let clock = Clock::manual("2020-01-01T00:00:00Z".parse().unwrap());
    place.edit_at(clock, |store| {
        for _ in 0..SESSIONS / 1000 {
            let txn = store.begin().unwrap();
            for _ in 0..1000 {
                let session = txn.session(&store.client_ids().issue()).unwrap();
                session.pkg("p").insert("n", 1).unwrap();
            }
            txn.commit().unwrap();
        }
    });
    place
}

const SESSIONS: u64 = 20_000;

// C9.4
#[test]
fn ctrl_c_ends_a_check_and_a_salvage_and_changes_nothing() {
    let place = large();
    for (arguments, says) in [
        (&["check"][..], "not everything was read"),
        (
            &["salvage", "--to", "new.redb"],
            "the caller broke the operation off",
        ),
    ] {
        let mut terminal = begin(place.command(arguments));
        terminal.expect("rows read").unwrap();
        terminal.send(ControlCode::EndOfText).unwrap();
        let (text, code) = finish(terminal);
        assert_eq!(code, 4, "{text}");
        assert!(text.contains(says), "{text}");
        assert!(!text.contains("no damage\r\n"), "{text}");
        assert_eq!(place.names(), ["sessions.redb"]);
    }
    let check = place.run(&["check", "--json"]).exits(0).json();
    assert_eq!(check["sessions"], SESSIONS);
    assert_eq!(check["complete"], true);
}

// C9.4
#[test]
fn ctrl_c_ends_a_sweep_and_what_was_removed_stays_removed() {
    let place = large();
    let mut terminal = begin(place.command(&["sweep"]));
    terminal.expect("sessions examined").unwrap();
    terminal.send(ControlCode::EndOfText).unwrap();
    let (text, code) = finish(terminal);
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("the sweep was broken off"), "{text}");
    let removed = text.split("broken off; ").nth(1).unwrap();
    let removed: u64 = removed.split(' ').next().unwrap().parse().unwrap();
    assert!(removed < SESSIONS);
    let rest = place.run(&["sweep", "--json"]).exits(0).json();
    assert_eq!(removed + rest["removed"].as_u64().unwrap(), SESSIONS);
}

// C9.4
#[test]
fn ctrl_c_ends_an_import_to_which_nothing_comes() {
    let (place, _) = Place::with(&["ann"]);
    let (served, _) = Place::with(&["bob"]);
    let application = Application::with_all(&served);
    let there = at(&place, &application.address, Some(TOKEN), &["import", "-"]);
    for (command, says) in [
        (place.command(&["import", "-"]), "sessions imported"),
        (there, "bytes sent"),
    ] {
        let mut terminal = begin(command);
        terminal.expect(says).unwrap();
        terminal.send(ControlCode::EndOfText).unwrap();
        let (text, code) = finish(terminal);
        assert_eq!(code, 4, "{text}");
        assert!(text.contains("Go on with --after-line 0"), "{text}");
    }
}

/// Its exit code.
fn ends(mut child: Child) -> Option<i32> {
    let (to, ended) = channel();
    thread::spawn(move || to.send(child.wait().unwrap().code()));
    ended.recv_timeout(PATIENCE).expect("the command goes on")
}

// C9.4
#[test]
fn ctrl_c_ends_a_backup_and_an_export_that_nobody_reads() {
    let place = Place::empty();
    place.edit(|store| {
        for _ in 0..8 {
            session(store, |session| {
                session.pkg("p").insert("blob", "x".repeat(500_000))
            });
        }
    });
    let copy = Place::empty();
    std::fs::copy(&place.path, &copy.path).unwrap();
    let application = Application::with_all(&place);
    let there = |arguments: &[&str]| at(&place, &application.address, Some(TOKEN), arguments);
    for command in [
        copy.command(&["export"]),
        copy.command(&["backup", "-"]),
        there(&["export"]),
        there(&["backup", "-"]),
    ] {
        let said = format!("{command:?}");
        let mut command = command;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        // More than a pipe holds follows.
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0])
            .unwrap_or_else(|e| panic!("{said}: {e}"));
        let process = child.id().to_string();
        let told = Command::new("kill")
            .args(["-INT", &process])
            .status()
            .unwrap();
        assert!(told.success());
        assert_eq!(ends(child), Some(4), "{said}");
        drop(out);
    }
    assert_eq!(copy.names(), ["sessions.redb"]);
}

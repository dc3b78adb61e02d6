//! Runs the program on stores that the tests make.

#![allow(dead_code, reason = "each test uses a part")]

use cloakroom::{ClientId, Clock, Result, Session, Store};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

pub(crate) struct Place {
    folder: TempDir,
    pub(crate) path: PathBuf,
}

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            code: output.status.code().expect("a signal ended it"),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Asserts the exit code, and returns what was printed.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        self
    }

    /// Asserts the exit code, and that the error says this and what to do.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, says: &str, advice: &str) {
        let run = self.exits(code);
        assert!(
            run.err.contains(says) && run.err.contains(advice),
            "{run:?}"
        );
    }
}

impl Place {
    /// An empty folder.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.redb");
        Self { folder, path }
    }

    /// A store with a session of each of these owners.
    pub(crate) fn with(owners: &[&str]) -> (Self, Vec<ClientId>) {
        let place = Self::empty();
        let mut ids = Vec::new();
        place.edit(|store| {
            for owner in owners {
                ids.push(session(store, |session| {
                    session.set_owner(Some(owner))?;
                    session.pkg("cart").insert("tea", "green")
                }));
            }
        });
        (place, ids)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens the store as an application does, and closes it.
    pub(crate) fn edit(&self, edit: impl FnOnce(&Store)) {
        self.edit_at(Clock::system(), edit);
    }

    pub(crate) fn edit_at(&self, clock: Clock, edit: impl FnOnce(&Store)) {
        let builder = Store::builder().implicit_sweeps(false).clock(clock);
        let store = builder.open(&self.path).unwrap();
        edit(&store);
        store.close().unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.beside("sessions.redb", arguments)
    }

    /// On another store in the folder.
    pub(crate) fn beside(&self, store: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
        let command_ref = command.arg("--store").arg(self.file(store)).args(arguments);
        command_ref
            .current_dir(self.folder())
            .env_remove("CLOAKROOM_STORE");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let mut command = self.command(arguments);
        Run::of(&command.stdin(Stdio::null()).output().unwrap())
    }

    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Run {
        let mut command = self.command(arguments);
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        Run::of(&child.wait_with_output().unwrap())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

/// A new session.
pub(crate) fn session(store: &Store, edit: impl Fn(&Session) -> Result<()>) -> ClientId {
    let id = store.client_ids().issue();
    store.transact(|txn| edit(&txn.session(&id)?)).unwrap();
    id
}

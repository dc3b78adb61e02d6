//! A database of PostgreSQL, and runs of the program on it that end in any case.

#![allow(dead_code, reason = "each test uses a part")]

use crate::support::Run;
use cloakroom::{Store, StoreBuilder};
use cloakroom_postgres_server::{Database, database};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any run takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Served {
    database: Database,
}

impl Served {
    /// `None` without PostgreSQL, which is said.
    pub(crate) fn new() -> Option<Self> {
        Some(Self {
            database: database()?,
        })
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// The address of the store in this schema, with the password.
    pub(crate) fn url(&self, schema: &str) -> String {
        format!("{}?schema={schema}", self.database.url())
    }

    /// The password of the server.
    pub(crate) fn password(&self) -> String {
        let url = self.database.url();
        let (user, _) = url.rsplit_once('@').unwrap();
        user.rsplit_once(':').unwrap().1.to_owned()
    }

    /// Opens the store as an application does.
    pub(crate) fn open(&self, builder: StoreBuilder, schema: &str) -> cloakroom::Result<Store> {
        let settings = cloakroom::PostgresSettings::new().schema(schema);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(builder.postgres(settings).connect(&self.database.url()))
    }
}

pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("CLOAKROOM_STORE")
        .env_remove("PGPASSWORD")
        .env("PGPASSFILE", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the program. It is killed, and the test fails, if it does not end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Run {
    ended(command(folder, arguments))
}

pub(crate) fn ended(mut command: Command) -> Run {
    let child = command.spawn().unwrap();
    Run::of(&output(child))
}

/// What a child gave that has ended.
pub(crate) fn output(mut child: Child) -> Output {
    let read = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).map(|_| bytes)
        })
    };
    let out = read(Box::new(child.stdout.take().unwrap()));
    let err = read(Box::new(child.stderr.take().unwrap()));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the program does not end");
        }
        thread::sleep(Duration::from_millis(5));
    };
    Output {
        status,
        stdout: out.join().unwrap().unwrap(),
        stderr: err.join().unwrap().unwrap(),
    }
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

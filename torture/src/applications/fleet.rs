//! The processes: started, listened to, ended.

use super::account::{Account, Totals};
use crate::load::{found_common, is_common_whole};
use crate::process::Process;
use cloakroom::{ClientId, Store};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Processes that commit to one server.
pub(crate) struct Applications {
    url: String,
    common: ClientId,
    running: Vec<Running>,
}

struct Running {
    process: Process,
    acknowledged: u64,
}

impl Applications {
    /// Starts so many, of so many threads each, and waits until all commit.
    pub(crate) fn start(url: &str, processes: usize, writers: usize) -> Self {
        Self::start_by(url, url, processes, writers, || {
            Command::new(std::env::current_exe().unwrap())
        })
    }

    /// With an own command for this program, and another address of the same server there.
    pub(crate) fn start_by(
        url: &str,
        theirs: &str,
        processes: usize,
        writers: usize,
        program: impl Fn() -> Command,
    ) -> Self {
        let common = {
            let store = pollster::block_on(Store::connect(url)).unwrap();
            found_common(&store).unwrap()
        };
        let running = (0..processes).map(|_| {
            let mut command = program();
            command.args(["application", "--store", theirs]);
            // An id may begin with a hyphen.
            command.arg(format!("--common={}", common.as_str()));
            command.args(["--writers", &writers.to_string()]);
            Running {
                process: Process::of(&mut command),
                acknowledged: 0,
            }
        });
        let running: Vec<_> = running.collect();
        for one in &running {
            assert_eq!(one.process.hear().as_deref(), Some("ready"));
        }
        Self {
            url: url.to_owned(),
            common,
            running,
        }
    }

    /// Waits until each process had so many more commits acknowledged. False if that takes longer than the time.
    pub(crate) fn go_on(&mut self, commits: u64, within: Duration) -> bool {
        let since = Instant::now();
        self.running.iter_mut().for_each(Running::listen);
        let wanted: Vec<_> = self
            .running
            .iter()
            .map(|one| one.acknowledged + commits)
            .collect();
        loop {
            self.running.iter_mut().for_each(Running::listen);
            let mut both = self.running.iter().zip(&wanted);
            if both.all(|(one, wanted)| one.acknowledged >= *wanted) {
                return true;
            }
            if since.elapsed() > within {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends all, each of which looks at what is there of its commits.
    pub(crate) fn end(self) -> Totals {
        let mut processes: Vec<_> = self.running.into_iter().map(|one| one.process).collect();
        for process in &mut processes {
            process.tell("");
        }
        let accounts = processes.into_iter().map(|process| {
            let (status, lines) = process.end();
            let last = lines.last().cloned().unwrap_or_default();
            assert!(status.success(), "a process of the application: {last}");
            serde_json::from_str::<Account>(&last).unwrap()
        });
        let mut totals = Totals::of(accounts.collect());
        let store = pollster::block_on(Store::connect(&self.url)).unwrap();
        let common = store.client_ids().verify(self.common.as_str()).unwrap();
        if !is_common_whole(&store, &common).unwrap() {
            totals.broken.push("a commit took place in part".to_owned());
        }
        totals
    }
}

impl Running {
    /// Takes note of what it said.
    fn listen(&mut self) {
        while let Some(line) = self.process.heard() {
            let count = line.strip_prefix("acknowledged ");
            let count = count.unwrap_or_else(|| panic!("a process of the application: {line}"));
            self.acknowledged = count.parse().unwrap();
        }
    }
}

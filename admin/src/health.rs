//! The state of a store in words: what is wrong, and what to do.

use crate::admin::App;
use crate::census::Known;
use crate::forms::{counted, number};
use crate::sampler::{Rates, Sample};
use cloakroom::ErrorKind;
use serde::Serialize;
use std::time::Duration;

/// How old a snapshot may become before it is reported.
const OLD_SNAPSHOT: Duration = Duration::from_secs(10);
/// How long a backup or another long read may take before it is reported.
const OLD_READ: Duration = Duration::from_secs(3600);
/// How long commits may take.
const SLOW_COMMIT: f64 = 1.0;
/// How many hooks and events may wait.
const MANY_WAITING: usize = 1000;
/// How many expired sessions may wait for a sweep, beside as many live ones.
const MANY_EXPIRED: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Worth knowing.
    Note,
    /// Something is lost or slow.
    Warning,
    /// Visitors are affected.
    Problem,
}

/// One thing that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    pub(crate) problem: String,
    pub(crate) advice: &'static str,
}

/// What the statistics, the last count and check, and the audit log say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Signs {
    is_closed: bool,
    is_read_only: bool,
    is_on_a_server: bool,
    audit_log_fails: bool,
    check_found_damage: bool,
    unreadable_parts: usize,
    unreadable_sessions: u64,
    expired_sessions: u64,
    live_sessions: u64,
    count_failed: bool,
    commits_held_back: usize,
    lost_touches: u64,
    oldest_snapshot: Option<Duration>,
    oldest_read: Option<Duration>,
    dropped_events: u64,
    waiting_hooks: usize,
    refused_sessions: u64,
    reopened: u64,
    commits_per_second: f64,
    conflicts_per_second: f64,
    commit_p99_seconds: f64,
}

impl Signs {
    /// Of a store at a moment, with what happened in the last seconds.
    pub(crate) fn of(app: &App, sample: &Sample, rates: Option<&Rates>, census: &Known) -> Self {
        let statistics = sample.statistics();
        let counted = census.counted.as_ref();
        Self {
            is_closed: census.failure == Some(ErrorKind::Closed),
            is_read_only: statistics.is_read_only(),
            is_on_a_server: statistics.is_on_a_server(),
            audit_log_fails: app.log.is_failing(),
            check_found_damage: app.tasks.last_check_found_damage(),
            unreadable_parts: statistics.unreadable_parts(),
            unreadable_sessions: counted.map_or(0, |it| it.unreadable),
            expired_sessions: counted.map_or(0, |it| it.expired),
            live_sessions: counted.map_or(0, |it| it.live),
            count_failed: census.failure.is_some(),
            commits_held_back: statistics.commits_held_back(),
            lost_touches: statistics.lost_touches(),
            oldest_snapshot: statistics.oldest_held_snapshot(),
            oldest_read: statistics.oldest_maintenance_snapshot(),
            dropped_events: statistics.dropped_events(),
            waiting_hooks: statistics.waiting_hooks() + statistics.waiting_events(),
            refused_sessions: statistics.refused_sessions(),
            reopened: statistics.reopened(),
            commits_per_second: rates.map_or(0.0, |it| it.commits_per_second),
            conflicts_per_second: rates.map_or(0.0, |it| it.conflicts_per_second),
            commit_p99_seconds: rates.and_then(|it| it.commit_p99_seconds).unwrap_or(0.0),
        }
    }

    /// What is wrong and what to do, the worst first. Nothing, if all is well.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        self.of_files(&mut found);
        self.of_sessions(&mut found);
        self.of_load(&mut found);
        self.of_the_past(&mut found);
        found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        found
    }

    fn of_files(&self, found: &mut Vec<Finding>) {
        if self.is_closed {
            found.push(Finding {
                level: Level::Problem,
                problem: "The application has closed its store.".to_owned(),
                advice: "It does so when it ends. Start it again, or wait until it has started.",
            });
        } else if self.is_read_only && self.is_on_a_server {
            found.push(Finding {
                level: Level::Problem,
                problem: "The database server cannot be reached. Requests that need it fail."
                    .to_owned(),
                advice: "Look at the server and the network. The store goes on by itself.",
            });
        } else if self.is_read_only {
            found.push(Finding {
                level: Level::Problem,
                problem: "The store cannot write to its files. Commits are refused.".to_owned(),
                advice: "Free space on the disk and look into the log. The store goes on by itself.",
            });
        }
        if self.audit_log_fails {
            found.push(Finding {
                level: Level::Problem,
                problem: "The audit log cannot be written to its file.".to_owned(),
                advice: "Free space on the disk, or look at the file's rights. Nothing can be changed here meanwhile, and \
                         values of sessions are not shown.",
            });
        }
        if self.unreadable_parts > 0 {
            let parts = counted(self.unreadable_parts as u64, "part");
            found.push(Finding {
                level: Level::Problem,
                problem: format!("The disk cannot read {parts} of the file."),
                advice: "Run a check: it names the sessions. Move the store to another disk soon.",
            });
        }
        if self.check_found_damage {
            found.push(Finding {
                level: Level::Problem,
                problem: "The last check found damage.".to_owned(),
                advice: "Its page under Maintenance names the sessions. End those, or copy what can be read into a new \
                         store with `cloakroom salvage`; then check again.",
            });
        }
        if let Some(age) = self.oldest_read.filter(|age| *age >= OLD_READ) {
            let hours = counted(age.as_secs() / 3600, "hour");
            found.push(Finding {
                level: Level::Warning,
                problem: format!("A backup or another long read has gone on for {hours}."),
                advice: "The file grows by what is written meanwhile. Maintenance shows a backup that was begun here, and \
                         stops it.",
            });
        }
    }

    fn of_sessions(&self, found: &mut Vec<Finding>) {
        if self.unreadable_sessions > 0 {
            let sessions = counted(self.unreadable_sessions, "session");
            found.push(Finding {
                level: Level::Problem,
                problem: format!("Cannot be read, by the last count: {sessions}."),
                advice: "Run a check: it names what is damaged.",
            });
        }
        if self.count_failed && !self.is_closed {
            found.push(Finding {
                level: Level::Warning,
                problem: "The sessions could not be counted.".to_owned(),
                advice: "The log has the reason. They are counted again by themselves.",
            });
        }
        if self.expired_sessions >= MANY_EXPIRED && self.expired_sessions > self.live_sessions {
            let sessions = counted(self.expired_sessions, "expired session");
            found.push(Finding {
                level: Level::Note,
                problem: format!("Not removed yet, by the last count: {sessions}."),
                advice: "They take room and are not served. Sweep under Maintenance, or let their containers sweep by \
                         themselves.",
            });
        }
        if self.refused_sessions > 0 {
            let sessions = counted(self.refused_sessions, "new session");
            found.push(Finding {
                level: Level::Note,
                problem: format!("Refused by the limit since the store was opened: {sessions}."),
                advice: "If no attack explains them, raise the limit.",
            });
        }
    }

    fn of_load(&self, found: &mut Vec<Finding>) {
        if self.commits_held_back > 0 {
            let commits = counted(self.commits_held_back as u64, "commit");
            found.push(Finding {
                level: Level::Warning,
                problem: format!("The queue is full: {commits} outside it."),
                advice: "The disk, or the server, does not keep pace. If this lasts, use a faster one or write less.",
            });
        }
        if self.commit_p99_seconds >= SLOW_COMMIT {
            found.push(Finding {
                level: Level::Warning,
                problem: format!(
                    "Commits are slow: one of 100 takes {:.1} seconds or longer.",
                    self.commit_p99_seconds
                ),
                advice: "Requests wait as long. Look for another program that burdens the disk, or use a faster one.",
            });
        }
        let conflicts = self.conflicts_per_second;
        if conflicts >= 1.0 && conflicts > self.commits_per_second / 2.0 {
            found.push(Finding {
                level: Level::Warning,
                problem: format!(
                    "Many commits conflict: {} a second.",
                    number(conflicts.round() as u64)
                ),
                advice: "Requests of one visitor write the same keys at the same time, and run again. Let fewer of them \
                         write, or use values that merge.",
            });
        }
        if let Some(age) = self.oldest_snapshot.filter(|age| *age >= OLD_SNAPSHOT) {
            found.push(Finding {
                level: Level::Warning,
                problem: format!("A transaction has been open for {} seconds.", age.as_secs()),
                advice: "The file may grow meanwhile. Look for a handler that waits with its session open.",
            });
        }
        if self.waiting_hooks >= MANY_WAITING {
            let hooks = number(self.waiting_hooks as u64);
            found.push(Finding {
                level: Level::Warning,
                problem: format!("Hooks and events that wait to be run: {hooks}."),
                advice: "The hooks are too slow: let them hand their work on.",
            });
        }
    }

    fn of_the_past(&self, found: &mut Vec<Finding>) {
        if self.lost_touches > 0 {
            let touches = counted(self.lost_touches, "access time");
            found.push(Finding {
                level: Level::Warning,
                problem: format!("Not recorded since the store was opened: {touches}."),
                advice: "Sessions may end early. The disk, or the server, did not keep pace at some time.",
            });
        }
        if self.dropped_events > 0 {
            let events = counted(self.dropped_events, "event");
            found.push(Finding {
                level: Level::Warning,
                problem: format!("Dropped before the application's hooks saw them: {events}."),
                advice: "The hooks are too slow: let them hand their work on.",
            });
        }
        if self.reopened > 0 {
            let times = counted(self.reopened, "time");
            found.push(Finding {
                level: Level::Note,
                problem: format!("The store reopened its files after storage failed: {times}."),
                advice: "Nothing that was acknowledged is lost. The log has the reasons.",
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with one trouble, and what is said of it.
    fn troubles() -> Vec<(Signs, Level, &'static str, &'static str)> {
        use Level::{Note, Problem, Warning};
        macro_rules! signs {
            ($($sign:ident: $value:expr),*) => { Signs { $($sign: $value,)* ..Signs::default() } };
        }
        let hour = Some(Duration::from_secs(7200));
        vec![
            (
                signs!(is_read_only: true),
                Problem,
                "cannot write",
                "Free space",
            ),
            (
                signs!(is_read_only: true, is_on_a_server: true),
                Problem,
                "cannot be reached",
                "the network",
            ),
            (
                signs!(audit_log_fails: true),
                Problem,
                "audit log",
                "Free space",
            ),
            (
                signs!(check_found_damage: true),
                Problem,
                "found damage",
                "salvage",
            ),
            (
                signs!(unreadable_parts: 2),
                Problem,
                "2 parts",
                "Run a check",
            ),
            (
                signs!(unreadable_sessions: 1),
                Problem,
                "1 session.",
                "Run a check",
            ),
            (signs!(oldest_read: hour), Warning, "2 hours", "stops it"),
            (
                signs!(count_failed: true),
                Warning,
                "not be counted",
                "The log",
            ),
            (
                signs!(commits_held_back: 1),
                Warning,
                "queue is full",
                "faster one",
            ),
            (
                signs!(commit_p99_seconds: 1.5),
                Warning,
                "1.5 seconds",
                "faster one",
            ),
            (
                signs!(conflicts_per_second: 7.0, commits_per_second: 10.0),
                Warning,
                "7 a second",
                "fewer of them",
            ),
            (
                signs!(oldest_snapshot: hour),
                Warning,
                "7200 seconds",
                "handler",
            ),
            (signs!(waiting_hooks: 1000), Warning, "1,000", "hooks"),
            (
                signs!(lost_touches: 1),
                Warning,
                "1 access time",
                "end early",
            ),
            (signs!(dropped_events: 2), Warning, "2 events", "hooks"),
            (
                signs!(expired_sessions: 20_000),
                Note,
                "20,000 expired",
                "Sweep",
            ),
            (
                signs!(refused_sessions: 1),
                Note,
                "1 new session",
                "the limit",
            ),
            (signs!(reopened: 3), Note, "3 times", "The log"),
        ]
    }

    #[test]
    fn each_trouble_is_told_with_what_to_do() {
        assert_eq!(Signs::default().findings(), []);
        for (signs, level, problem, advice) in troubles() {
            let found = signs.findings();
            let [found] = &*found else {
                panic!("{signs:?}: {found:?}");
            };
            assert_eq!(found.level, level, "{found:?}");
            assert!(found.problem.contains(problem), "{found:?}");
            assert!(found.advice.contains(advice), "{found:?}");
        }
    }

    #[test]
    fn what_is_usual_is_no_trouble() {
        let signs = Signs {
            expired_sessions: 20_000,
            live_sessions: 1_000_000,
            oldest_snapshot: Some(Duration::from_secs(1)),
            oldest_read: Some(Duration::from_secs(600)),
            waiting_hooks: 10,
            commits_per_second: 100.0,
            conflicts_per_second: 10.0,
            commit_p99_seconds: 0.02,
            ..Signs::default()
        };
        assert_eq!(signs.findings(), []);
    }

    #[test]
    fn the_worst_comes_first() {
        let signs = Signs {
            is_read_only: true,
            lost_touches: 1,
            reopened: 1,
            ..Signs::default()
        };
        let levels: Vec<_> = signs.findings().iter().map(|it| it.level).collect();
        assert_eq!(levels, [Level::Problem, Level::Warning, Level::Note]);
    }
}

//! The state of a store in words: what is wrong, and what to do.

use crate::audit::AuditLog;
use crate::census::Known;
use crate::forms::counted;
use cloakroom::Statistics;
use serde::Serialize;
use std::time::Duration;

/// How old a snapshot may become before it is reported.
const OLD_SNAPSHOT: Duration = Duration::from_secs(10);

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

/// What the statistics, the last count and the audit log say, the worst first. Nothing, if all is well.
pub(crate) fn findings(statistics: &Statistics, census: &Known, log: &AuditLog) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut note = |level, problem: String, advice| {
        found.push(Finding {
            level,
            problem,
            advice,
        });
    };
    if statistics.is_read_only() {
        note(
            Level::Problem,
            "The store cannot write to its files. Commits are refused.".to_owned(),
            "Free space on the disk and look into the log. The store goes on by itself.",
        );
    }
    if log.is_failing() {
        note(
            Level::Problem,
            "The audit log cannot be written to its file.".to_owned(),
            "Free space on the disk, or look at the file's rights. Values of sessions are not shown meanwhile.",
        );
    }
    if statistics.unreadable_parts() > 0 {
        let parts = counted(statistics.unreadable_parts() as u64, "part");
        note(
            Level::Problem,
            format!("The disk cannot read {parts} of the file."),
            "Run a check: it names the sessions. Move the store to another disk soon.",
        );
    }
    if let Some(sessions) = census.unreadable() {
        note(
            Level::Problem,
            format!("Cannot be read, by the last count: {sessions}."),
            "Run a check: it names what is damaged.",
        );
    }
    if statistics.commits_held_back() > 0 {
        let commits = counted(statistics.commits_held_back() as u64, "commit");
        note(
            Level::Warning,
            format!("The queue is full: {commits} outside it."),
            "The disk does not keep pace. If this lasts, use a faster disk or write less.",
        );
    }
    if statistics.lost_touches() > 0 {
        let touches = counted(statistics.lost_touches(), "access time");
        note(
            Level::Warning,
            format!("Not recorded since the store was opened: {touches}."),
            "Sessions may end early. The disk did not keep pace at some time.",
        );
    }
    let oldest = statistics.oldest_held_snapshot();
    if let Some(age) = oldest.filter(|age| *age >= OLD_SNAPSHOT) {
        note(
            Level::Warning,
            format!("A transaction has been open for {} seconds.", age.as_secs()),
            "The file may grow meanwhile. Look for a handler that waits with its session open.",
        );
    }
    if statistics.dropped_events() > 0 {
        let events = counted(statistics.dropped_events(), "event");
        note(
            Level::Warning,
            format!("Dropped before the application's hooks saw them: {events}."),
            "The hooks are too slow: let them hand their work on.",
        );
    }
    if statistics.refused_sessions() > 0 {
        let sessions = counted(statistics.refused_sessions(), "new session");
        note(
            Level::Note,
            format!("Refused by the limit since the store was opened: {sessions}."),
            "If no attack explains them, raise the limit.",
        );
    }
    if statistics.reopened() > 0 {
        let times = counted(statistics.reopened(), "time");
        note(
            Level::Note,
            format!("The store reopened its files after storage failed: {times}."),
            "Nothing that was acknowledged is lost. The log has the reasons.",
        );
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    found
}

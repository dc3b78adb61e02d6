//! The tasks that programs begin: to measure the sessions, and to end all of them.

use super::Task;
use crate::forms::{counted, number};
use cloakroom::{Check, ErrorKind, SessionHistogram, SessionMeasures, Store};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The figures of a container. A histogram is a list of ranges: the largest value, and how many sessions are in it.
#[derive(Serialize)]
struct Measured {
    name: String,
    sessions: u64,
    expired: u64,
    unreadable: u64,
    owned: u64,
    packages: u64,
    bytes: u64,
    ages_seconds: Vec<(u64, u64)>,
    idle_seconds: Vec<(u64, u64)>,
    sizes_bytes: Vec<(u64, u64)>,
}

impl Measured {
    fn of(name: &str, measures: &SessionMeasures) -> Self {
        let ranges = |histogram: &SessionHistogram| histogram.ranges().collect();
        Self {
            name: name.to_owned(),
            sessions: measures.live,
            expired: measures.expired,
            unreadable: measures.unreadable,
            owned: measures.owned,
            packages: measures.packages,
            bytes: measures.bytes,
            ages_seconds: ranges(&measures.age_histogram),
            idle_seconds: ranges(&measures.idle_histogram),
            sizes_bytes: ranges(&measures.bytes_histogram),
        }
    }
}

impl Task {
    pub(super) async fn measure(self: &Arc<Self>, store: &Store) -> Result<String, String> {
        let mut all = Vec::new();
        let (mut before, mut damaged) = (0, 0);
        for container in store.containers() {
            let task = self.clone();
            let measuring = container.measure_async(move |so_far| {
                let measured = before + so_far.live + so_far.expired;
                task.change(|state| {
                    state.done = (measured, None);
                    state.progress = format!("{} measured so far", counted(measured, "session"));
                });
                task.flow()
            });
            let measures = measuring.await.map_err(|error| error.to_string())?;
            before += measures.live + measures.expired;
            if !measures.is_complete || self.is_stopping.load(Ordering::Relaxed) {
                return Err(format!("stopped after {}", counted(before, "session")));
            }
            damaged += measures.unreadable;
            all.push(Measured::of(container.name(), &measures));
        }
        self.give(json!({ "containers": all }));
        let measured = format!("{} measured", counted(before, "session"));
        match damaged {
            0 => Ok(measured),
            some => Err(format!(
                "{measured}, {} damaged: a check names them",
                number(some)
            )),
        }
    }

    pub(super) async fn end_all(&self, store: &Store) -> Result<String, String> {
        let ended = store.end_all_async().await;
        let (sessions, damage) = match ended {
            Ok(sessions) => (sessions, None),
            // What is sound has ended.
            Err(error) => match (error.kind(), error.sessions_ended()) {
                (ErrorKind::Corrupt, Some(sessions)) => (sessions, Some(error.to_string())),
                _ => return Err(error.to_string()),
            },
        };
        self.give(json!({ "ended": sessions, "damage": damage }));
        match damage {
            None => Ok(format!("{} ended", counted(sessions, "session"))),
            Some(damage) => Err(format!("{} ended; {damage}", number(sessions))),
        }
    }
}

/// What a check found, for programs.
pub(super) fn check_result(check: &Check, file_bytes: u64) -> Value {
    let findings = check.findings.iter().map(|damage| {
        json!({
            "container": damage.container, "client": damage.client.map(|client| client.to_string()),
            "package": damage.package, "error": damage.error.to_string(),
        })
    });
    json!({
        "sessions": check.sessions, "packages": check.packages, "damaged_records": check.damaged,
        "damaged_pages": check.damaged_pages, "findings": findings.collect::<Vec<_>>(),
        "bytes_in_use": check.bytes_in_use, "file_bytes": file_bytes,
        "complete": check.is_complete,
    })
}

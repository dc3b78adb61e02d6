//! The metrics of the crate: their names, units and descriptions, for recorders of the crate `metrics`. The guide
//! `docs/guide/observability.md` has the same table.

use metrics::Unit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MeterKind {
    Counter,
    Gauge,
    Histogram,
}

struct Meter {
    name: &'static str,
    kind: MeterKind,
    unit: Unit,
    meaning: &'static str,
}

const fn counter(name: &'static str, meaning: &'static str) -> Meter {
    Meter {
        name,
        kind: MeterKind::Counter,
        unit: Unit::Count,
        meaning,
    }
}

const fn other(name: &'static str, kind: MeterKind, unit: Unit, meaning: &'static str) -> Meter {
    Meter {
        name,
        kind,
        unit,
        meaning,
    }
}

const METERS: &[Meter] = &[
    counter("cloakroom_commits_total", "Commits that wrote."),
    counter(
        "cloakroom_conflicts_total",
        "Commits that were refused with a conflict.",
    ),
    counter(
        "cloakroom_reruns_total",
        "Requests and transactions that ran again after a conflict, by `of`: `request` or `transact`.",
    ),
    counter(
        "cloakroom_touches_written_total",
        "Access times that were written.",
    ),
    counter(
        "cloakroom_touches_skipped_total",
        "Accesses of transactions without changes that needed no write, because the recorded one was recent.",
    ),
    counter(
        "cloakroom_swept_total",
        "Expired sessions that sweeps removed.",
    ),
    counter(
        "cloakroom_refused_ids_total",
        "Requests whose id was refused, by `reason`: `garbled`, `forged`, `expired`, `retired` or `dead`.",
    ),
    counter(
        "cloakroom_refused_container_cookies_total",
        "Cookies of containers that were not read, by `reason`: `garbled`, `forged` or `expired`.",
    ),
    counter(
        "cloakroom_csrf_refused_total",
        "Requests that `CsrfLayer` refused, by `reason`.",
    ),
    counter(
        "cloakroom_events_dropped_total",
        "Events that no hook was told of, because too many waited.",
    ),
    other(
        "cloakroom_journal_bytes",
        MeterKind::Gauge,
        Unit::Bytes,
        "Size of the journal's files.",
    ),
    other(
        "cloakroom_batch_seconds",
        MeterKind::Histogram,
        Unit::Seconds,
        "Time from the start of a batch of commits until they are durable.",
    ),
    other(
        "cloakroom_batch_commits",
        MeterKind::Histogram,
        Unit::Count,
        "Commits of a batch, which share one sync of the journal.",
    ),
    other(
        "cloakroom_checkpoint_seconds",
        MeterKind::Histogram,
        Unit::Seconds,
        "Time that a checkpoint took to write the rows of a journal file to the store's file.",
    ),
    other(
        "cloakroom_sweep_seconds",
        MeterKind::Histogram,
        Unit::Seconds,
        "Time that a sweep of one container took.",
    ),
    other(
        "cloakroom_sweep_removed",
        MeterKind::Histogram,
        Unit::Count,
        "Sessions that a sweep of one container removed.",
    ),
];

/// Describes the metrics of this crate, with their units, to the recorder that is installed.
///
/// Opening a store does this too. Call it if the recorder is installed after that.
pub fn describe_metrics() {
    for meter in METERS {
        let (name, unit, meaning) = (meter.name, meter.unit, meter.meaning);
        match meter.kind {
            MeterKind::Counter => metrics::describe_counter!(name, unit, meaning),
            MeterKind::Gauge => metrics::describe_gauge!(name, unit, meaning),
            MeterKind::Histogram => metrics::describe_histogram!(name, unit, meaning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    const GUIDE: &str = include_str!("../docs/guide/observability.md");

    /// The cells of the rows of the guide's tables whose first cell has this beginning.
    fn rows(beginning: &str) -> Vec<Vec<&'static str>> {
        let rows = GUIDE.lines().filter(|line| line.starts_with(beginning));
        let cells = |row: &'static str| row.trim_matches('|').split(" | ").map(str::trim).collect();
        rows.map(cells).collect()
    }

    fn sources() -> String {
        fn read(folder: &Path, all: &mut String) {
            for entry in folder.read_dir().unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    read(&path, all);
                } else if !path.ends_with("meters.rs") {
                    all.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        let mut all = String::new();
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        all
    }

    /// The first literals of the calls of a macro.
    fn first_literals<'a>(text: &'a str, call: &str) -> BTreeSet<&'a str> {
        let calls = text.split(call).skip(1);
        calls
            .map(|it| it.trim_start().trim_start_matches('"'))
            .map(|it| it.split('"').next().unwrap())
            .collect()
    }

    #[test]
    fn the_guide_lists_the_metrics_with_their_units_and_meanings() {
        let listed = rows("| `cloakroom_");
        let expected: Vec<Vec<String>> = METERS
            .iter()
            .map(|meter| {
                let kind = format!("{:?}", meter.kind).to_lowercase();
                let unit = format!("{:?}", meter.unit).to_lowercase();
                let name = format!("`{}`", meter.name);
                vec![name, kind, unit, meter.meaning.to_owned()]
            })
            .collect();
        assert_eq!(listed, expected);
    }

    #[test]
    fn the_metrics_that_the_code_records_are_those_that_are_described() {
        let sources = sources();
        let mut used = BTreeSet::new();
        for (kind, opening) in [
            (MeterKind::Counter, "metrics::counter!("),
            (MeterKind::Gauge, "metrics::gauge!("),
            (MeterKind::Histogram, "metrics::histogram!("),
        ] {
            let names = first_literals(&sources, opening).into_iter();
            used.extend(names.map(|name| (name, format!("{kind:?}"))));
        }
        let described: BTreeSet<_> = METERS
            .iter()
            .map(|meter| (meter.name, format!("{:?}", meter.kind)))
            .collect();
        assert_eq!(used, described);
    }

    #[test]
    fn the_guide_lists_the_spans() {
        let sources = sources();
        let used = first_literals(&sources, "_span!(");
        let listed = rows("| `cloakroom.");
        let listed: BTreeSet<_> = listed.iter().map(|row| row[0].trim_matches('`')).collect();
        assert_eq!(used, listed);
        assert_eq!(used.len(), 4);
    }
}

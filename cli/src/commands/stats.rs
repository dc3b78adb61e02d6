//! `stats`: how many sessions, how old, how large.

use crate::args::Global;
use crate::failure::{Failure, Found, Outcome};
use crate::interrupt::Interrupt;
use crate::json::MeasuresJson;
use crate::output::{Align, Table, heading, json, line};
use crate::progress::Progress;
use crate::text::{bytes, name, roughly};
use cloakroom::{SessionHistogram, SessionMeasures, Statistics, Store};
use serde_json::json;
use std::time::Duration;

/// How long the longest bar is.
const BAR: u64 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Every session is read.
    Full,
    Quick,
}

impl From<bool> for Depth {
    fn from(is_quick: bool) -> Self {
        if is_quick { Self::Quick } else { Self::Full }
    }
}

pub(crate) fn run(global: &Global, depth: Depth, interrupt: &Interrupt) -> Outcome {
    global.on_store(|store| {
        let measured = match depth {
            Depth::Quick => None,
            Depth::Full => Some(measure(store, interrupt)?),
        };
        let statistics = store.statistics()?;
        match global.json {
            true => print_json(store, &statistics, measured.as_deref())?,
            false => print_text(store, &statistics, measured.as_deref())?,
        }
        let damaged = measured.iter().flatten();
        let damaged: u64 = damaged.map(|(_, measures)| measures.unreadable).sum();
        Ok(Found::of(damaged + statistics.unreadable_parts() as u64))
    })
}

type Measured = Vec<(String, SessionMeasures)>;

fn measure(store: &Store, interrupt: &Interrupt) -> Outcome<Measured> {
    let interrupt = interrupt.asks();
    let progress = Progress::open("sessions measured");
    let mut measured = Vec::new();
    let mut before = 0;
    for container in store.containers() {
        let measures = container.measure(|measures| {
            progress.at(before + measures.live + measures.expired);
            interrupt.flow()
        })?;
        if !measures.is_complete || interrupt.has_come() {
            let advice =
                "Nothing was changed. `cloakroom stats --quick` does not read the sessions.";
            return Err(Failure::interrupted(
                "not all sessions were measured",
                advice,
            ));
        }
        before += measures.live + measures.expired;
        measured.push((container.name().to_owned(), measures));
    }
    Ok(measured)
}

fn print_json(
    store: &Store,
    statistics: &Statistics,
    measured: Option<&[(String, SessionMeasures)]>,
) -> Outcome<()> {
    let containers = measured.map(|measured| {
        let containers = measured.iter();
        let containers = containers.map(|(name, measures)| MeasuresJson::of(name, measures));
        containers.collect::<Vec<_>>()
    });
    let names: Vec<_> = store
        .containers()
        .iter()
        .map(|it| it.name().to_owned())
        .collect();
    json(&json!({
        "file_bytes": statistics.file_len(),
        "journal_bytes": statistics.journal_len(),
        "unreadable_parts": statistics.unreadable_parts(),
        "container_names": names,
        "containers": containers,
    }))
}

fn print_text(
    store: &Store,
    statistics: &Statistics,
    measured: Option<&[(String, SessionMeasures)]>,
) -> Outcome<()> {
    line(&format!("file      {}", bytes(statistics.file_len())))?;
    line(&format!("journal   {}", bytes(statistics.journal_len())))?;
    if statistics.unreadable_parts() > 0 {
        line(&format!(
            "unreadable parts of the file: {}",
            statistics.unreadable_parts()
        ))?;
    }
    let Some(measured) = measured else {
        let names: Vec<_> = store
            .containers()
            .iter()
            .map(|it| name(it.name()))
            .collect();
        return line(&format!("containers {}", names.join(", ")));
    };
    line("")?;
    let right = |head| (head, Align::Right);
    let mut table = Table::new(&[
        ("CONTAINER", Align::Left),
        right("SESSIONS"),
        right("WITH OWNER"),
        right("EXPIRED"),
        right("DAMAGED"),
        right("PACKAGES"),
        right("BYTES"),
    ]);
    let (mut ages, mut idle, mut sizes) = Default::default();
    for (of, measures) in measured {
        let numbers = [
            measures.live,
            measures.owned,
            measures.expired,
            measures.unreadable,
        ];
        let numbers = numbers.into_iter().chain([measures.packages]);
        let cells = [name(of)]
            .into_iter()
            .chain(numbers.map(|number| number.to_string()));
        table.row(cells.chain([bytes(measures.bytes)]).collect::<Vec<_>>());
        SessionHistogram::merge(&mut ages, &measures.age_histogram);
        SessionHistogram::merge(&mut idle, &measures.idle_histogram);
        SessionHistogram::merge(&mut sizes, &measures.bytes_histogram);
    }
    table.print()?;
    let time = |seconds| roughly(Duration::from_secs(seconds));
    histogram("AGE", &ages, time)?;
    histogram("SINCE THE LAST ACCESS", &idle, time)?;
    histogram("SIZE", &sizes, bytes)
}

fn histogram(
    title: &str,
    histogram: &SessionHistogram,
    bound: impl Fn(u64) -> String,
) -> Outcome<()> {
    let ranges: Vec<_> = histogram.ranges().collect();
    let Some(most) = ranges
        .iter()
        .map(|range| range.1)
        .max()
        .filter(|most| *most > 0)
    else {
        return Ok(());
    };
    line("")?;
    line(&heading(title))?;
    for (up_to, count) in ranges {
        let up_to = match up_to {
            u64::MAX => "more".to_owned(),
            up_to => format!("to {}", bound(up_to)),
        };
        let bar = (count * BAR).div_ceil(most);
        let bar = "#".repeat(usize::try_from(bar).unwrap_or_default());
        line(&format!("{up_to:>12}  {count:>9}  {bar}"))?;
    }
    Ok(())
}

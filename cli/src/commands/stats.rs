//! `stats`: how many sessions, how old, how large.

use crate::args::Global;
use crate::backend::{Backend, Figures};
use crate::failure::{Found, Outcome};
use crate::interrupt::Interrupt;
use crate::json::{MeasuresJson, Ranges};
use crate::output::{Align, Table, heading, json, line};
use crate::progress::Progress;
use crate::text::{bytes, name, roughly};
use serde_json::json;
use std::collections::BTreeMap;
use std::iter::successors;
use std::time::Duration;

/// The largest bound of a range but the last, which has none.
const LAST_BOUND: u64 = 1 << 47;
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
    global.on_backend(|store| {
        let measured = match depth {
            Depth::Quick => None,
            Depth::Full => Some(measure(store, interrupt)?),
        };
        let figures = store.figures()?;
        let names = store.containers()?;
        match global.json {
            true => json(&json!({
                "file_bytes": figures.file_bytes,
                "journal_bytes": figures.journal_bytes,
                "unreadable_parts": figures.unreadable_parts,
                "container_names": names,
                "containers": measured,
            }))?,
            false => print_text(&names, &figures, measured.as_deref())?,
        }
        let damaged = measured.iter().flatten();
        let damaged: u64 = damaged.map(|measures| measures.unreadable).sum();
        Ok(Found::of(damaged + figures.unreadable_parts))
    })
}

fn measure(store: &dyn Backend, interrupt: &Interrupt) -> Outcome<Vec<MeasuresJson>> {
    let interrupt = interrupt.asks();
    let progress = Progress::open("sessions measured");
    store.measure(&mut |sessions, _| {
        progress.at(sessions);
        interrupt.flow()
    })
}

fn print_text(
    names: &[String],
    figures: &Figures,
    measured: Option<&[MeasuresJson]>,
) -> Outcome<()> {
    // A store in a server has no files of its own.
    if figures.file_bytes > 0 {
        line(&format!("file      {}", bytes(figures.file_bytes)))?;
        line(&format!("journal   {}", bytes(figures.journal_bytes)))?;
    }
    if figures.unreadable_parts > 0 {
        line(&format!(
            "unreadable parts of the file: {}",
            figures.unreadable_parts
        ))?;
    }
    let Some(measured) = measured else {
        let names: Vec<_> = names.iter().map(|it| name(it)).collect();
        return line(&format!("containers {}", names.join(", ")));
    };
    if figures.file_bytes > 0 {
        line("")?;
    }
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
    for measures in measured {
        let numbers = [
            measures.sessions,
            measures.owned,
            measures.expired,
            measures.unreadable,
        ];
        let numbers = numbers.into_iter().chain([measures.packages]);
        let cells = [name(&measures.name)]
            .into_iter()
            .chain(numbers.map(|number| number.to_string()));
        table.row(cells.chain([bytes(measures.bytes)]).collect::<Vec<_>>());
    }
    table.print()?;
    let time = |seconds| roughly(Duration::from_secs(seconds));
    let of_all = |of: fn(&MeasuresJson) -> &Ranges| sum(measured.iter().map(of));
    histogram("AGE", &of_all(|it| &it.ages_seconds), time)?;
    histogram(
        "SINCE THE LAST ACCESS",
        &of_all(|it| &it.idle_seconds),
        time,
    )?;
    histogram("SIZE", &of_all(|it| &it.sizes_bytes), bytes)
}

/// The histogram of all of them: each range from the first with a session to the last.
fn sum<'a>(histograms: impl Iterator<Item = &'a Ranges>) -> Ranges {
    let mut counts = BTreeMap::new();
    for (bound, count) in histograms.flatten() {
        *counts.entry(*bound).or_insert(0) += count;
    }
    let (Some(first), Some(last)) = (counts.keys().next(), counts.keys().next_back()) else {
        return Vec::new();
    };
    let doubled = |bound: &u64| match bound {
        0 => Some(1),
        bound => bound.checked_mul(2).filter(|_| *bound < LAST_BOUND),
    };
    let bounds = successors(Some(*first), doubled).take_while(|bound| bound < last);
    let bounds = bounds.chain([*last]);
    bounds
        .map(|bound| (bound, counts.get(&bound).copied().unwrap_or(0)))
        .collect()
}

fn histogram(title: &str, ranges: &[(u64, u64)], bound: impl Fn(u64) -> String) -> Outcome<()> {
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
    for &(up_to, count) in ranges {
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

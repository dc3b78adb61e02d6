//! `watch`: the sizes of the store's files as they change, without opening anything; or the figures of a running
//! application.

use crate::args::Global;
use crate::backend::{FiguresWire, RemoteStore};
use crate::failure::{Failure, Found, Outcome};
use crate::output::{Align, Table, is_unread, json};
use crate::text::{bytes, time};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// After how many lines the heading is repeated.
const HEADED: u64 = 20;

#[derive(PartialEq, Eq)]
struct Sizes {
    file: u64,
    journal: u64,
    changed: Option<SystemTime>,
}

pub(crate) fn run(global: &Global, interval: Duration, count: Option<u64>) -> Outcome {
    if let Some(store) = global.remote()? {
        return live(global, &store, interval, count);
    }
    let path = global.path()?;
    let mut before: Option<Sizes> = None;
    let mut rows = 0_u64;
    loop {
        let sizes = sizes(path)?;
        print(global, &sizes, before.as_ref(), rows)?;
        before = Some(sizes);
        rows += 1;
        if is_unread() || count.is_some_and(|count| rows >= count) {
            return Ok(Found::Nothing);
        }
        thread::sleep(interval);
    }
}

/// The figures of an application, and what they were a while ago.
fn live(global: &Global, store: &RemoteStore, interval: Duration, count: Option<u64>) -> Outcome {
    let mut before = (Instant::now(), store.live()?.1);
    let mut rows = 0_u64;
    loop {
        thread::sleep(interval);
        let (at, figures) = store.live()?;
        let now = (Instant::now(), figures);
        print_live(global, at, (&before, &now), rows)?;
        before = now;
        rows += 1;
        if is_unread() || count.is_some_and(|count| rows >= count) {
            return Ok(Found::Nothing);
        }
    }
}

fn print_live(
    global: &Global,
    at: DateTime<Utc>,
    (before, now): (&(Instant, FiguresWire), &(Instant, FiguresWire)),
    rows: u64,
) -> Outcome<()> {
    let (old, new) = (&before.1, &now.1);
    if global.json {
        return json(&json!({
            "time": time(at), "file_bytes": new.file_bytes, "journal_bytes": new.journal_bytes,
            "changed": null, "commits": new.commits, "conflicts": new.conflicts, "reruns": new.reruns,
            "bytes_written": new.bytes_written, "syncs": new.syncs,
        }));
    }
    let seconds = (now.0 - before.0).as_secs_f64().max(0.001);
    // Counters begin anew when the application opens the store again.
    let rate =
        |count: fn(&FiguresWire) -> u64| count(new).saturating_sub(count(old)) as f64 / seconds;
    let number = |rate: f64| format!("{rate:.1}");
    let right = |head| (head, Align::Right);
    let mut table = Table::new(&[
        ("TIME                ", Align::Left),
        right("FILE      "),
        right("JOURNAL   "),
        right("COMMITS/S"),
        right("CONFLICTS/S"),
        right("RE-RUNS/S"),
        right("WRITTEN/S "),
        right("SYNCS/S"),
    ]);
    table.row([
        time(at),
        bytes(new.file_bytes),
        bytes(new.journal_bytes),
        number(rate(|it| it.commits)),
        number(rate(|it| it.conflicts)),
        number(rate(|it| it.reruns)),
        bytes(rate(|it| it.bytes_written) as u64),
        number(rate(|it| it.syncs)),
    ]);
    match rows.is_multiple_of(HEADED) {
        true => table.print(),
        false => table.print_rows(),
    }
}

fn sizes(path: &Path) -> Outcome<Sizes> {
    let failed =
        |error: io::Error| Failure::file(format!("{} cannot be looked at", path.display()), &error);
    let file = fs::metadata(path).map_err(failed)?;
    let path = fs::canonicalize(path).map_err(failed)?;
    let mut sizes = Sizes {
        file: file.len(),
        journal: 0,
        changed: file.modified().ok(),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let journals = format!("{name}.journal-");
    let folder = path.parent().unwrap_or(Path::new("."));
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().to_string_lossy().starts_with(&journals) {
            continue;
        }
        // It may have gone meanwhile.
        if let Ok(journal) = entry.metadata() {
            sizes.journal += journal.len();
            sizes.changed = sizes.changed.max(journal.modified().ok());
        }
    }
    Ok(sizes)
}

fn print(global: &Global, sizes: &Sizes, before: Option<&Sizes>, rows: u64) -> Outcome<()> {
    let now = DateTime::<Utc>::from(SystemTime::now());
    let changed = sizes.changed.map(DateTime::<Utc>::from);
    if global.json {
        return json(&json!({
            "time": time(now), "file_bytes": sizes.file, "journal_bytes": sizes.journal,
            "changed": changed.map(time),
        }));
    }
    let right = |head| (head, Align::Right);
    let mut table = Table::new(&[
        ("TIME                ", Align::Left),
        right("FILE      "),
        right("JOURNAL   "),
        ("LAST WRITTEN        ", Align::Left),
        ("", Align::Left),
    ]);
    let is_changed = before.is_some_and(|before| sizes != before);
    table.row([
        time(now),
        bytes(sizes.file),
        bytes(sizes.journal),
        changed.map_or("-".to_owned(), time),
        if is_changed { "written to" } else { "" }.to_owned(),
    ]);
    match rows.is_multiple_of(HEADED) {
        true => table.print(),
        false => table.print_rows(),
    }
}

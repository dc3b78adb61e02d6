//! `import --from`: the sessions of another library.

use crate::args::{Duplicates, FromArguments, Global};
use crate::failure::{Failure, Found, Outcome};
use crate::foreign::{
    ForeignLines, Left, LineLimits, SourceFile, SourceFormat, SourceReader, Unreadable,
};
use crate::interrupt::Interrupt;
use crate::opening::LONGEST_NAME;
use crate::output::{error_line, json, line};
use crate::progress::Progress;
use crate::text::{plain, sessions};
use cloakroom::{ContainerSettings, Error, ErrorKind, ImportSettings, Imported, Store};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How many damaged rows are printed for people.
const PRINTED: usize = 20;

pub(crate) fn run(
    global: &Global,
    file: &Path,
    (format, from): (SourceFormat, &FromArguments),
    how: (Duplicates, usize),
    interrupt: &Interrupt,
) -> Outcome {
    let table = from.table.as_deref().unwrap_or(format.table());
    let container = from.container.as_deref().unwrap_or(format.container());
    if from.cookie_secret_file.is_some() && format != SourceFormat::ExpressSession {
        let advice = "Leave --cookie-secret-file out, or read a file of express-session.";
        return Err(Failure::usage(
            "only express-session signs its cookie that way",
            advice,
        ));
    }
    let secret = from.cookie_secret_file.as_deref().map(secret).transpose()?;
    let reader = SourceReader {
        format,
        cookie_secret: secret,
    };
    let unreadable = |error| unreadable(file, format, table, error);
    // Before a store is created for it.
    let source = SourceFile::open(file, format, table).map_err(unreadable)?;
    let builder = global.builder()?;
    let builder = builder.create_missing(from.create).migrate_older(false);
    let store = global.place()?.open(builder)?;
    let outcome = import(&store, (&source, &reader, container), how, interrupt);
    let closed = store.close();
    let outcome = outcome.map_err(|error| match error {
        Stopped::Source(error) => unreadable(error),
        Stopped::Store(failure) => failure,
    });
    let (imported, left) = global.told(outcome)?;
    global.told(closed.map_err(Failure::from))?;
    report(global, &imported, &left)
}

/// Why an import has stopped.
enum Stopped {
    Source(Unreadable),
    Store(Failure),
}

impl From<Unreadable> for Stopped {
    fn from(error: Unreadable) -> Self {
        Self::Source(error)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Store(error.into())
    }
}

fn import(
    store: &Store,
    (source, reader, container): (&SourceFile, &SourceReader, &str),
    (on_duplicate, max_line): (Duplicates, usize),
    interrupt: &Interrupt,
) -> Result<(Imported, Left), Stopped> {
    // As the adapters register theirs: each session has an end of its own.
    if store.container(container).is_err() {
        store.register(container, ContainerSettings::new().timeout(Duration::ZERO))?;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = i64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(i64::MAX);
    let limits = LineLimits {
        line: max_line,
        name: LONGEST_NAME,
    };
    let mut statement = source.rows()?;
    let rows = statement.query([]).map_err(Unreadable::from)?;
    let ids = (store.client_ids(), container);
    let mut lines = ForeignLines::new(rows, reader, ids, limits, now);
    let settings = ImportSettings::new(on_duplicate.into()).max_line(max_line);
    let interrupt = interrupt.asks();
    let progress = Progress::of(source.count()?, "sessions imported");
    let mut done = 0;
    let imported = store.import_with(&mut lines, settings, |imported| {
        done = imported.sessions;
        progress.at(imported.sessions + imported.skipped);
        interrupt.flow()
    });
    drop(progress);
    let imported = imported.map_err(|error| Stopped::Store(not_imported(error, done)))?;
    Ok((imported, std::mem::take(&mut lines.left)))
}

/// The numbers of lines mean nothing to who has no export.
fn not_imported(error: Error, done: u64) -> Failure {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let what = format!("{cause}; {} imported before that", sessions(done));
    let advice = match error.kind() {
        ErrorKind::InvalidInput => {
            "--on-duplicate skip goes on after an earlier import, and leaves the sessions that are there already as they \
             are."
        }
        ErrorKind::Io => {
            "Check the file with `sqlite3 FILE 'PRAGMA integrity_check'`. --on-duplicate skip goes on after what is \
             imported."
        }
        _ => return error.into(),
    };
    Failure::unusable(&format!("{:?}", error.kind()), what, advice)
}

/// The first line of a file.
fn secret(path: &Path) -> Outcome<Vec<u8>> {
    let bytes = fs::read(path)
        .map_err(|error| Failure::file(format!("{} cannot be read", path.display()), &error))?;
    let first = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    match first.is_empty() {
        true => {
            let what = format!("{} has no secret in its first line", path.display());
            Err(Failure::usage(what, "Check the path."))
        }
        false => Ok(first.to_vec()),
    }
}

fn unreadable(file: &Path, format: SourceFormat, table: &str, error: Unreadable) -> Failure {
    let file = file.display();
    let rollback = rusqlite::ffi::SQLITE_READONLY_ROLLBACK;
    match error {
        Unreadable::Io(error) => Failure::file(format!("{file} cannot be read"), &error),
        Unreadable::NotSqlite => {
            let advice =
                "Check the path, and the library that --from names. The file was not changed.";
            Failure::unusable(
                "NotSqlite",
                format!("{file} is no database of SQLite"),
                advice,
            )
        }
        Unreadable::OtherSchema => {
            let library = format.library();
            let what = format!("{file} has no table {table:?} with the columns of {library}");
            let advice = "Check the library that --from names; --table names another table. The file was not changed.";
            Failure::unusable("OtherSchema", what, advice)
        }
        Unreadable::Sqlite(error) => {
            let is_hot = error
                .sqlite_error()
                .is_some_and(|it| it.extended_code == rollback);
            let advice = match is_hot {
                true => {
                    "An application has ended in the middle of a change. Start it once, or open the file with \
                     `sqlite3`: either takes the change back."
                }
                false => {
                    "Check the permissions of the file and of its folder, and that no application keeps it locked. \
                     The file was not changed."
                }
            };
            Failure::unusable("Sqlite", format!("{file} cannot be read: {error}"), advice)
        }
    }
}

fn report(global: &Global, imported: &Imported, left: &Left) -> Outcome {
    if global.json {
        let rows = left.named.iter();
        let rows: Vec<_> = rows
            .map(|(id, error)| json!({ "id": id, "error": error }))
            .collect();
        json(&json!({
            "sessions": imported.sessions, "skipped": imported.skipped, "expired": left.expired,
            "damaged": left.damaged, "rows": rows, "is_complete": imported.is_complete,
        }))?;
    } else {
        line(&format!("{} imported", sessions(imported.sessions)))?;
        let others = [
            (
                imported.skipped,
                "were there already, and stayed as they were",
            ),
            (left.expired, "had expired, and were left out"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            line(&format!("{count} {what}"))?;
        }
        for (id, error) in left.named.iter().take(PRINTED) {
            error_line(&format!("the row of {} was left out: {error}", plain(id)))?;
        }
        if left.damaged > PRINTED as u64 {
            error_line(&format!("{} rows were left out in all", left.damaged))?;
        }
    }
    if !imported.is_complete {
        let advice = "Run the same command again with --on-duplicate skip.";
        return Err(Failure::interrupted("the import was broken off", advice));
    }
    Ok(Found::of(left.damaged))
}

//! `export` and `import`.

use crate::args::{Duplicates, Global};
use crate::failure::{Failure, Found, Outcome};
use crate::interrupt::Interrupt;
use crate::output::{error_line, json, line};
use crate::progress::Progress;
use crate::text::sessions;
use cloakroom::{Error, ErrorKind, Exported, ImportSettings, Imported, OnDuplicate, Store};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

pub(crate) fn export(global: &Global, output: Option<&Path>, interrupt: &Interrupt) -> Outcome {
    global.on_store(|store| {
        let interrupt = interrupt.asks();
        let exported = match output {
            None => write(store, io::stdout().lock(), interrupt)?,
            Some(path) => to_file(store, path, interrupt)?,
        };
        if output.is_some() {
            match global.json {
                true => json(&json!({
                    "containers": exported.containers, "sessions": exported.sessions,
                    "packages": exported.packages, "damaged": exported.damaged, "bytes": exported.bytes,
                }))?,
                false => line(&format!("{} exported", sessions(exported.sessions)))?,
            }
        }
        if exported.damaged > 0 {
            let damaged = exported.damaged;
            error_line(&format!("{damaged} sessions or packages are damaged: the export names them"))?;
            return Ok(Found::Something);
        }
        Ok(Found::Nothing)
    })
}

fn write(store: &Store, writer: impl Write, interrupt: &Interrupt) -> Outcome<Exported> {
    let progress = Progress::open("sessions exported");
    let exported = store.export_with(writer, |exported| {
        progress.at(exported.sessions);
        interrupt.flow()
    })?;
    match exported.is_complete {
        true => Ok(exported),
        false => {
            let advice = "The store is unchanged. An import refuses an export without its last line, after its whole \
                          batches.";
            Err(Failure::interrupted("the export was broken off", advice))
        }
    }
}

/// The file gets its name when it is whole.
fn to_file(store: &Store, path: &Path, interrupt: &Interrupt) -> Outcome<Exported> {
    let failed =
        |error: io::Error| Failure::file(format!("{} cannot be written", path.display()), &error);
    if path.symlink_metadata().is_ok() {
        let advice = "Name a file that does not exist yet.";
        return Err(Failure::usage(
            format!("{} exists already", path.display()),
            advice,
        ));
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut file =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    let exported = write(store, &mut file, interrupt)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(path)
        .map_err(|error| failed(error.error))?;
    Ok(exported)
}

pub(crate) fn import(
    global: &Global,
    file: &Path,
    (on_duplicate, after_line, max_line): (Duplicates, u64, usize),
    interrupt: &Interrupt,
) -> Outcome {
    let reader: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(file).map_err(|error| {
            Failure::file(format!("{} cannot be read", file.display()), &error)
        })?),
    };
    let settings = ImportSettings::new(on_duplicate.into())
        .after_line(after_line)
        .max_line(max_line);
    global.on_store(|store| {
        let interrupt = interrupt.asks();
        let progress = Progress::open("sessions imported");
        let imported = store.import_with(reader, settings, |imported| {
            progress.at(imported.sessions + imported.skipped);
            interrupt.flow()
        });
        drop(progress);
        report(global, &imported.map_err(not_imported)?)
    })
}

impl From<Duplicates> for OnDuplicate {
    fn from(duplicates: Duplicates) -> Self {
        match duplicates {
            Duplicates::Skip => Self::Skip,
            Duplicates::Replace => Self::Replace,
            Duplicates::Fail => Self::Fail,
        }
    }
}

/// A file that is wrong is no wrong usage.
fn not_imported(error: Error) -> Failure {
    if error.kind() != ErrorKind::InvalidInput {
        return error.into();
    }
    let advice = "Correct the file, or make a new one. --on-duplicate says what happens to sessions that are there already; \
                  --after-line goes on after the lines that are imported.";
    Failure::unusable("InvalidInput", error.to_string(), advice)
}

fn report(global: &Global, imported: &Imported) -> Outcome {
    if !imported.is_complete {
        let done = format!("{} imported, the rest is not", sessions(imported.sessions));
        let advice = format!("Go on with --after-line {}.", imported.lines);
        return Err(Failure::interrupted(done, &advice));
    }
    match global.json {
        true => json(&json!({
            "containers": imported.containers, "sessions": imported.sessions, "skipped": imported.skipped,
            "damaged": imported.damaged,
        }))?,
        false => {
            line(&format!("{} imported", sessions(imported.sessions)))?;
            if imported.skipped > 0 {
                line(&format!(
                    "{} were there already, and stayed as they were",
                    imported.skipped
                ))?;
            }
        }
    }
    if imported.damaged > 0 {
        error_line(&format!(
            "{} were damaged in the store that was exported",
            imported.damaged
        ))?;
        return Ok(Found::Something);
    }
    Ok(Found::Nothing)
}

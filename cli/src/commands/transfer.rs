//! `export` and `import`.

use crate::args::{Duplicates, Global};
use crate::backend::{Backend, ImportHow, Source, Transfer};
use crate::failure::{Failure, Found, Outcome};
use crate::interrupt::Interrupt;
use crate::json::{ExportedJson, ImportedJson};
use crate::output::{error_line, json, line};
use crate::progress::Progress;
use crate::stoppable::{StoppableReader, StoppableWriter};
use crate::text::sessions;
use cloakroom::OnDuplicate;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

pub(crate) fn export(global: &Global, output: Option<&Path>, interrupt: &Interrupt) -> Outcome {
    if let Some(path) = output {
        is_new(path)?;
    }
    global.on_backend(|store| {
        let interrupt = interrupt.asks();
        let exported = match output {
            None => write(store, &mut StoppableWriter::stdout(interrupt)?, interrupt)?,
            Some(path) => to_file(store, path, interrupt)?,
        };
        if output.is_some() {
            match global.json {
                true => json(&exported)?,
                false => line(&format!("{} exported", sessions(exported.sessions)))?,
            }
        }
        if exported.damaged > 0 {
            let damaged = exported.damaged;
            error_line(&format!(
                "{damaged} sessions or packages are damaged: the export names them"
            ))?;
            return Ok(Found::Something);
        }
        Ok(Found::Nothing)
    })
}

fn write(
    store: &dyn Backend,
    writer: &mut dyn Write,
    interrupt: &Interrupt,
) -> Outcome<ExportedJson> {
    let progress = Progress::open(store.unit(Transfer::Export));
    let exported = store.export(writer, &mut |so_far, _| {
        progress.at(so_far);
        interrupt.flow()
    })?;
    writer.flush()?;
    Ok(exported)
}

/// A name that is taken is told before anything is read.
pub(crate) fn is_new(path: &Path) -> Outcome<()> {
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => {
            let advice = "Name a file that does not exist yet.";
            let what = format!("{} exists already", path.display());
            Err(Failure::usage(what, advice))
        }
    }
}

/// The file gets its name when it is whole.
fn to_file(store: &dyn Backend, path: &Path, interrupt: &Interrupt) -> Outcome<ExportedJson> {
    let failed =
        |error: io::Error| Failure::file(format!("{} cannot be written", path.display()), &error);
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

/// What may wait for ever.
fn endless(from: impl Read + Send + 'static, interrupt: &Interrupt) -> io::Result<Source> {
    let reader = Box::new(StoppableReader::new(from, interrupt)?);
    Ok(Source {
        reader,
        bytes: None,
    })
}

pub(crate) fn import(
    global: &Global,
    file: &Path,
    how: ImportHow,
    interrupt: &Interrupt,
) -> Outcome {
    let failed =
        |error: io::Error| Failure::file(format!("{} cannot be read", file.display()), &error);
    let source = match file.as_os_str() == "-" {
        true => endless(io::stdin(), interrupt),
        false => {
            let opened = File::open(file).map_err(failed)?;
            let metadata = opened.metadata().map_err(failed)?;
            match metadata.is_file() {
                true => Ok(Source {
                    reader: Box::new(opened),
                    bytes: Some(metadata.len()),
                }),
                false => endless(opened, interrupt),
            }
        }
    }
    .map_err(failed)?;
    global.on_backend(|store| {
        let interrupt = interrupt.asks();
        let progress = Progress::open(store.unit(Transfer::Import));
        let imported = store.import(source, how, &mut |so_far, of| {
            progress.at_of(so_far, of);
            interrupt.flow()
        });
        drop(progress);
        report(global, &imported?)
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

fn report(global: &Global, imported: &ImportedJson) -> Outcome {
    match global.json {
        true => json(imported)?,
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

//! `backup`, `verify` and `restore`.

use super::transfer::is_new;
use crate::args::{BackupArguments, Global, RestoreArguments};
use crate::backend::Transfer;
use crate::failure::{Failure, Found, Outcome};
use crate::interrupt::Interrupt;
use crate::output::{error_line, json, line};
use crate::progress::Progress;
use crate::stoppable::StoppableWriter;
use crate::text::{bytes, sessions, time};
use cloakroom::{Backup, BackupPhase, BackupProgress, Store};
use serde_json::json;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

pub(crate) fn backup(global: &Global, wanted: &BackupArguments, interrupt: &Interrupt) -> Outcome {
    let is_piped = wanted.file.as_os_str() == "-";
    if is_piped && !wanted.since.is_empty() {
        let advice = "Name a file for it.";
        return Err(Failure::usage("an incremental backup is no stream", advice));
    }
    if !is_piped {
        is_new(&wanted.file)?;
    }
    global.on_backend(|store| {
        let interrupt = interrupt.asks();
        let progress = Progress::open(store.unit(Transfer::Backup));
        let mut step = |so_far, _| {
            progress.at(so_far);
            interrupt.flow()
        };
        if is_piped {
            let mut out = StoppableWriter::stdout(interrupt)?;
            let count = store.backup_to(&mut out, &mut step)?;
            out.flush()?;
            drop(progress);
            error_line(&format!("{} backed up", sessions(count)))?;
            return Ok(Found::Nothing);
        }
        let backup = store.backup(&wanted.since, &wanted.file, &mut step)?;
        drop(progress);
        report(global, &backup, "backed up")
    })
}

pub(crate) fn verify(global: &Global, files: &[PathBuf], interrupt: &Interrupt) -> Outcome {
    let mut backups = Vec::new();
    for file in files {
        let progress = shown("bytes verified", interrupt.asks());
        backups.push((file, Backup::verify_with(file, progress)?));
    }
    if global.json {
        let backups = backups.iter();
        let backups = backups.map(|(file, backup)| {
            let mut backup = in_json(backup);
            if let Some(members) = backup.as_object_mut() {
                members.insert("file".to_owned(), file.display().to_string().into());
            }
            backup
        });
        json(&backups.collect::<Vec<_>>())?;
        return Ok(Found::Nothing);
    }
    for (file, backup) in backups {
        let of = match &backup.previous {
            None => "whole",
            Some(_) => "incremental",
        };
        line(&format!(
            "{}: sound, {of}, commit {}, taken {}, {}, {}",
            crate::text::plain(&file.display().to_string()),
            backup.commit,
            time(backup.taken),
            sessions(backup.sessions),
            bytes(backup.bytes),
        ))?;
    }
    Ok(Found::Nothing)
}

pub(crate) fn restore(
    global: &Global,
    wanted: &RestoreArguments,
    interrupt: &Interrupt,
) -> Outcome {
    is_new(&wanted.to)?;
    let progress = shown("sessions restored", interrupt.asks());
    let backup = Store::restore(&wanted.files, &wanted.to, progress)?;
    report(global, &backup, "restored")
}

/// Draws the progress, and breaks off when the interrupt comes.
fn shown(
    what: &'static str,
    interrupt: &Interrupt,
) -> impl FnMut(BackupProgress) -> ControlFlow<()> {
    let interrupt = interrupt.clone();
    let progress = Progress::open(what);
    move |so_far: BackupProgress| {
        progress.at(match so_far.phase {
            BackupPhase::Verifying => so_far.bytes,
            _ => so_far.sessions,
        });
        interrupt.flow()
    }
}

fn report(global: &Global, backup: &Backup, done: &str) -> Outcome {
    match global.json {
        true => json(&in_json(backup))?,
        false => line(&format!(
            "{} {done}, as of commit {}, {}",
            sessions(backup.sessions),
            backup.commit,
            time(backup.taken)
        ))?,
    }
    Ok(Found::Nothing)
}

fn in_json(backup: &Backup) -> serde_json::Value {
    let previous = backup.previous.as_ref();
    json!({
        "id": backup.id, "store": backup.store, "commit": backup.commit, "taken": time(backup.taken),
        "previous": previous.map(|it| json!({ "id": it.id, "commit": it.commit })),
        "sessions": backup.sessions, "packages": backup.packages, "removed": backup.removed,
        "bytes": backup.bytes,
    })
}

//! `sweep`, `check`, `salvage` and `migrate`.

use crate::args::Global;
use crate::failure::{Failure, Found, Outcome};
use crate::interrupt::Interrupt;
use crate::json::{CheckJson, DamageJson};
use crate::opening::{Older, parse_32_bytes};
use crate::output::{json, line};
use crate::owner;
use crate::progress::Progress;
use crate::prompt::{Consent, confirm};
use crate::server::{ServerAddress, StorePlace};
use crate::text::{bytes, packages, plain, sessions};
use cloakroom::{ErrorKind, RowProgress};
use serde_json::json;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

pub(crate) fn sweep(global: &Global, interrupt: &Interrupt) -> Outcome {
    global.on_backend(|store| {
        let interrupt = interrupt.asks();
        let progress = Progress::open("sessions examined");
        let swept = store.sweep(&mut |scanned, _| {
            progress.at(scanned);
            interrupt.flow()
        })?;
        drop(progress);
        let (removed, unreadable) = (swept.removed, swept.unreadable);
        if !swept.complete {
            let what = format!("the sweep was broken off; {removed} expired sessions are removed");
            let advice = "They stay removed. Run the command again to remove the rest.";
            return Err(Failure::interrupted(what, advice));
        }
        match global.json {
            true => json(&json!({ "removed": removed, "unreadable": unreadable }))?,
            false => {
                line(&format!("{removed} expired sessions removed"))?;
                if unreadable > 0 {
                    line(&format!(
                        "{unreadable} sessions are damaged: `cloakroom check` names them"
                    ))?;
                }
            }
        }
        Ok(Found::of(unreadable))
    })
}

pub(crate) fn check(global: &Global, interrupt: &Interrupt) -> Outcome {
    global.on_backend(|store| {
        let interrupt = interrupt.asks();
        let progress = Progress::open("rows read");
        let check = store.check(&mut |rows, of| {
            progress.at_of(rows, of);
            interrupt.flow()
        })?;
        drop(progress);
        let found = print_check(global, &check)?;
        if !check.complete {
            let what = "the check was broken off: not everything was read";
            let advice = "Nothing was changed. Run the command again to read everything.";
            return Err(Failure::interrupted(what, advice));
        }
        Ok(found)
    })
}

fn print_check(global: &Global, check: &CheckJson) -> Outcome {
    let damaged = check.damaged_records + check.damaged_pages;
    if global.json {
        json(check)?;
        return Ok(Found::of(damaged));
    }
    let (packages, sessions) = (packages(check.packages), sessions(check.sessions));
    line(&format!("{sessions}, {packages}"))?;
    // A store in a server has no file of its own.
    if check.complete && check.file_bytes > 0 {
        let (in_use, file) = (bytes(check.bytes_in_use), bytes(check.file_bytes));
        line(&format!("{in_use} of {file} of the file are in use"))?;
    }
    print_damage(&check.findings, damaged)?;
    match (damaged, check.complete) {
        (0, true) => line("no damage")?,
        (0, false) => line("no damage so far")?,
        _ => {
            let advice = match global.store {
                Some(StorePlace::Server(_)) => "`cloakroom end` ends a damaged session.",
                _ => "`cloakroom salvage --to NEW` copies the rest.",
            };
            line(&format!(
                "{} damaged records, {} damaged pages. {advice}",
                check.damaged_records, check.damaged_pages
            ))?;
        }
    }
    Ok(Found::of(damaged))
}

fn print_damage(damages: &[DamageJson], all: u64) -> Outcome<()> {
    for damage in damages {
        let client = damage.client.as_deref().map_or("-".to_owned(), plain);
        line(&format!("{client:<32}  {}", plain(&damage.error)))?;
    }
    match all.saturating_sub(damages.len() as u64) {
        0 => Ok(()),
        more => line(&format!("and {more} more")),
    }
}

/// Draws how many rows were read, and breaks off when the interrupt comes.
fn rows_read(interrupt: &Interrupt) -> impl FnMut(RowProgress) -> ControlFlow<()> + Send {
    let interrupt = interrupt.asks().clone();
    let progress = Progress::open("rows read");
    move |so_far: RowProgress| {
        progress.at_of(so_far.rows, Some(so_far.of));
        interrupt.flow()
    }
}

pub(crate) fn salvage(
    global: &Global,
    to: &Path,
    secret_file: Option<&Path>,
    interrupt: &Interrupt,
) -> Outcome {
    let mut builder = global.builder()?;
    if let Some(path) = secret_file {
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::file(format!("{} cannot be read", path.display()), &error))?;
        let secret = parse_32_bytes(text.trim()).ok_or_else(|| {
            let what = format!("{} has no secret", path.display());
            Failure::usage(what, "It has 64 hexadecimal digits and nothing else.")
        })?;
        builder = builder.secret(secret);
    }
    let from = global.path()?;
    if to.symlink_metadata().is_ok() {
        let advice = "Name a file that does not exist yet.";
        return Err(Failure::usage(
            format!("{} exists already", to.display()),
            advice,
        ));
    }
    let salvage = builder.salvage_with(from, to, rows_read(interrupt))?;
    owner::give_as(from, to);
    let losses: Vec<_> = salvage.losses.iter().map(DamageJson::of).collect();
    if global.json {
        json(&json!({
            "sessions": salvage.sessions, "packages": salvage.packages, "lost": salvage.lost,
            "mended_pages": salvage.mended_pages, "damaged_pages": salvage.damaged_pages,
            "new_identity": salvage.new_identity, "new_secrets": salvage.new_secrets, "losses": losses,
        }))?;
    } else {
        line(&format!(
            "{} and {} copied",
            sessions(salvage.sessions),
            packages(salvage.packages)
        ))?;
        print_damage(&losses, salvage.lost + salvage.damaged_pages)?;
        if salvage.new_secrets {
            line("the secrets are lost: ids work only under the secret that was given")?;
        }
        match salvage.is_whole() {
            true => line("nothing is lost")?,
            false => line(&format!(
                "{} losses, {} damaged pages. {} is unchanged.",
                salvage.lost,
                salvage.damaged_pages,
                from.display()
            ))?,
        }
    }
    Ok(Found::of(salvage.lost + salvage.damaged_pages))
}

pub(crate) fn compact(global: &Global, interrupt: &Interrupt) -> Outcome {
    let interrupt = interrupt.asks();
    let builder = global.builder()?.migrate_older(false);
    let progress = Progress::open("rows written");
    let compaction = builder.compact(global.path()?, |so_far| {
        progress.at(so_far.rows);
        interrupt.flow()
    })?;
    drop(progress);
    let (before, after) = (compaction.bytes_before, compaction.bytes_after);
    match global.json {
        true => json(&json!({ "bytes_before": before, "bytes_after": after }))?,
        false => line(&format!(
            "the file has {} instead of {}",
            bytes(after),
            bytes(before)
        ))?,
    }
    Ok(Found::Nothing)
}

pub(crate) fn migrate(global: &Global, consent: Consent) -> Outcome {
    match global.place()? {
        StorePlace::File(path) => migrate_file(global, path, consent),
        StorePlace::Server(address) => migrate_tables(global, address, consent),
    }
}

fn migrate_file(global: &Global, path: &Path, consent: Consent) -> Outcome {
    let current = global.builder()?.migrate_older(false).open(path);
    let migrated = match current {
        Ok(store) => {
            store.close()?;
            false
        }
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            let question = format!(
                "Migrate {}? Older versions of the application cannot open it any more.",
                path.display()
            );
            confirm(consent, &question)?;
            global.open(Older::Migrated)?.close()?;
            true
        }
        Err(error) => return Err(error.into()),
    };
    match (global.json, migrated) {
        (true, migrated) => json(&json!({ "migrated": migrated }))?,
        (false, true) => line("the store is migrated")?,
        (false, false) => line("the store has the current format already")?,
    }
    Ok(Found::Nothing)
}

/// Makes or migrates the tables in a server.
fn migrate_tables(global: &Global, address: &ServerAddress, consent: Consent) -> Outcome {
    let place = address.shown();
    let question = match global.open(Older::Refused) {
        Ok(store) => {
            global.told(store.close().map_err(Failure::from))?;
            match global.json {
                true => json(&json!({ "migrated": false }))?,
                false => line("the tables have the current format already")?,
            }
            return Ok(Found::Nothing);
        }
        Err(failure) if failure.is(ErrorKind::NotAStore) => {
            format!("Make the tables of a new store in {place}?")
        }
        Err(failure) if failure.is(ErrorKind::Unsupported) => {
            format!(
                "Migrate the tables in {place}? Older versions of the application cannot use them any more."
            )
        }
        Err(failure) => return Err(failure),
    };
    confirm(consent, &question)?;
    address.migrate(global.builder()?)?;
    match global.json {
        true => json(&json!({ "migrated": true }))?,
        false => {
            line("the tables have the current format now")?;
            line(
                "A role that may make no tables can use them. It needs USAGE on their schema, and SELECT, INSERT, UPDATE and \
                 DELETE on the tables whose names begin with cloakroom_.",
            )?;
        }
    }
    Ok(Found::Nothing)
}

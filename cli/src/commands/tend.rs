//! `sweep`, `check`, `salvage` and `migrate`.

use crate::args::Global;
use crate::failure::{Failure, Found, Outcome};
use crate::interrupt::Interrupt;
use crate::opening::{Older, parse_32_bytes};
use crate::output::{json, line};
use crate::progress::Progress;
use crate::prompt::{Consent, confirm};
use crate::text::{bytes, packages, plain, sessions};
use cloakroom::{Damage, ErrorKind};
use serde_json::json;
use std::fs;
use std::path::Path;

pub(crate) fn sweep(global: &Global) -> Outcome {
    global.on_store(|store| {
        let (mut removed, mut unreadable) = (0, 0);
        let progress = Progress::open("expired sessions removed");
        for container in store.containers() {
            let swept = container.sweep()?;
            removed += swept.removed;
            unreadable += swept.unreadable;
            progress.at(removed);
        }
        drop(progress);
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

pub(crate) fn check(global: &Global) -> Outcome {
    global.on_store(|store| {
        let progress = Progress::open("reading the whole store");
        let check = store.check()?;
        drop(progress);
        let file = store.statistics()?.file_len();
        let findings: Vec<_> = check.findings.iter().map(damage_json).collect();
        if global.json {
            json(&json!({
                "sessions": check.sessions, "packages": check.packages, "damaged_records": check.damaged,
                "damaged_pages": check.damaged_pages, "findings": findings,
                "bytes_in_use": check.bytes_in_use, "file_bytes": file,
            }))?;
        } else {
            line(&format!("{}, {}", sessions(check.sessions), packages(check.packages)))?;
            line(&format!("{} of {} of the file are in use", bytes(check.bytes_in_use), bytes(file)))?;
            print_damage(&check.findings, check.damaged + check.damaged_pages)?;
            match check.is_clean() {
                true => line("no damage")?,
                false => line(&format!(
                    "{} damaged records, {} damaged pages. `cloakroom salvage --to NEW` copies the rest.",
                    check.damaged, check.damaged_pages
                ))?,
            }
        }
        Ok(Found::of(check.damaged + check.damaged_pages))
    })
}

fn damage_json(damage: &Damage) -> serde_json::Value {
    json!({
        "container": damage.container, "client": damage.client.map(|client| client.to_string()),
        "package": damage.package, "error": damage.error.to_string(),
    })
}

fn print_damage(damages: &[Damage], all: u64) -> Outcome<()> {
    for damage in damages {
        let client = damage
            .client
            .map_or("-".to_owned(), |client| client.to_string());
        line(&format!(
            "{client:<32}  {}",
            plain(&damage.error.to_string())
        ))?;
    }
    match all.saturating_sub(damages.len() as u64) {
        0 => Ok(()),
        more => line(&format!("and {more} more")),
    }
}

pub(crate) fn salvage(global: &Global, to: &Path, secret_file: Option<&Path>) -> Outcome {
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
    let progress = Progress::open("copying what can be read");
    let salvage = builder.salvage(from, to)?;
    drop(progress);
    if global.json {
        let losses: Vec<_> = salvage.losses.iter().map(damage_json).collect();
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
        print_damage(&salvage.losses, salvage.lost + salvage.damaged_pages)?;
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
    let current = global.builder()?.migrate_older(false).open(global.path()?);
    let migrated = match current {
        Ok(store) => {
            store.close()?;
            false
        }
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            let question = format!(
                "Migrate {}? Older versions of the application cannot open it any more.",
                global.path()?.display()
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

//! `move`: a store from a file into a server, or back.

use crate::args::{Global, MoveArguments};
use crate::failure::{Failure, Found, Outcome};
use crate::interrupt::Interrupt;
use crate::output::{error_line, json, line};
use crate::progress::Progress;
use crate::server::StorePlace;
use crate::text::{plain, sessions};
use cloakroom::{Copied, Error, ErrorKind, Store};
use serde_json::json;

pub(crate) fn run(global: &Global, wanted: &MoveArguments, interrupt: &Interrupt) -> Outcome {
    let (from, to) = (&wanted.from, &wanted.to);
    if let (Some(_), Some(_)) = (from.as_file(), to.as_file()) {
        let advice = "A store in a file is moved like any file while nobody has it open; `cloakroom backup` and `cloakroom \
                      restore` copy it while an application does.";
        return Err(Failure::usage("neither of these is in a server", advice));
    }
    if from == to {
        let advice = "Name a place where there is no store yet.";
        return Err(Failure::usage(
            "a store is not moved to where it is",
            advice,
        ));
    }
    let source = from.open(global.builder_at(Some(from))?.migrate_older(false));
    let source = source.map_err(Failure::of_moved)?;
    let copied = copy_into(global, &source, to, interrupt);
    let closed = source.close();
    let copied = copied.and_then(|copied| Ok(closed.map(|()| copied)?))?;
    report(global, (from, to), copied)
}

fn copy_into(
    global: &Global,
    source: &Store,
    to: &StorePlace,
    interrupt: &Interrupt,
) -> Outcome<Copied> {
    let builder = global.builder_at(Some(to))?.migrate_older(false);
    let builder = builder.create_missing(true).copy_of(source)?;
    let target = to.open(builder).map_err(Failure::of_copy)?;
    let copied = copy(source, &target, interrupt);
    let closed = target.close();
    let copied = copied?;
    closed?;
    match copied.is_complete {
        true => Ok(copied),
        false => {
            let what = format!(
                "the move was broken off; {} are there, not all of them verified",
                sessions(copied.sessions + copied.skipped)
            );
            let advice =
                "The store that is moved is as it was. Run the same command again: it goes on.";
            Err(Failure::interrupted(what, advice))
        }
    }
}

fn copy(source: &Store, target: &Store, interrupt: &Interrupt) -> Outcome<Copied> {
    let interrupt = interrupt.asks();
    let mut progress = Progress::open("sessions copied");
    let of = match progress.is_shown() {
        true => count(source, interrupt)?,
        false => None,
    };
    let mut is_verifying = false;
    let copied = source.copy_to_with(target, |so_far| {
        let written = so_far.sessions + so_far.skipped;
        if so_far.verified > 0 && !is_verifying {
            is_verifying = true;
            progress = Progress::of(written, "sessions verified");
        }
        match is_verifying {
            true => progress.at(so_far.verified),
            false => progress.at_of(written, of),
        }
        interrupt.flow()
    });
    copied.map_err(not_copied)
}

/// How many sessions there are, for people who wait. Nothing, if they do not want to know any more.
fn count(source: &Store, interrupt: &Interrupt) -> Outcome<Option<u64>> {
    let mut all = 0;
    for container in source.containers() {
        let measures = container.measure(|_| interrupt.flow())?;
        if !measures.is_complete {
            return Ok(None);
        }
        all += measures.live;
    }
    Ok(Some(all))
}

/// Whatever it was, the source is as it was.
fn not_copied(error: Error) -> Failure {
    let advice = match error.kind() {
        ErrorKind::InvalidInput => {
            "Stop everything that uses one of the stores. Remove the copy, its file or its tables, and run the command \
             again. The store that is moved is as it was."
        }
        ErrorKind::Corrupt | ErrorKind::TooLarge => return error.into(),
        _ => {
            "The store that is moved is as it was. Look whether the server runs and has space, and run the same command \
             again: it goes on."
        }
    };
    let kind = format!("{:?}", error.kind());
    Failure::unusable(&kind, error.to_string(), advice)
}

fn report(global: &Global, (from, to): (&StorePlace, &StorePlace), copied: Copied) -> Outcome {
    let (from_shown, to_shown) = (from.shown(), to.shown());
    match global.json {
        true => json(&json!({
            "from": from_shown, "to": to_shown, "sessions": copied.sessions, "skipped": copied.skipped,
            "verified": copied.verified, "damaged": copied.damaged,
        }))?,
        false => {
            line(&format!("{} moved and verified", sessions(copied.verified)))?;
            let (from_shown, to_shown) = (plain(&from_shown), plain(&to_shown));
            line(&match to {
                StorePlace::Server(_) => format!(
                    "Now let the application open {to_shown} with Store::connect, and start it. Then delete {from_shown}: it \
                     holds the sessions as they were."
                ),
                StorePlace::File(_) => format!(
                    "Now let the application open {to_shown} with Store::open, and start it. Then drop the tables in \
                     {from_shown}: they hold the sessions as they were."
                ),
            })?;
        }
    }
    if copied.damaged > 0 {
        error_line(&format!(
            "{} sessions or packages are damaged, and were not moved: `cloakroom check` names them",
            copied.damaged
        ))?;
    }
    Ok(Found::of(copied.damaged))
}

//! Which command runs.

use super::{
    admin, backup, bench, containers, end, generate, import_from, list, moving, secrets, show,
    stats, tend, transfer, watch,
};
use crate::args::{AdminArguments, Arguments, Command, Global};
use crate::backend::ImportHow;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::server::StorePlace;

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Arguments {
        mut global,
        command,
    } = arguments;
    let interrupt = &Interrupt::new()?;
    if let Command::Admin(AdminArguments {
        place: Some(place), ..
    })
    | Command::Migrate {
        place: Some(place), ..
    } = &command
    {
        global.store = Some(place.clone());
    }
    let global = &global;
    refuse_at(global, &command)?;
    refuse_server(global, &command)?;
    match command {
        Command::Stats { quick } => stats::run(global, quick.into(), interrupt),
        Command::Containers { command } => containers::run(global, command),
        Command::List(wanted) => list::run(global, &wanted, interrupt),
        Command::Show { key, values } => show::run(global, &key, values.into()),
        Command::End(wanted) => end::run(global, &wanted),
        Command::Sweep => tend::sweep(global, interrupt),
        Command::Check => tend::check(global, interrupt),
        Command::Salvage { to, secret_file } => {
            tend::salvage(global, &to, secret_file.as_deref(), interrupt)
        }
        Command::Compact => tend::compact(global, interrupt),
        Command::Migrate { yes, .. } => tend::migrate(global, yes.into()),
        Command::Move(wanted) => moving::run(global, &wanted, interrupt),
        Command::Backup(wanted) => backup::backup(global, &wanted, interrupt),
        Command::Verify { files } => backup::verify(global, &files, interrupt),
        Command::Restore(wanted) => backup::restore(global, &wanted, interrupt),
        Command::Export { output } => transfer::export(global, output.as_deref(), interrupt),
        Command::Import {
            file,
            on_duplicate,
            after_line,
            max_line,
            from,
        } => {
            let max_line = usize::try_from(max_line).unwrap_or(usize::MAX);
            if let Some(format) = from.from {
                let how = (on_duplicate, max_line);
                return import_from::run(global, &file, (format, &from), how, interrupt);
            }
            let how = ImportHow {
                on_duplicate,
                after_line,
                max_line,
            };
            transfer::import(global, &file, how, interrupt)
        }
        Command::Secrets { command } => secrets::run(global, command),
        Command::Watch { interval, count } => watch::run(global, interval, count),
        Command::Bench { folder, time } => bench::run(global, &folder, time, interrupt),
        Command::Admin(wanted) => admin::run(global, &wanted, interrupt),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { folder } => generate::man(folder.as_deref()),
    }
}

/// Refuses a store in a server with commands that work on files.
fn refuse_server(global: &Global, command: &Command) -> Outcome<()> {
    let (name, advice) = match command {
        Command::Salvage { .. } => (
            "salvage",
            "`cloakroom check` names the damage, and a backup of the server has what is lost. `cloakroom export` writes what \
             can be read.",
        ),
        Command::Compact => (
            "compact",
            "The server gives the space of removed rows back by itself: VACUUM of PostgreSQL does it at once.",
        ),
        Command::Backup(_) => (
            "backup",
            "The server's own backups hold the sessions: pg_dump, or pg_basebackup with the archive of its log. `cloakroom \
             export` writes the sessions for another store.",
        ),
        Command::Watch { .. } => (
            "watch",
            "Name the application's administration page with --at URL: its figures are shown. `cloakroom stats` counts the \
             sessions.",
        ),
        _ => return makes_no_server(command),
    };
    global.need_no_server(name, advice)
}

/// Refuses the address of a server where a file is made.
fn makes_no_server(command: &Command) -> Outcome<()> {
    let to = match command {
        Command::Restore(wanted) => &wanted.to,
        Command::Salvage { to, .. } => to,
        _ => return Ok(()),
    };
    match StorePlace::from(to.clone().into_os_string()) {
        StorePlace::File(_) => Ok(()),
        StorePlace::Server(_) => {
            let advice = "Name a file that does not exist yet. `cloakroom move FILE postgres://…` brings it into a server \
                          afterwards.";
            Err(Failure::usage(
                "this command makes a store in a file",
                advice,
            ))
        }
    }
}

/// Refuses --at with commands that work on files, or on none.
fn refuse_at(global: &Global, command: &Command) -> Outcome<()> {
    let (name, advice) = match command {
        Command::Salvage { .. } => (
            "salvage",
            "A damaged store is copied where its file is: stop the application, and name the file with --store.",
        ),
        Command::Compact => (
            "compact",
            "The file is written anew while nobody has it open: stop the application, and name the file with --store.",
        ),
        Command::Migrate { .. } => (
            "migrate",
            "A store that an application has open has the application's format already.",
        ),
        Command::Move(_) => (
            "move",
            "A store is moved while no application has it open: stop the application, and name both places.",
        ),
        Command::Restore(_) => (
            "restore",
            "A restored store is a new file: leave --at out, and let the application open it.",
        ),
        Command::Verify { .. } => (
            "verify",
            "Backups are verified where they are: leave --at out.",
        ),
        Command::Bench { .. } => (
            "bench",
            "It measures a disk of the machine that it runs on: run it there, without --at.",
        ),
        Command::Admin(_) => (
            "admin",
            "The page is served already: open the address in a browser.",
        ),
        Command::Completions { .. } => (
            "completions",
            "They are the same for every store: leave --at out.",
        ),
        Command::Import { from, .. } if from.from.is_some() => (
            "import --from",
            "It adopts the ids of visitors, for which it needs the secrets of the store: stop the application, and name \
             the file with --store.",
        ),
        Command::Man { .. } => (
            "man",
            "The manual is the same for every store: leave --at out.",
        ),
        _ => return Ok(()),
    };
    global.need_files(name, advice)
}

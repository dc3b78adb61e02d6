//! `completions` and `man`.

use crate::args::Arguments;
use crate::failure::{Failure, Found, Outcome};
use crate::output::as_it_is;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::path::Path;

pub(crate) fn completions(shell: Shell) -> Outcome {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    // The generator panics if it cannot write.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    as_it_is(&text)?;
    Ok(Found::Nothing)
}

pub(crate) fn man(folder: Option<&Path>) -> Outcome {
    let command = Arguments::command();
    let Some(folder) = folder else {
        let mut text = Vec::new();
        Man::new(command).render(&mut text)?;
        as_it_is(&text)?;
        return Ok(Found::Nothing);
    };
    let failed =
        |error| Failure::file(format!("{} cannot be written to", folder.display()), &error);
    fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    Ok(Found::Nothing)
}

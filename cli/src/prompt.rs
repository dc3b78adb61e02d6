//! Asks before a command destroys something.

use crate::failure::{Failure, Outcome};
use crate::text::plain;
use std::io::{self, IsTerminal as _, Write as _};

/// The answer that the arguments give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// With `--yes`.
    Given,
    Asked,
}

impl From<bool> for Consent {
    fn from(is_given: bool) -> Self {
        if is_given { Self::Given } else { Self::Asked }
    }
}

/// Goes on only if a person says yes, or has said it by `--yes`.
pub(crate) fn confirm(consent: Consent, question: &str) -> Outcome<()> {
    if consent == Consent::Given {
        return Ok(());
    }
    let question = plain(question);
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let what =
            format!("{question} Nobody can be asked without a terminal, and nothing was changed");
        return Err(Failure::usage(
            what,
            "Give --yes, if that is what you want.",
        ));
    }
    let mut err = anstream::stderr();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => {
            let why = "the answer was not yes, and nothing was changed";
            Err(Failure::interrupted(why, "Run the command again to do it."))
        }
    }
}

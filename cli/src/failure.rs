//! How a command ends: its exit code, and what a person is told.

use crate::output::{Form, error_line};
use crate::text::{json_escaped, plain};
use cloakroom::{Error, ErrorKind};
use std::io;

/// The exit codes, beside 0.
pub(crate) const FOUND: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const UNUSABLE: u8 = 3;
pub(crate) const INTERRUPTED: u8 = 4;

/// What a command that was done has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// Damage, losses, or no session of the name that was asked for.
    Something,
}

impl Found {
    /// So many of what is to be found.
    pub(crate) fn of(count: u64) -> Self {
        match count {
            0 => Self::Nothing,
            _ => Self::Something,
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Something => FOUND,
        }
    }
}

pub(crate) type Outcome<T = Found> = Result<T, Failure>;

/// Why a command was not done, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// A word for programs.
    kind: String,
    message: String,
    advice: String,
}

impl Failure {
    fn new(code: u8, kind: &str, message: impl Into<String>, advice: &str) -> Self {
        Self {
            code,
            kind: kind.to_owned(),
            message: message.into(),
            advice: advice.to_owned(),
        }
    }

    /// The command was called in a wrong way.
    pub(crate) fn usage(message: impl Into<String>, advice: &str) -> Self {
        Self::new(USAGE, "usage", message, advice)
    }

    /// The store cannot be used.
    pub(crate) fn unusable(kind: &str, message: impl Into<String>, advice: &str) -> Self {
        Self::new(UNUSABLE, kind, message, advice)
    }

    /// It was broken off, by a signal or by the answer no.
    pub(crate) fn interrupted(message: impl Into<String>, advice: &str) -> Self {
        Self::new(INTERRUPTED, "interrupted", message, advice)
    }

    pub(crate) fn defect() -> Self {
        let advice = "This is a defect of the program: please report what you did. The store is as a kill would leave \
                      it, which harms nothing.";
        Self::new(UNUSABLE, "defect", "the command has failed", advice)
    }

    /// The reader of an export, or of a backup, has gone before it had all.
    fn unread() -> Self {
        Self::new(INTERRUPTED, "unread", "", "")
    }

    /// A file that is no store cannot be read or written.
    pub(crate) fn file(what: String, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::unread();
        }
        let advice = "Check the path, the permissions and the free space, then try again.";
        Self::unusable("io", format!("{what}: {error}"), advice)
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    pub(crate) fn print(&self, form: Form) {
        if self.message.is_empty() {
            return;
        }
        // Nobody may be there to read it.
        let _ = match form {
            Form::Json => {
                let error = serde_json::json!({ "error": {
                    "kind": self.kind, "message": self.message, "advice": self.advice,
                }});
                error_line(&json_escaped(&error.to_string()))
            }
            Form::Text => error_line(&format!(
                "{red}error:{red:#} {}\n{}",
                plain(&self.message),
                self.advice,
                red = anstyle::AnsiColor::Red.on_default().bold(),
            )),
        };
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::file("the output cannot be written".to_owned(), &error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let broken_pipe = |io: &io::Error| io.kind() == io::ErrorKind::BrokenPipe;
        if error.io_error().is_some_and(broken_pipe) {
            return Self::unread();
        }
        let (kind, code) = (format!("{:?}", error.kind()), code_of(&error));
        Self::new(code, &kind, error.to_string(), advice_on(&error))
    }
}

fn code_of(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::NoSuchContainer => USAGE,
        ErrorKind::Interrupted => INTERRUPTED,
        _ => UNUSABLE,
    }
}

fn advice_on(error: &Error) -> &'static str {
    let is_missing = |io: &io::Error| io.kind() == io::ErrorKind::NotFound;
    match error.kind() {
        ErrorKind::Locked => {
            "An application, or another command, has the store open. Commands work on a store that nobody has open: \
             stop the application first."
        }
        ErrorKind::Io if error.io_error().is_some_and(is_missing) => {
            "Check the path. No command creates a store in its place: an application does when it first opens it."
        }
        ErrorKind::NotAStore => "Check the path: the file was not changed.",
        ErrorKind::TooNew => {
            "Use the command of a newer version of cloakroom. The file was not changed."
        }
        ErrorKind::WrongKey => "Give the keys that the application uses with --key-file.",
        ErrorKind::Corrupt => {
            "`cloakroom check` names the damage; `cloakroom salvage --to NEW` copies what can be read into a new store."
        }
        ErrorKind::NoSuchContainer => "`cloakroom containers` lists the containers.",
        ErrorKind::Conflict | ErrorKind::Unavailable => "Try again.",
        ErrorKind::Interrupted => {
            "Nothing is left of it, and the store is as it was. Run the command again to do it."
        }
        ErrorKind::TooLarge => {
            "Raise the limit in the application, or of a line with --max-line, or leave the session out."
        }
        ErrorKind::InvalidInput => {
            "Correct it, and try again. `cloakroom help` describes the commands."
        }
        ErrorKind::Unsupported => {
            "If the store is of an older format, `cloakroom migrate` migrates it. If the application gives the secrets, \
             change them there."
        }
        _ => {
            "Check the disk, its free space and the permissions, then try again. The store keeps what was committed."
        }
    }
}

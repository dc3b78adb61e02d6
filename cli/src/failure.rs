//! How a command ends: its exit code, and what a person is told.

use crate::output::{Form, error_line};
use crate::server::without_passwords;
use crate::stoppable::is_broken_off;
use crate::text::{self, json_escaped, plain};
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

    /// An error of a store elsewhere, by the name of its kind.
    pub(crate) fn of_kind(name: &str, message: String) -> Self {
        let known = KINDS.into_iter().find(|kind| format!("{kind:?}") == name);
        let kind = known.unwrap_or(ErrorKind::Io);
        Self::new(code_of(kind), name, message, advice_on(kind))
    }

    /// With the advice for a store in a server, where the advice is about files.
    pub(crate) fn on_server(mut self) -> Self {
        let known = SERVER_ADVICE
            .iter()
            .find(|(kind, _)| format!("{kind:?}") == self.kind);
        if let Some((kind, advice)) = known
            && self.advice == advice_on(*kind)
        {
            self.advice = (*advice).to_owned();
        }
        self
    }

    /// Of a store that is opened: it cannot be used as it is.
    pub(crate) fn of_opening(error: Error) -> Self {
        let advice = "If the move to there was broken off, run it again: it goes on.";
        Self::from(error).if_invalid(advice)
    }

    /// Of a store that is opened to be moved.
    pub(crate) fn of_moved(mut self) -> Self {
        if self.is(ErrorKind::Locked) {
            self.advice = "An application, or another command, has the store open. Stop it: what it changes would not be \
                           moved."
                .to_owned();
        }
        self
    }

    /// Of a store that is to become the copy.
    pub(crate) fn of_copy(self) -> Self {
        let advice = "Nothing was changed. Name a place where there is no store: another file, or another schema with \
                      ?schema=NAME. If nobody uses what is there, remove the file, or drop the tables.";
        self.of_moved().if_invalid(advice)
    }

    fn if_invalid(mut self, advice: &str) -> Self {
        if self.is(ErrorKind::InvalidInput) {
            self.code = UNUSABLE;
            self.advice = advice.to_owned();
        }
        self
    }

    /// Sessions were not counted to the end.
    pub(crate) fn unmeasured() -> Self {
        let advice = "Nothing was changed. `cloakroom stats --quick` does not read the sessions.";
        Self::interrupted("not all sessions were measured", advice)
    }

    /// An export was broken off.
    pub(crate) fn unexported() -> Self {
        let advice = "The store is unchanged. An import refuses an export without its last line, after its whole batches.";
        Self::interrupted("the export was broken off", advice)
    }

    /// What was to be imported is wrong, which is no wrong usage.
    pub(crate) fn not_imported(message: String) -> Self {
        let advice = "Correct the file, or make a new one. --on-duplicate says what happens to sessions that are there \
                      already; --after-line goes on after the lines that are imported.";
        Self::unusable("InvalidInput", message, advice)
    }

    /// An import was broken off.
    pub(crate) fn partly_imported(sessions: u64, lines: u64) -> Self {
        let done = format!("{} imported, the rest is not", text::sessions(sessions));
        let advice = format!("Go on with --after-line {lines}.");
        Self::interrupted(done, &advice)
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

    /// Ctrl-C came while something was read or written.
    fn broken_off() -> Self {
        let advice = "The store is as it was, and what was written is cut short. Run the command again to do it.";
        Self::interrupted("it was broken off", advice)
    }

    /// A file that is no store cannot be read or written.
    pub(crate) fn file(what: String, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::unread();
        }
        if is_broken_off(error) {
            return Self::broken_off();
        }
        let advice = "Check the path, the permissions and the free space, then try again.";
        Self::unusable("io", format!("{what}: {error}"), advice)
    }

    /// Whether it is an error of this kind.
    pub(crate) fn is(&self, kind: ErrorKind) -> bool {
        self.kind == format!("{kind:?}")
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
                    "kind": self.kind, "message": without_passwords(&self.message), "advice": self.advice,
                }});
                error_line(&json_escaped(&error.to_string()))
            }
            Form::Text => error_line(&format!(
                "{red}error:{red:#} {}\n{}",
                plain(&without_passwords(&self.message)),
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
        if error.io_error().is_some_and(is_broken_off) {
            return Self::broken_off();
        }
        let is_missing = |io: &io::Error| io.kind() == io::ErrorKind::NotFound;
        if error.kind() == ErrorKind::Io && error.io_error().is_some_and(is_missing) {
            let advice = "Check the path. No command creates a store in its place: an application does when it first \
                          opens it.";
            return Self::new(UNUSABLE, "Io", error.to_string(), advice);
        }
        let kind = error.kind();
        Self::new(
            code_of(kind),
            &format!("{kind:?}"),
            error.to_string(),
            advice_on(kind),
        )
    }
}

/// The kinds that are more than a failure of the storage.
const KINDS: [ErrorKind; 12] = [
    ErrorKind::Locked,
    ErrorKind::NotAStore,
    ErrorKind::TooNew,
    ErrorKind::WrongKey,
    ErrorKind::Corrupt,
    ErrorKind::NoSuchContainer,
    ErrorKind::Conflict,
    ErrorKind::Unavailable,
    ErrorKind::Interrupted,
    ErrorKind::TooLarge,
    ErrorKind::InvalidInput,
    ErrorKind::Unsupported,
];

/// What to do about a store in a server.
const SERVER_ADVICE: [(ErrorKind, &str); 8] = [
    (
        ErrorKind::NotAStore,
        "Check the database, and the schema (?schema=NAME). `cloakroom migrate` makes the tables of a new store, and `cloakroom \
         move` brings a store there.",
    ),
    (
        ErrorKind::TooNew,
        "Use the command of a newer version of cloakroom. Nothing was changed.",
    ),
    (
        ErrorKind::Io,
        "Check the role, its password and its rights, and the database. The password comes from PGPASSWORD, from ~/.pgpass, \
         or from the file that PGPASSFILE names.",
    ),
    (
        ErrorKind::Unavailable,
        "Check the address, and whether the server runs and can be written to; then try again.",
    ),
    (
        ErrorKind::Unsupported,
        "`cloakroom migrate`, by a role that may make tables, makes and migrates them. If the application gives the \
         secrets, change them there.",
    ),
    (
        ErrorKind::Corrupt,
        "`cloakroom check` names the damage; `cloakroom end` ends a damaged session. A backup of the server has the rest.",
    ),
    (
        ErrorKind::NotWritten,
        "Look into the log of the server: it may have no space. Then try again.",
    ),
    (
        ErrorKind::OutcomeUnknown,
        "The server went away before it answered. Look at what was done before you run the command again.",
    ),
];

fn code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput | ErrorKind::NoSuchContainer => USAGE,
        ErrorKind::Interrupted => INTERRUPTED,
        _ => UNUSABLE,
    }
}

fn advice_on(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Locked => {
            "An application, or another command, has the store open. If the application mounts the administration page, \
             name that instead of the path: --at URL. Otherwise stop the application first."
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

//! Why a page cannot be shown, or a change not be made: the status, and words that say what to do.

use axum::http::StatusCode;
use cloakroom::{Error, ErrorKind};
use serde::Serialize;
use std::fmt;

/// The error of a page.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    /// What is wrong.
    pub(crate) title: &'static str,
    /// What it means, and what to do.
    pub(crate) text: String,
    /// What to do, if the text is the store's.
    pub(crate) advice: Option<&'static str>,
    /// The error of the store that it comes from, for programs.
    pub(crate) cause: Option<Box<Cause>>,
}

/// What programs are told of an error of the store.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Cause {
    /// The name of its kind, if the store has failed and not the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    /// How many sessions had ended, of an error of a call that ends several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sessions_ended: Option<u64>,
    /// What an import had done by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) imported: Option<ImportedSoFar>,
}

/// The sessions that are imported, and the last of their lines.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ImportedSoFar {
    pub(crate) sessions: u64,
    pub(crate) lines: u64,
}

impl Cause {
    pub(crate) fn of(error: &Error) -> Self {
        Self {
            kind: Some(format!("{:?}", error.kind())),
            sessions_ended: error.sessions_ended(),
            imported: None,
        }
    }
}

impl Failure {
    pub(crate) fn new(status: StatusCode, title: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            title,
            text: text.into(),
            advice: None,
            cause: None,
        }
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", text)
    }

    /// The page itself has failed.
    pub(crate) fn fault() -> Self {
        let text = "The log of the application has more. Look before you repeat it.";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong",
            text,
        )
    }

    /// The audit log cannot be written: what that means, to which is added what to do.
    pub(crate) fn unrecorded(meaning: String) -> Self {
        let title = "The audit log cannot be written";
        let text = format!("{meaning} Free space on the disk, or look at the file's rights.");
        Self::new(StatusCode::INSUFFICIENT_STORAGE, title, text)
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        let title = "The request was not understood";
        Self::new(StatusCode::BAD_REQUEST, title, text)
    }

    /// The same, with what an import had done before.
    pub(crate) fn after(mut self, imported: ImportedSoFar) -> Self {
        self.cause.get_or_insert_default().imported = Some(imported);
        self
    }

    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "This is not allowed", text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, title) = match error.kind() {
            ErrorKind::InvalidInput => (StatusCode::BAD_REQUEST, "That is not possible"),
            ErrorKind::NoSuchContainer => (StatusCode::NOT_FOUND, "There is no such container"),
            ErrorKind::Conflict => (StatusCode::CONFLICT, "Somebody else changed it meanwhile"),
            ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "That is too much"),
            ErrorKind::Unsupported => (StatusCode::NOT_IMPLEMENTED, "This store cannot do that"),
            ErrorKind::Closed | ErrorKind::Unavailable | ErrorKind::NotWritten => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The store cannot be reached now",
            ),
            ErrorKind::OutcomeUnknown => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "It may or may not have been done: look before you repeat it",
            ),
            ErrorKind::Corrupt => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "A record is damaged: run a check",
            ),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong"),
        };
        let cause = Some(Box::new(Cause::of(&error)));
        Self {
            cause,
            advice: advice(error.kind()),
            ..Self::new(status, title, error.to_string())
        }
    }
}

/// What to do about an error of the store.
fn advice(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::InvalidInput => "Go back, correct it, and send it again.",
        ErrorKind::NoSuchContainer => {
            "The application registers its containers when it starts. The page of the containers lists them."
        }
        ErrorKind::Conflict => "Look at the page again, and repeat it.",
        ErrorKind::Closed => {
            "The application has closed its store, as it does when it ends. Start it again, or wait until it has started."
        }
        ErrorKind::Unavailable | ErrorKind::NotWritten => {
            "Nothing was changed. Look at the overview and into the application's log, mend what they name, and try again. \
             The store goes on by itself when its disk or server does."
        }
        ErrorKind::Corrupt => {
            "Run a check under Maintenance: it names what is damaged. A session that cannot be read can be ended."
        }
        ErrorKind::Io => "Look at the disk: whether it is full, and who may write.",
        _ => return None,
    })
}

impl From<minijinja::Error> for Failure {
    fn from(error: minijinja::Error) -> Self {
        tracing::error!(%error, "a page of the administration cannot be drawn");
        let text = "This is a fault of the administration page. The log has more.";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The page cannot be drawn",
            text,
        )
    }
}

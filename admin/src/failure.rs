//! Why a page cannot be shown, or a change not be made: the status, and words that say what to do.

use axum::http::StatusCode;
use cloakroom::{Error, ErrorKind};
use serde::Serialize;

/// The error of a page.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    /// What is wrong.
    pub(crate) title: &'static str,
    /// What it means, and what to do.
    pub(crate) text: String,
    /// The error of the store that it comes from, for programs.
    pub(crate) cause: Option<Cause>,
}

/// What programs are told of an error of the store.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cause {
    /// The name of its kind.
    pub(crate) kind: String,
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
            kind: format!("{:?}", error.kind()),
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
            cause: None,
        }
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", text)
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        let title = "The request was not understood";
        Self::new(StatusCode::BAD_REQUEST, title, text)
    }

    /// The same, with what an import had done before.
    pub(crate) fn after(mut self, imported: ImportedSoFar) -> Self {
        if let Some(cause) = &mut self.cause {
            cause.imported = Some(imported);
        }
        self
    }

    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "This is not allowed", text)
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
        let cause = Some(Cause::of(&error));
        Self {
            cause,
            ..Self::new(status, title, error.to_string())
        }
    }
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

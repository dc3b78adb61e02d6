//! What the errors of the server and of connections mean for a commit and for a read.

use crate::error::{Error, ErrorKind};
use tokio_postgres::error::{DbError, SqlState};

/// How a request to the server failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no connection, and nothing was sent.
    NotSent(Error),
    /// The answer was lost. What was sent may still take effect.
    Lost(Error),
    /// The server has refused it, and it took no effect. It may succeed if it is repeated.
    Again(Error),
    /// The server has refused it, and it took no effect.
    Refused(Error),
}

impl Failure {
    /// The error of a read.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::NotSent(error)
            | Self::Lost(error)
            | Self::Again(error)
            | Self::Refused(error) => error,
        }
    }

    pub(super) fn error(&self) -> &Error {
        match self {
            Self::NotSent(error)
            | Self::Lost(error)
            | Self::Again(error)
            | Self::Refused(error) => error,
        }
    }

    /// Whether the same request, repeated, may succeed.
    pub(super) fn may_be_repeated(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

pub(super) fn unavailable(why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, why)
}

/// The failure of a statement that was sent.
pub(super) fn sent(error: tokio_postgres::Error) -> Failure {
    let Some(code) = error.code().cloned() else {
        let lost = unavailable("the connection to the server was lost");
        return Failure::Lost(lost.with_source(error));
    };
    let with = |kind, why: &str| Error::new(kind, why).with_source(described(&error));
    match kind_of(&code) {
        SqlKind::Going => {
            let why = "the server is shutting down, or cannot be written to";
            Failure::Lost(with(ErrorKind::Unavailable, why))
        }
        SqlKind::Again => {
            let why = "another transaction was in the way";
            Failure::Again(with(ErrorKind::Conflict, why))
        }
        SqlKind::NotDone => {
            let why = "the connection to the server cannot be used any more";
            Failure::NotSent(with(ErrorKind::Unavailable, why))
        }
        // A prepared statement does not fit the tables any more.
        SqlKind::Refused(_) if is_of_old_tables(&error) => {
            let why = "the tables of the store have changed";
            Failure::NotSent(with(ErrorKind::Unavailable, why))
        }
        SqlKind::Refused(kind) => Failure::Refused(with(kind, "the server refused a statement")),
    }
}

/// What the code of an error says of a statement.
#[derive(Debug, PartialEq, Eq)]
enum SqlKind {
    /// It took no effect, and the connection is of no use any more. It says nothing of the statements before it.
    NotDone,
    /// The connection is of no use any more. A commit under way may have taken place.
    Going,
    Again,
    Refused(ErrorKind),
}

/// "cached plan must not change result type": the text is translated, the code is that of all that is not supported.
fn is_of_old_tables(error: &tokio_postgres::Error) -> bool {
    let routine = error.as_db_error().and_then(DbError::routine);
    routine == Some("RevalidateCachedQuery")
}

fn kind_of(code: &SqlState) -> SqlKind {
    let is = |codes: &[SqlState]| codes.contains(code);
    let class = code.code().get(..2).unwrap_or_default();
    if is(&[
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::UNIQUE_VIOLATION,
        // The settings have changed: see `Statement::Replace`.
        SqlState::NOT_NULL_VIOLATION,
        // A row that was to be written is another one: see `Statement::Replace`, too.
        SqlState::DIVISION_BY_ZERO,
    ]) {
        return SqlKind::Again;
    }
    if is(&[
        // An earlier statement of the transaction has failed, whose failure says why.
        SqlState::IN_FAILED_SQL_TRANSACTION,
        // A connection pooler has exchanged the server's connection.
        SqlState::INVALID_SQL_STATEMENT_NAME,
    ]) {
        return SqlKind::NotDone;
    }
    if is(&[
        SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::DATABASE_DROPPED,
        SqlState::IDLE_SESSION_TIMEOUT,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::from_code("25P04"), // transaction_timeout
    ]) || class == "08"
    {
        return SqlKind::Going;
    }
    SqlKind::Refused(match class {
        "53" => ErrorKind::NotWritten,
        "XX" => ErrorKind::Corrupt,
        "57" => ErrorKind::Unavailable,
        _ => ErrorKind::Io,
    })
}

/// The failure of a connection attempt.
pub(super) fn connecting(error: tokio_postgres::Error) -> Failure {
    let Some(code) = error.code().cloned() else {
        if let Some(why) = untrusted(&error) {
            return Failure::Refused(Error::new(ErrorKind::Io, why).with_source(error));
        }
        let why = unavailable("the server cannot be reached");
        return Failure::NotSent(why.with_source(error));
    };
    let with = |kind, why: &str| Error::new(kind, why).with_source(described(&error));
    match code.code().get(..2) {
        // The password, the role or the database is wrong: waiting does not help.
        Some("28" | "3D" | "42") => {
            Failure::Refused(with(ErrorKind::Io, "the server refuses the connection"))
        }
        _ => Failure::NotSent(with(
            ErrorKind::Unavailable,
            "the server takes no connections now",
        )),
    }
}

/// Why no encrypted connection can be made, however long it is tried.
fn untrusted(error: &tokio_postgres::Error) -> Option<&'static str> {
    #[cfg(feature = "postgres-tls")]
    if super::tls::is_not_trusted(error) {
        return Some("the certificate of the server is not trusted");
    }
    // tokio-postgres has no kind for this.
    let cause = std::error::Error::source(error)?.to_string();
    let is_refused = cause.contains("server does not support TLS");
    is_refused.then_some("the server does not encrypt connections")
}

/// The server's message. Its detail may quote values of rows, and is left out.
fn described(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C10.2
    #[test]
    fn the_codes_of_the_server_become_the_kinds_of_the_contract() {
        for code in ["40001", "40P01", "55P03", "23505", "23502", "22012"] {
            assert_eq!(
                kind_of(&SqlState::from_code(code)),
                SqlKind::Again,
                "{code}"
            );
        }
        for code in [
            "08006", "57P01", "57P02", "57P03", "53300", "25006", "40003", "25P03", "25P04",
        ] {
            assert_eq!(
                kind_of(&SqlState::from_code(code)),
                SqlKind::Going,
                "{code}"
            );
        }
        for code in ["25P02", "26000"] {
            let found = kind_of(&SqlState::from_code(code));
            assert_eq!(found, SqlKind::NotDone, "{code}");
        }
        let refused = [
            ("53100", ErrorKind::NotWritten),
            ("XX001", ErrorKind::Corrupt),
            ("57014", ErrorKind::Unavailable),
            ("42501", ErrorKind::Io),
        ];
        for (code, kind) in refused {
            let found = kind_of(&SqlState::from_code(code));
            assert_eq!(found, SqlKind::Refused(kind), "{code}");
        }
    }
}

//! Opens a file of SQLite for reading, and finds the table of sessions in it. Changes nothing.

use super::format::{Columns, SourceFormat};
use rusqlite::{Connection, ErrorCode, OpenFlags, Statement};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a write of a running application is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The byte of the header that says that the file has a write-ahead log, and its value then.
const WAL_AT: usize = 18;
const WAL: u8 = 2;

/// Why the sessions in a file cannot be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Io(io::Error),
    NotSqlite,
    /// It has no such table, or one with other columns.
    OtherSchema,
    Sqlite(rusqlite::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rusqlite::Error> for Unreadable {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotSqlite,
            _ => Self::Sqlite(error),
        }
    }
}

/// A file with a table of sessions.
pub(crate) struct SourceFile {
    connection: Connection,
    table: String,
    columns: Columns,
}

impl SourceFile {
    pub(crate) fn open(path: &Path, format: SourceFormat, table: &str) -> Result<Self, Unreadable> {
        let connection = connection(path)?;
        connection.busy_timeout(PATIENCE)?;
        let found: Vec<String> = {
            // A view could be a query that never ends.
            let mut statement = connection.prepare(
                "SELECT columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns \
                 WHERE tables.type = 'table' AND lower(tables.name) = lower(?1)",
            )?;
            let names = statement.query_map([table], |row| row.get(0))?;
            names.collect::<Result<_, _>>()?
        };
        let has = |column: &&str| found.iter().any(|name| name.eq_ignore_ascii_case(column));
        let mut all = format.columns().iter();
        let columns = all.find(|columns| columns.iter().all(has));
        Ok(Self {
            columns: *columns.ok_or(Unreadable::OtherSchema)?,
            table: format!("\"{}\"", table.replace('"', "\"\"")),
            connection,
        })
    }

    pub(crate) fn count(&self) -> Result<u64, Unreadable> {
        let query = format!("SELECT count(*) FROM {}", self.table);
        let count: i64 = self.connection.query_row(&query, [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// All rows as of one moment: the id, the content and the end of each.
    pub(crate) fn rows(&self) -> Result<Statement<'_>, Unreadable> {
        let [id, content, end] = self.columns;
        let query = format!("SELECT {id}, {content}, {end} FROM {}", self.table);
        Ok(self.connection.prepare(&query)?)
    }
}

/// Without a log beside it, a file that has logs is complete and in nobody's use. SQLite would make an empty log to read
/// it, unless it is told that nothing changes.
fn connection(path: &Path) -> Result<Connection, Unreadable> {
    // SQLite writes the log beside the file itself, not beside a link to it.
    let path = fs::canonicalize(path)?;
    let mut header = Vec::new();
    File::open(&path)?.take(100).read_to_end(&mut header)?;
    let has_logs = header.get(WAL_AT) == Some(&WAL);
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if has_logs && !PathBuf::from(log).exists() {
        let flags = flags | OpenFlags::SQLITE_OPEN_URI;
        return Ok(Connection::open_with_flags(unchanging(&path)?, flags)?);
    }
    Ok(Connection::open_with_flags(path, flags)?)
}

/// The address of a file that nothing changes.
fn unchanging(path: &Path) -> io::Result<String> {
    let mut address = "file://".to_owned();
    for byte in std::path::absolute(path)?.as_os_str().as_encoded_bytes() {
        match byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            true => address.push((*byte).into()),
            // Writing to a string cannot fail.
            false => drop(write!(address, "%{byte:02X}")),
        }
    }
    Ok(address + "?immutable=1")
}

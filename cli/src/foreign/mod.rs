//! Sessions that other libraries keep in SQLite: reads them, and writes them as the lines of an export. Knows no store.

mod axum_session;
mod express;
mod format;
mod lines;
mod record;
mod sqlite;
mod tower_sessions;

pub(crate) use format::{SourceFormat, SourceReader};
pub(crate) use lines::{ForeignLines, Left, LineLimits};
pub(crate) use sqlite::{SourceFile, Unreadable};

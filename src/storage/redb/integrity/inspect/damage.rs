//! Locates and reports damage.

use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind};
use crate::storage::record::client_of;
use crate::storage::redb::integrity::pages::BadPage;
use crate::storage::{ContainerId, Damage};

pub(crate) fn corrupt(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}

/// The container, session and package of a row, from its key.
#[derive(Clone, Copy)]
pub(crate) struct ParsedKey<'a> {
    pub(crate) container: ContainerId,
    pub(crate) client: ClientKey,
    pub(crate) package: Option<&'a str>,
}

/// Splits the key of a session or package.
pub(crate) fn parse_key(key: &[u8]) -> Option<ParsedKey<'_>> {
    let (session, package) = key.split_first_chunk::<20>()?;
    let container = session.first_chunk::<4>()?;
    Some(ParsedKey {
        container: ContainerId(u32::from_be_bytes(*container)),
        client: client_of(session),
        package: str::from_utf8(package).ok().filter(|p| !p.is_empty()),
    })
}

/// Reports a damaged page, with the range of its keys. Of a key, only the session's part is shown.
pub(crate) fn bad_page(table: &str, page: &BadPage) -> Damage {
    let hex = |key: &Option<Vec<u8>>| match key {
        None => "the end".to_owned(),
        Some(key) => key.iter().take(36).map(|b| format!("{b:02x}")).collect(),
    };
    let error = corrupt(format!(
        "a page of the table {table:?} is damaged: {}; it leads to the keys after {} up to {}",
        page.why,
        hex(&page.after),
        hex(&page.up_to),
    ));
    of_structure(error)
}

/// Reports a page that the disk cannot read, and that is read from its copy in memory.
pub(crate) fn page_of_copy(offset: u64) -> Damage {
    of_structure(corrupt(format!(
        "the page at byte {offset} of the file cannot be read; its copy in memory is used until a checkpoint has \
         written it elsewhere"
    )))
}

fn of_structure(error: Error) -> Damage {
    Damage {
        container: None,
        client: None,
        package: None,
        error,
    }
}

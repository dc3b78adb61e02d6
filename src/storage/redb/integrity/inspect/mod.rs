//! Inspects every page and every row of a store, and compares them with each other (C5.4). A row that the journal or
//! the memory holds newer than the file counts as it is there: in the middle of a checkpoint, the file alone is
//! inconsistent. An inspection changes nothing and needs no working database.

mod damage;
mod file;
mod inspection;
mod rows;
mod snapshot;

pub(crate) use damage::{ParsedKey, bad_page, page_of_copy, parse_key};
pub(crate) use file::{InspectedJournal, examine, inspect_file};
pub(crate) use snapshot::{InspectionSnapshot, over_redb};

//! The contents of rows, and their encoding. Only this module knows bincode. It knows no tables.

mod backup;
mod cipher;
#[cfg(test)]
#[cfg(feature = "encryption")]
mod cipher_tests;
mod codec;
mod container;
mod context;
mod frame;
#[cfg(feature = "encryption")]
mod keys;
mod optional_fields;
mod package;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use backup::{
    BackupCounts, BackupHeader, BackupRecord, open_backup, seal_backup_end, seal_backup_header,
    seal_backup_rows,
};
pub(crate) use cipher::{RecordCipher, open_value, seal_value};
#[cfg(feature = "torture")]
pub(crate) use codec::seal_raw;
pub(crate) use codec::{
    PlainValue, RecordKind, millis, open_plain, seal_plain, verify, whole_millis,
};
pub(crate) use container::ContainerRecord;
pub(crate) use frame::{open_frame, seal_frame};
#[cfg(feature = "encryption")]
pub(crate) use keys::{FileKeys, RecordKeys};
pub(crate) use optional_fields::MovedTo;
pub(crate) use package::{PackageRow, package_key};
pub(crate) use session::{AccessPart, SessionRow, client_of, container_of, session_key};

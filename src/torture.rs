//! The interface for the fault harness. It is not part of the public interface, and changes without notice.

pub use crate::storage::redb::backend::folder::{Folder, NewFile};
pub use crate::storage::redb::fault_injection::InjectedFault;

use crate::storage::record::{
    ContainerRecord, PackageRow, PlainValue, RecordCipher, RecordKind, SessionRow, open_plain,
    seal_raw,
};
use crate::storage::redb::journal::torture;
use crate::value::{self, Arithmetic};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

const KEY: &[u8] = b"key";

/// How often this thread has slept until a call of a store was answered.
#[must_use]
pub fn times_blocked() -> u64 {
    crate::block_on::times_slept()
}

/// Decodes bytes as every kind of record: as they are, and as a payload whose checksum is right.
///
/// # Panics
///
/// If a record differs after it was decoded and encoded again.
pub fn decode_records(data: &[u8]) {
    let plain = &RecordCipher::Plain;
    let sealed = |kind| seal_raw(kind, KEY, (1, data));
    let session = seal_raw(RecordKind::Session, KEY, (2, data));
    for record in [data.to_vec(), sealed(RecordKind::Session), session] {
        if let Ok(row) = SessionRow::decode(KEY, &record, plain) {
            let again = row
                .encode(KEY, plain)
                .and_then(|record| SessionRow::decode(KEY, &record, plain));
            assert_eq!(format!("{:?}", again.ok()), format!("{:?}", Some(row)));
        }
    }
    for record in [data.to_vec(), sealed(RecordKind::Package)] {
        if let Ok(row) = PackageRow::decode(KEY, Bytes::from(record), plain) {
            let pairs: Vec<_> = row.iter().collect();
            let entries = pairs.iter().map(|(key, value)| (*key, &**value));
            let again = PackageRow::encode(KEY, crate::storage::Version::ANY, entries)
                .and_then(|record| PackageRow::decode(KEY, Bytes::from(record), plain));
            assert!(again.is_ok_and(|again| again.iter().eq(row.iter())));
            for (key, _) in &pairs {
                let _ = row.get(key);
            }
        }
    }
    for record in [data.to_vec(), sealed(RecordKind::Container)] {
        let _ = ContainerRecord::decode("key", &record);
    }
    decode_plain::<u64>(data);
    decode_plain::<[u8; 16]>(data);
    decode_plain::<Vec<(u8, [u8; 32])>>(data);
}

/// Reads bytes as a journal file in four ways: as they are, as the content of a header with a correct checksum, as the
/// rows of frames with correct checksums, divided by line feeds, and as changes to a whole file.
///
/// # Panics
///
/// If a frame is found that was never written, or does not come back when it is written again.
pub fn decode_journal(data: &[u8]) {
    torture::decode_journal(data);
}

/// A journal file with one more frame, of any rows at all; `None` where they are none.
#[must_use]
pub fn with_frame(file: &[u8], rows: &[u8]) -> Option<Vec<u8>> {
    torture::with_frame(file, rows)
}

/// Prepares every statement of the engine on PostgreSQL at the server of this URL. Returns how many there are.
///
/// # Errors
///
/// If the server refuses one, or cannot be reached.
#[cfg(feature = "postgres")]
pub async fn prepare_statements(url: &str) -> crate::Result<usize> {
    crate::storage::postgres::prepare_all(url).await
}

fn decode_plain<T: PlainValue>(data: &[u8]) {
    let record = seal_raw(RecordKind::Meta, KEY, (1, data));
    let _ = open_plain::<T>(RecordKind::Meta, KEY, data);
    let _ = open_plain::<T>(RecordKind::Meta, KEY, &record);
}

/// Reads bytes as a `T`. A value that can be read can also be written, and is then read as the same value.
///
/// # Panics
///
/// If it is not.
pub fn decode_value<T: Serialize + DeserializeOwned>(data: &[u8]) {
    if let Ok(value) = value::decode::<T>(data) {
        let once = value::encode(&value).ok();
        let read = once
            .as_deref()
            .and_then(|bytes| value::decode::<T>(bytes).ok());
        let twice = read.and_then(|value| value::encode(&value).ok());
        assert!(
            once.is_some() && once == twice,
            "a value does not come back"
        );
    }
}

/// Applies each kind of arithmetic to the bytes, and reads the result again.
pub fn add_to_value(data: &[u8], n: i64) {
    for arithmetic in [Arithmetic::Add(n), Arithmetic::Max(n), Arithmetic::Min(n)] {
        if let Ok(sum) = arithmetic.apply(Some(data)) {
            decode_value::<i128>(&sum);
        }
    }
}

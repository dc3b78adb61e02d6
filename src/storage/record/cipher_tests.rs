use super::*;
use crate::clock::Timestamp;
use crate::encryption::KeyRing;
use crate::error::{ErrorKind, Result};
use crate::storage::Version;
use crate::storage::record::codec::RecordKind;
use bytes::Bytes;

fn cipher(number: u32, key: u8) -> RecordCipher {
    let cipher = RecordCipher::of(&KeyRing::new(number, [key; 32])).unwrap();
    cipher.know(FileKeys {
        index: [3; 32].into(),
        accepts_plain: false,
        has_former_hashes: false,
    });
    cipher
}

fn session() -> SessionRow {
    let mut row = SessionRow::new(Timestamp(5), Version(8));
    row.owner = Some("ann".into());
    row.optional.label = Some("phone".into());
    row.packages = ["a".into()].into();
    row
}

fn package(key: &[u8], cipher: &RecordCipher) -> Vec<u8> {
    let entries = [("k", &b"value"[..]), ("l", &b""[..])];
    let plain = PackageRow::encode(key, Version(7), entries.into_iter()).unwrap();
    PackageRow::encrypt(key, plain, cipher).unwrap()
}

#[test]
fn records_come_back_as_they_were() {
    let cipher = cipher(1, 1);
    let record = session().encode(b"key", &cipher).unwrap();
    assert_eq!(record[0], 0x82);
    assert_eq!(
        SessionRow::decode(b"key", &record, &cipher).unwrap(),
        session()
    );
    let record = Bytes::from(package(b"key", &cipher));
    assert_eq!(record[0], 0x81);
    let row = PackageRow::decode(b"key", record.clone(), &cipher).unwrap();
    assert!(row.is_of(&record));
    assert_eq!(row.version, Version(7));
    assert_eq!(row.get("k").as_deref(), Some(&b"value"[..]));
    // A row rebuilt from it equals a row rebuilt from a plain one.
    let writes = [("m".into(), Some(Bytes::from_static(b"new")))];
    let built = |row: &PackageRow| PackageRow::rebuild(Some(row), b"key", Version(9), (3, &writes));
    let plain = PackageRow::encode(
        b"key",
        Version(7),
        row.iter()
            .collect::<Vec<_>>()
            .iter()
            .map(|(k, v)| (*k, &**v)),
    )
    .unwrap();
    let plain = PackageRow::decode(b"key", plain.into(), &RecordCipher::Plain).unwrap();
    assert_eq!(built(&row).unwrap(), built(&plain).unwrap());
}

/// Equal contents do not look equal.
#[test]
fn no_two_records_are_encrypted_alike() {
    let cipher = cipher(1, 1);
    let nonce = |record: Vec<u8>| record[5..29].to_vec();
    assert_ne!(
        nonce(package(b"key", &cipher)),
        nonce(package(b"key", &cipher))
    );
}

/// The record of a session or a package, with a right checksum, is damaged by any other bit: but for the part for
/// accesses.
#[test]
fn each_bit_is_authenticated() {
    let cipher = cipher(1, 1);
    let check = |kind, record: &[u8], decode: &dyn Fn(&[u8]) -> Result<String>| {
        let whole = decode(record).unwrap();
        let end = record.len() - 8;
        let mut unnoticed = Vec::new();
        for bit in 0..end * 8 {
            let mut changed = record[..end].to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            codec::close(kind, b"key", &mut changed);
            match decode(&changed) {
                Ok(read) => {
                    assert_ne!(read, whole);
                    unnoticed.push(bit / 8);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
            }
        }
        for len in 0..end {
            let mut short = record[..len].to_vec();
            codec::close(kind, b"key", &mut short);
            assert_eq!(decode(&short).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        unnoticed.dedup();
        unnoticed
    };
    let record = session().encode(b"key", &cipher).unwrap();
    let unnoticed = check(RecordKind::Session, &record, &|record| {
        let row = SessionRow::decode(b"key", record, &cipher)?;
        assert_eq!(
            (&row.owner, &row.packages),
            (&session().owner, &session().packages)
        );
        Ok(format!("{row:?}"))
    });
    assert_eq!(unnoticed, (1..26).collect::<Vec<_>>());
    let record = package(b"key", &cipher);
    let unnoticed = check(RecordKind::Package, &record, &|record| {
        let row = PackageRow::decode(b"key", Bytes::copy_from_slice(record), &cipher)?;
        Ok(format!("{:?}", row.iter().collect::<Vec<_>>()))
    });
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}

#[test]
fn a_record_in_another_place_or_under_another_key_is_corrupt() {
    let own = cipher(1, 1);
    let moved = |record: &[u8]| {
        let mut moved = record[..record.len() - 8].to_vec();
        codec::close(RecordKind::Package, b"other", &mut moved);
        moved
    };
    let record = package(b"key", &own);
    let decode = |key: &[u8], record: &[u8], cipher: &RecordCipher| {
        let row = PackageRow::decode(key, Bytes::copy_from_slice(record), cipher);
        row.map(drop).map_err(|error| error.kind())
    };
    assert_eq!(decode(b"key", &record, &own), Ok(()));
    assert_eq!(
        decode(b"other", &moved(&record), &own),
        Err(ErrorKind::Corrupt)
    );
    for other in [cipher(1, 2), cipher(2, 1), RecordCipher::Plain] {
        assert_eq!(decode(b"key", &record, &other), Err(ErrorKind::Corrupt));
    }
}

/// A touch needs no key.
#[test]
fn an_access_leaves_what_is_encrypted_as_it_is() {
    let cipher = cipher(1, 1);
    let record = session().encode(b"key", &cipher).unwrap();
    let after = SessionRow::accessed(b"key", &record, Version(8), |part| {
        part.last_access = Timestamp(70);
    });
    let after = after.unwrap().unwrap();
    assert_eq!(after[26..after.len() - 8], record[26..record.len() - 8]);
    let mut expected = session();
    expected.access.last_access = Timestamp(70);
    assert_eq!(
        SessionRow::decode(b"key", &after, &cipher).unwrap(),
        expected
    );
}

#[test]
fn a_ring_tells_which_records_are_not_under_its_current_key() {
    let ring = KeyRing::new(2, [2; 32]).with_older(1, [1; 32]);
    let both = RecordCipher::of(&ring).unwrap();
    let keys = both.keys().unwrap();
    let old = session().encode(b"key", &cipher(1, 1)).unwrap();
    let new = session().encode(b"key", &cipher(2, 2)).unwrap();
    let plain = session().encode(b"key", &RecordCipher::Plain).unwrap();
    assert!(SessionRow::decode(b"key", &old, &both).is_ok());
    let is_current = |record: &[u8]| keys.is_current(RecordKind::Session, record);
    assert_eq!(
        [&old, &new, &plain].map(|it| is_current(it)),
        [false, true, false]
    );
    let packages = [
        package(b"key", &cipher(1, 1)),
        package(b"key", &cipher(2, 2)),
    ];
    let is_current = |record: &Vec<u8>| keys.is_current(RecordKind::Package, record);
    assert_eq!(packages.each_ref().map(is_current), [false, true]);
}

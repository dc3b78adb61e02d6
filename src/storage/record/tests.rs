use super::optional_fields::{OptionalFields, SharedFields};
use super::*;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::ErrorKind;
use crate::storage::Version;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

fn row() -> SessionRow {
    SessionRow {
        access: AccessPart {
            last_access: Timestamp(-2),
            created: Timestamp(1),
            id_issued: Timestamp(5),
            is_id_confirmed: true,
        },
        incarnation: Version(4),
        timeout: Some(Duration::from_secs(3)),
        owner: Some("ann".into()),
        packages: ["a".into(), "b".into()].into(),
        optional: SharedFields::from(OptionalFields {
            label: Some("phone".into()),
            authenticated_at: Some(Timestamp(6)),
            ends_at: Some(Timestamp(8)),
            moved: Some(MovedTo {
                client: ClientKey::from_bytes([9; 16]),
                from: Some(Version(3)),
            }),
            unknown: Bytes::new(),
        }),
    }
}

#[test]
fn a_session_row_comes_back_as_it_was() {
    let record = row().encode(b"key", &RecordCipher::Plain).unwrap();
    assert_eq!(
        SessionRow::decode(b"key", &record, &RecordCipher::Plain).unwrap(),
        row()
    );
}

/// A session's record in the first form, as it was written.
fn first_form() -> Vec<u8> {
    let mut record = vec![codec::FORMAT];
    let row = (1_i64, -2_i64, Some(3000_u64), Some("ann"), 4_u64);
    codec::append(&mut record, (row, ["a", "b"].as_slice())).unwrap();
    codec::close(RecordKind::Session, b"key", &mut record);
    record
}

#[test]
fn a_session_row_of_the_first_form_is_read_and_written_in_the_current_one() {
    let mut read = SessionRow::decode(b"key", &first_form(), &RecordCipher::Plain).unwrap();
    let again = read.encode(b"key", &RecordCipher::Plain).unwrap();
    assert_eq!((first_form()[0], again[0]), (1, 2));
    assert_eq!(
        SessionRow::decode(b"key", &again, &RecordCipher::Plain).unwrap(),
        read
    );
    // Its ids are those that it was founded with, and count as confirmed.
    assert_eq!(read.access.id_issued, Timestamp(1));
    assert!(read.access.is_id_confirmed);
    read.access.id_issued = Timestamp(5);
    assert_eq!(read.optional, SharedFields::default());
    read.optional = row().optional;
    assert_eq!(read, row());
}

#[test]
fn fields_of_a_later_version_are_kept() {
    let record = row().encode(b"key", &RecordCipher::Plain).unwrap();
    let mut later = record[..record.len() - 8].to_vec();
    codec::append(&mut later, (9_u8, &b"later"[..])).unwrap();
    codec::close(RecordKind::Session, b"key", &mut later);
    let mut read = SessionRow::decode(b"key", &later, &RecordCipher::Plain).unwrap();
    assert_eq!(&*read.optional.unknown, b"\x09\x05later");
    assert_eq!(read.encode(b"key", &RecordCipher::Plain).unwrap(), later);
    read = read.moved(Timestamp(7), Version(5));
    let moved = read.encode(b"other", &RecordCipher::Plain).unwrap();
    assert_eq!(
        SessionRow::decode(b"other", &moved, &RecordCipher::Plain).unwrap(),
        read
    );
    read.optional.unknown = Bytes::new();
    assert_eq!(read.optional.label, row().optional.label);
}

// C3.4: the fields that an access changes stand apart.
#[test]
fn an_access_changes_its_own_part_of_the_record_alone() {
    let access = |record: &[u8], incarnation| {
        SessionRow::accessed(b"key", record, Version(incarnation), |part| {
            part.last_access = Timestamp(70);
            part.is_id_confirmed = true;
        })
    };
    let before = row().encode(b"key", &RecordCipher::Plain).unwrap();
    let after = access(&before, 4).unwrap().unwrap();
    let apart = 1..26;
    let differs = |at: &usize| before[*at] != after[*at];
    let sum = before.len() - 8;
    assert!((0..sum).filter(differs).all(|at| apart.contains(&at)));
    let mut expected = row();
    expected.access.last_access = Timestamp(70);
    assert_eq!(
        SessionRow::decode(b"key", &after, &RecordCipher::Plain).unwrap(),
        expected
    );
    assert_eq!(
        expected.encode(b"key", &RecordCipher::Plain).unwrap(),
        after
    );
    // Nothing to change; another session.
    assert_eq!(access(&after, 4).unwrap(), None);
    assert_eq!(access(&before, 5).unwrap(), None);
    // The body is not looked into: it need not be readable.
    let mut opaque = before[..34].to_vec();
    opaque.extend_from_slice(b"sealed");
    codec::close(RecordKind::Session, b"key", &mut opaque);
    assert!(SessionRow::decode(b"key", &opaque, &RecordCipher::Plain).is_err());
    let after = access(&opaque, 4).unwrap().unwrap();
    assert_eq!(after[26..40], opaque[26..40]);
    // One of the first form is written in the current one.
    let after = access(&first_form(), 4).unwrap().unwrap();
    expected.access.id_issued = Timestamp(1);
    expected.optional = SharedFields::default();
    assert_eq!(
        SessionRow::decode(b"key", &after, &RecordCipher::Plain).unwrap(),
        expected
    );
    assert_eq!(access(&first_form(), 5).unwrap(), None);
}

// C1.8
#[test]
fn a_container_record_comes_back_as_it_was() {
    let forms = [
        (true, vec![]),
        (false, vec![]),
        (true, vec!["kiosk".to_owned()]),
        (false, vec!["kiosk".to_owned(), "stall".to_owned()]),
    ];
    for (implicit_sweeps, aliases) in forms {
        let record = ContainerRecord {
            name: "shop".into(),
            id: 3,
            timeout_ms: 1,
            resolution_ms: 300,
            max_lifetime_ms: Some(7),
            implicit_sweeps,
            aliases,
        };
        let bytes = record.encode().unwrap();
        assert_eq!(ContainerRecord::decode("shop", &bytes).unwrap(), record);
    }
}

// C3.3
#[test]
fn durations_are_rounded_up_to_whole_milliseconds() {
    let micros = |n| millis(Duration::from_micros(n));
    assert_eq!([0, 1, 1000, 1001].map(micros), [0, 1, 1, 2]);
    assert_eq!(millis(Duration::MAX), u64::MAX);
    for d in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        assert_eq!(whole_millis(whole_millis(d)), whole_millis(d));
    }
}

#[test]
fn a_package_row_finds_every_key() {
    let entries: Vec<(String, Vec<u8>)> = (0..300)
        .map(|i| (format!("{i:04}"), vec![i as u8; i]))
        .collect();
    let record = PackageRow::encode(
        b"key",
        Version(7),
        entries.iter().map(|(k, v)| (k.as_str(), v.as_slice())),
    )
    .unwrap();
    let row = PackageRow::decode(b"key", record.into(), &RecordCipher::Plain).unwrap();
    assert_eq!(row.version, Version(7));
    for (key, value) in &entries {
        assert_eq!(row.get(key).as_deref(), Some(value.as_slice()));
    }
    assert_eq!(row.get("none"), None);
    assert_eq!(row.iter().count(), 300);
}

fn encode(content: &std::collections::BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let entries = content.iter().map(|(k, v)| (k.as_str(), v.as_slice()));
    PackageRow::encode(b"key", Version(8), entries).unwrap()
}

#[test]
fn a_row_is_rebuilt_byte_by_byte_as_if_it_were_encoded_anew() {
    let value = |n: usize| vec![n as u8; [0, 1, 250, 251, 70_000][n % 5]];
    for seed in 0..300_usize {
        let mut content: std::collections::BTreeMap<_, _> = (0..seed % 7)
            .map(|n| (format!("{:02}", n * 3), value(seed + n)))
            .collect();
        let record = encode(&content);
        let old = PackageRow::decode(b"key", record.into(), &RecordCipher::Plain).unwrap();
        let mut writes: Vec<(Arc<str>, Option<Bytes>)> = Vec::new();
        for n in 0..20 {
            if (seed * 31 + n * 17) % 5 == 0 {
                let key = format!("{n:02}");
                let is_put = (seed + n) % 3 > 0;
                let value = is_put.then(|| Bytes::from(value(seed + 3 * n)));
                match &value {
                    Some(value) => content.insert(key.clone(), value.to_vec()),
                    None => content.remove(&key),
                };
                writes.push((key.into(), value));
            }
        }
        let written = (content.len(), &*writes);
        let rebuilt = PackageRow::rebuild(Some(&old), b"key", Version(8), written).unwrap();
        assert_eq!(rebuilt, encode(&content), "{seed}");
        writes.retain(|(_, value)| value.is_some());
        let written = (writes.len(), &*writes);
        let anew = PackageRow::rebuild(None, b"key", Version(8), written).unwrap();
        content.retain(|key, _| writes.iter().any(|(k, _)| **k == **key));
        assert_eq!(anew, encode(&content), "{seed}");
    }
}

// C5.5
#[test]
fn rebuilding_a_row_takes_steps_for_the_keys_that_change_alone() {
    let steps = |keys: usize| {
        let content = (0..keys).map(|n| (format!("{n:05}"), vec![7; 9])).collect();
        let old =
            PackageRow::decode(b"key", encode(&content).into(), &RecordCipher::Plain).unwrap();
        let writes = [("00003".into(), Some(Bytes::from_static(b"new")))];
        crate::steps::of(|| {
            PackageRow::rebuild(Some(&old), b"key", Version(8), (keys, &writes)).unwrap();
        })
    };
    assert_eq!(steps(10_000), steps(10));
}

#[test]
fn the_first_difference_of_two_rows_is_found() {
    let row = |keys: &[&str]| {
        let entries = keys.iter().map(|key| (&key[..1], key.as_bytes()));
        let record =
            PackageRow::encode(b"key", Version(7), entries.collect::<Vec<_>>().into_iter());
        PackageRow::decode(b"key", record.unwrap().into(), &RecordCipher::Plain).unwrap()
    };
    let first = |one: &[&str], other: &[&str]| {
        let (one, other) = (row(one), row(other));
        let of_interest = |key: &str| key != "x";
        let found = PackageRow::first_difference(Some(&one), Some(&other), of_interest);
        found.map(str::to_owned)
    };
    assert_eq!(first(&["a", "b"], &["a", "b"]), None);
    assert_eq!(first(&["a", "b", "d"], &["a", "b2", "c"]).unwrap(), "b");
    assert_eq!(
        first(&["a", "x", "z"], &["a", "x2", "y", "z"]).unwrap(),
        "y"
    );
    assert_eq!(first(&["a"], &["a", "x"]), None);
    assert_eq!(first(&["a", "b"], &[]).unwrap(), "a");
}

// C5.4
#[test]
fn every_flipped_bit_is_found() {
    let record =
        PackageRow::encode(b"key", Version(7), [("k", &b"value"[..])].into_iter()).unwrap();
    for bit in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = PackageRow::decode(b"key", flipped.into(), &RecordCipher::Plain).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

// C5.4
#[test]
fn a_record_at_another_key_or_of_another_kind_is_corrupt() {
    let record = row().encode(b"key", &RecordCipher::Plain).unwrap();
    assert!(SessionRow::decode(b"other", &record, &RecordCipher::Plain).is_err());
    assert!(PackageRow::decode(b"key", record.into(), &RecordCipher::Plain).is_err());
}

#[test]
fn a_truncated_record_is_corrupt() {
    for record in [
        row().encode(b"key", &RecordCipher::Plain).unwrap(),
        first_form(),
    ] {
        for len in 0..record.len() {
            assert!(SessionRow::decode(b"key", &record[..len], &RecordCipher::Plain).is_err());
        }
    }
}

// C5.4
#[test]
fn a_payload_of_a_session_that_ends_early_is_corrupt() {
    for record in [
        row().encode(b"key", &RecordCipher::Plain).unwrap(),
        first_form(),
    ] {
        let payload = &record[..record.len() - 8];
        let at = |len: usize| {
            let mut short = payload[..len].to_vec();
            codec::close(RecordKind::Session, b"key", &mut short);
            SessionRow::decode(b"key", &short, &RecordCipher::Plain).is_ok()
        };
        // Where optional fields end, a shorter record is one without them.
        let whole: Vec<_> = (0..payload.len()).filter(|len| at(*len)).collect();
        assert_eq!(whole.len(), if record[0] == 1 { 0 } else { 4 }, "{whole:?}");
    }
}

use super::*;
use crate::clock::Timestamp;
use crate::error::ErrorKind;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

fn row() -> SessionRow {
    SessionRow {
        created: Timestamp(1),
        last_access: Timestamp(-2),
        timeout: Some(Duration::from_secs(3)),
        owner: Some("ann".into()),
        incarnation: 4,
        packages: ["a".into(), "b".into()].into(),
    }
}

#[test]
fn a_session_row_comes_back_as_it_was() {
    let record = row().encode(b"key").unwrap();
    assert_eq!(SessionRow::decode(b"key", &record).unwrap(), row());
}

// C1.8
#[test]
fn a_container_record_comes_back_as_it_was() {
    for implicit_sweeps in [true, false] {
        let record = ContainerRecord {
            name: "shop".into(),
            id: 3,
            timeout_ms: 1,
            resolution_ms: 300,
            max_lifetime_ms: Some(7),
            implicit_sweeps,
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
        7,
        entries.iter().map(|(k, v)| (k.as_str(), v.as_slice())),
    )
    .unwrap();
    let row = PackageRow::decode(b"key", record.into()).unwrap();
    assert_eq!(row.version, 7);
    for (key, value) in &entries {
        assert_eq!(row.get(key).as_deref(), Some(value.as_slice()));
    }
    assert_eq!(row.get("none"), None);
    assert_eq!(row.iter().count(), 300);
}

fn encode(content: &std::collections::BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let entries = content.iter().map(|(k, v)| (k.as_str(), v.as_slice()));
    PackageRow::encode(b"key", 8, entries).unwrap()
}

#[test]
fn a_row_is_rebuilt_byte_by_byte_as_if_it_were_encoded_anew() {
    let value = |n: usize| vec![n as u8; [0, 1, 250, 251, 70_000][n % 5]];
    for seed in 0..300_usize {
        let mut content: std::collections::BTreeMap<_, _> = (0..seed % 7)
            .map(|n| (format!("{:02}", n * 3), value(seed + n)))
            .collect();
        let record = encode(&content);
        let old = PackageRow::decode(b"key", record.into()).unwrap();
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
        let rebuilt = PackageRow::rebuild(Some(&old), b"key", 8, written).unwrap();
        assert_eq!(rebuilt, encode(&content), "{seed}");
        writes.retain(|(_, value)| value.is_some());
        let written = (writes.len(), &*writes);
        let anew = PackageRow::rebuild(None, b"key", 8, written).unwrap();
        content.retain(|key, _| writes.iter().any(|(k, _)| **k == **key));
        assert_eq!(anew, encode(&content), "{seed}");
    }
}

// C5.5
#[test]
fn rebuilding_a_row_takes_steps_for_the_keys_that_change_alone() {
    let steps = |keys: usize| {
        let content = (0..keys).map(|n| (format!("{n:05}"), vec![7; 9])).collect();
        let old = PackageRow::decode(b"key", encode(&content).into()).unwrap();
        let writes = [("00003".into(), Some(Bytes::from_static(b"new")))];
        crate::steps::of(|| {
            PackageRow::rebuild(Some(&old), b"key", 8, (keys, &writes)).unwrap();
        })
    };
    assert_eq!(steps(10_000), steps(10));
}

#[test]
fn the_first_difference_of_two_rows_is_found() {
    let row = |keys: &[&str]| {
        let entries = keys.iter().map(|key| (&key[..1], key.as_bytes()));
        let record = PackageRow::encode(b"key", 7, entries.collect::<Vec<_>>().into_iter());
        PackageRow::decode(b"key", record.unwrap().into()).unwrap()
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
    let record = PackageRow::encode(b"key", 7, [("k", &b"value"[..])].into_iter()).unwrap();
    for bit in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = PackageRow::decode(b"key", flipped.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

// C5.4
#[test]
fn a_record_at_another_key_or_of_another_kind_is_corrupt() {
    let record = row().encode(b"key").unwrap();
    assert!(SessionRow::decode(b"other", &record).is_err());
    assert!(PackageRow::decode(b"key", record.into()).is_err());
}

#[test]
fn a_truncated_record_is_corrupt() {
    let record = row().encode(b"key").unwrap();
    for len in 0..record.len() {
        assert!(SessionRow::decode(b"key", &record[..len]).is_err());
    }
}

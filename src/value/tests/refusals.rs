//! The values that are not read, and the values that are not written.

use super::{Bytes, Cart, Line, Step, mismatch, round_trips};
use crate::value::*;
use Arithmetic::Add;
use serde::Serializer;
use serde::de;
use serde::ser::{Error as _, SerializeMap as _, SerializeSeq as _};
use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;

#[test]
fn wrong_types_are_mismatches_that_say_what_was_found() {
    mismatch::<u32>("12", "a string");
    mismatch::<u32>(-1_i64, "a negative integer");
    mismatch::<u8>(256, "an integer");
    mismatch::<i64>(u64::MAX, "an integer");
    mismatch::<i32>(1.0_f64, "a float");
    mismatch::<i32>(1.0_f32, "a float");
    mismatch::<bool>(1, "an integer");
    mismatch::<u8>(true, "a boolean");
    mismatch::<u8>((), "nil");
    mismatch::<String>(None::<String>, "nil");
    mismatch::<()>(0, "an integer");
    mismatch::<String>(1, "an integer");
    mismatch::<String>([1, 2], "a sequence");
    mismatch::<String>(Bytes(vec![0xff]), "bytes");
    mismatch::<char>("ab", "a string");
    mismatch::<Vec<u8>>("ab", "a string");
    mismatch::<(u8, u8)>([1, 2, 3], "a sequence (of another length)");
    mismatch::<(u8, u8)>([1], "a sequence (of another length)");
    mismatch::<Vec<String>>([1], "a sequence (with something of another type)");
    mismatch::<(String, f64)>(
        Line {
            sku: "a".into(),
            price: 1.0,
        },
        "a map",
    );
    mismatch::<Line>(HashMap::from([("sku", "a")]), "a map (a field is missing)");
    mismatch::<Step>("Nowhere", "a string (it names an unknown variant)");
    mismatch::<Step>(HashMap::from([("Pay", "x")]), "a map");
    mismatch::<Step>("Pay", "a string");
    mismatch::<Step>(["Start"], "a sequence");
    mismatch::<Step>(HashMap::<String, u8>::new(), "a map (of another length)");
    mismatch::<HashMap<u8, u8>>([1, 2], "a sequence");
    mismatch::<i128>(Bytes(vec![0; 16]), "bytes");
}

#[test]
fn no_error_repeats_the_value() {
    fn check<T: DeserializeOwned>(value: impl Serialize) {
        let Err(error) = decode::<T>(&encode(&value).unwrap()) else {
            panic!("read as another type");
        };
        let text = format!("{error} {error:?}");
        assert!(
            !text.contains("hunter2") && !text.contains("987654"),
            "{text}"
        );
        assert!(error.source().is_none());
    }
    check::<u32>("hunter2");
    check::<String>(987_654);
    check::<u8>(987_654);
    check::<Vec<u32>>(["hunter2"]);
    check::<Step>("hunter2");
    check::<Step>(HashMap::from([("hunter2", 1)]));
    check::<Line>(HashMap::from([("sku", 987_654)]));
    check::<bool>(987_654.5);
    check::<()>("hunter2");
    check::<IpAddr>("hunter2");
}

#[test]
fn a_serialize_that_says_no_is_carried_as_the_source() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("not today"))
        }
    }
    let error = encode(&vec![Refuses]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSerializable);
    assert!(error.to_string().contains("Refuses"));
    assert_eq!(error.source().unwrap().to_string(), "not today");

    let borrowed = std::cell::RefCell::new(1);
    let _guard = borrowed.borrow_mut();
    assert_eq!(
        encode(&borrowed).unwrap_err().kind(),
        ErrorKind::NotSerializable
    );
}

#[test]
fn a_serialize_that_announces_another_length_is_refused() {
    struct Lies(usize);
    impl Serialize for Lies {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(Some(self.0))?;
            seq.serialize_element(&1)?;
            seq.end()
        }
    }
    assert!(encode(&Lies(1)).is_ok());
    for length in [0, 2, 1 << 31] {
        let error = encode(&Lies(length)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSerializable);
    }
}

#[test]
fn a_length_that_was_not_announced_is_counted() {
    struct Uncounted(usize);
    impl Serialize for Uncounted {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(None)?;
            for i in 0..self.0 {
                seq.serialize_element(&[Some(i)])?;
            }
            seq.end()
        }
    }
    for length in [0, 1, 15, 16, 65_535, 65_536] {
        let counted: Vec<[usize; 1]> = (0..length).map(|i| [i]).collect();
        assert_eq!(
            encode(&Uncounted(length)).unwrap(),
            encode(&counted).unwrap()
        );
    }
}

#[test]
fn a_failure_that_a_serialize_ignores_is_refused() {
    struct Fails;
    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(Some(3))?;
            seq.serialize_element(&1)?;
            Err(S::Error::custom("half way"))
        }
    }
    struct Ignores(Option<usize>);
    impl Serialize for Ignores {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(self.0)?;
            let _ = seq.serialize_element(&Fails);
            seq.end()
        }
    }
    for error in [
        encode(&Ignores(Some(1))).unwrap_err(),
        encode(&Ignores(None)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotSerializable);
    }
}

#[test]
fn a_map_of_other_than_keys_and_their_values_is_refused() {
    struct Calls(&'static str);
    impl Serialize for Calls {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(1))?;
            for call in self.0.chars() {
                match call {
                    'k' => map.serialize_key(&1)?,
                    _ => map.serialize_value(&1)?,
                }
            }
            map.end()
        }
    }
    assert!(encode(&Calls("kv")).is_ok());
    for calls in ["", "k", "v", "kk", "vv", "vk", "kvk", "kvkv"] {
        let error = encode(&Calls(calls)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSerializable, "{calls}");
    }
}

#[test]
fn whatever_is_not_too_deep_to_write_can_be_read() {
    fn nested(levels: usize) -> Step {
        (0..levels).fold(Step::Start, |step, _| Step::Again(Box::new(step)))
    }
    round_trips(nested(token::MAX_DEPTH));
    let error = encode(&nested(token::MAX_DEPTH + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("more than 128"), "{error}");
}

#[test]
fn what_lies_side_by_side_is_not_deep() {
    fn many<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(one: impl Fn() -> T) {
        round_trips((0..=token::MAX_DEPTH).map(|_| one()).collect::<Vec<_>>());
    }
    many(|| Step::Pay(1));
    many(|| Step::Ship("a".into(), 1));
    many(|| Step::Done { at: 1 });
    many(|| [1]);
    many(|| Some(Some(None::<u8>)));
    many(|| BTreeMap::from([(1, 1)]));
}

#[test]
fn depth_is_bounded_when_reading() {
    for open in [&b"\x91"[..], b"\x81\xa5Again"] {
        let mut bytes = open.repeat(1_000_000);
        bytes.push(0xc0);
        let error = decode::<Step>(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let error = decode::<de::IgnoredAny>(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn lengths_beyond_the_bytes_are_corrupt() {
    for marker in [0xc6, 0xc9, 0xdb, 0xdd, 0xdf] {
        let bytes = [marker, 0xff, 0xff, 0xff, 0xff, 0, 0];
        let error = decode::<Vec<u64>>(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{marker:x}");
    }
}

#[test]
fn a_value_cut_short_or_followed_by_more_is_corrupt() {
    let value = (
        (1_u8, 300_u16, -70_000, u64::MAX, 1.5_f32, 2.5_f64),
        ("x".repeat(40), vec![1_u8; 20], Bytes(vec![2; 20])),
        (
            Step::Done { at: 1 },
            None::<u8>,
            BTreeMap::from([(1, true)]),
        ),
    );
    let bytes = encode(&value).unwrap();
    assert!(decode::<de::IgnoredAny>(&bytes).is_ok());
    for len in 0..bytes.len() {
        let error = decode::<de::IgnoredAny>(&bytes[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{len}");
    }
    let mut more = bytes;
    more.push(0xc0);
    let error = decode::<de::IgnoredAny>(&more).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(
        decode::<u8>(&[1, 1]).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(decode::<u8>(&[]).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(
        decode::<u8>(&[0xc1]).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(
        decode::<String>(&[0xa1, 0xff]).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn every_two_bytes_are_read_or_refused() {
    for pair in 0..=u16::MAX {
        let bytes = pair.to_be_bytes();
        for error in [
            decode::<Step>(&bytes).err(),
            decode::<Vec<Option<u32>>>(&bytes).err(),
            decode::<Cart>(&bytes).err(),
            Add(1).apply(Some(&bytes)).err(),
        ] {
            let kind = error.map(|error| error.kind());
            assert!(
                matches!(
                    kind,
                    None | Some(ErrorKind::Corrupt | ErrorKind::TypeMismatch)
                ),
                "{bytes:?}: {kind:?}"
            );
        }
    }
}

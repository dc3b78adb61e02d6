mod arithmetic;
mod refusals;
mod round_trips;

use super::*;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serializer};
use std::collections::BTreeMap;
use std::fmt;

#[track_caller]
fn round_trips<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T) {
    let bytes = encode(&value).unwrap();
    assert_eq!(decode::<T>(&bytes).unwrap(), value);
}

#[track_caller]
fn mismatch<T: DeserializeOwned>(value: impl Serialize, found: &str) {
    let Err(error) = decode::<T>(&encode(&value).unwrap()) else {
        panic!("read as another type");
    };
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    let text = error.to_string();
    assert!(text.contains(&format!("stored is {found}")), "{text}");
    assert!(text.contains(type_name::<T>()), "{text}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cart {
    owner: Option<String>,
    lines: Vec<Line>,
    notes: BTreeMap<u32, (i8, char)>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    sku: String,
    price: f64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    Start,
    Pay(u64),
    Ship(String, u8),
    Done { at: i64 },
    Again(Box<Step>),
}

/// What `serde_bytes` does, without it.
#[derive(Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visit)
    }
}

// A crate of the program may turn serde_json's arbitrary_precision on: then it gives numbers so.
#[cfg(feature = "export")]
#[test]
fn numbers_are_read_as_serde_json_gives_them_with_any_precision() {
    use serde::de::value::{Error, MapDeserializer};
    let read = |text: &'static str| {
        let entries = [("$serde_json::private::Number", text)];
        Value::deserialize(MapDeserializer::<_, Error>::new(entries.into_iter()))
    };
    for text in [
        "0",
        "7",
        "-7",
        "-0",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "1.5",
        "-1e300",
        "0.1",
    ] {
        assert_eq!(
            read(text).unwrap(),
            serde_json::from_str(text).unwrap(),
            "{text}"
        );
    }
    for wrong in ["1e999", "", "x", "NaN", "inf"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

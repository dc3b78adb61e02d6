//! Written values are read again. Other versions and crates write the same bytes.

use super::{Bytes, Cart, Line, Step, mismatch, round_trips};
use crate::value::*;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::num::{NonZeroU16, Wrapping};
use std::ops::Bound;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u64);

#[test]
fn scalars_round_trip() {
    round_trips(());
    round_trips(true);
    round_trips([i8::MIN, -33, -32, -1, 0, 31, i8::MAX]);
    round_trips([i16::MIN, i16::MAX]);
    round_trips([i32::MIN, i32::MAX]);
    round_trips([i64::MIN, i64::MAX]);
    round_trips([u8::MAX, 127, 128]);
    round_trips([u16::MAX, 256]);
    round_trips([u32::MAX, 65536]);
    round_trips([u64::MAX, 1 << 32]);
    round_trips([i128::MIN, -1, 0, i128::MAX]);
    round_trips([u128::MIN, 1, u128::MAX]);
    round_trips([f32::MIN_POSITIVE, 0.1, f32::INFINITY]);
    round_trips([f64::MAX, 0.1, f64::NEG_INFINITY]);
    round_trips(['a', 'ß', '\u{10ffff}', '\0']);
    assert!(decode::<f64>(&encode(&f64::NAN).unwrap()).unwrap().is_nan());
}

#[test]
fn text_and_bytes_round_trip() {
    for len in [0, 1, 31, 32, 255, 256, 65535, 65536] {
        round_trips("x".repeat(len));
        round_trips(vec![7_u8; len]);
        round_trips(Bytes(vec![0xc1; len]));
    }
    let borrowed: &[u8] = &[0, 200];
    assert_eq!(
        decode::<Vec<u8>>(&encode(borrowed).unwrap()).unwrap(),
        borrowed
    );
    assert_eq!(decode::<String>(&encode("ä").unwrap()).unwrap(), "ä");
    round_trips(Cow::Borrowed("cow"));
}

#[test]
fn options_round_trip() {
    round_trips(None::<u32>);
    round_trips(Some(3));
    round_trips(Some(Step::Start));
    round_trips(vec![Some(Step::Pay(1)), None]);
    round_trips(Some(Some("a".to_owned())));
}

#[test]
fn nested_options_round_trip() {
    round_trips::<[Option<Option<Option<u8>>>; 4]>([
        None,
        Some(None),
        Some(Some(None)),
        Some(Some(Some(1))),
    ]);
    round_trips([None, Some(())]);
    round_trips([None, Some(None), Some(Some(()))]);
    round_trips([None, Some(Unit)]);
    round_trips(BTreeMap::from([
        (Some(None::<u8>), Some(None::<u8>)),
        (None, None),
    ]));
    round_trips::<Vec<Option<serde_json::Value>>>(vec![None, Some(serde_json::Value::Null)]);
    round_trips(Some(vec![Some(vec![Some(None::<u8>)])]));
}

#[test]
fn structures_round_trip() {
    round_trips(Unit);
    round_trips(Newtype(9));
    round_trips((1_u8, "two".to_owned(), [3.0, 4.0]));
    round_trips(Cart {
        owner: None,
        lines: vec![Line {
            sku: "a-1".into(),
            price: 9.5,
        }],
        notes: BTreeMap::from([(7, (-1, 'x')), (8, (2, 'y'))]),
    });
    round_trips(IpAddr::from([192, 0, 2, 1]));
    round_trips(Duration::from_millis(1500));
}

#[test]
fn enums_round_trip() {
    round_trips(Step::Start);
    round_trips(Step::Pay(u64::MAX));
    round_trips(Step::Ship("here".into(), 2));
    round_trips(Step::Done { at: -5 });
    round_trips(Step::Again(Box::new(Step::Again(Box::new(Step::Start)))));
    round_trips(Ok::<u8, String>(1));
}

#[test]
fn maps_with_any_keys_round_trip() {
    round_trips(HashMap::from([(-1_i64, "a".to_owned()), (300, "b".into())]));
    round_trips(BTreeMap::from([((1_u8, 'k'), true)]));
    round_trips(BTreeMap::from([(Some(1_u8), ()), (None, ())]));
    round_trips((0..70_000).map(|i| (i, i)).collect::<BTreeMap<u32, u32>>());
    round_trips(HashMap::<String, u8>::new());
}

#[test]
fn flattened_and_tagged_forms_round_trip() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Outer {
        id: u32,
        #[serde(flatten)]
        rest: BTreeMap<String, i32>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        A { x: u8 },
        B,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(i64),
        Text(String),
    }
    round_trips(Outer {
        id: 1,
        rest: BTreeMap::from([("a".into(), -1)]),
    });
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind", content = "of")]
    enum Adjacent {
        A(u8, Option<Option<u8>>),
        B,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct ByNumber {
        id: u32,
        #[serde(flatten)]
        rest: BTreeMap<u64, Option<Option<i32>>>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Nothing {
        Unit(Unit),
        Flag(bool),
    }
    round_trips(vec![Tagged::A { x: 1 }, Tagged::B]);
    round_trips([Adjacent::A(1, Some(None)), Adjacent::B]);
    round_trips(ByNumber {
        id: 1,
        rest: BTreeMap::from([(0, Some(None)), (1, Some(Some(-2))), (2, None)]),
    });
    round_trips([Nothing::Unit(Unit), Nothing::Flag(true)]);
    round_trips(vec![Untagged::Number(-7), Untagged::Text("t".into())]);
}

#[test]
fn json_round_trips() {
    round_trips(serde_json::json!({
        "null": null, "yes": true, "text": "ä", "list": [0, -1, 1.5, 1.0, [], {}],
        "large": [u64::MAX, i64::MIN, 1e300], "nested": { "": { "1": [null] } },
    }));
}

#[test]
fn types_of_other_crates_round_trip() {
    round_trips(SystemTime::UNIX_EPOCH + Duration::from_nanos(1));
    round_trips(PathBuf::from("a/b"));
    round_trips(1..5_u8);
    round_trips(NonZeroU16::MAX);
    round_trips(CString::new("c").unwrap());
    round_trips(std::net::SocketAddr::from(([0; 16], 80)));
    round_trips(Wrapping(-1_i8));
    round_trips(Bound::Included(1));
    round_trips(PhantomData::<u8>);
    round_trips([PhantomData::<u8>; 2]);
}

/// What a date or a UUID does: a text or bytes of its own behind a newtype.
#[test]
fn newtypes_with_their_own_form_round_trip() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(try_from = "String", into = "String")]
    #[derive(Clone)]
    struct Date(u16);
    impl From<Date> for String {
        fn from(date: Date) -> Self {
            format!("{}-01-01", date.0)
        }
    }
    impl TryFrom<String> for Date {
        type Error = std::num::ParseIntError;
        fn try_from(text: String) -> Result<Self, Self::Error> {
            text.trim_end_matches("-01-01").parse().map(Self)
        }
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Uuid {
        bytes: Bytes,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Point(f32, u128, char);
    round_trips(vec![Date(2024)]);
    round_trips(Some(Uuid {
        bytes: Bytes(vec![7; 16]),
    }));
    round_trips(BTreeMap::from([('x', Point(0.5, 1 << 100, 'ß'))]));
    mismatch::<Date>("soon", "a string");
}

#[test]
fn what_is_written_is_what_rmp_serde_writes() {
    let value = (
        Cart {
            owner: None,
            lines: vec![Line {
                sku: "a-1".into(),
                price: 9.5,
            }],
            notes: (0..70_000).map(|i| (i, (-1, 'x'))).collect(),
        },
        [0, 31, 127, 128, 255, 256, 65_535, 65_536, u64::MAX],
        [
            -1,
            -32,
            -33,
            -128,
            -129,
            -32_769,
            i64::MIN,
            1,
            200,
            i64::MAX,
        ],
        [0, 31, 32, 255, 256, 65_536].map(|n| ("x".repeat(n), Bytes(vec![1; n]), vec![2; n])),
        (1.5_f32, true, Newtype(3), ()),
        (
            Step::Start,
            Step::Pay(1),
            Step::Ship(String::new(), 1),
            Step::Done { at: 1 },
        ),
        (IpAddr::from([192, 0, 2, 1]), IpAddr::from([0; 16])),
    );
    let mut for_people = rmp_serde::Serializer::new(Vec::new())
        .with_struct_map()
        .with_human_readable();
    value.serialize(&mut for_people).unwrap();
    assert_eq!(encode(&value).unwrap(), for_people.into_inner());
}

#[test]
fn structs_are_stored_with_their_names() {
    let bytes = encode(&Line {
        sku: "a".into(),
        price: 1.0,
    })
    .unwrap();
    assert_eq!(&bytes[..5], b"\x82\xa3sku");
    assert_eq!(encode(&Step::Start).unwrap(), b"\xa5Start");
}

#[test]
fn a_struct_that_gained_a_default_field_still_loads() {
    #[derive(Deserialize)]
    struct Later {
        #[serde(default)]
        currency: String,
        price: f64,
        sku: String,
    }
    let old = Line {
        sku: "a".into(),
        price: 1.5,
    };
    let later: Later = decode(&encode(&old).unwrap()).unwrap();
    assert_eq!(
        (later.currency, later.price, later.sku),
        (String::new(), 1.5, "a".into())
    );
}

#[test]
fn a_struct_that_lost_a_field_still_loads() {
    #[derive(Deserialize)]
    struct Fewer {
        sku: String,
    }
    let cart = (0..3).map(|i| (format!("other{i}"), vec![Some(Newtype(i))]));
    let mut all: BTreeMap<String, Vec<Option<Newtype>>> = cart.collect();
    all.insert("aaa".into(), vec![]);
    #[derive(Serialize)]
    struct More {
        #[serde(flatten)]
        all: BTreeMap<String, Vec<Option<Newtype>>>,
        sku: &'static str,
    }
    let bytes = encode(&More { all, sku: "kept" }).unwrap();
    assert_eq!(decode::<Fewer>(&bytes).unwrap().sku, "kept");
}

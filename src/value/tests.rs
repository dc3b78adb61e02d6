use super::*;
use Arithmetic::{Add, Max, Min};
use serde::de::{self, Visitor};
use serde::ser::{Error as _, SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serializer};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::ffi::CString;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::num::{NonZeroU16, Wrapping};
use std::ops::Bound;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

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
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u64);

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

#[track_caller]
fn gives(arithmetic: Arithmetic, current: impl Serialize, outcome: impl Serialize) {
    let current = encode(&current).unwrap();
    assert_eq!(
        arithmetic.apply(Some(&current)).unwrap(),
        encode(&outcome).unwrap()
    );
}

#[track_caller]
fn fails(arithmetic: Arithmetic, current: impl Serialize, kind: ErrorKind) {
    let current = encode(&current).unwrap();
    assert_eq!(arithmetic.apply(Some(&current)).unwrap_err().kind(), kind);
}

#[test]
fn absent_counts_as_zero_or_as_the_operand() {
    for arithmetic in [Add(-7), Max(-7), Min(-7)] {
        assert_eq!(arithmetic.apply(None).unwrap(), encode(&-7).unwrap());
    }
}

#[test]
fn arithmetic_writes_integers_as_any_integer_type_would() {
    let edges = [
        0_i64,
        31,
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        1 << 31,
        1 << 32,
    ];
    for value in edges.into_iter().flat_map(|edge| [edge, -edge, -edge - 1]) {
        gives(Add(value), 0, value);
        gives(Add(0), value, value);
        gives(Max(value), i64::MIN, value);
        gives(Min(value), i64::MAX, value);
        if let Ok(unsigned) = u64::try_from(value) {
            gives(Add(value), 0, unsigned);
            gives(Add(1), unsigned, unsigned + 1);
        }
    }
}

#[test]
fn max_and_min_keep_or_replace() {
    gives(Max(5), 7, 7);
    gives(Max(7), 5, 7);
    gives(Min(5), 7, 5);
    gives(Min(7), -5, -5);
    gives(Max(5), u64::MAX, u64::MAX);
    gives(Min(5), u64::MAX, 5);
}

#[test]
fn an_integer_keeps_its_range() {
    gives(Add(1), i64::MAX - 1, i64::MAX);
    gives(Add(-1), i64::MIN + 1, i64::MIN);
    fails(Add(1), i64::MAX, ErrorKind::Overflow);
    fails(Add(-1), i64::MIN, ErrorKind::Overflow);

    let large = i64::MAX as u64 + 1;
    gives(Add(i64::MAX), large, u64::MAX);
    gives(Add(-1), large, i64::MAX);
    gives(Add(i64::MIN), large, 0);
    fails(Add(1), u64::MAX, ErrorKind::Overflow);
}

#[test]
fn an_integer_of_128_bits_counts_if_it_fits_64() {
    gives(Add(1), -1_i128, 0);
    gives(Add(1), u128::from(u64::MAX) - 1, u64::MAX);
    for arithmetic in [Add(-1), Max(1), Min(1)] {
        fails(arithmetic, u128::from(u64::MAX) + 1, ErrorKind::Overflow);
        fails(arithmetic, i128::from(i64::MIN) - 1, ErrorKind::Overflow);
    }
}

#[test]
fn a_float_keeps_its_width() {
    gives(Add(2), 0.5_f32, 2.5_f32);
    gives(Add(-2), 0.5_f64, -1.5_f64);
    gives(Add(1), 1e300_f64, 1e300_f64);
    gives(Max(3), 2.5_f32, 3.0_f32);
    gives(Max(3), 3.5_f32, 3.5_f32);
    gives(Min(3), 3.5_f64, 3.0_f64);
    gives(Min(3), 0.1_f32, 0.1_f32);
    gives(Max(0), -0.0_f64, -0.0_f64);
    gives(Add(i64::MAX), f32::MAX, f32::MAX);
    gives(Add(i64::MIN), f32::MIN, f32::MIN);
    gives(Add(i64::MAX), f64::MAX, f64::MAX);
}

#[test]
fn a_float_that_is_not_finite_overflows() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for arithmetic in [Add(1), Max(1), Min(1)] {
            fails(arithmetic, value, ErrorKind::Overflow);
            fails(arithmetic, value as f32, ErrorKind::Overflow);
        }
    }
}

#[test]
fn arithmetic_on_what_is_no_number_is_a_mismatch() {
    for arithmetic in [Add(1), Max(1), Min(1)] {
        fails(arithmetic, "1", ErrorKind::TypeMismatch);
        fails(arithmetic, (), ErrorKind::TypeMismatch);
        fails(arithmetic, true, ErrorKind::TypeMismatch);
        fails(arithmetic, [1], ErrorKind::TypeMismatch);
        fails(arithmetic, Some(()), ErrorKind::TypeMismatch);
    }
    let error = Add(1).apply(Some(&encode("x").unwrap())).unwrap_err();
    assert!(error.to_string().ends_with("is a string"), "{error}");
}

#[test]
fn arithmetic_on_damaged_bytes_is_corrupt() {
    for bytes in [&[][..], &[0xcd, 1], &[1, 1], &[0xcb, 0, 0], &[0xc1]] {
        let error = Add(1).apply(Some(bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{bytes:?}");
    }
}

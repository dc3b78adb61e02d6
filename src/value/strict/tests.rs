use crate::ErrorKind;
use crate::value::{decode, encode};
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::Saturating;

/// The result of reading a stored `value`.
#[track_caller]
fn reads<T: DeserializeOwned + PartialEq + fmt::Debug>(value: impl Serialize, as_: T) {
    assert_eq!(decode::<T>(&encode(&value).unwrap()).unwrap(), as_);
}

#[track_caller]
fn refuses<T: DeserializeOwned>(value: impl Serialize) {
    let bytes = encode(&value).unwrap();
    let Err(error) = decode::<T>(&bytes) else {
        panic!("{bytes:x?} was read");
    };
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pair {
    a: u8,
    b: u8,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    Start,
    Pay(u8),
    Ship(u8, u8),
    Done { at: u8 },
}

/// The stored form of `value`, by each integer type that can hold it.
fn stored_by_each_type(value: i128) -> impl Iterator<Item = Vec<u8>> {
    fn store<T: TryFrom<i128> + Serialize>(value: i128) -> Option<Vec<u8>> {
        Some(encode(&T::try_from(value).ok()?).unwrap())
    }
    [
        store::<i8>,
        store::<i16>,
        store::<i32>,
        store::<i64>,
        store::<i128>,
        store::<u8>,
        store::<u16>,
        store::<u32>,
        store::<u64>,
        store::<u128>,
    ]
    .into_iter()
    .filter_map(move |store| store(value))
}

/// What `bytes` read as, as each integer type.
fn as_integers(bytes: &[u8]) -> [Option<i128>; 9] {
    fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<i128>
    where
        i128: TryFrom<T>,
    {
        let value = decode::<T>(bytes).ok()?;
        Some(i128::try_from(value).unwrap_or_else(|_| panic!("beyond i128")))
    }
    [
        read::<i8>(bytes),
        read::<i16>(bytes),
        read::<i32>(bytes),
        read::<i64>(bytes),
        read::<i128>(bytes),
        read::<u8>(bytes),
        read::<u16>(bytes),
        read::<u32>(bytes),
        read::<u64>(bytes),
    ]
}

#[test]
fn an_integer_is_read_by_exactly_the_types_that_hold_it() {
    for power in 0..=126 {
        for value in [-1, 0, 1].map(|near| (1_i128 << power) + near) {
            for value in [value, -value] {
                let held = [
                    i8::try_from(value).is_ok(),
                    i16::try_from(value).is_ok(),
                    i32::try_from(value).is_ok(),
                    i64::try_from(value).is_ok(),
                    true,
                    u8::try_from(value).is_ok(),
                    u16::try_from(value).is_ok(),
                    u32::try_from(value).is_ok(),
                    u64::try_from(value).is_ok(),
                ];
                let expected = held.map(|held| held.then_some(value));
                let canonical = encode(&value).unwrap();
                for bytes in stored_by_each_type(value) {
                    assert_eq!(bytes, canonical);
                    assert_eq!(as_integers(&bytes), expected, "{value}");
                    assert_eq!(
                        decode::<u128>(&bytes).ok(),
                        u128::try_from(value).ok(),
                        "{value}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_ends_of_128_bits_are_read_by_their_own_type_only() {
    reads(u128::MAX, u128::MAX);
    reads(i128::MIN, i128::MIN);
    reads(i128::MAX, i128::MAX as u128);
    refuses::<i128>(u128::MAX);
    refuses::<u128>(i128::MIN);
    refuses::<u128>(-1_i64);
    refuses::<Vec<u8>>(u128::MAX);
    refuses::<f64>(u128::MAX);
}

#[test]
fn a_saturating_integer_does_not_saturate_when_it_is_read() {
    reads(255, Saturating(255_u8));
    refuses::<Saturating<u8>>(256);
    refuses::<Saturating<u8>>(-1);
}

#[test]
fn a_float_is_read_by_the_other_width_only_if_that_has_its_value() {
    reads(1.5_f64, 1.5_f32);
    reads(1.5_f32, 1.5_f64);
    reads(0.1_f32, f64::from(0.1_f32));
    reads(f64::INFINITY, f32::INFINITY);
    refuses::<f32>(0.1_f64);
    refuses::<f32>(f64::MAX);
    refuses::<f32>(f64::MIN_POSITIVE);
    assert!(decode::<f32>(&encode(&f64::NAN).unwrap()).unwrap().is_nan());
    let zero: f32 = decode(&encode(&-0.0_f64).unwrap()).unwrap();
    assert!(zero.is_sign_negative());
}

#[test]
fn an_integer_is_read_as_a_float_only_if_that_has_its_value() {
    reads(-5_i8, -5.0_f64);
    reads(1_u64 << 53, 9_007_199_254_740_992.0_f64);
    reads(1_u64 << 63, 9_223_372_036_854_775_808.0_f64);
    reads(i64::MIN, -9_223_372_036_854_775_808.0_f32);
    reads(1_u32 << 24, 16_777_216.0_f32);
    refuses::<f64>((1_u64 << 53) + 1);
    refuses::<f64>(u64::MAX);
    refuses::<f64>(i64::MAX);
    refuses::<f64>(i64::MIN + 1);
    refuses::<f32>((1_u32 << 24) + 1);
    refuses::<f32>(-(1_i32 << 24) - 1);
    refuses::<f32>(u64::MAX);
}

#[test]
fn a_float_is_never_read_as_an_integer() {
    refuses::<u64>(1.0_f32);
    refuses::<i64>(-1.0_f64);
    refuses::<i128>(1.0_f64);
    refuses::<u128>(1.0_f64);
}

#[test]
fn variants_go_by_name() {
    for index in 0..4 {
        refuses::<Step>(index);
        refuses::<Step>(HashMap::from([(index, 1)]));
    }
    refuses::<Step>(Some(()));
    refuses::<Step>(BTreeMap::from([("Pay", 1), ("Ship", 2)]));
    refuses::<Step>(BTreeMap::from([("Ship", [1, 2, 3])]));
    refuses::<Step>(BTreeMap::from([("Ship", [1])]));
    refuses::<Step>(BTreeMap::from([("Done", [1])]));
    refuses::<Step>(BTreeMap::from([("Start", 1)]));
    reads(BTreeMap::from([("Start", ())]), Step::Start);
    reads(BTreeMap::from([("Ship", [1, 2])]), Step::Ship(1, 2));
    reads(Step::Start, "Start".to_owned());
    reads(Step::Pay(1), BTreeMap::from([("Pay".to_owned(), 1)]));
}

#[test]
fn fields_go_by_name() {
    refuses::<Pair>((1, 2));
    refuses::<Pair>([1, 2]);
    refuses::<Pair>(vec![1_u8, 2]);
    refuses::<Pair>(BTreeMap::from([(0, 1), (1, 2)]));
    refuses::<Pair>(BTreeMap::from([(Some("a"), 1), (None, 2)]));
    reads(BTreeMap::from([("a", 1), ("b", 2)]), Pair { a: 1, b: 2 });
    reads(
        Pair { a: 1, b: 2 },
        BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]),
    );
    refuses::<(u8, u8)>(Pair { a: 1, b: 2 });
}

#[test]
fn a_tuple_struct_that_gained_a_default_field_still_loads() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Later(u8, #[serde(default)] u8);
    reads([1], Later(1, 0));
    reads([1, 2], Later(1, 2));
    refuses::<Later>([1, 2, 3]);
}

#[test]
fn options_are_read_by_what_they_hold() {
    reads(5, Some(Some(5)));
    reads(Some(Some(5)), 5);
    reads((), None::<Option<u8>>);
    refuses::<u8>(None::<u8>);
    refuses::<()>(Some(()));
    refuses::<Option<u8>>(Some(None::<u8>));
    refuses::<Option<Option<u8>>>(Some(Some(None::<u8>)));
    reads(Some(None::<u8>), Some(None::<Option<u8>>));
    refuses::<u32>(Some(None::<u8>));
    refuses::<Vec<u8>>(Some(()));
    reads(Some(None::<u8>), serde_json::Value::Null);
}

#[test]
fn bytes_and_sequences_of_them_are_read_as_each_other() {
    struct Bytes(&'static [u8]);
    impl Serialize for Bytes {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
    reads(Bytes(&[1, 200]), vec![1_u8, 200]);
    reads(Bytes(&[1, 200]), [1_u8, 200]);
    refuses::<[u8; 3]>(Bytes(&[1, 200]));
    refuses::<[u8; 1]>(Bytes(&[1, 200]));
    refuses::<Vec<i8>>(Bytes(&[1, 200]));
    refuses::<String>(Bytes(b"text"));
    refuses::<u128>(Bytes(&[0; 16]));
    refuses::<Pair>(Bytes(&[1, 2]));
}

/// Reads an item of the stored sequence with whatever it is given to.
macro_rules! reader {
    ($name:ident, $method:ident, |$access:ident: $bound:ident| $body:expr) => {
        #[derive(Debug)]
        struct $name;
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visit;
                impl<'de> Visitor<'de> for Visit {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("anything")
                    }
                    fn $method<A: $bound<'de>>(self, mut $access: A) -> Result<$name, A::Error> {
                        $body;
                        Ok($name)
                    }
                }
                deserializer.deserialize_any(Visit)
            }
        }
    };
}

#[test]
fn a_reader_that_leaves_a_part_unread_gets_nothing() {
    reader!(First, visit_seq, |seq: SeqAccess| seq
        .next_element::<u8>()?);
    reader!(
        Lenient,
        visit_seq,
        |seq: SeqAccess| while let Ok(Some(_)) = seq.next_element::<u8>() {}
    );
    reader!(Again, visit_seq, |seq: SeqAccess| {
        let _ = seq.next_element::<u8>();
        while seq.next_element::<String>()?.is_some() {}
    });
    reader!(
        Keys,
        visit_map,
        |map: MapAccess| while map.next_key::<String>()?.is_some() {}
    );
    reader!(Values, visit_map, |map: MapAccess| map
        .next_value::<u8>()?);
    reader!(GoesOn, visit_seq, |seq: SeqAccess| {
        let _ = seq.next_element::<Vec<u8>>();
        while seq.next_element::<u8>()?.is_some() {}
    });
    reader!(KeyGoesOn, visit_map, |map: MapAccess| {
        let _ = map.next_key::<Vec<u8>>();
        while map.next_entry::<u8, u8>()?.is_some() {}
    });
    assert!(decode::<First>(&encode(&[1]).unwrap()).is_ok());
    refuses::<First>([1, 2]);
    refuses::<Vec<First>>([[1, 2], [3, 4]]);
    assert!(decode::<Lenient>(&encode(&[1, 2]).unwrap()).is_ok());
    refuses::<Lenient>((1, "x"));
    refuses::<Again>(("x", "y"));
    refuses::<GoesOn>((("x", 1), 2));
    refuses::<KeyGoesOn>(BTreeMap::from([(("x", 1), 3)]));
    refuses::<Keys>(BTreeMap::from([("a", "b")]));
    refuses::<Values>(BTreeMap::from([(1, 2)]));
}

#[test]
fn a_reader_that_reads_nothing_gets_nothing() {
    #[derive(Debug, PartialEq)]
    struct Blind;
    impl<'de> Deserialize<'de> for Blind {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self)
        }
    }
    refuses::<Blind>(1);
    refuses::<Vec<Blind>>([1]);
    refuses::<(Blind, u8)>([1, 2]);
    refuses::<Option<Blind>>(1);
    refuses::<BTreeMap<u8, Blind>>(BTreeMap::from([(1, 2)]));
    refuses::<Result<Blind, u8>>(Ok::<u8, u8>(1));
}

#[test]
fn a_type_that_is_options_without_end_is_bounded() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Endless(Option<Box<Endless>>);
    let nested = |levels| (0..levels).fold(Endless(None), |e, _| Endless(Some(Box::new(e))));
    for levels in [0, 1, 2, 16] {
        reads(nested(levels), nested(levels));
    }
    let error = encode(&nested(17)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    refuses::<Endless>(5);
}

#[test]
fn ignored_values_are_skipped_whole() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Fewer {
        z: u8,
    }
    #[derive(Serialize)]
    struct More {
        a: (Step, u128, i128, Option<Option<u8>>, f32),
        b: BTreeMap<u8, Vec<&'static str>>,
        z: u8,
    }
    let more = More {
        a: (Step::Done { at: 1 }, u128::MAX, i128::MIN, Some(None), 1.0),
        b: BTreeMap::from([(1, vec!["x"]), (2, vec![])]),
        z: 7,
    };
    assert!(decode::<IgnoredAny>(&encode(&more).unwrap()).is_ok());
    reads(more, Fewer { z: 7 });
}

#[test]
fn other_extensions_are_refused() {
    for bytes in [
        &[0xd4, 9, 1][..],
        &[0xd4, 3, 0],
        &[0xc7, 0, 1],
        &[0xc7, 2, 1, 0, 0],
    ] {
        for error in [
            decode::<u128>(bytes).unwrap_err(),
            decode::<Option<()>>(bytes).unwrap_err(),
            decode::<serde_json::Value>(bytes).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::TypeMismatch);
        }
    }
}

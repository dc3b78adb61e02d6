//! A stored value: serde in, serde out, self-describing MessagePack in between (C5.1), and the
//! arithmetic on stored numbers (C2.9). Knows nothing of containers, packages and keys; callers add
//! these to the errors.
//!
//! Structs are stored as maps from field names, enums by the names of their variants, and both sides
//! use serde's compact forms (`is_human_readable` is false). What the format does not tell apart comes
//! back as its plainer form: `Some(None)` and `Some(())` as `None`. And a reader that asks for another
//! type gets what serde and the format cannot tell apart:
//!
//! - an integer is read as any integer type that holds it, and as a float, rounded; a float as one of
//!   the other width, rounded, but never as an integer;
//! - a sequence is read as a tuple, an array or a struct of exactly its length, by position; where the
//!   name of a field or of a variant is due, an integer is read as its position;
//! - a 128-bit integer is stored as its 16 bytes, without a sign: `i128`, `u128` and bytes of that
//!   length read as each other, and a negative integer as a `u128` wraps.
//!
//! Everything else is a [`TypeMismatch`](ErrorKind::TypeMismatch).

use crate::error::{Error, ErrorKind, Result};
use rmp::Marker;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;

/// How many maps and sequences may lie in each other. Reading recurses once or more for each on a
/// stack of unknown size, so that writing a deeper value is refused.
const MAX_DEPTH: usize = 128;

/// The stored form of `value`.
///
/// # Errors
///
/// [`NotSerializable`](ErrorKind::NotSerializable) if the value's `Serialize` says no, with that error
/// as the source (C2.3); if it announced other lengths than it wrote, which nobody could read back; or
/// if the value is nested too deeply.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let refuse = |why: &str| {
        Error::new(
            ErrorKind::NotSerializable,
            format!(
                "a value of type {} cannot be serialized{why}",
                type_name::<T>()
            ),
        )
    };
    let mut bytes = Vec::new();
    value
        .serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())
        .map_err(|error| refuse("").with_source(error))?;
    match check(&bytes) {
        Ok(()) => Ok(bytes),
        Err(Flaw::Malformed) => Err(refuse(
            ": its Serialize wrote more or less than it announced",
        )),
        Err(Flaw::TooDeep) => Err(refuse(&format!(
            ": it is nested more than {MAX_DEPTH} levels deep"
        ))),
    }
}

/// The value that `bytes` hold, as a `T`.
///
/// # Errors
///
/// [`TypeMismatch`](ErrorKind::TypeMismatch) if they hold something else, saying what. The
/// deserializer's own words are left out, for they repeat the value.
/// [`Corrupt`](ErrorKind::Corrupt) if they do not hold exactly one value.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // Bounds, before the deserializer allocates or recurses, every length and the depth.
    check(bytes).map_err(Flaw::into_corrupt)?;
    rmp_serde::from_slice(bytes).map_err(|error| match error {
        rmp_serde::decode::Error::Utf8Error(_) => Flaw::Malformed.into_corrupt(),
        error => Error::new(
            ErrorKind::TypeMismatch,
            format!(
                "a value of type {} was asked for, but what is stored is {}{}",
                type_name::<T>(),
                found(bytes),
                hint(&error)
            ),
        ),
    })
}

/// The kind of value that `bytes` begin with, in words that do not repeat it.
fn found(bytes: &[u8]) -> &'static str {
    bytes
        .first()
        .map_or("nothing", |&first| describe(first.into()))
}

fn describe(marker: Marker) -> &'static str {
    match marker {
        Marker::Null => "nil",
        Marker::True | Marker::False => "a boolean",
        Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => "an integer",
        Marker::FixNeg(_) | Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => {
            "a negative integer"
        }
        Marker::F32 | Marker::F64 => "a float",
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => "a string",
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => "bytes",
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => "a sequence",
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => "a map",
        Marker::FixExt1
        | Marker::FixExt2
        | Marker::FixExt4
        | Marker::FixExt8
        | Marker::FixExt16
        | Marker::Ext8
        | Marker::Ext16
        | Marker::Ext32 => "an extension",
        Marker::Reserved => "nothing known",
    }
}

/// What of the deserializer's error can be passed on: which complaint it is, without its particulars.
fn hint(error: &rmp_serde::decode::Error) -> &'static str {
    use rmp_serde::decode::Error;

    match error {
        Error::LengthMismatch(_) => " (of another length)",
        Error::OutOfRange => " (out of range)",
        Error::Syntax(text) => [
            ("missing field", " (a field is missing)"),
            ("duplicate field", " (a field is there twice)"),
            ("unknown field", " (it has an unknown field)"),
            ("unknown variant", " (it names an unknown variant)"),
            ("invalid length", " (of another length)"),
            (
                "invalid value",
                " (with a value that the type does not allow)",
            ),
            ("invalid type", " (with something of another type)"),
        ]
        .iter()
        .find(|(start, _)| text.starts_with(start))
        .map_or("", |(_, hint)| hint),
        _ => "",
    }
}

/// Why bytes are not one readable value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    Malformed,
    TooDeep,
}

impl Flaw {
    fn into_corrupt(self) -> Error {
        Error::new(
            ErrorKind::Corrupt,
            match self {
                Self::Malformed => "what is stored is not exactly one value",
                Self::TooDeep => "what is stored is nested too deeply to be a value",
            },
        )
    }
}

/// What follows a marker and the length that may be part of it.
enum Body {
    Bytes(usize),
    Values(usize),
}

/// Walks over `bytes`, without recursion: they are one whole value, followed by nothing.
fn check(bytes: &[u8]) -> Result<(), Flaw> {
    let mut rest = bytes;
    // How many values each open map or sequence still lacks, the innermost last; never 0.
    let mut lacking: Vec<usize> = Vec::new();
    loop {
        match read_head(&mut rest).ok_or(Flaw::Malformed)? {
            Body::Bytes(n) => rest = rest.get(n..).ok_or(Flaw::Malformed)?,
            Body::Values(n) if n > rest.len() => return Err(Flaw::Malformed),
            Body::Values(0) => {}
            Body::Values(_) if lacking.len() == MAX_DEPTH => return Err(Flaw::TooDeep),
            Body::Values(n) => {
                lacking.push(n);
                continue;
            }
        }
        // A value has ended, and with it each one whose last it was.
        while let Some(left) = lacking.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            lacking.pop();
        }
        if lacking.is_empty() {
            return match rest {
                [] => Ok(()),
                _ => Err(Flaw::Malformed),
            };
        }
    }
}

fn read_head(rest: &mut &[u8]) -> Option<Body> {
    let (&first, tail) = rest.split_first()?;
    *rest = tail;
    Some(match Marker::from_u8(first) {
        Marker::Null | Marker::True | Marker::False => Body::Bytes(0),
        Marker::FixPos(_) | Marker::FixNeg(_) => Body::Bytes(0),
        Marker::U8 | Marker::I8 => Body::Bytes(1),
        Marker::U16 | Marker::I16 => Body::Bytes(2),
        Marker::U32 | Marker::I32 | Marker::F32 => Body::Bytes(4),
        Marker::U64 | Marker::I64 | Marker::F64 => Body::Bytes(8),
        Marker::FixStr(n) => Body::Bytes(n.into()),
        Marker::Str8 | Marker::Bin8 => Body::Bytes(read_length::<1>(rest)?),
        Marker::Str16 | Marker::Bin16 => Body::Bytes(read_length::<2>(rest)?),
        Marker::Str32 | Marker::Bin32 => Body::Bytes(read_length::<4>(rest)?),
        Marker::FixArray(n) => Body::Values(n.into()),
        Marker::Array16 => Body::Values(read_length::<2>(rest)?),
        Marker::Array32 => Body::Values(read_length::<4>(rest)?),
        Marker::FixMap(n) => Body::Values(2 * usize::from(n)),
        Marker::Map16 => Body::Values(read_length::<2>(rest)?.checked_mul(2)?),
        Marker::Map32 => Body::Values(read_length::<4>(rest)?.checked_mul(2)?),
        // One more than the length: the extension's type.
        Marker::FixExt1 => Body::Bytes(2),
        Marker::FixExt2 => Body::Bytes(3),
        Marker::FixExt4 => Body::Bytes(5),
        Marker::FixExt8 => Body::Bytes(9),
        Marker::FixExt16 => Body::Bytes(17),
        Marker::Ext8 => Body::Bytes(read_length::<1>(rest)?.checked_add(1)?),
        Marker::Ext16 => Body::Bytes(read_length::<2>(rest)?.checked_add(1)?),
        Marker::Ext32 => Body::Bytes(read_length::<4>(rest)?.checked_add(1)?),
        Marker::Reserved => return None,
    })
}

/// A length of `N` bytes, the highest first.
fn read_length<const N: usize>(rest: &mut &[u8]) -> Option<usize> {
    let (length, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    length.iter().try_fold(0_usize, |sum, &byte| {
        sum.checked_mul(256)?.checked_add(byte.into())
    })
}

/// A change to a number that is made to whatever is stored when it is committed (C2.9).
///
/// Integers stay integers: one that fits `i64` stays within `i64`, a larger one (only a `u64` is) within
/// `i64::MIN..=u64::MAX`. The format knows no narrower types, so that a `u8` of 255 can become 256,
/// which then no longer reads as a `u8`. A float stays a float of its width, computed as `f64`, with
/// the operand rounded to it. 128-bit integers are stored as bytes and do not count as numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Arithmetic {
    /// Adds; an absent number counts as 0.
    Add(i64),
    /// Keeps the greater of both; an absent number counts as the operand.
    Max(i64),
    /// Keeps the lesser of both; an absent number counts as the operand.
    Min(i64),
}

impl Arithmetic {
    /// The stored form of the outcome on the stored form of a number, exactly as [`encode`] writes it:
    /// equal numbers of one kind are equal bytes.
    ///
    /// # Errors
    ///
    /// [`TypeMismatch`](ErrorKind::TypeMismatch) if what is stored is not a number,
    /// [`Overflow`](ErrorKind::Overflow) if the outcome is out of range, or if the stored float is not
    /// finite, [`Corrupt`](ErrorKind::Corrupt) if the bytes are not exactly one value.
    pub(crate) fn apply(self, current: Option<&[u8]>) -> Result<Vec<u8>> {
        let (Self::Add(operand) | Self::Max(operand) | Self::Min(operand)) = self;
        let Some(bytes) = current else {
            return encode(&operand);
        };
        match Number::read(bytes)? {
            Number::Integer(value) => {
                let outcome = self.on_integer(value)?;
                match i64::try_from(outcome) {
                    Ok(outcome) => encode(&outcome),
                    Err(_) => encode(&u64::try_from(outcome).map_err(|_| overflow())?),
                }
            }
            Number::Single(value) => encode(&(self.on_float(value.into(), operand as f64)? as f32)),
            Number::Double(value) => encode(&self.on_float(value, operand as f64)?),
        }
    }

    fn on_integer(self, value: i128) -> Result<i128> {
        let outcome = match self {
            Self::Add(operand) => value + i128::from(operand),
            Self::Max(operand) => value.max(operand.into()),
            Self::Min(operand) => value.min(operand.into()),
        };
        let greatest = if value <= i64::MAX.into() {
            i128::from(i64::MAX)
        } else {
            i128::from(u64::MAX)
        };
        if (i64::MIN.into()..=greatest).contains(&outcome) {
            Ok(outcome)
        } else {
            Err(overflow())
        }
    }

    /// The outcome is finite too, as `f64` and as `f32`: no `i64` comes near the last digit of the
    /// greatest of either.
    fn on_float(self, value: f64, operand: f64) -> Result<f64> {
        if !value.is_finite() {
            return Err(Error::new(
                ErrorKind::Overflow,
                "the stored number is not finite",
            ));
        }
        Ok(match self {
            Self::Add(_) => value + operand,
            Self::Max(_) if value >= operand => value,
            Self::Min(_) if value <= operand => value,
            Self::Max(_) | Self::Min(_) => operand,
        })
    }
}

fn overflow() -> Error {
    Error::new(
        ErrorKind::Overflow,
        "the number would leave the range of its type",
    )
}

enum Number {
    Integer(i128),
    Single(f32),
    Double(f64),
}

impl Number {
    fn read(bytes: &[u8]) -> Result<Self> {
        check(bytes).map_err(Flaw::into_corrupt)?;
        let (marker, data) = bytes
            .split_first()
            .map_or((Marker::Reserved, bytes), |(&first, data)| {
                (first.into(), data)
            });
        Ok(match marker {
            Marker::FixPos(value) => Self::Integer(value.into()),
            Marker::FixNeg(value) => Self::Integer(value.into()),
            Marker::U8 => Self::Integer(u8::from_be_bytes(exactly(data)?).into()),
            Marker::U16 => Self::Integer(u16::from_be_bytes(exactly(data)?).into()),
            Marker::U32 => Self::Integer(u32::from_be_bytes(exactly(data)?).into()),
            Marker::U64 => Self::Integer(u64::from_be_bytes(exactly(data)?).into()),
            Marker::I8 => Self::Integer(i8::from_be_bytes(exactly(data)?).into()),
            Marker::I16 => Self::Integer(i16::from_be_bytes(exactly(data)?).into()),
            Marker::I32 => Self::Integer(i32::from_be_bytes(exactly(data)?).into()),
            Marker::I64 => Self::Integer(i64::from_be_bytes(exactly(data)?).into()),
            Marker::F32 => Self::Single(f32::from_be_bytes(exactly(data)?)),
            Marker::F64 => Self::Double(f64::from_be_bytes(exactly(data)?)),
            other => {
                return Err(Error::new(
                    ErrorKind::TypeMismatch,
                    format!(
                        "a number was asked for, but what is stored is {}",
                        describe(other)
                    ),
                ));
            }
        })
    }
}

fn exactly<const N: usize>(data: &[u8]) -> Result<[u8; N]> {
    data.try_into().map_err(|_| Flaw::Malformed.into_corrupt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arithmetic::{Add, Max, Min};
    use serde::de::{self, Visitor};
    use serde::ser::{Error as _, SerializeSeq as _};
    use serde::{Deserialize, Deserializer, Serializer};
    use std::borrow::Cow;
    use std::collections::{BTreeMap, HashMap};
    use std::error::Error as _;
    use std::fmt;
    use std::net::IpAddr;
    use std::time::Duration;

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
    fn nested_options_come_back_in_their_plainer_form() {
        let bytes = encode(&Some(None::<u8>)).unwrap();
        assert_eq!(decode::<Option<Option<u8>>>(&bytes).unwrap(), None);
        let bytes = encode(&Some(())).unwrap();
        assert_eq!(decode::<Option<()>>(&bytes).unwrap(), None);
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
        round_trips(vec![Tagged::A { x: 1 }, Tagged::B]);
        round_trips(vec![Untagged::Number(-7), Untagged::Text("t".into())]);
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
        mismatch::<i128>(Bytes(vec![0; 15]), "bytes (of another length)");
    }

    #[test]
    fn numbers_are_read_by_any_type_that_holds_them() {
        let bytes = encode(&5_u8).unwrap();
        assert_eq!(decode::<i64>(&bytes).unwrap(), 5);
        assert_eq!(decode::<u128>(&bytes).unwrap(), 5);
        assert_eq!(decode::<f64>(&bytes).unwrap(), 5.0);
        assert_eq!(decode::<f64>(&encode(&1.5_f32).unwrap()).unwrap(), 1.5);
    }

    #[test]
    fn a_sequence_is_read_as_a_struct_by_position() {
        let line: Line = decode(&encode(&("a", 1.0)).unwrap()).unwrap();
        assert_eq!(
            line,
            Line {
                sku: "a".into(),
                price: 1.0
            }
        );
    }

    #[test]
    fn an_integer_names_a_field_or_a_variant_by_its_position() {
        assert_eq!(decode::<Step>(&encode(&0).unwrap()).unwrap(), Step::Start);
        let bytes = encode(&BTreeMap::from([(0, 5), (1, 6)])).unwrap();
        #[derive(Debug, PartialEq, Deserialize)]
        struct Pair {
            a: u8,
            b: u8,
        }
        assert_eq!(decode::<Pair>(&bytes).unwrap(), Pair { a: 5, b: 6 });
    }

    #[test]
    fn integers_of_128_bits_bear_no_sign() {
        assert_eq!(
            decode::<u128>(&encode(&-1_i128).unwrap()).unwrap(),
            u128::MAX
        );
        assert_eq!(
            decode::<u128>(&encode(&-1_i64).unwrap()).unwrap(),
            u128::MAX
        );
        assert_eq!(
            decode::<i128>(&encode(&Bytes(vec![0; 16])).unwrap()).unwrap(),
            0
        );
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
    fn whatever_is_not_too_deep_to_write_can_be_read() {
        fn nested(levels: usize) -> Step {
            (0..levels).fold(Step::Start, |step, _| Step::Again(Box::new(step)))
        }
        round_trips(nested(MAX_DEPTH));
        let error = encode(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSerializable);
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
            fails(arithmetic, 1_i128, ErrorKind::TypeMismatch);
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
}

//! The deserializer: it hands a reader what is stored if that is of the type asked for, by value, and
//! refuses everything else. Bounds depth and lengths itself and allocates nothing. Knows nothing of
//! what the refusals become.

mod access;

use super::refusal::Refusal;
use super::token::{self, Flaw, MAX_DEPTH, MAX_OPTIONS, Token};
use access::{Entries, Items, Keys, Variant};
use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Visitor};

/// The value that `bytes` are, as a `T`. No reader gets past the end of a map or sequence, so that one
/// that left anything unread, anywhere, has not come to the end of the bytes. Bytes that give a `T` are
/// exactly one value; bytes that are refused may be malformed.
pub(super) fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Refusal> {
    let mut strict = Strict {
        rest: bytes,
        depth: 0,
        some_at: usize::MAX,
        somes: 0,
    };
    let value = T::deserialize(&mut strict)?;
    if strict.rest.is_empty() {
        Ok(value)
    } else {
        Err(Refusal::UNREAD)
    }
}

struct Strict<'de> {
    rest: &'de [u8],
    /// How many maps and sequences are open.
    depth: usize,
    /// How many bytes were left when a `Some` was opened last; then `somes` are open around the value
    /// that begins there.
    some_at: usize,
    somes: u8,
}

impl<'de> Strict<'de> {
    /// The next token, seen from within the `Some`s that are open.
    #[inline]
    fn next(&mut self) -> Result<Token<'de>, Refusal> {
        let somes = self.open_somes();
        match Token::take(&mut self.rest)? {
            Token::SomeNil(levels) if levels == somes => Ok(Token::Nil),
            token => Ok(token),
        }
    }

    fn open_somes(&self) -> u8 {
        if self.some_at == self.rest.len() {
            self.somes
        } else {
            0
        }
    }

    fn visit_some<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Refusal> {
        let somes = self.open_somes() + 1;
        if somes > MAX_OPTIONS {
            return Err(Refusal::OPTIONS);
        }
        self.some_at = self.rest.len();
        self.somes = somes;
        visitor.visit_some(self)
    }

    /// The refusal of a token of another type.
    #[cold]
    fn mismatch(&self) -> Refusal {
        if self.depth == 0 {
            Refusal::PLAIN
        } else {
            Refusal::INNER
        }
    }

    /// One of the values in an open map or sequence.
    fn inner<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        let value = seed.deserialize(&mut *self);
        self.ending(value)
    }

    /// Passes `value` on; after a failure nothing more can be read, should a visitor try to go on from
    /// wherever it happened.
    fn ending<T>(&mut self, value: Result<T, Refusal>) -> Result<T, Refusal> {
        if value.is_err() {
            self.rest = &[];
        }
        value
    }

    /// A name, as what reads names.
    fn name<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        let name = self.next().and_then(|token| match token {
            Token::Text(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
            _ => Err(Refusal::NAME),
        });
        self.ending(name)
    }

    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        if self.depth >= MAX_DEPTH {
            return Err(Flaw::TooDeep.into());
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn seq<V: Visitor<'de>>(&mut self, items: usize, visitor: V) -> Result<V::Value, Refusal> {
        self.nested(|strict| {
            let mut left = items;
            let value = visitor.visit_seq(Items {
                strict,
                left: &mut left,
            })?;
            if left == 0 {
                Ok(value)
            } else {
                Err(Refusal::LENGTH)
            }
        })
    }

    fn map<V: Visitor<'de>>(
        &mut self,
        entries: usize,
        keys: Keys,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.nested(|strict| {
            let mut left = entries;
            let value = visitor.visit_map(Entries {
                strict,
                left: &mut left,
                keys,
            })?;
            if left == 0 {
                Ok(value)
            } else {
                Err(Refusal::LENGTH)
            }
        })
    }

    #[inline]
    fn integer<T, V>(&mut self, visitor: V) -> Result<V::Value, Refusal>
    where
        T: TryFrom<u64> + TryFrom<i64>,
        V: Visitor<'de>,
    {
        match self.next()? {
            Token::Unsigned(value) if T::try_from(value).is_ok() => visitor.visit_u64(value),
            Token::Negative(value) if T::try_from(value).is_ok() => visitor.visit_i64(value),
            token => Err(self.not_an_integer(token)),
        }
    }

    #[cold]
    fn not_an_integer(&self, token: Token<'_>) -> Refusal {
        match token {
            Token::Unsigned(_) | Token::Negative(_) | Token::Large(_) | Token::LargeNegative(_) => {
                Refusal::RANGE
            }
            _ => self.mismatch(),
        }
    }
}

/// The bytes of a nil within `Some`s, up to their number.
const SOME_NIL: [u8; 2] = [0xd4, token::SOME_NIL as u8];
const NIL: u8 = 0xc0;

macro_rules! integers {
    ($($method:ident $type:ty,)*) => {
        $(
            #[inline]
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
                self.integer::<$type, V>(visitor)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for &mut Strict<'de> {
    type Error = Refusal;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let before = self.rest;
        match self.next()? {
            Token::Nil => visitor.visit_unit(),
            Token::SomeNil(_) => {
                self.rest = before;
                self.visit_some(visitor)
            }
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Unsigned(value) => visitor.visit_u64(value),
            Token::Negative(value) => visitor.visit_i64(value),
            Token::Large(value) => visitor.visit_u128(value),
            Token::LargeNegative(value) => visitor.visit_i128(value),
            Token::Single(value) => visitor.visit_f32(value),
            Token::Double(value) => visitor.visit_f64(value),
            Token::Text(text) => visitor.visit_borrowed_str(text),
            Token::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Seq(items) => self.seq(items, visitor),
            Token::Map(entries) => self.map(entries, Keys::Any, visitor),
            Token::Extension => Err(self.mismatch()),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.next()? {
            Token::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.mismatch()),
        }
    }

    integers! {
        deserialize_i8 i8,
        deserialize_i16 i16,
        deserialize_i32 i32,
        deserialize_i64 i64,
        deserialize_u8 u8,
        deserialize_u16 u16,
        deserialize_u32 u32,
        deserialize_u64 u64,
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_i128(match self.next()? {
            Token::Unsigned(value) => value.into(),
            Token::Negative(value) => value.into(),
            Token::LargeNegative(value) => value,
            Token::Large(value) => value.try_into().map_err(|_| Refusal::RANGE)?,
            _ => return Err(self.mismatch()),
        })
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.next()? {
            Token::Unsigned(value) => visitor.visit_u128(value.into()),
            Token::Large(value) => visitor.visit_u128(value),
            token => Err(self.not_an_integer(token)),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let (value, exact) = match self.next()? {
            Token::Single(value) => (value, true),
            Token::Double(value) => {
                let single = value as f32;
                (single, f64::from(single) == value || value.is_nan())
            }
            Token::Unsigned(value) => (value as f32, value as f32 as i128 == value.into()),
            Token::Negative(value) => (value as f32, value as f32 as i128 == value.into()),
            Token::Large(_) | Token::LargeNegative(_) => return Err(Refusal::RANGE),
            _ => return Err(self.mismatch()),
        };
        if exact {
            visitor.visit_f32(value)
        } else {
            Err(Refusal::INEXACT)
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let (value, exact) = match self.next()? {
            Token::Double(value) => (value, true),
            Token::Single(value) => (value.into(), true),
            Token::Unsigned(value) => (value as f64, value as f64 as i128 == value.into()),
            Token::Negative(value) => (value as f64, value as f64 as i128 == value.into()),
            Token::Large(_) | Token::LargeNegative(_) => return Err(Refusal::RANGE),
            _ => return Err(self.mismatch()),
        };
        if exact {
            visitor.visit_f64(value)
        } else {
            Err(Refusal::INEXACT)
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.next()? {
            Token::Text(text) => visitor.visit_borrowed_str(text),
            _ => Err(self.mismatch()),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.next()? {
            Token::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Seq(items) => self.seq(items, visitor),
            _ => Err(self.mismatch()),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.rest {
            [NIL, rest @ ..] => {
                self.rest = rest;
                visitor.visit_none()
            }
            [a, b, levels, rest @ ..]
                if [*a, *b] == SOME_NIL && *levels > 0 && *levels == self.open_somes() =>
            {
                self.rest = rest;
                visitor.visit_none()
            }
            _ => self.visit_some(visitor),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.next()? {
            Token::Nil => visitor.visit_unit(),
            _ => Err(self.mismatch()),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.next()? {
            Token::Seq(items) => self.seq(items, visitor),
            Token::Bytes(bytes) => {
                let mut items = SeqDeserializer::<_, Refusal>::new(bytes.iter().copied());
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            _ => Err(self.mismatch()),
        }
    }

    /// A shorter sequence is the visitor's to refuse: its last fields may have defaults.
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.next()? {
            Token::Map(entries) => self.map(entries, Keys::Any, visitor),
            _ => Err(self.mismatch()),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match self.next()? {
            Token::Map(entries) => self.map(entries, Keys::Names, visitor),
            _ => Err(self.mismatch()),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match self.next()? {
            Token::Text(name) => visitor.visit_enum(BorrowedStrDeserializer::new(name)),
            Token::Map(1) => self.nested(|strict| visitor.visit_enum(Variant { strict })),
            Token::Map(_) => Err(Refusal::LENGTH),
            _ => Err(self.mismatch()),
        }
    }

    /// What structs and enums name is read elsewhere, as a name. This is a key of a map that may have
    /// any: a struct that flattens a map reads its own and the other's keys so, and none by position.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        token::skip(&mut self.rest, self.depth)?;
        visitor.visit_unit()
    }
}

#[cfg(test)]
mod tests {
    use crate::ErrorKind;
    use crate::value::{decode, encode};
    use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
    use serde::{Deserialize, Serialize};
    use std::collections::{BTreeMap, HashMap};
    use std::fmt;
    use std::num::Saturating;

    /// What a stored `value` reads as.
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

    /// What a `value` is stored as, by each integer type that holds it.
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
                        fn $method<A: $bound<'de>>(
                            self,
                            mut $access: A,
                        ) -> Result<$name, A::Error> {
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
        reader!(Lenient, visit_seq, |seq: SeqAccess| while let Ok(Some(_)) =
            seq.next_element::<u8>()
        {
        });
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
        assert_eq!(error.kind(), ErrorKind::NotSerializable);
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
}

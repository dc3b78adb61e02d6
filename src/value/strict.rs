//! The deserializer. It accepts a stored value that is of the requested type by value, and refuses all others. It
//! bounds depth and lengths itself and allocates nothing. Knows no errors of the crate.

mod access;
mod reader;

use super::refusal::RefusalReason;
use super::token::{self, Token};
use access::{Entries, Items, KeyAccess, Variant};
use reader::Strict;
use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{Deserialize, Deserializer, Visitor};

/// Reads `bytes` as a `T`. A visitor cannot read past the end of a map or sequence, so if it left a part unread
/// anywhere, bytes are left over at the end. Bytes that give a `T` are exactly one value. Refused bytes may be
/// malformed.
pub(super) fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, RefusalReason> {
    let mut strict = Strict::new(bytes);
    let value = T::deserialize(&mut strict)?;
    if strict.rest.is_empty() {
        Ok(value)
    } else {
        Err(RefusalReason::UNREAD)
    }
}

impl<'de> Strict<'de> {
    fn seq<V: Visitor<'de>>(
        &mut self,
        items: usize,
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        self.nested(|strict| {
            let mut left = items;
            let value = visitor.visit_seq(Items {
                strict,
                left: &mut left,
            })?;
            if left == 0 {
                Ok(value)
            } else {
                Err(RefusalReason::LENGTH)
            }
        })
    }

    fn map<V: Visitor<'de>>(
        &mut self,
        entries: usize,
        keys: KeyAccess,
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
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
                Err(RefusalReason::LENGTH)
            }
        })
    }

    #[inline]
    fn integer<T, V>(&mut self, visitor: V) -> Result<V::Value, RefusalReason>
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
    fn not_an_integer(&self, token: Token<'_>) -> RefusalReason {
        match token {
            Token::Unsigned(_) | Token::Negative(_) | Token::Large(_) | Token::LargeNegative(_) => {
                RefusalReason::RANGE
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
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
                self.integer::<$type, V>(visitor)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for &mut Strict<'de> {
    type Error = RefusalReason;

    /// What serde itself buffers always says so.
    fn is_human_readable(&self) -> bool {
        true
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
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
            Token::Map(entries) => self.map(entries, KeyAccess::Any, visitor),
            Token::Extension => Err(self.mismatch()),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
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

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        visitor.visit_i128(match self.next()? {
            Token::Unsigned(value) => value.into(),
            Token::Negative(value) => value.into(),
            Token::LargeNegative(value) => value,
            Token::Large(value) => value.try_into().map_err(|_| RefusalReason::RANGE)?,
            _ => return Err(self.mismatch()),
        })
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        match self.next()? {
            Token::Unsigned(value) => visitor.visit_u128(value.into()),
            Token::Large(value) => visitor.visit_u128(value),
            token => Err(self.not_an_integer(token)),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        let (value, exact) = match self.next()? {
            Token::Single(value) => (value, true),
            Token::Double(value) => {
                let single = value as f32;
                (single, f64::from(single) == value || value.is_nan())
            }
            Token::Unsigned(value) => (value as f32, value as f32 as i128 == value.into()),
            Token::Negative(value) => (value as f32, value as f32 as i128 == value.into()),
            Token::Large(_) | Token::LargeNegative(_) => return Err(RefusalReason::RANGE),
            _ => return Err(self.mismatch()),
        };
        if exact {
            visitor.visit_f32(value)
        } else {
            Err(RefusalReason::INEXACT)
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        let (value, exact) = match self.next()? {
            Token::Double(value) => (value, true),
            Token::Single(value) => (value.into(), true),
            Token::Unsigned(value) => (value as f64, value as f64 as i128 == value.into()),
            Token::Negative(value) => (value as f64, value as f64 as i128 == value.into()),
            Token::Large(_) | Token::LargeNegative(_) => return Err(RefusalReason::RANGE),
            _ => return Err(self.mismatch()),
        };
        if exact {
            visitor.visit_f64(value)
        } else {
            Err(RefusalReason::INEXACT)
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        match self.next()? {
            Token::Text(text) => visitor.visit_borrowed_str(text),
            _ => Err(self.mismatch()),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        match self.next()? {
            Token::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Seq(items) => self.seq(items, visitor),
            _ => Err(self.mismatch()),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
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

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        match self.next()? {
            Token::Nil => visitor.visit_unit(),
            _ => Err(self.mismatch()),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        match self.next()? {
            Token::Seq(items) => self.seq(items, visitor),
            Token::Bytes(bytes) => {
                let mut items = SeqDeserializer::<_, RefusalReason>::new(bytes.iter().copied());
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            _ => Err(self.mismatch()),
        }
    }

    /// A shorter sequence is the visitor's to refuse: its last fields may have defaults.
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RefusalReason> {
        match self.next()? {
            Token::Map(entries) => self.map(entries, KeyAccess::Any, visitor),
            _ => Err(self.mismatch()),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        match self.next()? {
            Token::Map(entries) => self.map(entries, KeyAccess::Names, visitor),
            _ => Err(self.mismatch()),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        match self.next()? {
            Token::Text(name) => visitor.visit_enum(BorrowedStrDeserializer::new(name)),
            Token::Map(1) => self.nested(|strict| visitor.visit_enum(Variant { strict })),
            Token::Map(_) => Err(RefusalReason::LENGTH),
            _ => Err(self.mismatch()),
        }
    }

    /// What structs and enums name is read elsewhere, as a name. This is a key of a map that may have
    /// any: a struct that flattens a map reads its own and the other's keys so, and none by position.
    fn deserialize_identifier<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        token::skip(&mut self.rest, self.depth)?;
        visitor.visit_unit()
    }
}

#[cfg(test)]
mod tests;

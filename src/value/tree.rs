//! A stored value as data, whatever type wrote it: for administration, and for exports.

use super::encode;
use super::token::{Token, check};
use crate::error::Result;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// A stored value as data, for code that does not know the type that was inserted.
///
/// Structs are maps from field names. Enums are texts, or maps of one entry: the variant's name, and its content. With
/// [`Serialize`] and `Deserialize` it has the form that `docs/export-format.md` describes. In JSON, this form keeps
/// bytes, integers of any width, and floats that are not numbers.
///
/// ```
/// use cloakroom::{Store, Value};
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("items", ("tea", 2)))?;
/// let values = store.entry_values(id.key(), "", "cart")?;
/// let items = Value::List(vec![Value::Text("tea".into()), Value::Unsigned(2)]);
/// assert_eq!(values, [("items".to_owned(), items)]);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `None`, `()` or a unit struct.
    Null,
    /// A [`Null`](Self::Null) within so many `Some`s, from 1 on.
    SomeNull(u8),
    /// A boolean.
    Bool(bool),
    /// An integer from 0 on.
    Unsigned(u128),
    /// An integer below 0.
    Negative(i128),
    /// A float of 32 bits.
    Single(f32),
    /// A float of 64 bits.
    Double(f64),
    /// A string.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A sequence, a tuple or an array.
    List(Vec<Self>),
    /// A map or a struct, in the stored order. A key can be any value.
    Map(Vec<(Self, Self)>),
    /// The stored bytes, where they are not exactly one value that this version knows.
    Raw(Vec<u8>),
}

/// Values that are nested more deeply than this are [`Value::Raw`], so that readers of JSON can read them.
const MAX_NESTING: usize = 32;

impl Value {
    /// The value that `bytes` hold. Its [stored form](Self::stored) is `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let raw = || Self::Raw(bytes.to_vec());
        if check(bytes).is_err() {
            return raw();
        }
        let Some(value) = take(&mut &*bytes, 0) else {
            return raw();
        };
        match value.stored() {
            Ok(stored) if stored == bytes => value,
            _ => raw(),
        }
    }

    /// The stored form.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::ErrorKind::TooLarge) if the value is nested too deeply.
    pub(crate) fn stored(&self) -> Result<Vec<u8>> {
        match self {
            Self::Raw(bytes) => Ok(bytes.clone()),
            value => encode(&AsInserted(value)),
        }
    }
}

fn take(rest: &mut &[u8], depth: usize) -> Option<Value> {
    let token = Token::take(rest).ok()?;
    Some(match token {
        Token::Nil => Value::Null,
        Token::SomeNil(levels) => Value::SomeNull(levels),
        Token::Bool(value) => Value::Bool(value),
        Token::Unsigned(value) => Value::Unsigned(value.into()),
        Token::Negative(value) => Value::Negative(value.into()),
        Token::Large(value) => Value::Unsigned(value),
        Token::LargeNegative(value) => Value::Negative(value),
        Token::Single(value) => Value::Single(value),
        Token::Double(value) => Value::Double(value),
        Token::Text(text) => Value::Text(text.to_owned()),
        Token::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        Token::Seq(_) | Token::Map(_) if depth >= MAX_NESTING => return None,
        Token::Seq(count) => {
            let items = (0..count).map(|_| take(rest, depth + 1));
            Value::List(items.collect::<Option<_>>()?)
        }
        Token::Map(count) => {
            let entries =
                (0..count).map(|_| Some((take(rest, depth + 1)?, take(rest, depth + 1)?)));
            Value::Map(entries.collect::<Option<_>>()?)
        }
        Token::Extension => return None,
    })
}

/// Serializes a value as the type did that was inserted.
struct AsInserted<'a>(&'a Value);

impl Serialize for AsInserted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_none(),
            Value::SomeNull(levels) => SomeNull(*levels).serialize(serializer),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Unsigned(value) => serializer.serialize_u128(*value),
            Value::Negative(value) => serializer.serialize_i128(*value),
            Value::Single(value) => serializer.serialize_f32(*value),
            Value::Double(value) => serializer.serialize_f64(*value),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) | Value::Raw(bytes) => serializer.serialize_bytes(bytes),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&AsInserted(item))?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(&AsInserted(key), &AsInserted(value))?;
                }
                map.end()
            }
        }
    }
}

/// A nil within so many `Some`s.
struct SomeNull(u8);

impl Serialize for SomeNull {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.checked_sub(1) {
            Some(fewer) => serializer.serialize_some(&Self(fewer)),
            None => serializer.serialize_none(),
        }
    }
}

//! The form of a [`Value`] in exports: plain where JSON has the same, otherwise a map of one entry whose key begins with
//! `$`.

use super::tree::Value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use std::fmt;

const BYTES: &str = "$bytes";
const RAW: &str = "$raw";
const INTEGER: &str = "$int";
const SINGLE: &str = "$f32";
const DOUBLE: &str = "$f64";
const SOME: &str = "$some";
const MAP: &str = "$map";
/// The tag that serde_json itself gives a number, with its text, where a crate of the program turns the feature
/// `arbitrary_precision` on.
const NUMBER: &str = "$serde_json::private::Number";

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::SomeNull(levels) => tagged(serializer, SOME, levels),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(value) => match u64::try_from(*value) {
                Ok(value) => serializer.serialize_u64(value),
                Err(_) => tagged(serializer, INTEGER, &value.to_string()),
            },
            Self::Negative(value) => match i64::try_from(*value) {
                Ok(value) => serializer.serialize_i64(value),
                Err(_) => tagged(serializer, INTEGER, &value.to_string()),
            },
            Self::Single(value) => tagged(serializer, SINGLE, &format!("{:08x}", value.to_bits())),
            Self::Double(value) if value.is_finite() => serializer.serialize_f64(*value),
            Self::Double(value) => tagged(serializer, DOUBLE, &format!("{:016x}", value.to_bits())),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => tagged(serializer, BYTES, &STANDARD.encode(bytes)),
            Self::Raw(bytes) => tagged(serializer, RAW, &STANDARD.encode(bytes)),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Map(entries) => map(serializer, entries),
        }
    }
}

fn tagged<S: Serializer, T: Serialize + ?Sized>(
    serializer: S,
    tag: &str,
    content: &T,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(tag, content)?;
    map.end()
}

/// A map is an object if its keys are texts that are no tags.
fn map<S: Serializer>(serializer: S, entries: &[(Value, Value)]) -> Result<S::Ok, S::Error> {
    let is_plain =
        |(key, _): &(Value, Value)| matches!(key, Value::Text(key) if !key.starts_with('$'));
    if !entries.iter().all(is_plain) {
        return tagged(serializer, MAP, entries);
    }
    let mut map = serializer.serialize_map(Some(entries.len()))?;
    for (key, value) in entries {
        map.serialize_entry(key, value)?;
    }
    map.end()
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of an export")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Double(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key.starts_with('$') {
                let value = tagged_value(&key, &mut map)?;
                let is_alone = entries.is_empty() && map.next_key::<String>()?.is_none();
                return match is_alone {
                    true => Ok(value),
                    false => Err(de::Error::custom("a tag stands beside other keys")),
                };
            }
            entries.push((Value::Text(key), map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}

fn integer(value: i128) -> Value {
    u128::try_from(value).map_or(Value::Negative(value), Value::Unsigned)
}

/// A number of JSON, as serde_json gives it without that feature.
fn number(text: &str) -> Option<Value> {
    let whole = text.parse().map(Value::Unsigned).ok();
    let negative = || Some(Value::Negative(text.parse().ok().filter(|it| *it < 0)?));
    let double = || {
        let value = text.parse().ok().filter(|it: &f64| it.is_finite());
        value.map(Value::Double)
    };
    let fits = |value: &Value| match value {
        Value::Unsigned(value) => u64::try_from(*value).is_ok(),
        Value::Negative(value) => i64::try_from(*value).is_ok(),
        _ => false,
    };
    whole.or_else(negative).filter(fits).or_else(double)
}

fn tagged_value<'de, A: MapAccess<'de>>(tag: &str, map: &mut A) -> Result<Value, A::Error> {
    let wrong = || de::Error::custom("the content of a tag is not what the tag says");
    match tag {
        MAP => return Ok(Value::Map(map.next_value()?)),
        SOME => {
            let levels: u8 = map.next_value()?;
            return (levels > 0)
                .then_some(Value::SomeNull(levels))
                .ok_or_else(wrong);
        }
        _ => {}
    }
    let text: String = map.next_value()?;
    let bytes = || STANDARD.decode(&text).ok();
    let value = match tag {
        BYTES => bytes().map(Value::Bytes),
        RAW => bytes().map(Value::Raw),
        SINGLE => u32::from_str_radix(&text, 16)
            .ok()
            .map(|bits| Value::Single(f32::from_bits(bits))),
        DOUBLE => u64::from_str_radix(&text, 16)
            .ok()
            .map(|bits| Value::Double(f64::from_bits(bits))),
        INTEGER => {
            let unsigned = text.parse().ok().map(Value::Unsigned);
            unsigned.or_else(|| text.parse().ok().map(integer))
        }
        NUMBER => number(&text),
        _ => return Err(de::Error::custom("a tag is unknown")),
    };
    value.ok_or_else(wrong)
}

//! A stored value: serde in, serde out, self-describing MessagePack in between (C5.1), and the
//! arithmetic on stored numbers (C2.9). Knows nothing of containers, packages and keys; callers add
//! these to the errors.
//!
//! Structs are stored as maps from field names, enums by the names of their variants, integers and
//! options by value, whatever their type. Both sides use serde's human-readable forms, so addresses and UUIDs are text.
//! serde always assumes these forms for values that it buffers; other forms could not be read back from there (C5.6).
//! A stored value can be read by any type that holds the same:
//!
//! - an integer by every integer type in whose range it is, and by a float that has exactly its value;
//! - a float by one of either width that has exactly its value, never by an integer;
//! - a sequence by tuples, arrays and tuple structs of its length, and as bytes; bytes as a sequence of
//!   `u8`; a map by structs whose fields are its keys, and the other way round;
//! - a value other than nil by an option, as a `Some` of it; and a `Some` of such a value by the type of the value.
//!   `None`, `()` and unit structs are nil. `Some(None)` and `Some(())` are not nil, and only nested options read them.
//!   (A field that is read with `deserialize_with` as one option, for another, must be written as one too.)
//!
//! Everything else is a [`TypeMismatch`](ErrorKind::TypeMismatch). What serde itself reads ahead and
//! hands on from memory (untagged and internally tagged enums, flattened structs) follows serde's own
//! rules, which know fields and variants by position too, and round floats. There are no 128-bit types there,
//! whatever the value: what hands on from memory does not implement `deserialize_i128` and `deserialize_u128`,
//! so that an `i128` of 5 is written and cannot be read.

mod refusal;
mod strict;
mod tagged;
mod token;
mod tree;
mod writer;

use crate::error::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;
use token::{Flaw, Token};
pub use tree::Value;

/// The stored form of `value`. Equal numbers of one kind are equal bytes.
///
/// # Errors
///
/// [`NotSerializable`](ErrorKind::NotSerializable) if the value's `Serialize` fails, with that error as the source
/// (C2.3), or if it announced other lengths than it wrote, because such a value could not be read back.
/// [`TooLarge`](ErrorKind::TooLarge) if the value is nested too deeply.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let mut writer = writer::Writer::default();
    let name = type_name::<T>();
    match value.serialize(&mut writer) {
        Ok(()) => Ok(writer.into_bytes()),
        // A visitor can cause this, for example with a list that is too deeply nested.
        Err(why @ writer::WriteRefusal::TooDeep) => {
            let detail = format!("a value of type {name} is too large: {why}");
            Err(Error::new(ErrorKind::TooLarge, detail))
        }
        Err(refusal) => {
            let detail = match &refusal {
                writer::WriteRefusal::Said(_) => {
                    format!("a value of type {name} cannot be serialized")
                }
                why => format!("a value of type {name} cannot be serialized: {why}"),
            };
            Err(Error::new(ErrorKind::NotSerializable, detail).with_source(refusal))
        }
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
    strict::read(bytes).or_else(|refusal| {
        let found = describe(bytes)?;
        Err(Error::new(
            ErrorKind::TypeMismatch,
            format!(
                "a value of type {} was asked for, but what is stored is {found}{refusal}",
                type_name::<T>(),
            ),
        ))
    })
}

/// The kind of value that `bytes` are, if they are exactly one.
#[cold]
fn describe(bytes: &[u8]) -> Result<&'static str> {
    token::check(bytes)?;
    Ok(Token::take(&mut &*bytes)?.describe())
}

impl From<Flaw> for Error {
    fn from(flaw: Flaw) -> Self {
        Self::new(
            ErrorKind::Corrupt,
            match flaw {
                Flaw::Malformed => "what is stored is not exactly one value",
                Flaw::TooDeep => "what is stored is nested too deeply to be a value",
            },
        )
    }
}

/// A change to a number. It is applied to the value that is stored at the commit (C2.9).
///
/// Integers stay integers: one that fits `i64` stays within `i64`, a larger one (only a `u64` is) within
/// `i64::MIN..=u64::MAX`. The format knows no narrower types, so that a `u8` of 255 can become 256,
/// which then no longer reads as a `u8`; nor wider ones, so that an `i128` must fit 64 bits before and
/// after. A float stays a float of its width, computed as `f64`, with the operand rounded to it.
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
    /// [`TypeMismatch`](ErrorKind::TypeMismatch) if the stored value is not a number, [`Overflow`](ErrorKind::Overflow)
    /// if the outcome or the stored integer is out of range, or if the stored float is not finite,
    /// [`Corrupt`](ErrorKind::Corrupt) if the bytes are not exactly one value.
    pub(crate) fn apply(self, current: Option<&[u8]>) -> Result<Vec<u8>> {
        let (Self::Add(operand) | Self::Max(operand) | Self::Min(operand)) = self;
        let Some(bytes) = current else {
            return encode(&operand);
        };
        match StoredNumber::read(bytes)? {
            StoredNumber::Integer(value) => {
                let outcome = self.on_integer(value)?;
                match i64::try_from(outcome) {
                    Ok(outcome) => encode(&outcome),
                    Err(_) => encode(&u64::try_from(outcome).map_err(|_| overflow())?),
                }
            }
            StoredNumber::Single(value) => {
                encode(&(self.on_float(value.into(), operand as f64)? as f32))
            }
            StoredNumber::Double(value) => encode(&self.on_float(value, operand as f64)?),
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

enum StoredNumber {
    Integer(i128),
    Single(f32),
    Double(f64),
}

impl StoredNumber {
    fn read(bytes: &[u8]) -> Result<Self> {
        token::check(bytes)?;
        Ok(match Token::take(&mut &*bytes)? {
            Token::Unsigned(value) => Self::Integer(value.into()),
            Token::Negative(value) => Self::Integer(value.into()),
            Token::Large(_) | Token::LargeNegative(_) => return Err(overflow()),
            Token::Single(value) => Self::Single(value),
            Token::Double(value) => Self::Double(value),
            other => {
                return Err(Error::new(
                    ErrorKind::TypeMismatch,
                    format!(
                        "a number was asked for, but what is stored is {}",
                        other.describe()
                    ),
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests;

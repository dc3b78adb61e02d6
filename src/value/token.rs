//! Reads MessagePack token by token, and checks whether bytes are exactly one value. Knows nothing of serde.

use rmp::Marker;

/// How many maps and sequences may lie in each other. Reading recurses once or more for each on a
/// stack of unknown size, so that writing a deeper value is refused.
pub(super) const MAX_DEPTH: usize = 128;

/// How many options may lie directly in each other: they add levels without adding bytes.
pub(super) const MAX_OPTIONS: u8 = 16;

/// The extension that holds an integer above `u64::MAX`: 16 bytes, the highest first.
pub(super) const LARGE: i8 = 1;
/// The extension that holds an integer below `i64::MIN`: 16 bytes in two's complement, the highest first.
pub(super) const LARGE_NEGATIVE: i8 = 2;
/// The extension that holds how many `Some`s are around a nil: one byte, never 0.
pub(super) const SOME_NIL: i8 = 3;

/// A value without content, or the beginning of one. Each integer has one form only, whatever type and width wrote it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    /// A nil within so many `Some`s.
    SomeNil(u8),
    Bool(bool),
    Unsigned(u64),
    /// Below 0.
    Negative(i64),
    Large(u128),
    LargeNegative(i128),
    Single(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// The number of items that follow.
    Seq(usize),
    /// The number of entries that follow.
    Map(usize),
    Extension,
}

/// Why bytes are not one readable value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Flaw {
    Malformed,
    TooDeep,
}

impl<'a> Token<'a> {
    /// Takes the token that `rest` begins with. No more items or entries are announced than bytes
    /// are left for them.
    #[inline]
    pub(super) fn take(rest: &mut &'a [u8]) -> Result<Self, Flaw> {
        let &first = rest.split_off_first().ok_or(Flaw::Malformed)?;
        Ok(match Marker::from_u8(first) {
            Marker::Null => Self::Nil,
            Marker::True => Self::Bool(true),
            Marker::False => Self::Bool(false),
            Marker::FixPos(value) => Self::Unsigned(value.into()),
            Marker::U8 => Self::Unsigned(u8::from_be_bytes(array(rest)?).into()),
            Marker::U16 => Self::Unsigned(u16::from_be_bytes(array(rest)?).into()),
            Marker::U32 => Self::Unsigned(u32::from_be_bytes(array(rest)?).into()),
            Marker::U64 => Self::Unsigned(u64::from_be_bytes(array(rest)?)),
            Marker::FixNeg(value) => Self::signed(value.into()),
            Marker::I8 => Self::signed(i8::from_be_bytes(array(rest)?).into()),
            Marker::I16 => Self::signed(i16::from_be_bytes(array(rest)?).into()),
            Marker::I32 => Self::signed(i32::from_be_bytes(array(rest)?).into()),
            Marker::I64 => Self::signed(i64::from_be_bytes(array(rest)?)),
            Marker::F32 => Self::Single(f32::from_be_bytes(array(rest)?)),
            Marker::F64 => Self::Double(f64::from_be_bytes(array(rest)?)),
            Marker::FixStr(n) => Self::text(bytes(rest, n.into())?)?,
            Marker::Str8 => Self::text(counted::<1>(rest)?)?,
            Marker::Str16 => Self::text(counted::<2>(rest)?)?,
            Marker::Str32 => Self::text(counted::<4>(rest)?)?,
            Marker::Bin8 => Self::Bytes(counted::<1>(rest)?),
            Marker::Bin16 => Self::Bytes(counted::<2>(rest)?),
            Marker::Bin32 => Self::Bytes(counted::<4>(rest)?),
            Marker::FixArray(n) => Self::Seq(fits(n.into(), 1, rest)?),
            Marker::Array16 => Self::Seq(fits(length::<2>(rest)?, 1, rest)?),
            Marker::Array32 => Self::Seq(fits(length::<4>(rest)?, 1, rest)?),
            Marker::FixMap(n) => Self::Map(fits(n.into(), 2, rest)?),
            Marker::Map16 => Self::Map(fits(length::<2>(rest)?, 2, rest)?),
            Marker::Map32 => Self::Map(fits(length::<4>(rest)?, 2, rest)?),
            extension => Self::extension(extension, rest)?,
        })
    }

    fn signed(value: i64) -> Self {
        u64::try_from(value).map_or(Self::Negative(value), Self::Unsigned)
    }

    fn text(bytes: &'a [u8]) -> Result<Self, Flaw> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::Text(text)),
            Err(_) => Err(Flaw::Malformed),
        }
    }

    fn extension(marker: Marker, rest: &mut &'a [u8]) -> Result<Self, Flaw> {
        let len = match marker {
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            Marker::Ext8 => length::<1>(rest)?,
            Marker::Ext16 => length::<2>(rest)?,
            Marker::Ext32 => length::<4>(rest)?,
            _ => return Err(Flaw::Malformed),
        };
        let kind = i8::from_be_bytes(array(rest)?);
        let data = bytes(rest, len)?;
        Ok(match (kind, data) {
            (SOME_NIL, &[levels]) if levels > 0 => Self::SomeNil(levels),
            (LARGE, data) => data.try_into().map_or(Self::Extension, |bytes| {
                Self::Large(u128::from_be_bytes(bytes))
            }),
            (LARGE_NEGATIVE, data) => data.try_into().map_or(Self::Extension, |bytes| {
                Self::LargeNegative(i128::from_be_bytes(bytes))
            }),
            _ => Self::Extension,
        })
    }

    /// The kind of value that begins with this, in words that do not repeat it.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::SomeNil(_) => "nil within Some",
            Self::Bool(_) => "a boolean",
            Self::Unsigned(_) | Self::Large(_) => "an integer",
            Self::Negative(_) | Self::LargeNegative(_) => "a negative integer",
            Self::Single(_) | Self::Double(_) => "a float",
            Self::Text(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::Seq(_) => "a sequence",
            Self::Map(_) => "a map",
            Self::Extension => "an extension",
        }
    }
}

/// Takes a whole value that lies in `depth` maps and sequences. Recursion is bounded by [`MAX_DEPTH`].
pub(super) fn skip(rest: &mut &[u8], depth: usize) -> Result<(), Flaw> {
    let values = match Token::take(rest)? {
        Token::Seq(items) => items,
        Token::Map(entries) => 2 * entries,
        _ => return Ok(()),
    };
    if depth >= MAX_DEPTH {
        return Err(Flaw::TooDeep);
    }
    (0..values).try_for_each(|_| skip(rest, depth + 1))
}

/// Whether `bytes` are one whole value, followed by nothing.
pub(super) fn check(mut bytes: &[u8]) -> Result<(), Flaw> {
    skip(&mut bytes, 0)?;
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(Flaw::Malformed)
    }
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Flaw> {
    let (array, tail) = rest.split_first_chunk::<N>().ok_or(Flaw::Malformed)?;
    *rest = tail;
    Ok(*array)
}

fn bytes<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Flaw> {
    rest.split_off(..len).ok_or(Flaw::Malformed)
}

/// A length of `N` bytes, the highest first.
fn length<const N: usize>(rest: &mut &[u8]) -> Result<usize, Flaw> {
    array::<N>(rest)?
        .iter()
        .try_fold(0_usize, |sum, &byte| {
            sum.checked_mul(256)?.checked_add(byte.into())
        })
        .ok_or(Flaw::Malformed)
}

fn counted<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8], Flaw> {
    let len = length::<N>(rest)?;
    bytes(rest, len)
}

/// `n`, if `rest` can hold that many items of at least `size` bytes.
fn fits(n: usize, size: usize, rest: &[u8]) -> Result<usize, Flaw> {
    if n <= rest.len() / size {
        Ok(n)
    } else {
        Err(Flaw::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_announced_than_bytes_are_left_for() {
        for (mut bytes, token) in [
            (&[0x92, 1, 2][..], Ok(Token::Seq(2))),
            (&[0x92, 1], Err(Flaw::Malformed)),
            (&[0x82, 1, 2, 3, 4], Ok(Token::Map(2))),
            (&[0x82, 1, 2, 3], Err(Flaw::Malformed)),
            (&[0xdd, 0xff, 0xff, 0xff, 0xff, 1], Err(Flaw::Malformed)),
            (&[0xdf, 0xff, 0xff, 0xff, 0xff, 1], Err(Flaw::Malformed)),
        ] {
            assert_eq!(Token::take(&mut bytes), token);
        }
    }
}

//! The serializer. It writes structs as maps from field names, variants by name and integers by value. It refuses
//! values that could not be read back.

use super::token::{LARGE, LARGE_NEGATIVE, MAX_DEPTH, MAX_OPTIONS, SOME_NIL};
use rmp::Marker;
use rmp::encode;
use serde::ser::{self, Serialize};
use std::fmt;
use std::io;

/// Why a value was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteRefusal {
    /// The message of the value's `Serialize`.
    #[error("{0}")]
    Said(String),
    #[error("its Serialize wrote more or less than it announced")]
    Length,
    #[error("it is nested in more than {MAX_DEPTH} lists and maps, or {MAX_OPTIONS} options")]
    TooDeep,
    #[error("a part of it is longer than 2^32 - 1")]
    TooLong,
    #[error("no memory is left for it")]
    Write(#[from] io::Error),
}

impl ser::Error for WriteRefusal {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::Said(text.to_string())
    }
}

impl From<encode::ValueWriteError> for WriteRefusal {
    fn from(error: encode::ValueWriteError) -> Self {
        Self::Write(error.into())
    }
}

#[derive(Default)]
pub(super) struct Writer {
    out: Vec<u8>,
    /// How many maps and sequences are open.
    depth: usize,
    /// How much was written when a `Some` was opened last, and how many were opened there.
    some_at: usize,
    somes: u8,
}

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    fn put(&mut self, marker: Marker) {
        self.out.push(marker.to_u8());
    }

    fn enter(&mut self) -> Result<(), WriteRefusal> {
        if self.depth >= MAX_DEPTH {
            return Err(WriteRefusal::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }

    fn extension(&mut self, kind: i8, data: [u8; 16]) -> Result<(), WriteRefusal> {
        encode::write_ext_meta(&mut self.out, 16, kind)?;
        self.out.extend_from_slice(&data);
        Ok(())
    }

    /// Opens a map of one entry and writes its key.
    fn variant(&mut self, name: &'static str) -> Result<(), WriteRefusal> {
        self.enter()?;
        encode::write_map_len(&mut self.out, 1)?;
        ser::Serializer::serialize_str(self, name)
    }

    /// Opens a sequence or a map of `announced` items or entries.
    fn open(
        &mut self,
        shape: Shape,
        announced: Option<usize>,
        levels: usize,
    ) -> Result<Open<'_>, WriteRefusal> {
        self.enter()?;
        let start = self.out.len();
        shape.write_length(&mut self.out, announced.unwrap_or(0))?;
        Ok(Open {
            writer: self,
            shape,
            announced,
            start,
            levels,
            values: 0,
            is_broken: false,
        })
    }
}

#[derive(Clone, Copy)]
enum Shape {
    Seq,
    Map,
}

impl Shape {
    fn write_length(self, out: &mut Vec<u8>, length: usize) -> Result<(), WriteRefusal> {
        let length = u32::try_from(length).map_err(|_| WriteRefusal::TooLong)?;
        match self {
            Self::Seq => encode::write_array_len(out, length)?,
            Self::Map => encode::write_map_len(out, length)?,
        };
        Ok(())
    }

    fn values(self, length: usize) -> Option<usize> {
        match self {
            Self::Seq => Some(length),
            Self::Map => length.checked_mul(2),
        }
    }
}

/// A sequence or a map being written.
pub(super) struct Open<'a> {
    writer: &'a mut Writer,
    shape: Shape,
    announced: Option<usize>,
    /// Where its length is: that announced, or else one byte for now.
    start: usize,
    /// How many levels end with it: the map of a variant around it counts too.
    levels: usize,
    /// How many items, or keys and values, are written.
    values: usize,
    /// Whether an item failed. Its incomplete bytes must not become part of a value, even if its error was ignored.
    is_broken: bool,
}

impl Open<'_> {
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteRefusal> {
        let written = value.serialize(&mut *self.writer);
        self.is_broken |= written.is_err();
        self.values += 1;
        written
    }

    fn close(self) -> Result<(), WriteRefusal> {
        let length = match (self.announced, self.shape) {
            (Some(announced), _) => announced,
            (None, Shape::Seq) => self.values,
            (None, Shape::Map) => self.values / 2,
        };
        if self.is_broken || self.shape.values(length) != Some(self.values) {
            return Err(WriteRefusal::Length);
        }
        if self.announced.is_none() {
            let mut head = Vec::new();
            self.shape.write_length(&mut head, length)?;
            self.writer.out.splice(self.start..=self.start, head);
        }
        self.writer.depth -= self.levels;
        Ok(())
    }
}

macro_rules! integers {
    ($($method:ident $type:ty => $write:ident,)*) => {
        $(
            #[inline]
            fn $method(self, value: $type) -> Result<(), WriteRefusal> {
                encode::$write(&mut self.out, value.into())?;
                Ok(())
            }
        )*
    };
}

impl<'a> ser::Serializer for &'a mut Writer {
    type Ok = ();
    type Error = WriteRefusal;
    type SerializeSeq = Open<'a>;
    type SerializeTuple = Open<'a>;
    type SerializeTupleStruct = Open<'a>;
    type SerializeTupleVariant = Open<'a>;
    type SerializeMap = Open<'a>;
    type SerializeStruct = Open<'a>;
    type SerializeStructVariant = Open<'a>;

    /// What serde itself buffers always says so.
    fn is_human_readable(&self) -> bool {
        true
    }

    fn serialize_bool(self, value: bool) -> Result<(), WriteRefusal> {
        self.put(if value { Marker::True } else { Marker::False });
        Ok(())
    }

    integers! {
        serialize_i8 i8 => write_sint,
        serialize_i16 i16 => write_sint,
        serialize_i32 i32 => write_sint,
        serialize_i64 i64 => write_sint,
        serialize_u8 u8 => write_uint,
        serialize_u16 u16 => write_uint,
        serialize_u32 u32 => write_uint,
        serialize_u64 u64 => write_uint,
    }

    fn serialize_i128(self, value: i128) -> Result<(), WriteRefusal> {
        match (i64::try_from(value), u128::try_from(value)) {
            (Ok(value), _) => self.serialize_i64(value),
            (_, Ok(value)) => self.serialize_u128(value),
            _ => self.extension(LARGE_NEGATIVE, value.to_be_bytes()),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<(), WriteRefusal> {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value),
            Err(_) => self.extension(LARGE, value.to_be_bytes()),
        }
    }

    fn serialize_f32(self, value: f32) -> Result<(), WriteRefusal> {
        Ok(encode::write_f32(&mut self.out, value)?)
    }

    fn serialize_f64(self, value: f64) -> Result<(), WriteRefusal> {
        Ok(encode::write_f64(&mut self.out, value)?)
    }

    fn serialize_char(self, value: char) -> Result<(), WriteRefusal> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), WriteRefusal> {
        let length = u32::try_from(text.len()).map_err(|_| WriteRefusal::TooLong)?;
        encode::write_str_len(&mut self.out, length)?;
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), WriteRefusal> {
        let length = u32::try_from(bytes.len()).map_err(|_| WriteRefusal::TooLong)?;
        encode::write_bin_len(&mut self.out, length)?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), WriteRefusal> {
        self.serialize_unit()
    }

    /// `Some` is written as its content. Only a nil gets an extension around it, or it would be read as `None`.
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), WriteRefusal> {
        let start = self.out.len();
        if self.some_at != start {
            self.some_at = start;
            self.somes = 0;
        }
        if self.somes >= MAX_OPTIONS {
            return Err(WriteRefusal::TooDeep);
        }
        self.somes += 1;
        value.serialize(&mut *self)?;

        let nil = Marker::Null.to_u8();
        let some_nil = [Marker::FixExt1.to_u8(), SOME_NIL.to_be_bytes()[0]];
        let levels = match self.out.get_mut(start..) {
            Some([only]) if *only == nil => 1,
            Some([a, b, levels]) if [*a, *b] == some_nil => *levels + 1,
            _ => return Ok(()),
        };
        self.out.truncate(start);
        self.out.extend_from_slice(&some_nil);
        self.out.push(levels);
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), WriteRefusal> {
        self.put(Marker::Null);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), WriteRefusal> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), WriteRefusal> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), WriteRefusal> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), WriteRefusal> {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Open<'a>, WriteRefusal> {
        self.open(Shape::Seq, length, 1)
    }

    fn serialize_tuple(self, length: usize) -> Result<Open<'a>, WriteRefusal> {
        self.open(Shape::Seq, Some(length), 1)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        length: usize,
    ) -> Result<Open<'a>, WriteRefusal> {
        self.open(Shape::Seq, Some(length), 1)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Open<'a>, WriteRefusal> {
        self.variant(variant)?;
        self.open(Shape::Seq, Some(length), 2)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Open<'a>, WriteRefusal> {
        self.open(Shape::Map, length, 1)
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Open<'a>, WriteRefusal> {
        self.open(Shape::Map, Some(length), 1)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Open<'a>, WriteRefusal> {
        self.variant(variant)?;
        self.open(Shape::Map, Some(length), 2)
    }
}

macro_rules! sequences {
    ($($trait:ident $method:ident,)*) => {
        $(
            impl ser::$trait for Open<'_> {
                type Ok = ();
                type Error = WriteRefusal;

                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteRefusal> {
                    self.value(value)
                }

                fn end(self) -> Result<(), WriteRefusal> {
                    self.close()
                }
            }
        )*
    };
}

sequences! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

macro_rules! structs {
    ($($trait:ident)*) => {
        $(
            impl ser::$trait for Open<'_> {
                type Ok = ();
                type Error = WriteRefusal;

                fn serialize_field<T: Serialize + ?Sized>(
                    &mut self,
                    name: &'static str,
                    value: &T,
                ) -> Result<(), WriteRefusal> {
                    self.value(name)?;
                    self.value(value)
                }

                fn end(self) -> Result<(), WriteRefusal> {
                    self.close()
                }
            }
        )*
    };
}

structs! { SerializeStruct SerializeStructVariant }

impl ser::SerializeMap for Open<'_> {
    type Ok = ();
    type Error = WriteRefusal;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), WriteRefusal> {
        self.is_broken |= !self.values.is_multiple_of(2);
        self.value(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteRefusal> {
        self.is_broken |= self.values.is_multiple_of(2);
        self.value(value)
    }

    fn end(self) -> Result<(), WriteRefusal> {
        self.close()
    }
}

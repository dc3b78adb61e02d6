//! The accessors through which visitors read sequences, maps and variants.

use super::reader::Strict;
use crate::value::refusal::RefusalReason;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

pub(super) struct Items<'a, 'de> {
    pub(super) strict: &'a mut Strict<'de>,
    pub(super) left: &'a mut usize,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = RefusalReason;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, RefusalReason> {
        if *self.left == 0 {
            return Ok(None);
        }
        let value = self.strict.inner(seed)?;
        *self.left -= 1;
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(*self.left)
    }
}

/// Which keys a map may have.
#[derive(Clone, Copy)]
pub(super) enum KeyAccess {
    Any,
    Names,
}

pub(super) struct Entries<'a, 'de> {
    pub(super) strict: &'a mut Strict<'de>,
    pub(super) left: &'a mut usize,
    pub(super) keys: KeyAccess,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = RefusalReason;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, RefusalReason> {
        if *self.left == 0 {
            return Ok(None);
        }
        let key = match self.keys {
            KeyAccess::Any => self.strict.inner(seed)?,
            KeyAccess::Names => self.strict.name(seed)?,
        };
        Ok(Some(key))
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, RefusalReason> {
        let value = self.strict.inner(seed)?;
        *self.left -= 1;
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(*self.left)
    }
}

/// A variant with content. It is stored as a map of one entry.
pub(super) struct Variant<'a, 'de> {
    pub(super) strict: &'a mut Strict<'de>,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = RefusalReason;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self), RefusalReason> {
        let name = self.strict.name(seed)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = RefusalReason;

    fn unit_variant(self) -> Result<(), RefusalReason> {
        <()>::deserialize(self.strict)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, RefusalReason> {
        self.strict.inner(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        self.strict.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        self.strict.deserialize_struct("", fields, visitor)
    }
}

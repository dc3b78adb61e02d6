//! Why the deserializer refuses a value. Knows nothing of the value.

use super::token::Flaw;
use serde::de::{self, Unexpected};
use std::fmt;

/// Why a value was refused, as the end of a sentence. The messages of serde and of visitors are not kept, because they
/// repeat the value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RefusalReason(&'static str);

impl RefusalReason {
    /// The whole stored value is of another type, or the type's own `Deserialize` refused it.
    pub(super) const PLAIN: Self = Self("");
    pub(super) const UNREAD: Self = Self(" (of which a part was left unread)");
    pub(super) const LENGTH: Self = Self(" (of another length)");
    pub(super) const RANGE: Self = Self(" (out of range)");
    pub(super) const INEXACT: Self = Self(" (which the type would round)");
    pub(super) const INNER: Self = Self(" (with something of another type)");
    pub(super) const NAME: Self = Self(" (with something else where a name is due)");
    pub(super) const OPTIONS: Self = Self(" (and the type has too many options in each other)");
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for RefusalReason {}

impl From<Flaw> for RefusalReason {
    fn from(_: Flaw) -> Self {
        Self::PLAIN
    }
}

impl de::Error for RefusalReason {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::PLAIN
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn de::Expected) -> Self {
        Self::INNER
    }

    fn invalid_value(_: Unexpected<'_>, _: &dyn de::Expected) -> Self {
        Self(" (with a value that the type does not allow)")
    }

    fn invalid_length(_: usize, _: &dyn de::Expected) -> Self {
        Self::LENGTH
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self(" (it names an unknown variant)")
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self(" (it has an unknown field)")
    }

    fn missing_field(_: &'static str) -> Self {
        Self(" (a field is missing)")
    }

    fn duplicate_field(_: &'static str) -> Self {
        Self(" (a field is there twice)")
    }
}

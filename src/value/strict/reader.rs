//! The position of the deserializer in its bytes. It reads tokens and names, and counts the open maps, sequences and
//! options.

use crate::value::refusal::RefusalReason;
use crate::value::token::{Flaw, MAX_DEPTH, MAX_OPTIONS, Token};
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, Visitor};

pub(super) struct Strict<'de> {
    pub(super) rest: &'de [u8],
    /// How many maps and sequences are open.
    pub(super) depth: usize,
    /// How many bytes were left when the last `Some` was opened. `somes` are open around the value that begins there.
    some_at: usize,
    somes: u8,
}

impl<'de> Strict<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self {
            rest: bytes,
            depth: 0,
            some_at: usize::MAX,
            somes: 0,
        }
    }

    /// The next token, seen from within the `Some`s that are open.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Token<'de>, RefusalReason> {
        let somes = self.open_somes();
        match Token::take(&mut self.rest)? {
            Token::SomeNil(levels) if levels == somes => Ok(Token::Nil),
            token => Ok(token),
        }
    }

    pub(super) fn open_somes(&self) -> u8 {
        if self.some_at == self.rest.len() {
            self.somes
        } else {
            0
        }
    }

    pub(super) fn visit_some<V: Visitor<'de>>(
        &mut self,
        visitor: V,
    ) -> Result<V::Value, RefusalReason> {
        let somes = self.open_somes() + 1;
        if somes > MAX_OPTIONS {
            return Err(RefusalReason::OPTIONS);
        }
        self.some_at = self.rest.len();
        self.somes = somes;
        visitor.visit_some(self)
    }

    /// The refusal of a token of another type.
    #[cold]
    pub(super) fn mismatch(&self) -> RefusalReason {
        if self.depth == 0 {
            RefusalReason::PLAIN
        } else {
            RefusalReason::INNER
        }
    }

    /// One of the values in an open map or sequence.
    pub(super) fn inner<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, RefusalReason> {
        let value = seed.deserialize(&mut *self);
        self.ending(value)
    }

    /// Returns `value`. After a failure no bytes are left, so a visitor that ignores the failure cannot continue.
    pub(super) fn ending<T>(
        &mut self,
        value: Result<T, RefusalReason>,
    ) -> Result<T, RefusalReason> {
        if value.is_err() {
            self.rest = &[];
        }
        value
    }

    /// A name of a field or variant.
    pub(super) fn name<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, RefusalReason> {
        let name = self.next().and_then(|token| match token {
            Token::Text(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
            _ => Err(RefusalReason::NAME),
        });
        self.ending(name)
    }

    pub(super) fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, RefusalReason>,
    ) -> Result<T, RefusalReason> {
        if self.depth >= MAX_DEPTH {
            return Err(Flaw::TooDeep.into());
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }
}

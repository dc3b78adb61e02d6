//! Values by path: alternatives of which the first that is there counts, as page templates write them.

use crate::error::{Error, ErrorKind, Quoted, Result};
use crate::session::Session;
use serde::de::value::Error as LiteralError;
use serde::de::{DeserializeOwned, IntoDeserializer as _};
use std::any::type_name;

/// One alternative of a path.
#[derive(Clone, Debug, PartialEq)]
enum PathStep<'a> {
    Key { package: &'a str, key: &'a str },
    Text(&'a str),
    Integer(i64),
    Float(f64),
}

impl Session {
    /// Returns the value at a path: the first of its alternatives that is there, or `None`.
    ///
    /// Alternatives are separated by `|`. Each is a package id and a key, separated by the first `/`. The last may be a
    /// literal instead: a text in single or double quotes, or a number.
    ///
    /// ```
    /// use cloakroom::Store;
    ///
    /// let store = Store::in_memory()?;
    /// let id = store.client_ids().issue();
    /// let txn = store.begin()?;
    /// let session = txn.session(&id)?;
    /// session.pkg("products.bar").insert("color", "blue")?;
    ///
    /// let color = session.path::<String>("products.foo/color | products.bar/color | 'green'")?;
    /// assert_eq!(color.as_deref(), Some("blue"));
    /// let size = session.path::<u32>("products.foo/size | 38")?;
    /// assert_eq!(size, Some(38));
    /// assert_eq!(session.path::<u32>("products.foo/size")?, None);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// A key that is missing leads on to the next alternative. A value that cannot be read is an error, not missing.
    /// Keys up to the one that is there count as read. Nothing is created. Spaces around `|` are ignored; a package
    /// or a key that contains `|` or begins or ends with a space cannot be written here.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the path is not of this form;
    /// [`TypeMismatch`](ErrorKind::TypeMismatch) if the value or the literal is not a `T`; otherwise as for
    /// [`PkgData::get`](crate::PkgData::get).
    pub fn path<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        for step in parse(path)? {
            let value = match step {
                PathStep::Key { package, key } => self.pkg(package).get(key)?,
                PathStep::Text(text) => Some(literal(T::deserialize(text.into_deserializer()))?),
                PathStep::Integer(n) => Some(literal(T::deserialize(n.into_deserializer()))?),
                PathStep::Float(n) => Some(literal(T::deserialize(n.into_deserializer()))?),
            };
            if value.is_some() {
                return Ok(value);
            }
        }
        Ok(None)
    }
}

fn literal<T>(value: Result<T, LiteralError>) -> Result<T> {
    value.map_err(|_| {
        let wanted = type_name::<T>();
        let detail = format!("the literal of a path is not of the type {wanted}");
        Error::new(ErrorKind::TypeMismatch, detail)
    })
}

/// The alternatives of a path, at least one.
fn parse(path: &str) -> Result<Vec<PathStep<'_>>> {
    let mut steps = Vec::new();
    let mut rest = path.trim();
    loop {
        let (step, after) = if let Some((text, after)) = quoted(rest) {
            (PathStep::Text(text), after)
        } else {
            let end = rest.find('|').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let step = parse_word(word.trim());
            (step.ok_or_else(|| refused(path))?, after)
        };
        let is_literal = !matches!(step, PathStep::Key { .. });
        steps.push(step);
        let after = after.trim_start();
        if after.is_empty() {
            return Ok(steps);
        }
        // A literal is always there, so nothing may follow it.
        let next = after.strip_prefix('|').filter(|_| !is_literal);
        rest = next.ok_or_else(|| refused(path))?.trim();
    }
}

/// A text in quotes at the beginning, and what follows it.
fn quoted(rest: &str) -> Option<(&str, &str)> {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| rest.strip_prefix(quote)?.split_once(quote))
}

fn parse_word(word: &str) -> Option<PathStep<'_>> {
    if let Some((package, key)) = word.split_once('/') {
        let is_whole = !package.is_empty() && !key.is_empty();
        return is_whole.then_some(PathStep::Key { package, key });
    }
    // Neither `inf` nor `nan`.
    if !word.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let integer = word.parse().map(PathStep::Integer);
    integer.or_else(|_| word.parse().map(PathStep::Float)).ok()
}

fn refused(path: &str) -> Error {
    let detail = format!(
        "a path is `package/key | package/key | 'literal'`, not {}",
        Quoted(path)
    );
    Error::new(ErrorKind::InvalidInput, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key<'a>(package: &'a str, key: &'a str) -> PathStep<'a> {
        PathStep::Key { package, key }
    }

    #[test]
    fn paths_are_taken_apart() {
        for (path, steps) in [
            ("a/b", vec![key("a", "b")]),
            (
                " a.x/b c | d/e/f ",
                vec![key("a.x", "b c"), key("d", "e/f")],
            ),
            ("a/b|'c | d'", vec![key("a", "b"), PathStep::Text("c | d")]),
            (
                "a/b | \"it's\"",
                vec![key("a", "b"), PathStep::Text("it's")],
            ),
            ("a/b | ''", vec![key("a", "b"), PathStep::Text("")]),
            ("a/b | -5", vec![key("a", "b"), PathStep::Integer(-5)]),
            ("a/b | 0.5", vec![key("a", "b"), PathStep::Float(0.5)]),
        ] {
            assert_eq!(parse(path).unwrap(), steps, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in [
            "",
            "|",
            "a",
            "a/",
            "/b",
            "a/b |",
            "| a/b",
            "a/b || c/d",
            "'a' | b/c",
            "a/b | 'c",
            "a/b | 'c' d",
            "a/b | nan",
            "a/b | inf",
            "a/b | 5 | c/d",
        ] {
            let error = parse(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path}");
        }
    }
}

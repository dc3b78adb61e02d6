//! What visitors stored, made harmless to look at.

use crate::forms::counted;
use cloakroom::Value;
use serde::Serialize;
use std::fmt::Write as _;

/// A longer text is cut; its length is shown.
const MAX_TEXT: usize = 2000;
/// The settings of a layer may be longer.
const MAX_SETTINGS: usize = 64 * 1024;
/// More texts of one package are named by their length.
const MAX_TEXTS: usize = 1 << 20;
/// More parts of one package are counted and not shown.
const MAX_NODES: usize = 5000;

/// A text as it is shown: characters that cannot be seen, or change the direction of what follows, by their numbers; cut
/// where it is long. The template escapes it.
pub(crate) fn visible(text: &str) -> String {
    visible_up_to(text, MAX_TEXT)
}

/// A long text of the application, such as its settings.
pub(crate) fn visible_settings(text: &str) -> String {
    visible_up_to(text, MAX_SETTINGS)
}

fn visible_up_to(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most * 4));
    for (count, character) in text.chars().enumerate() {
        if count == most {
            // Writing to a string cannot fail.
            let _ = write!(shown, "… ({} bytes in all)", text.len());
            break;
        }
        match is_hidden(character) {
            true => {
                let _ = write!(shown, "⟨U+{:04X}⟩", u32::from(character));
            }
            false => shown.push(character),
        }
    }
    shown
}

/// Controls, characters for private use, spaces but the plain one, and what Unicode calls ignorable by default, such as
/// marks of direction (UAX #9) and characters without width.
fn is_hidden(character: char) -> bool {
    let is_line = matches!(character, '\n' | '\t');
    (character.is_control() && !is_line)
        || (character.is_whitespace() && !is_line && character != ' ')
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
            | '\u{f0000}'..='\u{10ffff}')
}

/// A value as a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Node {
    /// `text`, `number`, `other`, `bytes`, `list` or `map`.
    kind: &'static str,
    /// What it is, if it has no parts; else how many parts it has.
    text: String,
    /// The parts with their keys; those of a list have none.
    parts: Vec<(Option<String>, Self)>,
}

/// Makes trees of values, until there are too many parts.
pub(crate) struct Trees {
    left: usize,
    /// How many bytes of texts may still be shown.
    left_texts: usize,
}

impl Trees {
    pub(crate) fn new() -> Self {
        Self {
            left: MAX_NODES,
            left_texts: MAX_TEXTS,
        }
    }

    /// The tree of one more value, or nothing if there are too many.
    pub(crate) fn next(&mut self, value: &Value) -> Option<Node> {
        self.left = self.left.checked_sub(1)?;
        Some(self.node(value))
    }

    /// A text, as long as there is room.
    fn text(&mut self, shown: String) -> String {
        match self.left_texts.checked_sub(shown.len()) {
            Some(left) => {
                self.left_texts = left;
                shown
            }
            None => format!("… ({} more bytes are not shown)", shown.len()),
        }
    }

    fn node(&mut self, value: &Value) -> Node {
        let leaf = |kind, text| Node {
            kind,
            text,
            parts: Vec::new(),
        };
        match value {
            Value::Null => leaf("other", "null".to_owned()),
            Value::SomeNull(levels) => leaf("other", format!("null in {levels} × Some")),
            Value::Bool(value) => leaf("other", value.to_string()),
            Value::Unsigned(value) => leaf("number", value.to_string()),
            Value::Negative(value) => leaf("number", value.to_string()),
            Value::Single(value) => leaf("number", value.to_string()),
            Value::Double(value) => leaf("number", value.to_string()),
            Value::Text(text) => leaf("text", self.text(visible(text))),
            Value::Bytes(bytes) => leaf("bytes", hexadecimal(bytes)),
            Value::Raw(bytes) => leaf("bytes", format!("unknown: {}", hexadecimal(bytes))),
            Value::List(items) => {
                let parts = items.iter().map(|item| (None, item));
                self.parts("list", items.len(), parts)
            }
            Value::Map(entries) => {
                let parts = entries
                    .iter()
                    .map(|(key, value)| (Some(key_text(key)), value));
                self.parts("map", entries.len(), parts)
            }
            // A newer version of the store may know more.
            other => leaf("other", self.text(visible(&format!("{other:?}")))),
        }
    }

    fn parts<'a>(
        &mut self,
        kind: &'static str,
        count: usize,
        parts: impl Iterator<Item = (Option<String>, &'a Value)>,
    ) -> Node {
        let mut shown = Vec::new();
        for (key, part) in parts {
            let Some(left) = self.left.checked_sub(1) else {
                break;
            };
            self.left = left;
            let key = key.map(|key| self.text(key));
            shown.push((key, self.node(part)));
        }
        let text = match count - shown.len() {
            0 => counted(count as u64, "item"),
            _ => format!("{}, {} shown", counted(count as u64, "item"), shown.len()),
        };
        Node {
            kind,
            text,
            parts: shown,
        }
    }
}

fn key_text(key: &Value) -> String {
    match key {
        Value::Text(text) => visible(text),
        other => visible(&format!("{other:?}")),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    let digits = crate::csrf::hex(bytes.get(..SHOWN).unwrap_or(bytes));
    match bytes.len() {
        count if count > SHOWN => format!("{digits}… ({count} bytes in all)"),
        count => format!("{digits} ({count} bytes)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_named() {
        for hidden in [
            "\u{fe0f}",
            "\u{a0}",
            "\u{3000}",
            "\u{2800}",
            "\u{f0000}",
            "\u{34f}",
            "\u{2028}",
        ] {
            assert!(visible(hidden).starts_with("⟨U+"), "{hidden:?}");
        }
        assert_eq!(
            visible("a\u{202e}b\u{0}\u{200b}"),
            "a⟨U+202E⟩b⟨U+0000⟩⟨U+200B⟩"
        );
        assert_eq!(
            visible("zwei\nZeilen, ünïcödé, 茶"),
            "zwei\nZeilen, ünïcödé, 茶"
        );
    }

    #[test]
    fn what_is_long_is_cut() {
        let shown = visible(&"茶".repeat(400_000));
        assert!(shown.ends_with("… (1200000 bytes in all)"));
        assert_eq!(shown.chars().filter(|it| *it == '茶').count(), MAX_TEXT);
    }

    #[test]
    fn large_values_are_shown_in_part() {
        let row = Value::List(vec![Value::Null; 100]);
        let table = Value::List(vec![row; 100]);
        let node = Trees::new().next(&table).unwrap();
        assert_eq!(node.text, "100 items, 50 shown");
        let nodes: usize = node.parts.iter().map(|(_, row)| row.parts.len() + 1).sum();
        assert_eq!(nodes, MAX_NODES - 1);
        let mut trees = Trees::new();
        let texts = (0..10_000).map_while(|_| trees.next(&Value::Text("x".repeat(3000))));
        let lengths: Vec<_> = texts.map(|node| node.text.len()).collect();
        assert_eq!(lengths.len(), MAX_NODES);
        assert!(lengths.iter().sum::<usize>() < MAX_TEXTS + MAX_NODES * 50);
    }
}

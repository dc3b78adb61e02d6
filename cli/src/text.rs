//! Times, sizes and names as people write and read them. What a visitor can store is made harmless.

use bytesize::ByteSize;
use chrono::{DateTime, SecondsFormat, Utc};
use std::fmt::Write as _;
use std::time::Duration;

/// The text with everything escaped that could act on a terminal or mislead a reader: control characters, and those
/// that are invisible or change the direction of writing.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmless(c) {
            out.push(c);
        } else {
            let _ = write!(out, "{}", c.escape_unicode());
        }
    }
    out
}

/// JSON in which the same characters are escaped as JSON does it. Its readers get the same values.
pub(crate) fn json_escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_harmless(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// Not so are controls, spaces but the plain one, characters for private use, and what Unicode calls ignorable by
/// default, such as marks of direction and characters without width.
fn is_harmless(c: char) -> bool {
    let is_hidden = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        | '\u{f0000}'..='\u{10ffff}');
    c == ' ' || !(c.is_control() || c.is_whitespace() || is_hidden)
}

/// A name in quotes, unless it is a plain word.
pub(crate) fn name(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || "._-@+/".contains(c);
    match !text.is_empty() && text.chars().all(is_word) {
        true => plain(text),
        false => format!("\"{}\"", plain(text).replace('"', "\\\"")),
    }
}

/// The number of columns, as far as the number of characters tells.
pub(crate) fn width(text: &str) -> usize {
    text.chars().count()
}

/// The text with at most so many characters.
pub(crate) fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

/// In the two largest units.
pub(crate) fn duration(duration: Duration) -> String {
    let secs = match duration.as_secs() {
        0 => return format!("{}ms", duration.as_millis()),
        secs => secs,
    };
    let text = humantime::format_duration(Duration::from_secs(secs)).to_string();
    let units: Vec<_> = text.split(' ').take(2).collect();
    units.join(" ")
}

/// In the largest unit.
pub(crate) fn roughly(duration: Duration) -> String {
    let text = self::duration(duration);
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// A timeout, of which zero means never.
pub(crate) fn timeout(timeout: Duration) -> String {
    match timeout.is_zero() {
        true => "never".to_owned(),
        false => duration(timeout),
    }
}

pub(crate) fn bytes(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

pub(crate) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// So many sessions.
pub(crate) fn sessions(count: u64) -> String {
    counted(count, "session")
}

/// So many packages.
pub(crate) fn packages(count: u64) -> String {
    counted(count, "package")
}

fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// How long ago that was; zero if it lies ahead.
pub(crate) fn since(now: DateTime<Utc>, time: DateTime<Utc>) -> Duration {
    (now - time).to_std().unwrap_or_default()
}

/// A duration such as `30m`, `1h 30m` or `7days`; `never` is zero.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    match text {
        "never" | "0" => Ok(Duration::ZERO),
        text => parse_duration(text),
    }
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write for example 90s, 30m, 12h or 7days"))
}

/// The longest time that is waited for an answer.
const LONGEST_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// A time to wait, which is not zero.
pub(crate) fn parse_patience(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("nothing comes at once; write for example 10s".to_owned()),
        some if some > LONGEST_PATIENCE => Err("write no more than one day".to_owned()),
        some => Ok(some),
    }
}

/// A size such as `500`, `10kB` or `1.5MiB`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let size = text.parse::<ByteSize>();
    size.map(|size| size.as_u64())
        .map_err(|_| "write a size for example as 500, 10kB or 1.5MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // C9.2
    #[test]
    fn what_could_act_on_a_terminal_is_escaped() {
        for (text, harmless) in [
            ("Zoë, 東京", "Zoë, 東京"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\nb\rc\u{9b}d", "a\\u{a}b\\u{d}c\\u{9b}d"),
            ("abc\u{202e}fed", "abc\\u{202e}fed"),
            ("in\u{200b}visible\u{feff}", "in\\u{200b}visible\\u{feff}"),
            (
                "no\u{3164}thing\u{115f}\u{34f}\u{2800}",
                "no\\u{3164}thing\\u{115f}\\u{34f}\\u{2800}",
            ),
            ("<script>", "<script>"),
        ] {
            assert_eq!(plain(text), harmless);
            let json = serde_json::to_string(text).unwrap();
            let escaped = json_escaped(&json);
            assert!(escaped.chars().all(is_harmless), "{escaped}");
            assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }
        assert_eq!(
            json_escaped("\"\u{7f}\u{e0041}\""),
            "\"\\u007f\\udb40\\udc41\""
        );
        assert_eq!(name("shop.cart"), "shop.cart");
        assert_eq!(name(""), "\"\"");
        assert_eq!(name("a \"b\" \u{7}"), "\"a \\\"b\\\" \\u{7}\"");
    }

    #[test]
    fn times_and_sizes_are_read_and_written_as_people_do() {
        let secs = Duration::from_secs;
        assert_eq!(parse_duration("1h 30m"), Ok(secs(5400)));
        assert_eq!(parse_timeout("never"), Ok(Duration::ZERO));
        assert_eq!(parse_patience("10s"), Ok(secs(10)));
        assert!(parse_patience("2d").unwrap_err().contains("one day"));
        assert!(parse_duration("soon").unwrap_err().contains("30m"));
        assert_eq!(duration(secs(90_061)), "1day 1h");
        assert_eq!(duration(Duration::from_millis(5)), "5ms");
        assert_eq!(roughly(secs(3725)), "1h");
        assert_eq!(timeout(Duration::ZERO), "never");
        assert_eq!(parse_bytes("1.5KiB"), Ok(1536));
        assert_eq!(parse_bytes("10kB"), Ok(10_000));
        assert!(parse_bytes("many").is_err());
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(short("abcdef", 4), "abc…");
    }
}

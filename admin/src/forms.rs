//! What people type into forms: durations.

use std::time::Duration;

/// Reads a duration as people write it: `30m`, `1h 30m`, `2 days`, `0`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("Say the unit, such as 90s, 30m, 12h or 7d.".to_owned());
    }
    let read = humantime::parse_duration(text);
    read.map_err(|error| format!("{error}. Write it as 90s, 30m, 1h 30m or 7d."))
}

/// Writes a duration as [`duration`] reads it.
pub(crate) fn written(duration: Duration) -> String {
    match duration {
        Duration::ZERO => "0".to_owned(),
        some => humantime::format_duration(some).to_string(),
    }
}

/// Writes a number of bytes for people: `1,023 bytes`, `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return counted(count, "byte");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = UNITS.iter();
    let mut name = unit.next().copied().unwrap_or_default();
    while size >= 1023.95
        && let Some(next) = unit.next()
    {
        size /= 1024.0;
        name = next;
    }
    format!("{size:.1} {name}")
}

/// Writes a time in seconds for people, roughly: `90 s`, `35 min`, `9 h`, `12 days`.
pub(crate) fn roughly(seconds: u64) -> String {
    match seconds {
        few if few < 120 => format!("{few} s"),
        some if some < 2 * 3600 => format!("{} min", some / 60),
        many if many < 48 * 3600 => format!("{} h", many / 3600),
        most => format!("{} days", number(most / (24 * 3600))),
    }
}

/// Writes how many there are: `1 session`, `1,200 sessions`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", number(count))
}

/// Writes a whole number with commas.
pub(crate) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for text in ["0", "90s", "30m", "1h 30m", "7days", "400days", "1ms"] {
            let read = duration(text).unwrap();
            assert_eq!(duration(&written(read)), Ok(read), "{text}");
        }
        for text in [
            "",
            "90",
            "-1s",
            "1 fortnight",
            "99999999999999999999d",
            "🕛",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_and_sizes() {
        let numbers = [0, 999, 1000, 1_234_567].map(number);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        let times = [0, 119, 120, 7199, 7200, 172_799, 1 << 20].map(roughly);
        let written = ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "12 days"];
        assert_eq!(times, written);
        let sizes = [0, 1023, 1024, 1536 * 1024, 1024 * 1024 - 1, u64::MAX].map(bytes);
        let written = [
            "0 bytes",
            "1,023 bytes",
            "1.0 KiB",
            "1.5 MiB",
            "1.0 MiB",
            "16384.0 PiB",
        ];
        assert_eq!(sizes, written);
    }
}

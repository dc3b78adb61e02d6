//! The text of a source file: without comments, literals and items for tests, and where names stand in it.

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub(crate) fn word(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

/// Where a path begins with `name::`, or a whole crate is imported.
pub(crate) fn starts_of(text: &str, name: &str) -> Vec<usize> {
    let is_start = |at: usize| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        let goes_on = before
            .strip_suffix("::")
            .is_some_and(|b| b.ends_with(is_word));
        let imported =
            before.trim_end().ends_with("use") && after.trim_start().starts_with([';', ' ']);
        !goes_on && !before.ends_with(is_word) && (after.starts_with("::") || imported)
    };
    let found = text.match_indices(name).map(|(at, _)| at);
    found.filter(|at| is_start(*at)).collect()
}

/// The text without comments, strings, characters and items for tests; lines stay where they are.
pub(crate) fn strip(text: &str) -> String {
    without_tests(&without_comments_and_literals(text))
}

fn without_comments_and_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = skipped_length(rest, out.chars().next_back());
        if skipped == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            let (gone, left) = rest.split_at(skipped);
            out.push(' ');
            out.extend(gone.chars().filter(|c| *c == '\n'));
            rest = left;
        }
    }
    out
}

/// The length of the comment or literal that `text` begins with, if it does.
fn skipped_length(text: &str, previous: Option<char>) -> usize {
    let in_word = previous.is_some_and(is_word);
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment(text);
    }
    if text.starts_with('"') {
        return quoted(text);
    }
    if !in_word && (text.starts_with('r') || text.starts_with("br")) {
        let body = text.trim_start_matches('b').trim_start_matches('r');
        let hashes = body.len() - body.trim_start_matches('#').len();
        if body[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = text.len() - body.len() + hashes + 1;
            return text[start..]
                .find(&end)
                .map_or(text.len(), |i| start + i + end.len());
        }
    }
    if let Some(body) = text.strip_prefix('\'') {
        // A lifetime has no closing quote after its first character.
        let mut chars = body.chars();
        return match chars.next() {
            Some('\\') => body[2..].find('\'').map_or(text.len(), |i| i + 4),
            Some(c) if chars.next() == Some('\'') => c.len_utf8() + 2,
            _ => 0,
        };
    }
    0
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

/// Removes every item that is marked `#[cfg(test)]`: up to its `;`, or the end of its braces.
fn without_tests(text: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (before, marked) = rest.split_at(at);
        let (gone, left) = marked.split_at(MARK.len() + item_length(&marked[MARK.len()..]));
        out.push_str(before);
        out.extend(gone.chars().filter(|c| *c == '\n'));
        rest = left;
    }
    out + rest
}

fn item_length(text: &str) -> usize {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            ';' if depth == 0 => return i + 1,
            '{' => depth += 1,
            '}' if depth == 1 => return i + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

//! The structure of the sources: each module uses only those below it, redb and bincode are named in few places, and
//! the rules of [`rules`] hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod rules;

use rules::Files;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Bottom to top. A module may use itself and those before it.
const ORDER: &[&str] = &[
    "steps",
    "error",
    "process",
    "clock",
    "contain",
    "throttle",
    "block_on",
    "value",
    "client_id",
    "expiry",
    "storage",
    "transaction",
    "session",
    "package",
    "path",
    "container",
    "store",
    "http",
    "minijinja",
    "torture",
];

/// Dependencies that are named in few places: where a path starts with one of these.
const ROOMS: &[(&str, &[&str])] = &[
    ("redb", &["src/storage/redb/", "migrations/"]),
    ("bincode", &["src/storage/record/"]),
];

#[test]
fn each_module_uses_only_those_below_it() {
    let sources = sources();
    assert!(sources.len() > ORDER.len(), "found {}", sources.len());
    let violations = violations(&sources);
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn files_use_each_other_in_no_circles() {
    let found = rules::circles(&Files::parse(&sources()));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let found = rules::types_defined_twice(&Files::parse(&sources()));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn functions_are_short_and_take_no_bare_bool() {
    let found = rules::functions(&Files::parse(&sources()));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// What a rule says of a few planted files.
fn of_planted(rule: fn(&Files) -> Vec<String>, planted: &[(&str, &str)]) -> Vec<String> {
    let planted = planted
        .iter()
        .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
    rule(&Files::parse(&planted.collect::<Sources>()))
}

#[test]
fn a_planted_circle_is_found() {
    let a = ("src/a.rs", "use crate::b::B; pub struct A(B);");
    for b in [
        "use crate::a::A; pub struct B(A);",
        "pub struct B; impl B { fn f(&self) -> Option<crate::a::A> { None } }",
        "use super::a; pub struct B(a::A);",
        "use super::{a as other}; pub struct B(Box<other::A>);",
        "use crate::c::A; pub struct B(A);",
    ] {
        let files = [a, ("src/b.rs", b), ("src/c.rs", "pub use crate::a::A;")];
        let found = of_planted(rules::circles, &files);
        assert_eq!(found, ["src/a.rs, src/b.rs"], "{b}");
    }
}

#[test]
fn what_only_passes_names_on_is_in_no_circle() {
    let found = of_planted(
        rules::circles,
        &[
            ("src/m/mod.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("src/m/a.rs", "use super::B; pub struct A(B);"),
            (
                "src/m/b.rs",
                "pub struct B; #[cfg(test)] mod tests { use super::super::A; fn f(_: A) {} }",
            ),
        ],
    );
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_planted_name_of_two_types_is_found() {
    let files = [
        ("src/a.rs", "struct State;"),
        ("src/b.rs", "type State = u8;"),
    ];
    let found = of_planted(rules::types_defined_twice, &files);
    assert_eq!(found, ["State: src/a.rs:1, src/b.rs:1"]);
}

#[test]
fn a_planted_function_is_found() {
    let long = format!("fn f() {{{}}}", "\n".repeat(70));
    let rest = "\n".repeat(69);
    for (text, expected) in [
        (&*long, "src/a.rs:1: f has 71 lines"),
        (
            &*format!("impl A {{ fn f() {{{rest}\n}} }}"),
            "src/a.rs:1: f has 71 lines",
        ),
        ("fn f(is: bool) {}", "src/a.rs:1: f takes a bool"),
        (
            "impl A { pub(crate) fn f(&self, is: bool) {} }",
            "src/a.rs:1: f takes a bool",
        ),
        ("trait T { fn f(is: bool); }", "src/a.rs:1: f takes a bool"),
    ] {
        assert_eq!(
            of_planted(rules::functions, &[("src/a.rs", text)]),
            [expected],
            "{text}"
        );
    }
    for text in [
        &*format!("fn f() {{{rest}}}"),
        "impl A { pub fn f(&self, is: bool) {} }",
        "impl T for A { fn f(is: bool) {} }",
        "fn f(is: &bool) -> bool { *is }",
    ] {
        assert_eq!(
            of_planted(rules::functions, &[("src/a.rs", text)]),
            [""; 0],
            "{text}"
        );
    }
}

#[test]
fn every_module_of_the_order_exists() {
    let sources = sources();
    for module in ORDER {
        let (file, folder) = (format!("src/{module}.rs"), format!("src/{module}/mod.rs"));
        assert!(
            sources.contains_key(&file) || sources.contains_key(&folder),
            "{module} is in the order, but there is no such module"
        );
    }
}

#[test]
fn a_planted_violation_is_found() {
    for (file, text) in [
        ("src/clock.rs", "use crate::store::Store;"),
        ("src/clock.rs", "fn f() { crate::http::f(); }"),
        ("src/clock.rs", "use super::session::Session;"),
        (
            "src/storage/redb/mod.rs",
            "use crate::{error::{Error, Result}, transaction::Txn};",
        ),
        (
            "src/storage/redb/mod.rs",
            "use super::super::session::Session;",
        ),
        ("src/storage/mod.rs", "use crate::Store;"),
        (
            "src/storage/mod.rs",
            "macro_rules! m { () => { $crate::store::f() } }",
        ),
        ("migrations/0001_initial.rs", "use crate::transaction::Txn;"),
        ("src/nowhere.rs", ""),
        ("src/session.rs", "use redb::Database;"),
        (
            "src/storage/merge/rows.rs",
            "fn f() -> ::redb::Error { g() }",
        ),
        (
            "src/value.rs",
            "let x = bincode::serde::encode_to_vec(v, c);",
        ),
        ("src/value.rs", "#[derive(bincode::Encode)] struct S;"),
        (
            "src/clock.rs",
            "#[cfg(test)] mod tests { fn f() { let c = '}'; } } use crate::store::Store;",
        ),
        (
            "src/clock.rs",
            "fn f() -> &'static str { \"\\\"\" } use crate::store::Store;",
        ),
    ] {
        let planted = planted(file, text);
        assert_eq!(planted.len(), 1, "{file}: {text}\n{planted:?}");
        assert!(planted[0].starts_with(file), "{planted:?}");
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    for (file, text) in [
        (
            "src/store.rs",
            "use crate::{clock::Clock, storage::redb::Engine};",
        ),
        ("src/store.rs", "use crate::Clock;"),
        (
            "src/storage/redb/mod.rs",
            "use redb::Database; use super::record;",
        ),
        (
            "src/storage/redb/mod.rs",
            "use super::super::super::error::Error;",
        ),
        ("src/storage/record/codec.rs", "use bincode::Options;"),
        ("migrations/0001_initial.rs", "use redb::TableDefinition;"),
        (
            "src/clock.rs",
            "// use crate::store::Store;\n/* crate::http::x /* y */ redb::z */",
        ),
        (
            "src/clock.rs",
            "/// [`crate::store::Store`]\nfn f() { g(\"crate::http\", r#\"\"redb::x\"#); }",
        ),
        (
            "src/clock.rs",
            "#[cfg(test)]\nmod tests { use crate::store::Store; mod a { } }\n#[cfg(test)] use crate::http::x;",
        ),
        (
            "src/http/layer.rs",
            "use super::cookie::CookieSettings; use http::Request;",
        ),
        ("src/lib.rs", "pub use crate::store::Store;"),
    ] {
        assert_eq!(planted(file, text), [""; 0], "{file}: {text}");
    }
}

/// What is found in one file beside a root that re-exports two names.
fn planted(file: &str, text: &str) -> Vec<String> {
    let root =
        "mod store;\npub use clock::Clock;\npub use store::{Store, StoreBuilder as Builder};";
    let mut sources = BTreeMap::from([("src/lib.rs".to_owned(), root.to_owned())]);
    sources.insert(file.to_owned(), text.to_owned());
    violations(&sources)
}

type Sources = BTreeMap<String, String>;

fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Sources::new();
    for folder in ["src", "migrations"] {
        collect(root, &root.join(folder), &mut found);
    }
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Sources) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            found.insert(name.replace('\\', "/"), fs::read_to_string(&path).unwrap());
        }
    }
}

fn violations(sources: &Sources) -> Vec<String> {
    let exports = re_exports(&strip(&sources["src/lib.rs"]));
    let mut found = Vec::new();
    for (file, text) in sources {
        let module = module_path(file);
        if file == "src/lib.rs" || is_for_tests(file) || module.first().is_some_and(|m| m == "bin")
        {
            continue;
        }
        let Some(height) = ORDER.iter().position(|m| *m == module[0]) else {
            found.push(format!("{file}: {} has no place in the order", module[0]));
            continue;
        };
        let text = strip(text);
        for (at, used) in used_modules(&text, &module) {
            let target = exports.get(&used).unwrap_or(&used);
            let line = text[..at].lines().count().max(1);
            match ORDER.iter().position(|m| m == target) {
                Some(other) if other <= height => {}
                Some(_) => found.push(format!(
                    "{file}:{line}: {} uses {target}, above it",
                    module[0]
                )),
                None => found.push(format!("{file}:{line}: {used} has no place in the order")),
            }
        }
        for (name, rooms) in ROOMS {
            if !rooms.iter().any(|room| file.starts_with(room)) {
                for at in starts_of(&text, name) {
                    let line = text[..at].lines().count().max(1);
                    found.push(format!("{file}:{line}: {name} is named outside its room"));
                }
            }
        }
    }
    found
}

/// `src/a/b.rs` is `a::b`; the migrations belong to storage.
fn module_path(file: &str) -> Vec<String> {
    if let Some(name) = file.strip_prefix("migrations/") {
        return ["storage", "redb", "migrations", name]
            .map(str::to_owned)
            .to_vec();
    }
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').map(str::to_owned).collect()
}

fn is_for_tests(file: &str) -> bool {
    file.ends_with("tests.rs") || file.contains("/tests/")
}

/// The public names at the root, and the module each comes from.
fn re_exports(root: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for statement in root.split(';') {
        let Some((_, path)) = statement.split_once("pub use ") else {
            continue;
        };
        let path = path.trim().trim_start_matches("crate::");
        let Some((module, names)) = path.split_once("::") else {
            continue;
        };
        for name in names.split([',', '{', '}']) {
            let name = name.rsplit("::").next().unwrap_or(name);
            let name = name.rsplit(" as ").next().unwrap_or(name).trim();
            if !name.is_empty() {
                found.insert(name.to_owned(), module.to_owned());
            }
        }
    }
    found
}

/// The top-level modules that paths by `crate::` or `super::` lead to, and where each path stands.
fn used_modules(text: &str, module: &[String]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in starts_of(text, "crate") {
        found.extend(first_segments(&text[at + "crate::".len()..]).map(|name| (at, name)));
    }
    for at in starts_of(text, "super") {
        let mut rest = &text[at..];
        let mut ups = 0;
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, ups) = (next, ups + 1);
        }
        if ups >= module.len() {
            found.extend(first_segments(rest).map(|name| (at, name)));
        }
    }
    found
}

/// `a::b` gives `a`; `{a::b, c::{d, e}}` gives `a` and `c`.
fn first_segments(path: &str) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    if let Some(group) = path.trim_start().strip_prefix('{') {
        let mut depth = 0;
        let mut at_start = true;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                c if at_start && is_word(c) => {
                    found.push(word(&group[i..]));
                    at_start = false;
                }
                _ => {}
            }
        }
    } else {
        found.push(word(path));
    }
    found
        .into_iter()
        .filter(|name| !name.is_empty() && name != "self")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

/// Where a path begins with `name::`, or a whole crate is imported.
fn starts_of(text: &str, name: &str) -> Vec<usize> {
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
fn strip(text: &str) -> String {
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

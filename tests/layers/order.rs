//! Which module may use which.

use super::Sources;
use super::text::{is_word, starts_of, strip, word};
use std::collections::BTreeMap;

/// Bottom to top. A module may use itself and those before it.
pub(crate) const ORDER: &[&str] = &[
    "steps",
    "latency",
    "meters",
    "error",
    "process",
    "clock",
    "contain",
    "throttle",
    "block_on",
    "value",
    "client_id",
    "encryption",
    "events",
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
    "testing",
    "torture",
];

/// Dependencies that are named in few places: where a path starts with one of these.
const CONFINED: &[(&str, &[&str])] = &[
    ("redb", &["src/storage/redb/", "migrations/"]),
    ("tokio_postgres", &["src/storage/postgres/"]),
    ("bincode", &["src/storage/record/"]),
    // The rules of a session layer know no framework. Only the services and the layers do.
    ("tower_layer", TOWER),
    ("tower_service", TOWER),
    ("actix_web", &[]),
];

const TOWER: &[&str] = &[
    "src/http/axum.rs",
    "src/http/checked.rs",
    "src/http/csrf/service.rs",
    "src/http/fresh_service.rs",
    "src/http/rerun.rs",
    "src/http/service.rs",
    "src/testing/",
];

pub(crate) fn violations(sources: &Sources) -> Vec<String> {
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
        for (name, folders) in CONFINED {
            if !folders.iter().any(|folder| file.starts_with(folder)) {
                for at in starts_of(&text, name) {
                    let line = text[..at].lines().count().max(1);
                    found.push(format!(
                        "{file}:{line}: {name} is named outside its folders"
                    ));
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

//! The structure of the sources: each module uses only those below it, redb and bincode are named in few places, and
//! the rules of [`rules`] hold. No file is too long, those of tests included. The code in documents is compiled.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod documents;
mod length;
mod order;
mod public;
mod rules;
mod text;
mod waits;

use order::{ORDER, violations};
use rules::Files;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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
fn imports_name_what_they_import() {
    let found = rules::globs(&Files::parse(&sources()));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn functions_are_short_and_take_no_bare_bool() {
    let found = rules::functions(&Files::parse(&sources()));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn no_future_makes_its_thread_wait() {
    let found = waits::in_futures(&Files::parse(&sources()));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_mod_file_lists_and_re_exports_only() {
    let found = rules::working_lists(&Files::parse(&sources()));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn files_are_short() {
    let sources = all_sources();
    for file in [
        "tests/layers/main.rs",
        "torture/src/lib.rs",
        "benches/growth.rs",
    ] {
        assert!(sources.contains_key(file), "{file} is not read");
    }
    let found = length::long_files(&sources);
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
    let files = [
        (
            "src/a.rs",
            "struct State; #[cfg(test)] mod tests { struct State; }",
        ),
        ("src/b.rs", "mod linux {\n struct State; }"),
    ];
    let found = of_planted(rules::types_defined_twice, &files);
    assert_eq!(found, ["State: src/a.rs:1, src/b.rs:2"]);
}

#[test]
fn a_planted_glob_is_found() {
    let files = [
        ("src/a.rs", "use crate::b::{c, d::*};"),
        ("src/b.rs", "#[cfg(test)] mod tests { use super::*; }"),
    ];
    let found = of_planted(rules::globs, &files);
    assert_eq!(found, ["src/a.rs:1: imports everything"]);
}

#[test]
fn a_planted_function_in_a_mod_file_is_found() {
    let files = [
        (
            "src/a/mod.rs",
            "mod b;\npub use b::B;\nimpl B { fn f() {} }",
        ),
        (
            "src/b/mod.rs",
            "fn f() {}\ntrait T { fn g(&self); fn h(&self) {} }\nmod inner { fn i() {} }",
        ),
        (
            "src/c/mod.rs",
            "pub struct C; #[cfg(test)] mod tests { fn f() {} }",
        ),
        ("src/d.rs", "fn f() {}"),
    ];
    let found = of_planted(rules::working_lists, &files);
    let expected = [
        "src/a/mod.rs:3: f",
        "src/b/mod.rs:1: f",
        "src/b/mod.rs:2: h",
        "src/b/mod.rs:3: i",
    ];
    let expected = expected.map(|it| format!("{it} stands in a mod.rs"));
    assert_eq!(found, expected);
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
fn a_planted_wait_in_a_future_is_found() {
    let waits = [
        "async fn f(s: Store) { s.settings().wait(); }",
        "impl S { async fn f(&self) { block_on(self.g()); } }",
        "fn f() -> impl Future { async move { let it = async || 1; crate::block_on::wait(it()) } }",
        "fn f() { g(async |s: Store| s.block_on(h())); }",
        "trait T { async fn f(&self) { self.with(|it| it.wait()) } }",
    ];
    for text in waits {
        let found = of_planted(waits::in_futures, &[("src/a.rs", text)]);
        assert_eq!(found.len(), 1, "{text}");
        assert!(found[0].starts_with("src/a.rs:1: "), "{found:?}");
    }
    let allowed = [
        "fn f(s: Store) { s.settings().wait(); block_on(async { g().await }) }",
        "async fn f() { fn g() { wait(h()); } condition.wait(guard); }",
        "#[cfg(test)] mod tests { async fn f() { block_on(g()); } }",
    ];
    for text in allowed {
        let found = of_planted(waits::in_futures, &[("src/a.rs", text)]);
        assert_eq!(found, [""; 0], "{text}");
    }
}

#[test]
fn a_planted_file_that_is_too_long_is_found() {
    let comments = "// no code\n\n    /// none either\n";
    for (lines, expected) in [
        (500, &[][..]),
        (501, &["tests/a/b.rs has 501 lines of code"][..]),
    ] {
        let text = format!("{comments}{}", "const A: u8 = 1;\n".repeat(lines));
        let planted = Sources::from([("tests/a/b.rs".to_owned(), text)]);
        assert_eq!(length::long_files(&planted), expected);
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
        ("src/http/serve.rs", "use tower_service::Service;"),
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

/// The violations in one file beside a root that re-exports two names.
fn planted(file: &str, text: &str) -> Vec<String> {
    let root =
        "mod store;\npub use clock::Clock;\npub use store::{Store, StoreBuilder as Builder};";
    let mut sources = BTreeMap::from([("src/lib.rs".to_owned(), root.to_owned())]);
    sources.insert(file.to_owned(), text.to_owned());
    violations(&sources)
}

type Sources = BTreeMap<String, String>;

fn sources() -> Sources {
    read(&["src", "migrations"])
}

/// Those that are not of the library, too.
fn all_sources() -> Sources {
    read(&[
        "src",
        "migrations",
        "tests",
        "torture",
        "benches",
        "examples",
        "fuzz",
    ])
}

fn read(folders: &[&str]) -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Sources::new();
    for folder in folders {
        collect(root, &root.join(folder), &mut found);
    }
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Sources) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Packages of their own may have been built where they are.
        if path.is_dir() && !path.ends_with("target") {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            found.insert(name.replace('\\', "/"), fs::read_to_string(&path).unwrap());
        }
    }
}

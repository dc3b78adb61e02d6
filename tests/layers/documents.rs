//! The README and the guides: what stands in them can be pasted, and all of it is compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Documents = BTreeMap<String, String>;

/// Those with code for readers, by path.
pub(crate) fn documents() -> Documents {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guides = fs::read_dir(root.join("docs/guide")).unwrap();
    let guides = guides.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = guides.map(|name| format!("docs/guide/{name}")).collect();
    files.extend(["README.md", "docs/reliability.md"].map(str::to_owned));
    let text = |file: String| (file.clone(), fs::read_to_string(root.join(file)).unwrap());
    files.into_iter().map(text).collect()
}

/// The lines of Rust that rustdoc would hide, and GitHub shows.
fn hidden_lines(documents: &Documents) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in documents {
        let (mut in_code, mut in_rust) = (false, false);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if let Some(language) = line.strip_prefix("```") {
                in_code = !in_code;
                in_rust = in_code && language.starts_with("rust");
            } else if in_rust && (line == "#" || line.starts_with("# ")) {
                found.push(format!("{file}:{}: {line}", number + 1));
            }
        }
    }
    found
}

/// The crates whose doctests compile documents, and the way from them to the root.
const ROOTS: [(&str, &str); 2] = [
    (include_str!("../../src/lib.rs"), ".."),
    (include_str!("../../adapters/actix/src/lib.rs"), "../../.."),
];

/// The documents whose code the doctests do not compile.
fn left_out(documents: &Documents, roots: &[(&str, &str)]) -> Vec<String> {
    let includes = |file: &str| {
        let mut roots = roots.iter();
        roots.any(|(root, up)| root.contains(&format!("\"{up}/{file}\"")))
    };
    let files = documents.keys();
    files.filter(|file| !includes(file)).cloned().collect()
}

#[test]
fn no_document_has_hidden_lines() {
    assert_eq!(hidden_lines(&documents()), [""; 0]);
    let text =
        "# Title\n```rust\nlet a = 1;\n# drop(a);\n#[a]\n```\n# No code\n```sh\n# shell\n```\n";
    let planted = Documents::from([("a.md".to_owned(), text.to_owned())]);
    assert_eq!(hidden_lines(&planted), ["a.md:4: # drop(a);"]);
}

#[test]
fn the_code_of_every_document_is_compiled() {
    let documents = documents();
    assert!(documents.len() > 10, "{:?}", documents.keys());
    assert_eq!(left_out(&documents, &ROOTS), [""; 0]);
    assert_eq!(
        left_out(&documents, &[("\"../README.md\"", "..")]).len(),
        documents.len() - 1
    );
}

/// The words of a piece of code that name something: types, and what is called or belongs to a type.
fn named(code: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(is_word) {
        let (before, word) = rest.split_at(at);
        let end = word.find(|c| !is_word(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        let is_type = word.len() > 1 && word.starts_with(char::is_uppercase);
        let is_called = after.starts_with('(') || after.starts_with("::<");
        if is_type || is_called || before.ends_with("::") || word == code {
            found.push(word);
        }
        rest = after;
    }
    found
}

/// Our names in the tables of a guide that its program does not use.
fn unused_names(guide: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let program = guide.split("```rust").nth(1).unwrap_or("");
    let used: BTreeSet<&str> = program.split(|c| !is_word(c)).collect();
    let rows = guide.lines().filter(|line| line.starts_with("| "));
    let ours = rows.filter_map(|row| row.split('|').nth(2));
    let names = ours.flat_map(|cell| cell.split('`').skip(1).step_by(2).flat_map(named));
    let unused: BTreeSet<_> = names.filter(|name| !used.contains(name)).collect();
    unused.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_names_for_those_who_come_from_elsewhere_are_compiled() {
    assert_eq!(
        unused_names(&documents()["docs/guide/coming-from.md"]),
        [""; 0]
    );
    let guide =
        "| theirs | ours |\n| `x()` | `A::b(d)`, `s.c(d)?`, not `e` |\n```rust\nA::b(); e\n```\n";
    assert_eq!(unused_names(guide), ["c"]);
}

/// The name that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The links to files and headings of the repository that lead nowhere.
fn broken_links(documents: &Documents) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for (file, text) in documents {
        let folder = root.join(file).parent().unwrap().to_owned();
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let to = match path {
                "" => Some(text.clone()),
                path => {
                    let bytes = fs::read(folder.join(path)).ok();
                    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                }
            };
            let mut headings = to
                .iter()
                .flat_map(|to| to.lines().filter(|line| line.starts_with('#')));
            let leads =
                to.is_some() && (heading.is_empty() || headings.any(|it| anchor(it) == heading));
            if !leads {
                found.push(format!("{file}: {target}"));
            }
        }
    }
    found
}

#[test]
fn the_links_of_documents_lead_somewhere() {
    assert_eq!(broken_links(&documents()), [""; 0]);
    let text = "# The `one` title\n[a](#the-one-title) [b](docs/guide) [c](README.md#nowhere) [d](https://a.b/#c)";
    let planted = Documents::from([("a.md".to_owned(), text.to_owned())]);
    assert_eq!(
        broken_links(&planted),
        ["a.md: docs/guide", "a.md: README.md#nowhere"]
    );
}

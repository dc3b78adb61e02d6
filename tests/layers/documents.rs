//! The README and the guides: what stands in them can be pasted, and all of it is compiled.

use std::collections::BTreeMap;
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

/// The documents whose code the doctests do not compile.
fn left_out(documents: &Documents, root: &str) -> Vec<String> {
    let files = documents.keys();
    let files = files.filter(|file| !root.contains(&format!("\"../{file}\"")));
    files.cloned().collect()
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
    assert_eq!(
        left_out(&documents, include_str!("../../src/lib.rs")),
        [""; 0]
    );
    assert_eq!(
        left_out(&documents, "\"../README.md\"").len(),
        documents.len() - 1
    );
}

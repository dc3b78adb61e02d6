//! Takes the whole programs out of the README and the tutorial, so that a test can start them as a reader would.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

/// The documents, and the names of the programs that stand in them, in their order.
const DOCUMENTS: [(&str, &[&str]); 2] = [
    ("README.md", &["readme_visits", "readme_cart"]),
    (
        "docs/guide/tutorial.md",
        &["tutorial_visits", "tutorial_login"],
    ),
];

/// The address that the programs listen on. The test gives another one.
const ADDRESS: &str = "\"127.0.0.1:3000\"";

/// The code blocks of a document that start a server.
fn programs(document: &str) -> impl Iterator<Item = &str> {
    let blocks = document.split("\n```rust").skip(1);
    let code = blocks.filter_map(|block| block.split_once('\n')?.1.split("\n```").next());
    code.filter(|code| code.contains("async fn main()") && code.contains(ADDRESS))
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = env::var("OUT_DIR")?;
    for (document, names) in DOCUMENTS {
        let path = root.join(document);
        println!("cargo::rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path)?;
        let found: Vec<_> = programs(&text).collect();
        if found.len() != names.len() {
            return Err(format!("{document}: not the programs {names:?}").into());
        }
        for (name, code) in names.iter().zip(found) {
            let code = code.replace(ADDRESS, "std::env::var(\"ADDRESS\")?");
            fs::write(Path::new(&target).join(format!("{name}.rs")), code)?;
        }
    }
    Ok(())
}

//! How long a file may be.

use super::Sources;

/// A file has at most so many lines of code: comments and empty lines do not count.
const LONGEST_FILE: usize = 500;

/// The files that are too long, tests included.
pub(crate) fn long_files(sources: &Sources) -> Vec<String> {
    let long = sources.iter().filter_map(|(file, text)| {
        let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//");
        let lines = text.lines().map(str::trim).filter(is_code).count();
        (lines > LONGEST_FILE).then(|| format!("{file} has {lines} lines of code"))
    });
    long.collect()
}

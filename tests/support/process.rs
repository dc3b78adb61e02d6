//! Other processes that run this test's own program.

use std::path::Path;
use std::process::Command;

/// One that runs the test `child` alone, which finds a path in a variable.
pub(crate) fn child(variable: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env(variable, path);
    command
}

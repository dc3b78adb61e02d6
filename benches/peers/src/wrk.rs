//! Runs wrk and parses its output.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

pub(crate) const CONNECTIONS: usize = 64;

const SCRIPT: &str = include_str!("wrk.lua");

pub(crate) struct Wrk {
    pub(crate) rate: f64,
    pub(crate) p99_us: f64,
}

/// How to come by it, if it is not there.
pub(crate) fn missing() -> Option<String> {
    let error = Command::new("wrk").arg("--version").output().err()?;
    Some(format!("wrk: {error} (apt-get install wrk)"))
}

/// Asks for `url` over kept-alive connections, each time with one of the cookies in a file.
pub(crate) fn run(url: &str, cookies: &Path, seconds: u64) -> Result<Wrk> {
    let script = cookies.with_file_name("wrk.lua");
    std::fs::write(&script, SCRIPT)?;
    let done = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")])
        .arg("-s")
        .arg(script)
        .arg(url)
        .env("PEERS_COOKIES", cookies)
        .output()?;
    let text = String::from_utf8_lossy(&done.stdout);
    ensure!(
        done.status.success(),
        "wrk: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let line = text.lines().find_map(|line| line.strip_prefix("peers "));
    let numbers: Vec<f64> = line
        .context("wrk did not run its script to the end")?
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [requests, micros, p99_us, errors] = numbers[..] else {
        anyhow::bail!("wrk said {text}");
    };
    ensure!(errors == 0.0, "{errors} of {requests} requests failed");
    Ok(Wrk {
        rate: requests / (micros / 1e6),
        p99_us,
    })
}

//! zope.session on ZODB FileStorage: a Python process that does as it is told. Its writers are threads
//! of its own.

use crate::engine::{Engine, Peer, Reader, Site, Writer};
use crate::payload::Pick;
use crate::report::bench_dir;
use crate::run::{Load, Run, Span};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

pub(crate) struct Zodb;

const SCRIPT: &str = include_str!("zodb.py");

impl Peer for Zodb {
    fn name(&self) -> &'static str {
        "zodb"
    }

    fn about(&self) -> &'static str {
        "zope.session on ZODB FileStorage in Python; implicit sweeps off; writers are Python threads"
    }

    fn counted(&self) -> &'static str {
        "wchar of its /proc/PID/io"
    }

    fn missing(&self) -> Option<String> {
        environment().err().map(|error| {
            format!(
                "{error:#} (apt-get install python3-venv, and pip must reach zope.session and ZODB)"
            )
        })
    }

    fn make(&self, site: &Site) -> Result<()> {
        let mut script = Script::start(site)?;
        script.ask(&json!({"do": "make", "sessions": site.sessions}))?;
        script.stop()
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Open {
            script: Mutex::new(Script::start(site)?),
        }))
    }
}

/// Sweeps a tenth of the sessions: in seconds, and how many went.
pub(crate) fn sweep(site: &Site) -> Result<(f64, u64)> {
    let mut script = Script::start(site)?;
    let answer = script.ask(&json!({"do": "sweep", "sessions": site.sessions}))?;
    script.stop()?;
    let removed = answer.get("removed").and_then(Value::as_u64);
    Ok((field(&answer, "seconds")?, removed.context("no count")?))
}

/// The Python of a virtual environment with what the script needs, made and looked at once.
fn environment() -> Result<PathBuf> {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(python) = READY.get() {
        return Ok(python.clone());
    }
    let folder = bench_dir()?.join("peers-python");
    let python = folder.join("bin/python");
    if run(Command::new(&python).args(["-c", "import ZODB, zope.session"])).is_err() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let pip = ["-m", "pip", "install", "--quiet", "zope.session", "ZODB"];
        run(Command::new(&python).args(pip))?;
    }
    Ok(READY.get_or_init(|| python).clone())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    let said = String::from_utf8_lossy(&done.stderr);
    let last = said.trim().lines().last().unwrap_or_default();
    ensure!(done.status.success(), "{}: {last}", program.display());
    Ok(())
}

struct Script {
    child: Child,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Script {
    fn start(site: &Site) -> Result<Self> {
        let path = site.folder.join("zodb.py");
        std::fs::write(&path, SCRIPT)?;
        let mut child = Command::new(environment()?)
            .arg(path)
            .arg(&site.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        std::fs::write(super::server_pid(site), child.id().to_string())?;
        let mut script = Self {
            tell: child.stdin.take().context("no input")?,
            hear: BufReader::new(child.stdout.take().context("no output")?),
            child,
        };
        script.answer().context("starting zodb.py")?;
        Ok(script)
    }

    fn ask(&mut self, task: &Value) -> Result<Value> {
        writeln!(self.tell, "{task}")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.hear.read_line(&mut line)?;
        ensure!(!line.is_empty(), "zodb.py ended");
        Ok(serde_json::from_str(&line)?)
    }

    fn stop(mut self) -> Result<()> {
        self.ask(&json!({"do": "close"}))?;
        let status = self.child.wait()?;
        ensure!(status.success(), "zodb.py ended with {status}");
        Ok(())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn field(answer: &Value, name: &str) -> Result<f64> {
    let value = answer.get(name).and_then(Value::as_f64);
    value.with_context(|| format!("no {name} in {answer}"))
}

struct Open {
    script: Mutex<Script>,
}

impl Open {
    fn ask(&self, task: &Value) -> Result<Value> {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.ask(task)
    }

    fn run(&self, what: &str, load: &Load) -> Result<Option<Run>> {
        let (seconds, operations) = match load.span {
            Span::For(time) => (Some(time.as_secs_f64()), None),
            Span::Operations(count) => (None, Some(count)),
        };
        let answer = self.ask(&json!({
            "do": what,
            "threads": load.threads,
            "seconds": seconds,
            "operations": operations,
            "hot": load.pick == Pick::Hot,
            "sessions": load.sessions,
            "seed": load.seed,
        }))?;
        let operations = answer.get("operations").and_then(Value::as_u64);
        Ok(Some(Run {
            operations: operations.context("no count")?,
            time: Duration::from_secs_f64(field(&answer, "seconds")?),
            p50_us: field(&answer, "p50_us")?,
            p99_us: field(&answer, "p99_us")?,
        }))
    }
}

impl Engine for Open {
    /// One by one, for the benches that need single commits.
    fn writer(&self) -> Result<Writer<'_>> {
        Ok(Box::new(|session, value| {
            self.ask(&json!({"do": "commit", "session": session, "value": value}))?;
            Ok(())
        }))
    }

    fn reader(&self) -> Result<Reader<'_>> {
        Ok(Box::new(|session, see| {
            let found = self.ask(&json!({"do": "load", "session": session}))?;
            for value in found.as_array().context("no values")? {
                see(value.as_str().context("no value")?.as_bytes());
            }
            Ok(())
        }))
    }

    fn process(&self) -> Option<u32> {
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        Some(script.child.id())
    }

    fn commits(&self, load: &Load) -> Result<Option<Run>> {
        self.run("commits", load)
    }

    fn loads(&self, load: &Load) -> Result<Option<Run>> {
        self.run("loads", load)
    }

    fn close(self: Box<Self>) -> Result<Option<u64>> {
        let script = self.script.into_inner();
        script.unwrap_or_else(PoisonError::into_inner).stop()?;
        Ok(None)
    }
}

//! Processes of the harness's own program: started, listened to, ended by a signal.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a process that should say or do something at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts this very program. It reads nothing before [`tell`](Self::tell); its standard output is
    /// read by a thread from the start, so that it never waits for its reader.
    pub(crate) fn start(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let program = std::env::current_exe().unwrap();
        Self::of(Command::new(program).args(arguments))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, lines) = mpsc::channel();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().unwrap();
        let reader = thread::spawn(move || read_lines(stdout, &said));
        Self {
            child,
            stdin,
            lines,
            reader: Some(reader),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input and ends that. It may be dead already.
    pub(crate) fn tell(&mut self, text: &str) {
        if let Some(mut stdin) = self.stdin.take() {
            drop(stdin.write_all(text.as_bytes()));
        }
    }

    /// The next line that it says; `None` once it has ended.
    pub(crate) fn hear(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("a process said nothing for a minute"),
        }
    }

    /// The next line that it said already.
    pub(crate) fn heard(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).unwrap();
    }

    /// Waits for the end of the process. Returns its exit status and the lines not read yet. The process must have been
    /// told to end, or be about to.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        drop(self.stdin.take());
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status, self.lines.try_iter().collect())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Only whole lines: one that the end of the process cut off says nothing.
fn read_lines(from: impl Read, said: &mpsc::Sender<String>) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = String::new();
        match from.read_line(&mut line) {
            Ok(n) if n > 0 && line.ends_with('\n') => {
                line.truncate(line.len() - 1);
                // The listener is gone.
                if said.send(line).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

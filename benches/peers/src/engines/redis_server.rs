//! A redis-server of our own, on a free port of the loopback.

use crate::engine::Site;
use crate::io;
use anyhow::{Context, Result, bail, ensure};
use redis::{Client, Connection};
use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const COUNTED: &str = "wchar of its /proc/PID/io, less what went to sockets";

/// How to come by it, if it is not there.
pub(crate) fn missing() -> Option<String> {
    let version = Command::new("redis-server").arg("--version").output();
    match version {
        Ok(_) => None,
        Err(error) => Some(format!(
            "redis-server: {error} (apt-get install redis-server)"
        )),
    }
}

pub(crate) struct Server {
    child: Child,
    client: Client,
    pub(crate) url: String,
}

impl Server {
    /// Starts it and waits until it has read what is in its folder.
    pub(crate) fn start(site: &Site) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = fs::File::create(site.folder.join("redis.log"))?;
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .arg("--dir")
            .arg(&site.folder)
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .args(["--save", "", "--daemonize", "no"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting redis-server")?;
        fs::write(super::server_pid(site), child.id().to_string())?;
        let url = format!("redis://127.0.0.1:{port}/");
        let mut server = Self {
            child,
            client: Client::open(url.as_str())?,
            url,
        };
        server.wait_until_loaded()?;
        Ok(server)
    }

    fn wait_until_loaded(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let answer = self
                .client
                .get_connection()
                .and_then(|mut c| redis::cmd("PING").query::<String>(&mut c));
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("redis-server does not answer");
                }
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("redis-server ended with {status}");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn connect(&self) -> Result<Connection> {
        Ok(self.client.get_connection()?)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Runs commands, 1,000 at a time, without syncing each, and makes them durable together.
    pub(crate) fn fill(&self, commands: impl Iterator<Item = redis::Cmd>) -> Result<()> {
        let mut connection = self.connect()?;
        let set = |name: &str, value: &str, connection: &mut Connection| {
            redis::cmd("CONFIG")
                .arg(&["SET", name, value])
                .exec(connection)
        };
        set("appendfsync", "no", &mut connection)?;
        set("auto-aof-rewrite-percentage", "0", &mut connection)?;
        let mut pipe = redis::pipe();
        for command in commands {
            pipe.add_command(command);
            if pipe.len() == 1000 {
                pipe.exec(&mut connection)?;
                pipe.clear();
            }
        }
        pipe.exec(&mut connection)?;
        set("appendfsync", "always", &mut connection)?;
        rewrite(&mut connection)
    }

    /// Bytes written since it was started.
    pub(crate) fn written(&self) -> Result<u64> {
        let mut connection = self.connect()?;
        let said: String = redis::cmd("INFO").arg("stats").query(&mut connection)?;
        let sent: u64 = said
            .lines()
            .find_map(|line| line.strip_prefix("total_net_output_bytes:"))
            .and_then(|n| n.trim().parse().ok())
            .context("redis-server does not say what it sent")?;
        Ok(io::written(Some(self.id()))?.saturating_sub(sent))
    }

    /// Everything is in the append-only file already; this ends the process.
    pub(crate) fn stop(mut self) -> Result<u64> {
        let written = self.written()?;
        let mut connection = self.connect()?;
        // It hangs up instead of answering.
        let _ = redis::cmd("SHUTDOWN").exec(&mut connection);
        let status = self.child.wait()?;
        ensure!(status.success(), "redis-server ended with {status}");
        Ok(written)
    }
}

/// Writes the append-only file anew, as the server does once it has doubled: what was filled in is not
/// left to be rewritten amid a measurement.
fn rewrite(connection: &mut Connection) -> Result<()> {
    let _: String = redis::cmd("BGREWRITEAOF").query(connection)?;
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let said: String = redis::cmd("INFO").arg("persistence").query(connection)?;
        let has = |what| said.lines().any(|line| line.trim() == what);
        if has("aof_rewrite_in_progress:0") && has("aof_rewrite_scheduled:0") {
            ensure!(has("aof_last_bgrewrite_status:ok"), "the rewrite failed");
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the rewrite does not end");
        thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

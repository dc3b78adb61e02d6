//! A primary and its standby, the link between them, and a watcher that promotes.

use crate::proxy::Proxy;
use crate::server::{Server, ServerBuilder};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The name by which the standby introduces itself.
const STANDBY: &str = "standby";
/// How often the watcher looks.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a standby may take to catch up.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the primary acknowledges a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirroring {
    /// Once the standby has it on its disk.
    Synchronous,
    /// Once it has it itself.
    Asynchronous,
}

/// Two servers, the second of which follows the first.
#[derive(Debug)]
pub struct Pair {
    primary: Server,
    standby: Server,
    link: Proxy,
}

impl Pair {
    /// Starts both, and waits until the standby has caught up.
    #[must_use]
    pub fn start(mirroring: Mirroring) -> Self {
        Self::of(Server::builder(), mirroring)
    }

    /// With settings of both.
    #[must_use]
    pub fn of(builder: ServerBuilder, mirroring: Mirroring) -> Self {
        let primary = builder.start();
        let link = Proxy::start(primary.address());
        let standby = primary.standby(link.address(), STANDBY);
        let pair = Self {
            primary,
            standby,
            link,
        };
        if mirroring == Mirroring::Synchronous {
            // After the copy of the files was made: a promoted standby waits for nobody.
            pair.primary.sql(&format!(
                "ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'"
            ));
            pair.primary.sql("SELECT pg_reload_conf()");
        }
        pair.wait_until(if mirroring == Mirroring::Synchronous {
            "sync_state = 'sync'"
        } else {
            "state = 'streaming'"
        });
        pair
    }

    fn wait_until(&self, state: &str) {
        let since = Instant::now();
        let question = format!("SELECT count(*) FROM pg_stat_replication WHERE {state}");
        while self.primary.sql(&question) != "1" {
            assert!(
                since.elapsed() < PATIENCE,
                "the standby does not follow:\n{}\n{}",
                self.primary.log(),
                self.standby.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The server that takes writes at first.
    #[must_use]
    pub fn primary(&self) -> &Server {
        &self.primary
    }

    /// The server that takes them after its promotion.
    #[must_use]
    pub fn standby(&self) -> &Server {
        &self.standby
    }

    /// What the primary sends the standby passes here, as answers.
    #[must_use]
    pub fn link(&self) -> &Proxy {
        &self.link
    }

    /// A database of both, wherever writes are taken.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:{}@{},{}/{database}?target_session_attrs=read-write",
            self.primary.password(),
            self.primary.address(),
            self.standby.address(),
        )
    }
}

/// Promotes the standby once the primary's process is gone.
#[derive(Debug)]
pub struct Watcher {
    thread: Option<JoinHandle<Option<Instant>>>,
    stop: Option<mpsc::Sender<()>>,
}

impl Watcher {
    /// Begins to look at the primary.
    #[must_use]
    pub fn start(pair: &Arc<Pair>) -> Self {
        let pair = Arc::clone(pair);
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            while pair.primary.is_running() {
                if stopped.recv_timeout(GLANCE) != Err(RecvTimeoutError::Timeout) {
                    return None;
                }
            }
            pair.standby.promote();
            Some(Instant::now())
        });
        Self {
            thread: Some(thread),
            stop: Some(stop),
        }
    }

    /// Waits for the promotion. Gives the moment when it was done.
    pub fn promoted(mut self) -> Instant {
        let thread = self.thread.take().unwrap();
        thread.join().unwrap().expect("nobody stopped the watcher")
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

//! One server: started, asked, killed, started again.

use crate::folder::Folder;
use crate::install::{postgres, run};
use crate::tls::Certificates;
use crate::{Database, ports};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to start, on a busy machine and after a crash.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a port that somebody else took meanwhile is replaced.
const ATTEMPTS: usize = 5;

/// How a server is to be.
#[derive(Debug, Default)]
pub struct ServerBuilder {
    settings: Vec<(String, String)>,
    tls: bool,
    addresses: Vec<IpAddr>,
}

impl ServerBuilder {
    /// A setting of `postgresql.conf`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes connections with TLS alone. [`Server::authority`] is the certificate to trust.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Also takes connections at this address, from hosts of its network.
    #[must_use]
    pub fn listen(mut self, address: IpAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// Makes the files of a new server and starts it.
    #[must_use]
    pub fn start(self) -> Server {
        let folder = Folder::new();
        let data = folder.path().join("data");
        let password = password();
        let word = folder.write("password", &password);
        run(postgres("initdb")
            .args([
                "-N",
                "-E",
                "UTF8",
                "--locale=C",
                "-A",
                "md5",
                "-U",
                "postgres",
            ])
            .arg("--pwfile")
            .arg(word)
            .arg("-D")
            .arg(&data));
        let mut settings = self.settings;
        if !self.addresses.is_empty() {
            let own = self.addresses.iter().map(IpAddr::to_string);
            let all: Vec<_> = ["127.0.0.1".to_owned()].into_iter().chain(own).collect();
            settings.push(("listen_addresses".to_owned(), all.join(",")));
            let mut rules = fs::File::options()
                .append(true)
                .open(data.join("pg_hba.conf"))
                .unwrap();
            rules.write_all(b"host all all samenet md5\n").unwrap();
        }
        let authority = self.tls.then(|| {
            let Certificates {
                authority,
                server,
                key,
            } = Certificates::make(&folder);
            settings.push(("ssl".to_owned(), "on".to_owned()));
            settings.push(("ssl_cert_file".to_owned(), server.display().to_string()));
            settings.push(("ssl_key_file".to_owned(), key.display().to_string()));
            fs::write(
                data.join("pg_hba.conf"),
                "hostssl all all 127.0.0.1/32 md5\n",
            )
            .unwrap();
            authority
        });
        Server::of_files(folder, password, settings, authority)
    }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    folder: Folder,
    password: String,
    settings: Vec<(String, String)>,
    authority: Option<PathBuf>,
    port: Mutex<u16>,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// What [`start`](ServerBuilder::start) needs not be told.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// A server as it is installed, but for the number of its connections.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    fn of_files(
        folder: Folder,
        password: String,
        settings: Vec<(String, String)>,
        authority: Option<PathBuf>,
    ) -> Self {
        let server = Self {
            folder,
            password,
            settings,
            authority,
            port: Mutex::new(0),
            child: Mutex::new(None),
        };
        for _ in 0..ATTEMPTS {
            *locked(&server.port) = ports::free();
            if server.try_launch() {
                return server;
            }
        }
        panic!("PostgreSQL does not start:\n{}", server.log());
    }

    /// A standby that follows this server, from a copy of its files. It connects to `upstream`.
    pub(crate) fn standby(&self, upstream: SocketAddr, name: &str) -> Self {
        let folder = Folder::new();
        run(postgres("pg_basebackup")
            .args(["-c", "fast", "--no-sync", "-R", "-X", "stream", "-d"])
            .arg(self.url())
            .arg("-D")
            .arg(folder.path().join("data")));
        let mut settings = self.settings.clone();
        let source = format!(
            "host=127.0.0.1 port={} user=postgres password={} application_name={name}",
            upstream.port(),
            self.password
        );
        settings.push(("primary_conninfo".to_owned(), source));
        settings.push(("wal_retrieve_retry_interval".to_owned(), "100ms".to_owned()));
        Self::of_files(folder, self.password.clone(), settings, None)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn port(&self) -> u16 {
        *locked(&self.port)
    }

    /// Starts the server's process, and waits until it takes connections. False if it ended instead.
    fn try_launch(&self) -> bool {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = postgres("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port().to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories="])
            .args(["-c", "max_connections=300"])
            // A test counts what it did itself.
            .args(["-c", "autovacuum_naptime=5min"]);
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let id = child.id();
        *locked(&self.child) = Some(child);
        let since = Instant::now();
        while !self.is_ready(id) {
            if !self.is_running() {
                return false;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "PostgreSQL starts for a minute:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Whether the process with this id says in its file that it takes connections.
    fn is_ready(&self, id: u32) -> bool {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = file.lines();
        let own = lines.next().and_then(|line| line.parse().ok()) == Some(id);
        let state = lines.nth(6).unwrap_or_default().trim_end();
        own && ["ready", "standby"].contains(&state)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the server logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port()))
    }

    /// The password of its superuser `postgres`.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The file with the certificate of the authority that signed the server's.
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// The database `postgres`, as its superuser.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.address(), "postgres")
    }

    /// A database of this server, through another address: that of a proxy or a pooler.
    #[must_use]
    pub fn url_at(&self, address: SocketAddr, database: &str) -> String {
        format!("postgres://postgres:{}@{address}/{database}", self.password)
    }

    /// A new database.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::create(&self.url())
    }

    /// Carries out statements in the database `postgres`, in one transaction. Gives their rows, the columns divided by `|`.
    pub fn sql(&self, statements: &str) -> String {
        sql(&self.url(), statements)
    }

    /// The processor time of all its processes so far, of those that have ended, too.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        let child = locked(&self.child);
        let Some(main) = child.as_ref().map(Child::id) else {
            return Duration::ZERO;
        };
        let alive: Duration = children(main).into_iter().filter_map(processor_time).sum();
        let own = processor_time(main).unwrap_or_default();
        alive + own + processor_time_of_ended(main).unwrap_or_default()
    }

    /// Whether its process lives.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let mut child = locked(&self.child);
        child
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// SIGKILL to all its processes, as if the machine lost its power but not its disk's cache.
    pub fn kill(&self) {
        let Some(mut child) = locked(&self.child).take() else {
            return;
        };
        let main = Pid::from_child(&child);
        // It must not start new ones meanwhile, nor clean up after those that are gone.
        signal(main, Signal::STOP);
        let processes = children(child.id());
        signal(main, Signal::KILL);
        let processes = processes
            .into_iter()
            .filter_map(|id| Pid::from_raw(id.try_into().unwrap()));
        processes.for_each(|process| signal(process, Signal::KILL));
        child.wait().unwrap();
    }

    /// Stops the server and its connections in order.
    pub fn stop(&self) {
        self.end(Signal::INT);
    }

    fn end(&self, how: Signal) {
        if let Some(mut child) = locked(&self.child).take() {
            signal(Pid::from_child(&child), how);
            child.wait().unwrap();
        }
    }

    /// Starts a server that was killed or stopped, at its old address.
    pub fn start_again(&self) {
        assert!(!self.is_running(), "it runs");
        assert!(
            self.try_launch(),
            "PostgreSQL does not start again:\n{}",
            self.log()
        );
    }

    /// Makes a standby the primary, and waits until it writes.
    pub fn promote(&self) {
        run(postgres("pg_ctl")
            .args(["promote", "-w", "-D"])
            .arg(self.data()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its files go away with it.
        self.end(Signal::QUIT);
    }
}

/// Carries out statements with psql.
pub(crate) fn sql(url: &str, statements: &str) -> String {
    run(postgres("psql").args([
        "-XAtq",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        url,
        "-c",
        statements,
    ]))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// To a process that may have ended meanwhile.
fn signal(process: Pid, signal: Signal) {
    let _ = kill_process(process, signal);
}

/// The processor time of a process so far. `None` if it is gone.
#[must_use]
pub fn processor_time(process: u32) -> Option<Duration> {
    ticks(process, [11, 12])
}

/// The processor time of the processes that this one started and that have ended.
#[must_use]
pub fn processor_time_of_ended(process: u32) -> Option<Duration> {
    ticks(process, [13, 14])
}

/// The sum of two fields that count processor time.
fn ticks(process: u32, fields: [usize; 2]) -> Option<Duration> {
    let stat = stat(process)?;
    let [one, other] = fields.map(|field| stat.get(field)?.parse::<u64>().ok());
    // In the system's unit for this, which Linux has never changed.
    Some(Duration::from_millis((one? + other?) * 10))
}

/// The processes that this one started.
fn children(of: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| parent(*id) == Some(of)).collect()
}

fn parent(process: u32) -> Option<u32> {
    stat(process)?.get(1)?.parse().ok()
}

/// What the system says of a process, after its name.
fn stat(process: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold anything, but its end is the last parenthesis.
    let (_, after) = stat.rsplit_once(')')?;
    Some(after.split_whitespace().map(str::to_owned).collect())
}

fn password() -> String {
    let mut bytes = [0; 16];
    let mut source = fs::File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut source, &mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

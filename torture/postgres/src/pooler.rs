//! PgBouncer before a server: a connection of the server belongs to a client for one transaction alone.

use crate::folder::Folder;
use crate::install::{command, in_path};
use crate::ports;
use crate::server::Server;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// PgBouncer in transaction mode. It ends when it is dropped.
#[derive(Debug)]
pub struct Pooler {
    folder: Folder,
    address: SocketAddr,
    child: Child,
}

impl Pooler {
    /// Starts one before a server, with so many connections of the server. Ask
    /// [`is_pooler_available`](crate::is_pooler_available) first.
    #[must_use]
    pub fn start(server: &Server, connections: u16) -> Self {
        let folder = Folder::new();
        let port = ports::free();
        let users = folder.write(
            "users",
            &format!("\"postgres\" \"{}\"\n", server.password()),
        );
        let log = folder.path().join("log");
        let settings = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = md5\n\
             auth_file = {}\n\
             pool_mode = transaction\n\
             default_pool_size = {connections}\n\
             max_client_conn = 500\n\
             pidfile = {}\n",
            server.address().port(),
            users.display(),
            folder.path().join("pooler.pid").display(),
        );
        let settings = folder.write("pooler.ini", &settings);
        let program = in_path("pgbouncer")
            .expect("is_pooler_available was asked")
            .join("pgbouncer");
        let child = command(program)
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut pooler = Self {
            folder,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            child,
        };
        pooler.wait();
        pooler
    }

    fn wait(&mut self) {
        let since = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let running = self.child.try_wait().unwrap().is_none();
            assert!(
                running && since.elapsed() < PATIENCE,
                "PgBouncer does not start:\n{log}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where it listens: [`Server::url_at`] makes an address of it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

//! A network that can be bad: a TCP proxy that holds, delays or swallows what passes, each direction for itself, and cuts
//! connections.

use rustix::net::sockopt::set_socket_linger;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What becomes of the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passage {
    /// They pass.
    #[default]
    Open,
    /// They pass later.
    Delayed(Duration),
    /// They wait until the passage is another one. Nobody is told.
    Held,
    /// They are lost, and nobody is told. A connection that lost some must be cut afterwards.
    Swallowed,
}

/// Listens on a port of the loopback, and passes connections on to a server.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// How many connections came so far.
    accepted: AtomicU64,
    /// Bytes that were swallowed, requests and answers.
    swallowed: [AtomicU64; 2],
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    passages: [Passage; 2],
    /// Whether new connections are closed at once.
    closed: bool,
    ended: bool,
    connections: Vec<Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    dead: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Requests = 0,
    Answers = 1,
}

impl Proxy {
    /// A proxy that lets everything pass.
    #[must_use]
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                target,
                passages: [Passage::Open; 2],
                closed: false,
                ended: false,
                connections: Vec::new(),
            }),
            changed: Condvar::new(),
            accepted: AtomicU64::new(0),
            swallowed: Default::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes new connections on to another server.
    pub fn lead_to(&self, target: SocketAddr) {
        self.shared.locked().target = target;
    }

    /// What becomes of what clients send.
    pub fn requests(&self, passage: Passage) {
        self.set(Direction::Requests, passage);
    }

    /// What becomes of what the server sends.
    pub fn answers(&self, passage: Passage) {
        self.set(Direction::Answers, passage);
    }

    fn set(&self, direction: Direction, passage: Passage) {
        self.shared.locked().passages[direction as usize] = passage;
        self.shared.changed.notify_all();
    }

    /// How many bytes of requests were swallowed.
    #[must_use]
    pub fn swallowed_requests(&self) -> u64 {
        self.shared.swallowed[Direction::Requests as usize].load(Ordering::SeqCst)
    }

    /// How many bytes of answers were swallowed.
    #[must_use]
    pub fn swallowed_answers(&self) -> u64 {
        self.shared.swallowed[Direction::Answers as usize].load(Ordering::SeqCst)
    }

    /// How many connections came so far, and were passed on or not.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.locked().connections.len()
    }

    /// Ends all connections on both sides, in order. New ones pass.
    pub fn cut(&self) {
        for connection in self.taken() {
            connection.cut();
        }
    }

    /// Ends all connections with a reset on both sides.
    pub fn reset(&self) {
        for connection in self.taken() {
            connection.reset();
        }
    }

    /// Ends all connections with a reset on both sides. Those that come later pass.
    pub fn renew(&self) {
        // At once: a connection that came in between would go on after some of its bytes are lost.
        let mut state = self.shared.locked();
        state.closed = false;
        state.passages = [Passage::Open; 2];
        let connections = std::mem::take(&mut state.connections);
        for connection in &connections {
            connection.dead.store(true, Ordering::SeqCst);
        }
        drop(state);
        self.shared.changed.notify_all();
        for connection in connections {
            connection.reset();
        }
    }

    /// Cuts all connections, and every new one at once, until [`open`](Self::open).
    pub fn close(&self) {
        self.shared.locked().closed = true;
        self.cut();
    }

    /// Lets everything pass again.
    pub fn open(&self) {
        let mut state = self.shared.locked();
        state.closed = false;
        state.passages = [Passage::Open; 2];
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Marks all connections as dead, so that nothing of them passes any more.
    fn taken(&self) -> Vec<Arc<Connection>> {
        let connections = std::mem::take(&mut self.shared.locked().connections);
        for connection in &connections {
            connection.dead.store(true, Ordering::SeqCst);
        }
        self.shared.changed.notify_all();
        connections
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.locked().ended = true;
        self.cut();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to become of bytes that came, once they need not be held.
    fn passage(&self, direction: Direction, connection: &Connection) -> Passage {
        let mut state = self.locked();
        loop {
            let passage = state.passages[direction as usize];
            if connection.dead.load(Ordering::SeqCst) {
                return Passage::Swallowed;
            }
            if passage != Passage::Held {
                return passage;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Connection {
    fn cut(&self) {
        drop(self.client.shutdown(Shutdown::Both));
        drop(self.server.shutdown(Shutdown::Both));
    }

    /// A socket that is closed without lingering is reset. Its readers wake without a word to the peer, and the last of
    /// them closes it.
    fn reset(&self) {
        for side in [&self.client, &self.server] {
            set_socket_linger(side, Some(Duration::ZERO)).unwrap();
            drop(side.shutdown(Shutdown::Read));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let mut state = shared.locked();
        if state.ended {
            return;
        }
        if state.closed {
            continue;
        }
        let Ok(server) = TcpStream::connect(state.target) else {
            continue;
        };
        for side in [&client, &server] {
            side.set_nodelay(true).unwrap();
        }
        let connection = Arc::new(Connection {
            client,
            server,
            dead: AtomicBool::new(false),
        });
        state.connections.push(Arc::clone(&connection));
        drop(state);
        for direction in [Direction::Requests, Direction::Answers] {
            let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
            thread::spawn(move || pass(direction, &shared, &connection));
        }
    }
}

/// Passes one direction of a connection on until it ends.
fn pass(direction: Direction, shared: &Shared, connection: &Connection) {
    let (mut from, mut to) = match direction {
        Direction::Requests => (&connection.client, &connection.server),
        Direction::Answers => (&connection.server, &connection.client),
    };
    let mut bytes = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        let mut passage = shared.passage(direction, connection);
        if let Passage::Delayed(time) = passage {
            thread::sleep(time);
            passage = Passage::Open;
        }
        let dead = connection.dead.load(Ordering::SeqCst);
        if dead || passage == Passage::Swallowed {
            shared.swallowed[direction as usize].fetch_add(len as u64, Ordering::SeqCst);
        } else if to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    // One whose end was cut or reset was ended on both sides already.
    if !connection.dead.load(Ordering::SeqCst) {
        connection.cut();
        connection.dead.store(true, Ordering::SeqCst);
    }
    let mut state = shared.locked();
    state
        .connections
        .retain(|other| !std::ptr::eq(&**other, connection));
}

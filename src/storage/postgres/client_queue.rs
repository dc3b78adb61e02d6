//! Requests that wait for a connection, by client. Each client is claimed by one connection at a time. Knows no server.

use crate::client_id::ClientKey;
use std::collections::{HashMap, VecDeque};

/// How many clients are claimed together at most.
const CLIENTS: usize = 64;
/// How many requests of one client are claimed together at most: fewer than the commits that a row names.
const OF_ONE: usize = 8;
/// Once the claimed requests have so many bytes, no other client is claimed with them.
const BYTES: usize = 256 << 10;

/// Requests that wait, each with its size in bytes.
#[derive(Debug)]
pub(super) struct ClientQueue<T> {
    clients: HashMap<ClientKey, WaitingClient<T>>,
    /// The clients that wait and are not claimed, in the order in which they came.
    ready: VecDeque<ClientKey>,
}

#[derive(Debug)]
struct WaitingClient<T> {
    requests: VecDeque<(T, usize)>,
    is_claimed: bool,
}

impl<T> Default for ClientQueue<T> {
    fn default() -> Self {
        Self {
            clients: HashMap::new(),
            ready: VecDeque::new(),
        }
    }
}

impl<T> ClientQueue<T> {
    pub(super) fn add(&mut self, client: ClientKey, request: T, bytes: usize) {
        let waiting = self.clients.entry(client).or_insert_with(|| {
            self.ready.push_back(client);
            WaitingClient {
                requests: VecDeque::new(),
                is_claimed: false,
            }
        });
        waiting.requests.push_back((request, bytes));
    }

    /// Takes requests of clients that nobody has claimed. The clients are claimed until they are released.
    pub(super) fn claim(&mut self) -> Vec<(ClientKey, T)> {
        let (mut claimed, mut bytes) = (Vec::new(), 0);
        for _ in 0..CLIENTS {
            if bytes >= BYTES {
                break;
            }
            let Some(client) = self.ready.pop_front() else {
                break;
            };
            let Some(waiting) = self.clients.get_mut(&client) else {
                continue;
            };
            waiting.is_claimed = true;
            let count = waiting.requests.len().min(OF_ONE);
            for (request, size) in waiting.requests.drain(..count) {
                bytes += size;
                claimed.push((client, request));
            }
        }
        claimed
    }

    /// Releases claimed clients. Returns whether requests can be claimed.
    pub(super) fn release(&mut self, clients: impl IntoIterator<Item = ClientKey>) -> bool {
        for client in clients {
            match self.clients.get_mut(&client) {
                Some(waiting) if waiting.requests.is_empty() => drop(self.clients.remove(&client)),
                Some(waiting) if waiting.is_claimed => {
                    waiting.is_claimed = false;
                    self.ready.push_back(client);
                }
                _ => {}
            }
        }
        !self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> ClientKey {
        ClientKey::from_bytes([n; 16])
    }

    // C2.10
    #[test]
    fn a_client_is_claimed_once_and_its_requests_stay_in_their_order() {
        let mut queue = ClientQueue::default();
        for request in 0..10 {
            queue.add(client(1), request, 1);
        }
        queue.add(client(2), 100, 1);
        let mut claimed = queue.claim();
        let expected: Vec<_> = (0..8).map(|it| (client(1), it)).collect();
        assert_eq!(claimed.pop(), Some((client(2), 100)));
        assert_eq!(claimed, expected);
        queue.add(client(2), 101, 1);
        queue.add(client(3), 200, 1);
        assert_eq!(queue.claim(), [(client(3), 200)]);
        assert!(queue.claim().is_empty());
        assert!(queue.release([client(2), client(1)]));
        let rest = [(client(2), 101), (client(1), 8), (client(1), 9)];
        assert_eq!(queue.claim(), rest);
        assert!(!queue.release([client(1), client(2), client(3)]));
        assert!(queue.clients.is_empty());
    }

    // C5.5
    #[test]
    fn what_is_claimed_together_is_bounded() {
        let mut queue = ClientQueue::default();
        for n in 0..200 {
            queue.add(client(n), n, if n < 100 { 1 } else { BYTES });
        }
        assert_eq!(queue.claim().len(), CLIENTS);
        assert_eq!(queue.claim().len(), 100 - CLIENTS + 1);
        assert_eq!(queue.claim().len(), 1);
    }
}

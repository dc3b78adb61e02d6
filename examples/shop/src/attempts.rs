//! How often a name or an address may try passwords.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(300);
const PER_NAME: u32 = 10;
/// Many visitors may share an address.
const PER_ADDRESS: u32 = 100;
/// The memory has a limit, too.
const MOST_COUNTERS: usize = 10_000;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Subject {
    Name(String),
    Network(IpAddr),
}

impl Subject {
    /// A visitor with IPv6 has a whole network of addresses, and chooses among them.
    fn of(address: IpAddr) -> Self {
        Self::Network(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        })
    }
}

struct Counter {
    since: Instant,
    attempts: u32,
}

/// Counts in memory: a restart forgets them. The limit of a name lets others keep its user from logging in, for one
/// period; sessions that exist go on.
#[derive(Clone, Default)]
pub(crate) struct Attempts(Arc<Mutex<HashMap<Subject, Counter>>>);

impl Attempts {
    /// Counts an attempt before it is made, so that many at once are not more. Returns whether it may be made.
    pub(crate) fn admit(&self, name: &str, address: IpAddr) -> bool {
        let now = Instant::now();
        self.count(Subject::of(address), PER_ADDRESS, now)
            && self.count(Subject::Name(name.to_owned()), PER_NAME, now)
    }

    /// The password was right.
    pub(crate) fn forget(&self, name: &str) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.remove(&Subject::Name(name.to_owned()));
    }

    fn count(&self, subject: Subject, most: u32, now: Instant) -> bool {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() >= MOST_COUNTERS {
            counters.retain(|_, counter| now.duration_since(counter.since) < PERIOD);
        }
        if counters.len() >= MOST_COUNTERS {
            counters.clear();
        }
        let counter = counters.entry(subject).or_insert(Counter {
            since: now,
            attempts: 0,
        });
        if now.duration_since(counter.since) >= PERIOD {
            *counter = Counter {
                since: now,
                attempts: 0,
            };
        }
        counter.attempts = counter.attempts.saturating_add(1);
        counter.attempts <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_begins_again_after_its_period() {
        let attempts = Attempts::default();
        let begin = Instant::now();
        let tries = |after| attempts.count(Subject::Name("ann".to_owned()), 2, begin + after);
        assert!(tries(Duration::ZERO));
        assert!(tries(Duration::ZERO));
        assert!(!tries(PERIOD / 2));
        assert!(tries(PERIOD));
    }

    #[test]
    fn a_network_of_ipv6_is_one_visitor() {
        let subject = |text: &str| Subject::of(text.parse().unwrap());
        assert!(subject("2001:db8::1") == subject("2001:db8::ffff:0:1"));
        assert!(subject("2001:db8::1") != subject("2001:db8:0:1::1"));
        assert!(subject("192.0.2.1") != subject("192.0.2.2"));
    }

    #[test]
    fn the_counters_have_a_bound() {
        let attempts = Attempts::default();
        for n in 0..=MOST_COUNTERS {
            attempts.count(Subject::Name(n.to_string()), 1, Instant::now());
        }
        assert!(attempts.0.lock().unwrap().len() <= MOST_COUNTERS);
    }
}

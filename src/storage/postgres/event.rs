//! The order of events of several processes: ends of sessions, and looks that found one expired. Pure.
//!
//! An event has a random token, and the time of the server's clock at which it took place. A process numbers the events
//! as it hears of them. An event counts as later than a mark only if both say so: the number, which is exact for the
//! events of this process, and the time, with a margin. So an event may count as later than it was, never as earlier.

use crate::client_id::ClientKey;
use crate::storage::Mark;
use crate::storage::recent_ends::REMEMBERED;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// How long a row stays that tells how a session ended, or that stands for an absent one. A transaction that is older
/// than this cannot know any more whether a session of its client ended meanwhile.
pub(crate) const ENDS_KEPT: Duration = Duration::from_secs(120);

/// An event in the row of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerEvent {
    pub(super) token: u64,
    /// About when it took place, by the server's clock, in milliseconds.
    pub(super) at: i64,
}

/// The events that this process has heard of, numbered in that order.
#[derive(Debug, Default)]
pub(super) struct HeardEvents {
    newest: u64,
    numbers: HashMap<(ClientKey, u64), u64>,
    order: VecDeque<(ClientKey, u64)>,
}

impl HeardEvents {
    /// The number of the newest event.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Numbers an event, unless it has a number.
    pub(super) fn hear(&mut self, client: ClientKey, event: ServerEvent) {
        let of = (client, event.token);
        if self.numbers.contains_key(&of) {
            return;
        }
        self.newest += 1;
        self.numbers.insert(of, self.newest);
        self.order.push_back(of);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.numbers.remove(&oldest);
        }
    }

    /// Whether an event came after a mark, or may have. Its time may be wrong by `margin` milliseconds.
    pub(super) fn is_after(
        &self,
        client: ClientKey,
        event: ServerEvent,
        mark: Mark,
        margin: i64,
    ) -> bool {
        let [newest, server_time] = mark.durable;
        let number = self.numbers.get(&(client, event.token));
        let heard_later = number.is_none_or(|number| *number > newest);
        heard_later && event.at.saturating_add(margin) >= time_of(server_time)
    }
}

/// A mark of this moment. `server_time` is a time that the server's clock has reached.
pub(super) fn mark(newest: u64, server_time: i64) -> Mark {
    Mark {
        durable: [newest, server_time.cast_unsigned()],
        memory: 0,
    }
}

/// The server's time at which a mark was made.
pub(super) fn time_of(mark: u64) -> i64 {
    mark.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    // C3.2, C4.8, C10.3
    #[test]
    fn an_event_is_later_only_if_neither_its_number_nor_its_time_says_otherwise() {
        let client = ClientKey::from_bytes([1; 16]);
        let event = |token, at| ServerEvent { token, at };
        let mut heard = HeardEvents::default();
        heard.hear(client, event(1, 1000));
        let now = mark(heard.newest(), 1000);
        let is_after = |heard: &HeardEvents, it| heard.is_after(client, it, now, 100);
        assert!(!is_after(&heard, event(1, 1000)), "it was heard of before");
        assert!(is_after(&heard, event(2, 1001)));
        assert!(is_after(&heard, event(2, 950)), "the clock may be wrong");
        assert!(!is_after(&heard, event(2, 800)), "it was long ago");
        heard.hear(client, event(2, 1001));
        assert!(is_after(&heard, event(2, 1001)), "it was heard of later");
        let later = mark(heard.newest(), 1002);
        assert!(!heard.is_after(client, event(2, 1001), later, 100));
    }

    #[test]
    fn what_is_forgotten_may_be_later() {
        let client = ClientKey::from_bytes([1; 16]);
        let mut heard = HeardEvents::default();
        for token in 0..=REMEMBERED as u64 {
            heard.hear(client, ServerEvent { token, at: 5 });
        }
        assert_eq!(heard.numbers.len(), REMEMBERED);
        let first = ServerEvent { token: 0, at: 5 };
        assert!(heard.is_after(client, first, mark(heard.newest(), 5), 0));
    }
}

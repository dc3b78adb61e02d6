//! Which sessions of a container a list has.

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Times;
use crate::storage::record::SessionRow;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Which sessions [`Container::sessions`](crate::Container::sessions) lists: all live ones, unless something is asked.
/// All that is asked must be so.
///
/// ```
/// use cloakroom::{SessionFilter, Store};
/// use std::time::Duration;
///
/// let store = Store::in_memory()?;
/// for owner in ["ann", "bob"] {
///     let id = store.client_ids().issue();
///     store.transact(|txn| txn.session(&id)?.log_in(owner))?;
/// }
/// let anns = SessionFilter::new().owner("ann").idle_at_most(Duration::from_secs(60));
/// let page = store.container("")?.sessions(&anns, None, 10)?;
/// assert_eq!(page.sessions.len(), 1);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    owner: Option<String>,
    label: Option<String>,
    idle: Span,
    age: Span,
    bytes: ByteSpan,
    keys: Option<RangeInclusive<u128>>,
    has_expired: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span(Option<Duration>, Option<Duration>);

impl Span {
    fn has(self, duration: Duration) -> bool {
        self.0.is_none_or(|least| duration >= least) && self.1.is_none_or(|most| duration <= most)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ByteSpan(Option<u64>, Option<u64>);

impl SessionFilter {
    /// Lists all live sessions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists the sessions of this owner.
    #[must_use]
    pub fn owner(mut self, owner: &str) -> Self {
        self.owner = Some(owner.to_owned());
        self
    }

    /// Lists sessions whose label contains this text.
    #[must_use]
    pub fn label(mut self, text: &str) -> Self {
        self.label = Some(text.to_owned());
        self
    }

    /// Lists sessions that were last used this long ago or longer.
    #[must_use]
    pub fn idle_at_least(mut self, idle: Duration) -> Self {
        self.idle.0 = Some(idle);
        self
    }

    /// Lists sessions that were last used this long ago or later.
    #[must_use]
    pub fn idle_at_most(mut self, idle: Duration) -> Self {
        self.idle.1 = Some(idle);
        self
    }

    /// Lists sessions that were created this long ago or longer.
    #[must_use]
    pub fn age_at_least(mut self, age: Duration) -> Self {
        self.age.0 = Some(age);
        self
    }

    /// Lists sessions that were created this long ago or later.
    #[must_use]
    pub fn age_at_most(mut self, age: Duration) -> Self {
        self.age.1 = Some(age);
        self
    }

    /// Lists sessions whose packages take this many bytes or more.
    #[must_use]
    pub fn bytes_at_least(mut self, bytes: u64) -> Self {
        self.bytes.0 = Some(bytes);
        self
    }

    /// Lists sessions whose packages take this many bytes or fewer.
    #[must_use]
    pub fn bytes_at_most(mut self, bytes: u64) -> Self {
        self.bytes.1 = Some(bytes);
        self
    }

    /// Lists sessions whose key begins with these hexadecimal digits, without examining the others.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if these are no hexadecimal digits, or more than 32.
    pub fn key_prefix(mut self, digits: &str) -> Result<Self> {
        let is_valid = digits.len() <= 32 && digits.bytes().all(|it| it.is_ascii_hexdigit());
        let bound = |filler: char| {
            let all: String = digits
                .chars()
                .chain(std::iter::repeat(filler))
                .take(32)
                .collect();
            u128::from_str_radix(&all, 16).ok()
        };
        let bounds = bound('0').zip(bound('f')).filter(|_| is_valid);
        let (first, last) = bounds.ok_or_else(|| {
            let why = "the beginning of a client key is at most 32 hexadecimal digits";
            Error::new(ErrorKind::InvalidInput, why)
        })?;
        self.keys = Some(first..=last);
        Ok(self)
    }

    /// Lists sessions that have expired and are not removed yet, too: what [`Store::entry`](crate::Store::entry) shows.
    #[must_use]
    pub fn with_expired(mut self) -> Self {
        self.has_expired = true;
        self
    }

    /// Whether a session is listed that has expired, if all else matches.
    pub(super) fn takes_expired(&self) -> bool {
        self.has_expired
    }

    /// After which key the first session comes that can match and comes after `after`.
    pub(super) fn first_after(&self, after: Option<ClientKey>) -> Option<ClientKey> {
        let first = self.keys.as_ref().map(|keys| *keys.start());
        let before = first.and_then(|first| first.checked_sub(1));
        after.max(before.map(|key| ClientKey::from_bytes(key.to_be_bytes())))
    }

    /// Whether neither this session nor a later one can match.
    pub(super) fn is_past(&self, client: ClientKey) -> bool {
        let key = u128::from_be_bytes(*client.as_bytes());
        self.keys.as_ref().is_some_and(|keys| key > *keys.end())
    }

    pub(super) fn takes(&self, row: &SessionRow, times: &Times, now: Timestamp) -> bool {
        let label = row.optional.label.as_deref().unwrap_or_default();
        self.idle.has(now.since(times.last_access))
            && self.age.has(now.since(times.created))
            && self
                .owner
                .as_deref()
                .is_none_or(|owner| row.owner.as_deref() == Some(owner))
            && self
                .label
                .as_deref()
                .is_none_or(|text| label.contains(text))
    }

    pub(super) fn takes_bytes(&self, bytes: u64) -> bool {
        let ByteSpan(least, most) = self.bytes;
        least.is_none_or(|least| bytes >= least) && most.is_none_or(|most| bytes <= most)
    }
}

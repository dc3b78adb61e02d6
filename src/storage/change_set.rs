//! What a transaction read and wants changed, as plain data: an engine validates and merges it.

use super::access::{SessionRef, Touch, TouchAt};
use super::carried::CarriedChange;
use super::container_id::{ContainerHome, ContainerId, ContainerRef};
use super::findings::MergeFindings;
use super::foreign::ForeignRows;
use super::record::{PackageRow, SessionRow};
use super::version::{Mark, Version};
use crate::client_id::{ClientKey, Freshness};
use crate::clock::Timestamp;
use crate::value::Arithmetic;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// How long the ids of ended sessions are refused (C4.8).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TombstonePolicy {
    pub(crate) now: Timestamp,
    pub(crate) lasts: Duration,
    /// A tombstone that lies further ahead than one made now, by more than this, is that of a clock that was
    /// wrong, and counts as made now (C3.5).
    pub(crate) slack: Duration,
}

impl TombstonePolicy {
    /// Until when an id that ends now is refused.
    pub(crate) fn until(&self) -> Timestamp {
        self.now + self.lasts
    }

    /// What is to become of a tombstone: `None` if it stands as it is, else until when it is to last.
    pub(crate) fn lowered(&self, until: Timestamp) -> Option<Timestamp> {
        (until > self.until() + self.slack).then(|| self.until())
    }

    pub(crate) fn is_over(&self, until: Timestamp) -> bool {
        until <= self.now
    }
}

/// All that a transaction read and changed: plain data.
#[derive(Clone, Debug)]
pub(crate) struct ChangeSet {
    pub(crate) now: Timestamp,
    /// When it looked first. The rows that it carries were read then or later.
    pub(crate) since: Mark,
    pub(crate) clients: Vec<ClientChange>,
    /// How long the ids that it ends are refused; counts from when it is queued.
    pub(crate) refusals: TombstonePolicy,
    pub(crate) limits: Limits,
    /// The containers that this transaction knew of; registering or unregistering one counts on.
    pub(crate) registry: u64,
    /// The rows of containers that another engine keeps, where the set concerns both.
    pub(crate) foreign: Option<Box<ForeignRows>>,
    /// The rows in the visitor's cookie, where it concerns them.
    pub(crate) carried: Option<Arc<CarriedChange>>,
    /// What its merge finds out, if anybody asks.
    pub(crate) findings: Option<MergeFindings>,
    /// How many sessions a sweep has removed. The engine that commits it puts the number here.
    pub(crate) swept: u64,
}

impl ChangeSet {
    /// The accesses that are due with it, to sessions that are picked.
    pub(crate) fn accesses(&self, pick: impl Fn(&ClientChange, &Seen) -> bool) -> Vec<Touch> {
        let mut accesses = Vec::new();
        for client in &self.clients {
            let picked = client.seen.iter().filter(|seen| pick(client, seen));
            accesses.extend(picked.filter_map(|seen| seen.access(client.client, self.since)));
        }
        accesses
    }

    /// Takes the accesses out that are due with it, to sessions that are picked.
    pub(crate) fn take_accesses(&mut self, pick: impl Fn(&Seen) -> bool) -> Vec<Touch> {
        let mut accesses = Vec::new();
        for client in &mut self.clients {
            for seen in client.seen.iter_mut().filter(|seen| pick(seen)) {
                accesses.extend(seen.access(client.client, self.since));
                seen.touch = None;
            }
        }
        accesses
    }

    /// Puts accesses back that were taken out.
    pub(crate) fn put_back(&mut self, accesses: &[Touch]) {
        for client in &mut self.clients {
            for seen in &mut client.seen {
                let session = seen.live_session(client.client);
                let access = accesses.iter().find(|it| Some(it.session) == session);
                seen.touch = access.map(|access| access.at).or(seen.touch);
            }
        }
    }
}

/// What a session may hold (C5.3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) name: usize,
    pub(crate) package: usize,
    pub(crate) packages: usize,
    /// Of one package.
    pub(crate) keys: usize,
}

/// When a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) mark: Mark,
    pub(crate) at: Timestamp,
}

/// What a transaction saw of one client and wants changed.
#[derive(Clone, Debug)]
pub(crate) struct ClientChange {
    pub(crate) client: ClientKey,
    /// Each container whose session row was looked at.
    pub(crate) seen: Vec<Seen>,
    /// Whether the session was observed to exist.
    pub(crate) exists: Option<bool>,
    /// The changes give this client up for a new one: it must still be without a session, or be
    /// ended with it, and must not have been ended lately, nor since its request came (C4.8).
    pub(crate) replaced: Option<Arrival>,
    /// Of the id under which a session may begin with this, its own or the one that it moves to. Another commit
    /// may have used it up meanwhile (C4.8).
    pub(crate) founder: Option<Freshness>,
    pub(crate) packages: Vec<PackageChange>,
    /// Where the session begins if its timeout or its owner found it and no package does (C8.1).
    pub(crate) home: Option<ContainerId>,
    pub(crate) timeout: Option<Option<Duration>>,
    pub(crate) owner: Option<Option<Arc<str>>>,
    pub(crate) label: Option<Option<Arc<str>>>,
    pub(crate) authenticated_at: Option<Option<Timestamp>>,
    pub(crate) ends_at: Option<Option<Timestamp>>,
    pub(crate) end: SessionEnd,
    /// The containers in which it ends. What is put into them begins another one there. It goes on in others.
    pub(crate) ends_in: Vec<ContainerId>,
    /// Whose session it must still be, where it ends because of its owner (C8.2).
    pub(crate) ends_of: Option<Arc<str>>,
    /// Whether it must have got no other owner since it was seen, to be written (C8.3).
    pub(crate) keeps_owner: bool,
    /// How long the old id goes on leading to the session, where that moves because its id is renewed (C8.4).
    pub(crate) leads_on: Option<Duration>,
    /// The row of a session that is put in as it was in another store.
    pub(crate) imported: Option<Box<SessionRow>>,
    /// About how many bytes of packages it writes again where the session moves.
    pub(crate) carries: usize,
}

impl ClientChange {
    /// The client, and the one that its session moves to.
    pub(crate) fn clients(&self) -> impl Iterator<Item = ClientKey> + use<> {
        let to = match self.end {
            SessionEnd::Moves(to) => Some(to),
            SessionEnd::Stays
            | SessionEnd::Destroyed
            | SessionEnd::Swept(_)
            | SessionEnd::Imported(..) => None,
        };
        std::iter::once(self.client).chain(to)
    }

    /// Whether anything of the session as a whole is set or taken back.
    pub(crate) fn sets_attributes(&self) -> bool {
        self.timeout.is_some()
            || self.owner.is_some()
            || self.label.is_some()
            || self.authenticated_at.is_some()
            || self.ends_at.is_some()
    }

    /// Whether anything is to be written for this client, touches aside.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.end, SessionEnd::Stays)
            || self.sets_attributes()
            || !self.ends_in.is_empty()
            || self.packages.iter().any(PackageChange::writes)
    }

    /// Whether anything is written into a session that goes on, under its id or another one.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self.end, SessionEnd::Stays | SessionEnd::Moves(_)) && self.writes()
    }

    /// A session that was seen live, and into which nothing may be written, because `is_over` says so of it. A write into
    /// a container without the session continues the session that was seen in another one.
    pub(crate) fn over(&self, is_over: impl Fn(&Seen) -> bool) -> Option<&Seen> {
        let live = || self.seen.iter().filter(|seen| seen.is_live());
        let mut written = live().filter(|seen| self.writes_in(seen.container_ref.id));
        let over = written.find(|seen| is_over(seen));
        over.or_else(|| live().next().filter(|_| live().all(is_over)))
    }

    /// Whether anything is written to the session in a container, an access time aside.
    pub(crate) fn writes_in(&self, container: ContainerId) -> bool {
        let in_it = |p: &PackageChange| p.writes() && p.container_ref.id == container;
        !matches!(self.end, SessionEnd::Stays)
            || self.sets_attributes()
            || self.ends_in.contains(&container)
            || self.packages.iter().any(in_it)
    }

    /// Whether more than access times may be written to durable containers.
    pub(crate) fn writes_durably(&self) -> bool {
        let is_durable = |id: ContainerId| id.home() == ContainerHome::Durable;
        let in_durable = |p: &PackageChange| p.writes() && is_durable(p.container_ref.id);
        !matches!(self.end, SessionEnd::Stays)
            || self.sets_attributes()
            || self.ends_in.iter().any(|id| is_durable(*id))
            || self.packages.iter().any(in_durable)
    }
}

/// What becomes of a client's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    Stays,
    /// It goes on under another id; the old one is refused for a while (C4.7).
    Moves(ClientKey),
    /// It ends, and its id is refused for a while (C4.7).
    Destroyed,
    /// It was over at this time, and is swept; if it was touched meanwhile, it stays (C3.7).
    Swept(Timestamp),
    /// It is put in as it was in another store: its row is [`ClientChange::imported`], its packages are those of the
    /// change. The container may have a session of this client already.
    Imported(OnDuplicate),
}

/// What an import does with a session that the store has already.
///
/// ```
/// use cloakroom::{OnDuplicate, Store};
///
/// let store = Store::in_memory()?;
/// let mut lines = Vec::new();
/// store.export(&mut lines)?;
/// // The second time, the sessions are there already, and stay as they are.
/// store.import(&*lines, OnDuplicate::Skip)?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[cfg_attr(
    not(feature = "export"),
    allow(dead_code, unreachable_pub, reason = "only an import has duplicates")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    /// The store's session stays as it is.
    Skip,
    /// The imported session replaces it.
    Replace,
    /// The import ends with an error.
    Fail,
}

/// A session row as a transaction saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) container_ref: ContainerRef,
    /// The row as it was read, if there was one. Under an id that was made after the snapshot, there was none: another
    /// transaction can only have created one in a later commit.
    pub(crate) row: Option<SessionRow>,
    pub(crate) state: SeenState,
    /// Whether its existence was observed.
    pub(crate) observed: bool,
    /// Whether it was observed which packages it has.
    pub(crate) listed: bool,
    /// An access time that is due with this commit.
    pub(crate) touch: Option<TouchAt>,
}

impl Seen {
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state, SeenState::Live { .. })
    }

    /// The session, if it was seen live.
    pub(crate) fn live_session(&self, client: ClientKey) -> Option<SessionRef> {
        let SeenState::Live { incarnation } = self.state else {
            return None;
        };
        Some(SessionRef {
            container: self.container_ref.id,
            client,
            incarnation,
        })
    }

    /// The access that is due with this commit, of a transaction that looked first at `since`.
    pub(crate) fn access(&self, client: ClientKey, since: Mark) -> Option<Touch> {
        let (SeenState::Live { incarnation }, Some(at)) = (self.state, self.touch) else {
            return None;
        };
        let session = SessionRef {
            container: self.container_ref.id,
            client,
            incarnation,
        };
        Some(Touch { session, since, at })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeenState {
    Absent,
    Live {
        incarnation: Version,
    },
    Expired {
        incarnation: Version,
        last_access: Timestamp,
        timeout: Option<Duration>,
        ends_at: Option<Timestamp>,
        is_id_confirmed: bool,
    },
}

/// What a transaction saw of one package and wants changed.
#[derive(Clone, Debug)]
pub(crate) struct PackageChange {
    pub(crate) container_ref: ContainerRef,
    pub(crate) package: Arc<str>,
    pub(crate) observed: Observed,
    pub(crate) clear: bool,
    pub(crate) keys: Vec<(Arc<str>, KeyChange)>,
}

impl PackageChange {
    /// Gives values to keys, whatever there was before.
    pub(crate) fn put(
        container_ref: ContainerRef,
        package: Arc<str>,
        values: Vec<(Arc<str>, Bytes)>,
    ) -> Self {
        let put = |(key, value)| {
            let base = ChangeBase::Put(value);
            let steps = Vec::new();
            (key, KeyChange { base, steps })
        };
        Self {
            container_ref,
            package,
            observed: Observed::default(),
            clear: false,
            keys: values.into_iter().map(put).collect(),
        }
    }

    pub(crate) fn writes(&self) -> bool {
        self.clear || !self.keys.is_empty()
    }
}

/// The row of a package as it was read, where it was, and the keys whose values count as read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    pub(crate) row: Option<PackageRow>,
    pub(crate) keys: ObservedKeys,
}

#[derive(Clone, Debug)]
pub(crate) enum ObservedKeys {
    Some(Vec<Arc<str>>),
    All,
}

impl ObservedKeys {
    pub(crate) fn are_none(&self) -> bool {
        matches!(self, Self::Some(keys) if keys.is_empty())
    }
}

impl Default for ObservedKeys {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

/// What becomes of one key: first `base`, then each step on the value that is then current (C2.9).
#[derive(Clone, Debug)]
pub(crate) struct KeyChange {
    pub(crate) base: ChangeBase,
    pub(crate) steps: Vec<ChangeStep>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeBase {
    Current,
    Put(Bytes),
    Removed,
}

#[derive(Clone, Debug)]
pub(crate) enum ChangeStep {
    Arithmetic(Arithmetic),
    Commute(Commute),
}

/// A closure's result, valid as long as the value it started from is current. Plain data: the
/// closure itself stays with the transaction, at `index`.
#[derive(Clone, Debug)]
pub(crate) struct Commute {
    pub(crate) index: usize,
    pub(crate) input: Option<Bytes>,
    pub(crate) output: Bytes,
}

#[derive(Debug)]
pub(crate) struct StaleCommute {
    pub(crate) index: usize,
    pub(crate) current: Option<Bytes>,
}

//! The client's session as a transaction saw it. Knows nothing of changes.

use crate::client_id::{ClientId, ClientKey};
use crate::expiry::{Keeping, Times};
use crate::steps::Counted;
use crate::storage::Arrival;
use crate::storage::record::{PackageRow, SessionRow};
use crate::transaction::registry::ContainerIndex;
use crate::transaction::state::indexed_list::{IndexedItem, IndexedList};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The index of a client in a transaction.
pub(crate) type SubjectId = usize;

/// A client, and the observations of its session. Rolling back removes none of them (C2.5).
#[derive(Default)]
pub(crate) struct Subject {
    /// The id that the client presented. `None` for a new visitor.
    pub(crate) presented: Option<ClientId>,
    /// The key of a client whose session is to end, if its id is not known.
    pub(crate) known_by: Option<ClientKey>,
    /// The key of its session, if it presented an id that was renewed a short time ago (C8.4).
    pub(crate) moved_to: Option<ClientKey>,
    /// How long the client keeps the id, if a response sends it.
    pub(crate) keeping: Option<Keeping>,
    /// The arrival of the client's request, if that was before the transaction began.
    pub(crate) came: Option<Arrival>,
    pub(crate) founding: FoundingRule,
    /// Whether its commit conflicts if the session got an owner that was not seen.
    pub(crate) keeps_owner: bool,
    /// Whether its access is recorded even if none is due.
    pub(crate) is_touched: bool,
    pub(crate) sessions: IndexedList<SessionView>,
    pub(crate) packages: IndexedList<PackageView>,
    /// Its sessions, if they were fetched before the first read.
    pub(crate) fetched: Option<FoundSessions>,
    /// Whether its session is live in any container, once all were read.
    pub(crate) live: Option<bool>,
    /// Whether its session existed when `exists` was called.
    pub(crate) exists: Option<bool>,
    pub(crate) blind: BlindChanges,
    /// The id of the session that is created here because the presented id has none. It stays the same as long as any
    /// change creates the session.
    pub(crate) successor: Option<ClientId>,
    /// Whether the client ever had a `successor` in this transaction.
    pub(crate) has_moved: bool,
}

/// Whether a request may create a session (C4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FoundingRule {
    #[default]
    Allowed,
    /// A write to a session that does not exist is an error, with this reason.
    #[cfg(feature = "http")]
    Refused(&'static str),
}

impl FoundingRule {
    /// The reason why no session may be created, if there is one.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Allowed => None,
            #[cfg(feature = "http")]
            Self::Refused(why) => Some(why),
        }
    }
}

/// The facts about a client's visit that its request knows.
#[cfg(feature = "http")]
pub(crate) struct Visit {
    pub(crate) came: Arrival,
    pub(crate) keeping: Keeping,
    pub(crate) founding: FoundingRule,
    /// Whether the session must get no owner meanwhile.
    pub(crate) keeps_owner: bool,
}

/// The decisions that changes before the first look leave open.
#[derive(Default)]
pub(crate) struct BlindChanges {
    /// The containers that were used.
    pub(crate) containers: BTreeSet<ContainerIndex>,
    /// Whether the client was given an owner, a label or a timeout.
    pub(crate) is_given: bool,
    /// Whether it is undecided which id a new session gets.
    pub(crate) is_unfounded: bool,
}

/// The session of a client in one container, as a transaction finds it.
#[derive(Clone, Default)]
pub(crate) struct FoundSession {
    pub(crate) row: Option<SessionRow>,
    /// Its times, with accesses that the row does not record yet.
    pub(crate) times: Option<Times>,
    pub(crate) is_live: bool,
}

impl FoundSession {
    /// The session's current key, if this row only leads to it.
    pub(crate) fn leads_to(&self) -> Option<ClientKey> {
        let row = self.row.as_ref().filter(|_| self.is_live);
        Some(row?.optional.moved?.client)
    }
}

/// The sessions of a client in all containers. Those with a damaged row are left out.
pub(crate) type FoundSessions = Vec<(ContainerIndex, FoundSession)>;

/// A session row as of the snapshot.
pub(crate) struct SessionView {
    pub(crate) container: ContainerIndex,
    pub(crate) row: Option<SessionRow>,
    /// Its times, with accesses that the row does not record yet.
    pub(crate) times: Option<Times>,
    pub(crate) live: bool,
    /// Whether its packages were read or written, which counts as an access (C1.9).
    pub(crate) used: bool,
    /// Whether its existence was read.
    pub(crate) observed: bool,
    /// Whether the list of its packages was read.
    pub(crate) listed: bool,
}

impl SessionView {
    /// The session's current key, if this row only leads to it.
    pub(crate) fn leads_to(&self) -> Option<ClientKey> {
        Some(self.live_row()?.optional.moved?.client)
    }

    pub(crate) fn live_row(&self) -> Option<&SessionRow> {
        self.row.as_ref().filter(|_| self.live)
    }

    pub(crate) fn live_times(&self) -> Option<Times> {
        self.times.filter(|_| self.live)
    }
}

/// A package row as of the snapshot, and which parts of it were read.
pub(crate) struct PackageView {
    pub(crate) container: ContainerIndex,
    pub(crate) package: Arc<str>,
    pub(crate) row: Option<PackageRow>,
    pub(crate) read_all: bool,
    pub(crate) read: BTreeSet<Counted<Arc<str>>>,
}

impl IndexedItem for SessionView {
    fn container(&self) -> ContainerIndex {
        self.container
    }

    fn package(&self) -> &str {
        ""
    }
}

impl IndexedItem for PackageView {
    fn container(&self) -> ContainerIndex {
        self.container
    }

    fn package(&self) -> &str {
        &self.package
    }
}

impl PackageView {
    pub(crate) fn note(&mut self, key: &str) {
        if !self.read.contains(key) {
            self.read.insert(Counted(Arc::from(key)));
        }
    }
}

impl BlindChanges {
    pub(crate) fn is_none(&self) -> bool {
        self.containers.is_empty() && !self.is_given && !self.is_unfounded
    }
}

impl Subject {
    /// Whether the client presented no id, or an id under which no session was created yet.
    #[cfg(feature = "http")]
    pub(crate) fn is_new(&self) -> bool {
        self.presented.as_ref().is_none_or(ClientId::is_fresh)
    }

    /// Whether it is not decided yet if a new session keeps the presented id.
    pub(crate) fn may_move(&self) -> bool {
        let is_fresh = self.presented.as_ref().is_some_and(ClientId::is_fresh);
        self.blind.is_unfounded && !is_fresh
    }

    pub(crate) fn key(&self) -> Option<ClientKey> {
        self.moved_to.or_else(|| self.came_with())
    }

    /// The key of the id that the client presented, or the key that it is known by.
    pub(crate) fn came_with(&self) -> Option<ClientKey> {
        let presented = self.presented.as_ref().map(ClientId::key);
        presented.or(self.known_by)
    }

    /// Whether a live session was seen.
    #[cfg(feature = "http")]
    pub(crate) fn is_live(&self) -> bool {
        self.sessions.iter().any(|view| view.live)
    }

    /// Whether all `containers` containers were read, and none has a live session.
    #[cfg(feature = "http")]
    pub(crate) fn is_known_absent(&self, containers: usize) -> bool {
        self.sessions.len() == containers && !self.is_live()
    }

    /// Whether nothing of the client was read.
    pub(crate) fn is_unread(&self) -> bool {
        self.sessions.is_empty() && self.packages.is_empty()
    }

    /// Its session in a container, if it was fetched.
    pub(crate) fn fetched(&self, container: ContainerIndex) -> Option<&FoundSession> {
        let mut fetched = self.fetched.iter().flatten();
        let found = fetched.find(|(at, _)| *at == container);
        found.map(|(_, session)| session)
    }

    pub(crate) fn session(&self, container: ContainerIndex) -> Option<&SessionView> {
        self.sessions.find(container, "")
    }

    pub(crate) fn package(&self, container: ContainerIndex, package: &str) -> Option<&PackageView> {
        self.packages.find(container, package)
    }

    pub(crate) fn package_mut(
        &mut self,
        container: ContainerIndex,
        package: &str,
    ) -> Option<&mut PackageView> {
        self.packages.find_mut(container, package)
    }
}

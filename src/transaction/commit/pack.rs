//! Packs a finished transaction into the change set that is committed. Reads only rows that must still be compared
//! with their new values (C2.12).

use crate::client_id::{ClientId, ClientKey};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::ended_on_the_way;
use crate::storage::{
    Arrival, ChangeSet, ClientChange, ContainerId, MergeFindings, Seen, SessionEnd,
    TombstonePolicy, Touch,
};
use crate::transaction::carrier::CarriedCommit;
use crate::transaction::commit::access::{CookieAction, LoadedSession};
use crate::transaction::commit::packages::{founding, pack_packages};
use crate::transaction::events::SessionEvent;
use crate::transaction::registry::ContainerIndex;
use crate::transaction::state::attributes::SessionFate;
use crate::transaction::state::changes::{Closure, SubjectChanges};
use crate::transaction::state::subject::{SessionView, Subject, SubjectId};
use crate::transaction::state::txn_state::TxnState;

/// A transaction that is ready to be committed.
pub(crate) struct PackedCommit {
    /// `None` if nothing is to be written.
    pub(crate) set: Option<Box<ChangeSet>>,
    pub(crate) closures: Vec<Closure>,
    /// Ids that are no longer fresh after this commit.
    pub(crate) founders: Vec<ClientId>,
    /// The events of this commit, for the application's hooks.
    pub(crate) events: Vec<SessionEvent>,
    /// Access times that are due, if there is no set: they are recorded without a commit.
    pub(crate) touches: Vec<Touch>,
    /// The existing sessions that the commit writes to. The commit waits in their lines.
    pub(crate) contended: Vec<ClientKey>,
    pub(crate) cookie_action: CookieAction,
    /// The session that the cookie action concerns, if it existed before. If it has ended meanwhile, the response
    /// leaves the cookie as it is.
    pub(crate) renews: Vec<LoadedSession>,
    /// The changes to the rows that came with the request.
    pub(crate) carried: Option<CarriedCommit>,
}

impl TxnState {
    /// Whether nothing was changed, no access is due, and no hook waits for the end. Such a transaction needs no
    /// commit.
    pub(crate) fn only_read(&self) -> bool {
        let is_touched = |subject: &Subject| {
            let mut views = subject.sessions.iter();
            views.any(|view| self.touch_of(subject, view).is_some())
        };
        self.changes.is_none()
            && !self.doomed
            && !self.has_hooks()
            && !self
                .subjects
                .iter()
                .any(|subject| !subject.blind.is_none() || is_touched(subject))
    }

    /// Counts the accesses of a transaction without changes that needed no write.
    pub(crate) fn count_skipped_touches(&self) {
        let sessions = self.subjects.iter().flat_map(|it| it.sessions.iter());
        let skipped = sessions.filter(|view| view.used && view.live).count();
        if skipped > 0 {
            metrics::counter!("cloakroom_touches_skipped_total").increment(skipped as u64);
        }
    }

    /// Whether nothing was read or changed, and no hook waits for the end.
    #[cfg(feature = "http")]
    pub(crate) fn is_unused(&self) -> bool {
        let is_unused = |subject: &Subject| subject.is_unread() && subject.blind.is_none();
        let is_idle = self.changes.is_none() && !self.doomed && !self.has_hooks();
        is_idle && self.subjects.iter().all(is_unused)
    }

    /// The number of accesses to record.
    #[cfg(feature = "http")]
    pub(crate) fn due_accesses(&self) -> usize {
        let touches = self.subjects.iter().map(|subject| self.touches_of(subject));
        touches.map(|touches| touches.len()).sum()
    }

    /// Packs the transaction. `visitor` is the client that gets the response.
    pub(crate) fn pack(&mut self, visitor: Option<SubjectId>) -> Result<PackedCommit> {
        self.check_values()?;
        self.check_carried(visitor)?;
        let mut differs = false;
        for id in 0..self.subjects.len() {
            if self.changes.is_some() || !self.subject(id)?.blind.is_none() {
                self.look_at(id)?;
            }
            self.end_if_over(id)?;
        }
        for id in 0..self.subjects.len() {
            differs = differs || self.differs(id)?;
        }
        if differs {
            self.look_at_large()?;
        }
        let subjects = self.subjects.iter();
        // A change set records its own accesses.
        let touches = match differs {
            true => Vec::new(),
            false => subjects.flat_map(|s| self.touches_of(s)).collect(),
        };
        let (cookie_action, renews) = match visitor {
            Some(id) => self.cookie_action(id)?,
            None => (CookieAction::Keep, Vec::new()),
        };
        let mut packed = PackedCommit {
            set: None,
            closures: Vec::new(),
            founders: Vec::new(),
            events: Vec::new(),
            touches,
            contended: Vec::new(),
            cookie_action,
            renews,
            carried: None,
        };
        self.pack_carried(visitor, &mut packed);
        if differs {
            self.pack_changes(&mut packed)?;
        }
        Ok(packed)
    }

    fn pack_changes(&mut self, packed: &mut PackedCommit) -> Result<()> {
        let mut clients = Vec::with_capacity(self.subjects.len());
        let changes = self.changes.take().map(|changes| changes.subjects);
        let mut changes = changes.unwrap_or_default().into_iter();
        for subject in &self.subjects {
            let changes = changes.next().unwrap_or_default();
            if self.env().events.is_some() {
                packed.events.extend(self.events_of(subject, &changes));
            }
            self.pack_subject(subject, changes, &mut clients, packed)?;
        }
        if self
            .subjects
            .iter()
            .any(|subject| subject.moved_to.is_some())
        {
            check_distinct(&clients)?;
        }
        let rules = &self.env().rules;
        packed.set = Some(Box::new(ChangeSet {
            now: self.now,
            since: self.looked_at,
            clients,
            // Set when the commit is submitted.
            refusals: TombstonePolicy::default(),
            limits: rules.limits,
            registry: self.registry.number,
            foreign: None,
            carried: packed.carried.as_ref().map(|it| it.change.clone()),
            findings: (!packed.events.is_empty()).then(MergeFindings::default),
            swept: 0,
        }));
        Ok(())
    }

    fn pack_subject(
        &self,
        subject: &Subject,
        changes: SubjectChanges,
        clients: &mut Vec<ClientChange>,
        packed: &mut PackedCommit,
    ) -> Result<()> {
        packed.founders.extend(changes.id.clone());
        let elsewhere = match changes.fate {
            SessionFate::Rotated => None,
            SessionFate::Stays | SessionFate::Destroyed => changes.id.clone(),
        };
        let rotated = changes.id.as_ref().map(ClientId::freshness);
        let ends_of = changes.ends_of.clone();
        let end = match (changes.fate, &changes.id) {
            (SessionFate::Rotated, Some(id)) => SessionEnd::Moves(id.key()),
            (SessionFate::Destroyed, _) => SessionEnd::Destroyed,
            _ => SessionEnd::Stays,
        };
        let new = elsewhere.is_some() || changes.fate == SessionFate::Destroyed;
        let (own, moved) = if new {
            (SubjectChanges::default(), changes)
        } else {
            (changes, SubjectChanges::default())
        };
        if let Some(client) = subject.key() {
            // A live session may be replaced at any time. A session that was not live must have expired before the
            // request came; otherwise the commit is too late.
            let replaces =
                end == SessionEnd::Destroyed && subject.sessions.iter().any(|view| view.live);
            let replaces_dead_id = elsewhere.is_some() && !replaces && moved.founds();
            let replaced = if replaces_dead_id {
                Some(self.came_after_the_end(subject)?)
            } else {
                None
            };
            let founder = match end {
                SessionEnd::Moves(_) => rotated,
                _ => subject.presented.as_ref().and_then(ClientId::founder),
            };
            if own.founds() {
                packed.founders.extend(subject.presented.clone());
            }
            let mut change = self.pack_presented(subject, client, own, packed)?;
            if let SessionEnd::Moves(_) = end {
                change.carries = self.carried(subject, client);
            }
            (change.replaced, change.founder) = (replaced, founder);
            (change.end, change.ends_of) = (end, ends_of);
            if change.writes() {
                packed.contended.push(change.client);
            }
            clients.push(change);
        }
        if let (Some(id), true) = (&elsewhere, moved.founds()) {
            let home = self.home(subject, &moved.ends_in);
            let rules = (&*self.registry, &self.env().rules.limits);
            clients.push(founding(id, moved, home, rules, &mut packed.closures)?);
        }
        Ok(())
    }

    /// The change of a client under the id that it presented.
    fn pack_presented(
        &self,
        subject: &Subject,
        client: ClientKey,
        own: SubjectChanges,
        packed: &mut PackedCommit,
    ) -> Result<ClientChange> {
        let SubjectChanges {
            attributes,
            packages,
        } = own;
        let seen = subject.sessions.iter();
        let rules = (&*self.registry, &self.env().rules.limits);
        Ok(ClientChange {
            client,
            seen: seen.map(|view| self.seen(subject, view)).collect(),
            exists: subject.exists,
            replaced: None,
            founder: None,
            packages: pack_packages(&subject.packages, packages, rules, &mut packed.closures)?,
            home: attributes
                .is_founding()
                .then(|| self.home_of(subject, &attributes.ends_in)),
            timeout: attributes.timeout,
            owner: attributes.owner,
            label: attributes.label,
            authenticated_at: attributes.authenticated_at,
            ends_at: attributes.ends_at,
            end: SessionEnd::Stays,
            ends_of: None,
            keeps_owner: subject.keeps_owner,
            ends_in: attributes
                .ends_in
                .iter()
                .map(|at| self.registry.container(*at).id())
                .collect(),
            leads_on: attributes.leads_on,
            imported: None,
            carries: 0,
        })
    }

    /// The arrival of a client whose id has no session. An error if the session has expired since the arrival (C4.8).
    fn came_after_the_end(&self, subject: &Subject) -> Result<Arrival> {
        let Some(came) = subject.came else {
            return Ok(Arrival {
                mark: self.begun_at,
                // Without a request, no time passed since the arrival: a session that is expired or swept now was over
                // then, too.
                at: Timestamp(i64::MAX),
            });
        };
        for view in subject.sessions.iter() {
            let policy = &self.registry.container(view.container).policy;
            if view
                .times
                .is_some_and(|times| !policy.is_expired(&times, came.at))
            {
                return Err(ended_on_the_way());
            }
        }
        Ok(came)
    }

    /// The approximate size of a session's packages, in bytes. A package of unknown size counts with the size limit.
    fn carried(&self, subject: &Subject, client: ClientKey) -> usize {
        let rows = subject.sessions.iter();
        let rows = rows.filter_map(|view| Some((view.container, view.live_row()?)));
        let packages =
            rows.flat_map(|(container, row)| row.packages.iter().map(move |p| (container, p)));
        let lens = packages.map(|(container, package)| {
            let container = self.registry.container(container).id();
            let snapshot = self.snapshot();
            let len = snapshot.and_then(|it| it.package_len(container, client, package));
            len.unwrap_or(self.env().rules.limits.package)
        });
        lens.sum()
    }

    fn home_of(&self, subject: &Subject, ends_in: &[ContainerIndex]) -> ContainerId {
        self.registry.container(self.home(subject, ends_in)).id()
    }

    fn seen(&self, subject: &Subject, view: &SessionView) -> Seen {
        let state = match (&view.row, view.times) {
            (Some(row), _) if view.live => crate::storage::SeenState::Live {
                incarnation: row.incarnation,
            },
            (Some(row), Some(times)) => crate::storage::SeenState::Expired {
                incarnation: row.incarnation,
                last_access: times.last_access,
                timeout: times.timeout,
                ends_at: times.ends_at,
                is_id_confirmed: times.unconfirmed_since.is_none(),
            },
            _ => crate::storage::SeenState::Absent,
        };
        Seen {
            container_ref: self
                .registry
                .container(view.container)
                .container_ref
                .clone(),
            row: view.row.clone(),
            state,
            observed: view.observed,
            listed: view.listed,
            touch: self
                .touch_of(subject, view)
                .filter(|_| !self.is_carried(view)),
        }
    }
}

/// Refuses a transaction that wrote to one session under two of its ids: each write would overwrite the other.
fn check_distinct(clients: &[ClientChange]) -> Result<()> {
    let written = clients.iter().filter(|client| client.writes());
    let mut keys: Vec<_> = written.map(|client| client.client).collect();
    keys.sort_unstable();
    if keys.is_sorted_by(|a, b| a < b) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "a transaction wrote to one session under two ids, of which one was renewed",
    ))
}

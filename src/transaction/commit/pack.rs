//! Packs a finished transaction into the change set that is committed. Pure, but for rows that must
//! still be compared with what they would become (C2.12).

use crate::client_id::{ClientId, ClientKey};
use crate::clock::Timestamp;
use crate::error::{ErrorKind, Result};
use crate::storage::merge::{ended_on_the_way, too_many_keys};
use crate::storage::record::PackageRow;
use crate::storage::{
    Arrival, ChangeSet, ClientChange, ContainerId, Limits, Mark, Observed, ObservedKeys,
    PackageChange, Seen, SessionEnd, SessionRef, Touch, TouchAt,
};
use crate::transaction::registry::{ContainerIndex, Registry};
use crate::transaction::state::changes::{
    Closure, KeyBase, KeyChanges, PackageChanges, SessionFate, SubjectChanges,
};
use crate::transaction::state::indexed_list::IndexedList;
use crate::transaction::state::subject::{PackageView, SessionView, Subject, SubjectId};
use crate::transaction::state::txn_state::TxnState;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a response must do with the session's cookie once the commit is certain (C4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CookieAction {
    Keep,
    /// Hand out this id; a session's own timeout is also its cookie's lifetime.
    Send {
        id: ClientId,
        timeout: Option<Duration>,
    },
    /// The session was destroyed; remove the cookie.
    Withdraw,
}

/// A transaction that is ready to be committed.
pub(crate) struct PackedCommit {
    /// `None` if nothing is to be written.
    pub(crate) set: Option<ChangeSet>,
    pub(crate) closures: Vec<Closure>,
    /// Ids that are no longer fresh once this is committed.
    pub(crate) founders: Vec<ClientId>,
    /// Access times that are due and not part of the set.
    pub(crate) touches: Vec<Touch>,
    /// The sessions, known before, that are written to: whose lines the commit passes through.
    pub(crate) contended: Vec<ClientKey>,
    pub(crate) cookie_action: CookieAction,
    /// The session that the cookie action is for, where it was there before: the cookie stays as it is if that has
    /// ended meanwhile.
    pub(crate) renews: Vec<LoadedSession>,
}

/// A session in one container, and when its transaction looked first.
pub(crate) struct LoadedSession {
    pub(crate) session: SessionRef,
    pub(crate) since: Mark,
}

impl TxnState {
    /// Whether nothing was changed, no access is due, and nobody waits for the end: then the
    /// transaction is over.
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

    /// Packs the transaction; `visitor` is the client that a response will be sent to.
    pub(crate) fn pack(mut self, visitor: Option<SubjectId>) -> Result<PackedCommit> {
        self.check_values()?;
        let mut differs = false;
        for id in 0..self.subjects.len() {
            if self.changes.is_some() || !self.subject(id)?.blind.is_none() {
                self.look_at(id)?;
            }
        }
        for id in 0..self.subjects.len() {
            differs = differs || self.differs(id)?;
        }
        if differs {
            self.look_at_large()?;
        }
        let subjects = self.subjects.iter();
        let touches = subjects.flat_map(|s| self.touches_of(s)).collect();
        let (cookie_action, renews) = match visitor {
            Some(id) => self.cookie_action(id)?,
            None => (CookieAction::Keep, Vec::new()),
        };
        let mut packed = PackedCommit {
            set: None,
            closures: Vec::new(),
            founders: Vec::new(),
            touches,
            contended: Vec::new(),
            cookie_action,
            renews,
        };
        if differs {
            self.pack_changes(&mut packed)?;
        }
        Ok(packed)
    }

    /// A value that cannot be stored fails the whole commit (C2.3).
    fn check_values(&self) -> Result<()> {
        let subjects = self.changes.iter().flat_map(|changes| &changes.subjects);
        for changes in subjects.flat_map(|s| s.packages.iter()) {
            for key in changes.keys.values() {
                if let KeyBase::Refused(error) = &key.base {
                    return Err(error.clone());
                }
            }
        }
        Ok(())
    }

    /// Whether a client's changes would make its session other than it is in the snapshot.
    fn differs(&mut self, id: SubjectId) -> Result<bool> {
        let Some(changes) = self.take_changes(id) else {
            return Ok(false);
        };
        let differs = self.differs_by(id, &changes);
        if let Some(subject) = self.changes.as_mut().and_then(|c| c.subjects.get_mut(id)) {
            *subject = changes;
        }
        differs
    }

    /// Takes a client's changes out, so that its packages can be looked at meanwhile.
    fn take_changes(&mut self, id: SubjectId) -> Option<SubjectChanges> {
        self.changes
            .as_mut()?
            .subjects
            .get_mut(id)
            .map(std::mem::take)
    }

    fn differs_by(&mut self, id: SubjectId, changes: &SubjectChanges) -> Result<bool> {
        let live = |view: &&SessionView| view.live;
        let rows = self.subject(id)?.sessions.iter();
        let attributes = rows.filter(live).filter_map(|v| v.row.as_ref()).any(|row| {
            changes.timeout.is_some_and(|t| t != row.timeout)
                || changes.owner.as_ref().is_some_and(|o| *o != row.owner)
                || changes.label.as_ref().is_some_and(|l| *l != row.label)
                || changes
                    .authenticated_at
                    .is_some_and(|at| at != row.authenticated_at)
        });
        let live = self.subject(id)?.sessions.iter().any(|view| view.live);
        let founds = !live && changes.attributes.is_founding();
        if changes.fate != SessionFate::Stays || attributes || founds {
            return Ok(true);
        }
        for package in changes.packages.iter() {
            match self.package_differs(id, package) {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                // What cannot be compared any more is committed.
                Err(e) if e.kind() == ErrorKind::SnapshotTooOld => return Ok(true),
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    fn package_differs(&mut self, id: SubjectId, changes: &PackageChanges) -> Result<bool> {
        let row = self.package(id, changes.container, &changes.package)?;
        if changes.cleared {
            let old: BTreeMap<&str, Bytes> = row.into_iter().flat_map(|r| r.iter()).collect();
            let mut new = BTreeMap::new();
            for (key, change) in &changes.keys {
                match change.value(None) {
                    Ok(Some(value)) => drop(new.insert(&**key, value)),
                    Ok(None) => {}
                    Err(_) => return Ok(true),
                }
            }
            return Ok(old != new);
        }
        Ok(changes.keys.iter().any(|(key, change)| {
            let before = row.and_then(|row| row.get(key));
            // A sum that overflows here may not do so on the value that is current at commit.
            change.value(before.clone()).map_or(true, |v| v != before)
        }))
    }

    /// Loads the packages that get more keys than a package may have, so that they are refused here.
    fn look_at_large(&mut self) -> Result<()> {
        let limit = self.env().rules.limits.keys;
        let subjects = self.changes.iter().flat_map(|it| it.subjects.iter());
        let packages = subjects.enumerate().flat_map(|(id, changes)| {
            let packages = changes.packages.iter();
            packages.map(move |it| (id, it))
        });
        let large = packages.filter(|(_, it)| it.inserted() > limit);
        let large: Vec<_> = large
            .map(|(id, it)| (id, it.container, it.package.clone()))
            .collect();
        for (id, container, package) in large {
            match self.package(id, container, &package) {
                Ok(_) => {}
                // What cannot be counted any more is counted where it is merged.
                Err(e) if e.kind() == ErrorKind::SnapshotTooOld => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn touch_of(&self, subject: &Subject, view: &SessionView) -> Option<TouchAt> {
        let times = view.live_times()?;
        let policy = &self.registry.container(view.container).policy;
        let due = view.used && policy.is_touch_due(&times, self.now, subject.keeping);
        if !due && !policy.is_ahead(&times, self.now) {
            return None;
        }
        // By the clock as it is: the transaction's own time may lie long before another's access.
        let now = self.env().clock.timestamp();
        let latest = policy.latest(&times, now);
        let at = TouchAt {
            time: self.now,
            slack: policy.resolution_of(&times, None),
            founded: (times.created > latest).then_some((times.created, self.now)),
        };
        // What lies too far ahead is lowered by whoever meets it (C3.5).
        (due || policy.is_ahead(&times, now)).then_some(at)
    }

    fn touches_of(&self, subject: &Subject) -> Vec<Touch> {
        let Some(client) = subject.key() else {
            return Vec::new();
        };
        let due = subject.sessions.iter().filter_map(|view| {
            let container = self.registry.container(view.container);
            Some(Touch {
                session: container.session_ref(client, view.live_row()?),
                since: self.looked_at,
                at: self.touch_of(subject, view)?,
            })
        });
        due.collect()
    }

    /// The cookie action of a client, and the session that one is for which was there before.
    fn cookie_action(&self, id: SubjectId) -> Result<(CookieAction, Vec<LoadedSession>)> {
        let none = SubjectChanges::default();
        let changes = self.changed(id).unwrap_or(&none);
        let subject = self.subject(id)?;
        let stored = subject
            .sessions
            .iter()
            .find_map(|view| view.live_row()?.timeout);
        let timeout = changes.timeout.unwrap_or(match changes.fate {
            SessionFate::Destroyed => None,
            SessionFate::Stays | SessionFate::Rotated => stored,
        });
        let send = |id: &ClientId| CookieAction::Send {
            id: id.clone(),
            timeout,
        };
        let live = subject.sessions.iter().any(|view| view.live);
        let cookie_action = match (changes.fate, &changes.id, &subject.presented) {
            (SessionFate::Rotated, Some(id), _) => send(id),
            (_, Some(id), _) if changes.founds() => send(id),
            (SessionFate::Destroyed, _, _) => CookieAction::Withdraw,
            (_, None, Some(presented)) if !live && changes.founds() => send(presented),
            (_, None, Some(presented)) if live => {
                let is_set = changes
                    .timeout
                    .is_some_and(|own| own.is_some() || stored.is_some());
                if is_set || self.is_renewed(subject, changes, timeout) {
                    return Ok((send(presented), self.lives(subject)));
                }
                CookieAction::Keep
            }
            _ => CookieAction::Keep,
        };
        Ok((cookie_action, Vec::new()))
    }

    /// Whether a commit records an access of the visitor, and what the id is kept in must be renewed with it.
    fn is_renewed(
        &self,
        subject: &Subject,
        changes: &SubjectChanges,
        timeout: Option<Duration>,
    ) -> bool {
        let kept = subject.keeping.and_then(|keeping| keeping.of(timeout));
        // To go on in a further container is recorded there.
        let begins = |container| subject.session(container).is_none_or(|view| !view.live);
        kept.is_some()
            && (!self.touches_of(subject).is_empty() || changes.containers_inserted().any(begins))
    }

    fn lives(&self, subject: &Subject) -> Vec<LoadedSession> {
        let Some(client) = subject.key() else {
            return Vec::new();
        };
        let lives = subject.sessions.iter().filter_map(|view| {
            let container = self.registry.container(view.container);
            Some(LoadedSession {
                session: container.session_ref(client, view.live_row()?),
                since: self.looked_at,
            })
        });
        lives.collect()
    }

    fn pack_changes(&mut self, packed: &mut PackedCommit) -> Result<()> {
        let mut clients = Vec::new();
        for id in 0..self.subjects.len() {
            let changes = self.take_changes(id).unwrap_or_default();
            let subject = self.subject(id)?;
            self.pack_subject(subject, changes, &mut clients, packed)?;
        }
        packed.touches = touches_beside(&mut clients, std::mem::take(&mut packed.touches));
        let rules = &self.env().rules;
        packed.set = Some(ChangeSet {
            now: self.now,
            since: self.looked_at,
            clients,
            refusals: self.env().refusals(),
            limits: rules.limits,
            registry: self.registry.number,
        });
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
        if let Some(presented) = &subject.presented {
            // One that is there is replaced; what is over was so before the request came, or it is too late.
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
                _ => Some(presented.freshness()),
            };
            if own.founds() {
                packed.founders.push(presented.clone());
            }
            let mut change = self.pack_presented(subject, presented.key(), own, packed)?;
            if let SessionEnd::Moves(_) = end {
                change.carries = self.carried(subject, presented.key());
            }
            (change.replaced, change.founder, change.end) = (replaced, founder, end);
            if change.writes() {
                packed.contended.push(change.client);
            }
            clients.push(change);
        }
        if let (Some(id), true) = (&elsewhere, moved.founds()) {
            let home = self.home(subject);
            let rules = (&*self.registry, &self.env().rules.limits);
            clients.push(founding(id, moved, home, rules, packed)?);
        }
        Ok(())
    }

    /// The change of the client under the id that it presented, which stays.
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
            packages: pack_packages(&subject.packages, packages, rules, packed)?,
            home: attributes.is_founding().then(|| self.home_of(subject)),
            timeout: attributes.timeout,
            owner: attributes.owner,
            label: attributes.label,
            authenticated_at: attributes.authenticated_at,
            end: SessionEnd::Stays,
            carries: 0,
        })
    }

    /// When a client came whose id has no session; a failure where the session has expired since then (C4.8).
    fn came_after_the_end(&self, subject: &Subject) -> Result<Arrival> {
        let Some(came) = subject.came else {
            return Ok(Arrival {
                mark: self.begun_at,
                // It came with no request: what it finds expired, or swept, was over for it.
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

    /// About how many bytes of packages a session has; where that cannot be told, how many it may have.
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

    fn home_of(&self, subject: &Subject) -> ContainerId {
        self.registry.container(self.home(subject)).id()
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
            },
            _ => crate::storage::SeenState::Absent,
        };
        Seen {
            place: self.registry.container(view.container).place.clone(),
            row: view.row.clone(),
            state,
            observed: view.observed,
            touch: self.touch_of(subject, view),
        }
    }
}

/// Takes the access times of sessions in the file out of a commit that otherwise changes memory only:
/// a touch makes no request wait for the disk (C3.4). Returns what is left to record of `due`.
fn touches_beside(clients: &mut [ClientChange], mut due: Vec<Touch>) -> Vec<Touch> {
    if clients.iter().any(ClientChange::writes_to_file) {
        return Vec::new();
    }
    for seen in clients.iter_mut().flat_map(|client| &mut client.seen) {
        if !seen.place.id.is_in_memory() {
            seen.touch = None;
        }
    }
    due.retain(|touch| !touch.session.container.is_in_memory());
    due
}

/// The change of a client whose session begins with it.
fn founding(
    id: &ClientId,
    changes: SubjectChanges,
    home: ContainerIndex,
    (registry, limits): (&Registry, &Limits),
    packed: &mut PackedCommit,
) -> Result<ClientChange> {
    let SubjectChanges {
        attributes,
        packages: changes,
    } = changes;
    let mut containers: BTreeSet<ContainerIndex> =
        changes.iter().map(|package| package.container).collect();
    if attributes.is_founding() {
        containers.insert(home);
    }
    let seen = containers.into_iter().map(|container| Seen {
        place: registry.container(container).place.clone(),
        row: None,
        state: crate::storage::SeenState::Absent,
        observed: false,
        touch: None,
    });
    let seen = seen.collect();
    let mut packages = Vec::with_capacity(changes.len());
    for package in changes {
        check_count(&package, None, registry, limits)?;
        packages.push(pack_package(
            package,
            Observed::default(),
            registry,
            packed,
        )?);
    }
    Ok(ClientChange {
        client: id.key(),
        seen,
        exists: None,
        replaced: None,
        founder: Some(id.freshness()),
        packages,
        home: attributes
            .is_founding()
            .then(|| registry.container(home).id()),
        timeout: attributes.timeout,
        owner: attributes.owner,
        label: attributes.label,
        authenticated_at: attributes.authenticated_at,
        end: SessionEnd::Stays,
        carries: 0,
    })
}

/// Joins what was read of each package with what is to become of it.
fn pack_packages(
    views: &IndexedList<PackageView>,
    changes: IndexedList<PackageChanges>,
    (registry, limits): (&Registry, &Limits),
    packed: &mut PackedCommit,
) -> Result<Vec<PackageChange>> {
    let mut packages = Vec::new();
    let changed = |view: &PackageView| changes.position(view.container, &view.package).is_some();
    for view in views.iter().filter(|view| !changed(view)) {
        let observed = observed(view);
        if !observed.keys.are_none() {
            packages.push(PackageChange {
                place: registry.container(view.container).place.clone(),
                package: view.package.clone(),
                observed,
                clear: false,
                keys: Vec::new(),
            });
        }
    }
    for package in changes {
        let view = views.find(package.container, &package.package);
        if let Some(view) = view {
            check_count(&package, view.row.as_ref(), registry, limits)?;
        }
        let observed = view.map(observed).unwrap_or_default();
        packages.push(pack_package(package, observed, registry, packed)?);
    }
    Ok(packages)
}

/// Refuses what is certain to have too many keys, before others wait for it: a package that has fewer now
/// does not get more than the limit from anyone.
fn check_count(
    changes: &PackageChanges,
    stored: Option<&PackageRow>,
    registry: &Registry,
    limits: &Limits,
) -> Result<()> {
    let put = changes.inserted();
    if put <= limits.keys.max(stored.map_or(0, PackageRow::len)) {
        return Ok(());
    }
    let stay = stored.filter(|_| !changes.cleared).into_iter();
    let stay = stay.flat_map(|row| row.iter());
    let stay = stay.filter(|(key, _)| !changes.keys.contains_key(*key));
    let name = &registry.container(changes.container).place.name;
    Err(too_many_keys(put + stay.count(), limits)
        .in_container(&**name)
        .in_package(&*changes.package))
}

fn pack_package(
    changes: PackageChanges,
    observed: Observed,
    registry: &Registry,
    packed: &mut PackedCommit,
) -> Result<PackageChange> {
    let mut keys = Vec::with_capacity(changes.keys.len());
    for (key, change) in changes.keys {
        let change: KeyChanges = change;
        keys.push((key, change.pack(&mut packed.closures)?));
    }
    Ok(PackageChange {
        place: registry.container(changes.container).place.clone(),
        package: changes.package,
        observed,
        clear: changes.cleared,
        keys,
    })
}

/// What was read of a package, and its row, so that whoever commits need not look for it or decode it again.
fn observed(view: &PackageView) -> Observed {
    let keys = if view.read_all {
        ObservedKeys::All
    } else {
        ObservedKeys::Some(view.read.iter().map(|key| key.0.clone()).collect())
    };
    Observed {
        row: view.row.clone(),
        keys,
    }
}

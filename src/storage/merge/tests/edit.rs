//! Builds the change of one client, step by step.

use super::fixture::{NOW, NOWHERE, World, client, place, stored};
use crate::client_id::Freshness;
use crate::clock::Timestamp;
use crate::storage::{
    Arrival, ChangeBase, ChangeStep, ClientChange, Commute, ContainerId, KeyChange, Observed,
    ObservedKeys, PackageChange, Seen, SeenState, SessionEnd, TouchAt,
};
use crate::value::Arithmetic;
use std::sync::Arc;
use std::time::Duration;

/// The observations of one client in some rows, and the changes to it.
pub(super) struct Edit {
    pub(super) rows: World,
    pub(super) change: ClientChange,
}

impl Edit {
    /// The transaction has read the sessions of both containers.
    pub(super) fn new(rows: &World, name: &str) -> Self {
        let client = client(name);
        let seen = ["", "s"].map(place).map(|place| {
            let row = rows.sessions.get(&(place.id, client)).cloned();
            let state = row
                .as_ref()
                .map_or(SeenState::Absent, |row| SeenState::Live {
                    incarnation: row.incarnation,
                });
            Seen {
                container_ref: place,
                row,
                state,
                observed: false,
                listed: false,
                touch: None,
            }
        });
        let change = ClientChange {
            client,
            seen: seen.into(),
            exists: None,
            replaced: None,
            founder: None,
            packages: Vec::new(),
            home: None,
            timeout: None,
            owner: None,
            label: None,
            authenticated_at: None,
            ends_at: None,
            end: SessionEnd::Stays,
            ends_of: None,
            keeps_owner: false,
            ends_in: Vec::new(),
            leads_on: None,
            imported: None,
            carries: 0,
        };
        let rows = rows.clone();
        Self { rows, change }
    }

    pub(super) fn package(&mut self, name: &str) -> &mut PackageChange {
        let there = self
            .change
            .packages
            .iter()
            .position(|p| &*p.package == name);
        let at = there.unwrap_or_else(|| {
            let place = place(name);
            let row = (place.id, self.change.client, name.to_owned());
            self.change.packages.push(PackageChange {
                observed: Observed {
                    row: self.rows.packages.get(&row).cloned(),
                    keys: ObservedKeys::default(),
                },
                container_ref: place,
                package: name.into(),
                clear: false,
                keys: Vec::new(),
            });
            self.change.packages.len() - 1
        });
        &mut self.change.packages[at]
    }

    pub(super) fn key(&mut self, package: &str, key: &str) -> &mut KeyChange {
        let keys = &mut self.package(package).keys;
        let at = keys.binary_search_by(|(k, _)| (**k).cmp(key));
        let at = at.unwrap_or_else(|at| {
            let change = KeyChange {
                base: ChangeBase::Current,
                steps: Vec::new(),
            };
            keys.insert(at, (key.into(), change));
            at
        });
        &mut keys[at].1
    }

    /// The value of a key counts as read.
    pub(super) fn read(&mut self, package: &str, key: &str) -> &mut Self {
        if let ObservedKeys::Some(keys) = &mut self.package(package).observed.keys {
            keys.push(key.into());
            keys.sort_unstable();
        }
        self
    }

    /// The whole package counts as read.
    pub(super) fn list(&mut self, package: &str) -> &mut Self {
        self.package(package).observed.keys = ObservedKeys::All;
        self
    }

    pub(super) fn put(&mut self, package: &str, key: &str, text: &str) -> &mut Self {
        self.key(package, key).base = ChangeBase::Put(stored(text));
        self
    }

    pub(super) fn remove(&mut self, package: &str, key: &str) -> &mut Self {
        self.key(package, key).base = ChangeBase::Removed;
        self
    }

    pub(super) fn clear(&mut self, package: &str) -> &mut Self {
        self.package(package).clear = true;
        self
    }

    pub(super) fn count(&mut self, package: &str, key: &str, step: Arithmetic) -> &mut Self {
        let steps = &mut self.key(package, key).steps;
        steps.push(ChangeStep::Arithmetic(step));
        self
    }

    /// A closure that computed a value from another one, or from none. Closures are numbered by their result.
    pub(super) fn commute(&mut self, package: &str, key: &str, values: (&str, i64)) -> &mut Self {
        let (input, output) = values;
        let commute = Commute {
            index: output as usize,
            input: (!input.is_empty()).then(|| stored(input)),
            output: stored(&output.to_string()),
        };
        self.key(package, key)
            .steps
            .push(ChangeStep::Commute(commute));
        self
    }

    pub(super) fn timeout(&mut self, timeout: Option<u64>) -> &mut Self {
        self.change.timeout = Some(timeout.map(Duration::from_millis));
        self
    }

    pub(super) fn owner(&mut self, owner: Option<&str>) -> &mut Self {
        self.change.owner = Some(owner.map(Arc::from));
        self
    }

    pub(super) fn label(&mut self, label: Option<&str>) -> &mut Self {
        self.change.label = Some(label.map(Arc::from));
        self
    }

    pub(super) fn authenticated_at(&mut self, at: Option<i64>) -> &mut Self {
        self.change.authenticated_at = Some(at.map(Timestamp));
        self
    }

    /// The timeout or the owner creates the session, in the unnamed container.
    pub(super) fn home(&mut self) -> &mut Self {
        self.change.home = Some(ContainerId::UNNAMED);
        self
    }

    /// The transaction observed whether the client has a session.
    pub(super) fn exists(&mut self, exists: bool) -> &mut Self {
        self.change.exists = Some(exists);
        self
    }

    /// The transaction observed whether there is a session in the unnamed container.
    pub(super) fn observe(&mut self) -> &mut Self {
        self.change.seen[0].observed = true;
        self
    }

    /// The packages in the unnamed container were listed.
    pub(crate) fn list_packages(&mut self) -> &mut Self {
        self.change.seen[0].listed = true;
        self
    }

    /// The session in the unnamed container had expired.
    pub(super) fn expired(&mut self) -> &mut Self {
        let seen = &mut self.change.seen[0];
        let row = seen.row.as_ref().unwrap();
        seen.state = SeenState::Expired {
            incarnation: row.incarnation,
            last_access: row.access.last_access,
            timeout: row.timeout,
            ends_at: row.optional.ends_at,
            is_id_confirmed: row.access.is_id_confirmed,
        };
        self
    }

    /// An access of the session in the unnamed container is due. Recorded times that are more than 10 ahead are wrong.
    pub(super) fn touch(&mut self, time: i64, founded: Option<(i64, i64)>) -> &mut Self {
        self.change.seen[0].touch = Some(TouchAt {
            time: Timestamp(time),
            slack: Duration::from_millis(10),
            founded: founded.map(|(wrong, lowered)| (Timestamp(wrong), Timestamp(lowered))),
            lowered_from: None,
        });
        self
    }

    /// The transaction has not read the container of the packages that begin with `s`.
    pub(super) fn without_s(&mut self) -> &mut Self {
        self.change.seen.truncate(1);
        self
    }

    pub(super) fn ends(&mut self, end: SessionEnd) -> &mut Self {
        self.change.end = end;
        self
    }

    /// The client is replaced by another one.
    pub(super) fn replaced(&mut self) -> &mut Self {
        self.change.replaced = Some(Arrival {
            mark: NOWHERE,
            at: NOW,
        });
        self
    }

    /// The freshness of the founding id: whether it has founded no session meanwhile.
    pub(super) fn founder(&mut self, founder: Freshness) -> &mut Self {
        self.change.founder = Some(founder);
        self
    }
}

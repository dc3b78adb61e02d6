//! Looks at every row of a store (C5.4).

use super::Store;
use crate::client_id::ClientKey;
use crate::container::scan;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::lost_package;
use crate::storage::record::SessionRow;
use crate::storage::{Place, Snapshot};
use std::sync::Arc;

/// No more errors than this are kept; the rest is counted.
const KEPT: usize = 1000;
/// How many snapshots are taken at most to read one thing; each is new when it is taken.
const ATTEMPTS: usize = 100;

/// What [`Store::check`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Check {
    /// Sessions looked at.
    pub sessions: u64,
    /// Packages looked at.
    pub packages: u64,
    /// How many records are damaged or missing.
    pub damaged: u64,
    /// The first thousand of those, with the container, and the package where it is known.
    pub errors: Vec<Error>,
}

impl Check {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damaged == 0
    }

    fn report(&mut self, error: Error) {
        self.damaged += 1;
        if self.errors.len() < KEPT {
            self.errors.push(error);
        }
    }
}

/// Something that can be asked for the newest snapshot.
type Newest<'a> = &'a dyn Fn() -> Result<Arc<dyn Snapshot>>;

impl Store {
    /// Reads every record of the store and verifies its checksum, and that no package that a session
    /// lists is missing. Damage is reported, not repaired; the store goes on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if the file's structure is so damaged that rows cannot be reached;
    /// or another failure of the storage, such as [`Unavailable`](ErrorKind::Unavailable) and
    /// [`Closed`](ErrorKind::Closed), which tells nothing of the rows.
    pub fn check(&self) -> Result<Check> {
        let house = &self.inner.house;
        let newest: Newest<'_> = &|| house.storage.snapshot();
        let registry = house.registry.load_full();
        let mut check = Check::default();
        for room in registry.rooms() {
            // Packages that the first pass found damaged, and named.
            let mut named = 0;
            scan(house, room.id(), |snapshot, _, row| {
                check.sessions += 1;
                match row {
                    Ok((client, row)) => {
                        named += check.session(newest, snapshot, &room.place, client, row)?;
                        Ok(())
                    }
                    Err((_, error)) => check.record(&room.place, error.clone()),
                }
            })?;
            let (packages, damaged) = on_newest(newest, |s| s.check_packages(room.id()))?;
            check.packages += packages;
            check.unlisted(&room.place, damaged, named)?;
        }
        Ok(check)
    }
}

impl Check {
    /// Reports what is damaged of a session's packages; tells how many of them have a row.
    fn session(
        &mut self,
        newest: Newest<'_>,
        snapshot: &dyn Snapshot,
        place: &Place,
        client: ClientKey,
        row: &SessionRow,
    ) -> Result<usize> {
        let mut found = packages(snapshot, place, client, row);
        if is_too_old(&found) {
            found = on_newest(newest, |snapshot| {
                match snapshot.session(place.id, client) {
                    Ok(Some(row)) => packages(snapshot, place, client, &row),
                    // It has ended since.
                    Ok(None) => Ok(Damage::default()),
                    Err(error) => Err(error),
                }
            });
        }
        match found {
            Ok(damage) => {
                for error in damage.errors {
                    self.report(error);
                }
                Ok(damage.rows)
            }
            Err(error) => self.record(place, error).map(|()| 0),
        }
    }

    /// Reports a damaged record. What is no damage is an error of the check's.
    fn record(&mut self, place: &Place, error: Error) -> Result<()> {
        let error = error.in_container(&*place.name);
        if error.kind() != ErrorKind::Corrupt {
            return Err(error);
        }
        self.report(error);
        Ok(())
    }

    /// Reports the damaged package rows of a container that no readable session lists. The errors of
    /// rows do not tell whose they are, but each listed one is among them and was reported with its
    /// name: as many are left out.
    fn unlisted(&mut self, place: &Place, damaged: Vec<Error>, named: usize) -> Result<()> {
        let mut rest = damaged.into_iter().skip(named);
        rest.try_for_each(|error| self.record(place, error))
    }
}

/// What is damaged of one session's packages.
#[derive(Default)]
struct Damage {
    errors: Vec<Error>,
    /// How many of them have a row; the others are lost.
    rows: usize,
}

fn packages(
    snapshot: &dyn Snapshot,
    place: &Place,
    client: ClientKey,
    row: &SessionRow,
) -> Result<Damage> {
    let mut damage = Damage::default();
    for package in &row.packages {
        let error = match snapshot.package(place.id, client, package) {
            Ok(Some(_)) => continue,
            Ok(None) => lost_package(),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                damage.rows += 1;
                error
            }
            Err(error) => return Err(error),
        };
        let error = error.in_container(&*place.name).in_package(&**package);
        damage.errors.push(error);
    }
    Ok(damage)
}

fn is_too_old<T>(result: &Result<T>) -> bool {
    matches!(result, Err(e) if e.kind() == ErrorKind::SnapshotTooOld)
}

/// Reads from the newest snapshot, and again from a newer one where that is let go meanwhile (C2.14).
fn on_newest<T>(newest: Newest<'_>, read: impl Fn(&dyn Snapshot) -> Result<T>) -> Result<T> {
    let mut result = read(&*newest()?);
    for _ in 1..ATTEMPTS {
        if !is_too_old(&result) {
            break;
        }
        result = read(&*newest()?);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::storage::record::PackageRow;
    use crate::storage::{ContainerId, Loading};

    /// A snapshot with one session, whose reads of a package end all alike.
    struct Reading(Option<ErrorKind>);

    impl Snapshot for Reading {
        fn load(&self, _: ClientKey) -> Option<Loading> {
            None
        }

        fn session(&self, _: ContainerId, _: ClientKey) -> Result<Option<SessionRow>> {
            Ok(Some(row()))
        }

        fn package(&self, _: ContainerId, _: ClientKey, _: &str) -> Result<Option<PackageRow>> {
            match self.0 {
                Some(kind) => Err(Error::new(kind, "of a test")),
                None => Ok(None),
            }
        }

        fn sessions(
            &self,
            _: ContainerId,
            _: Option<ClientKey>,
            _: usize,
        ) -> Result<Vec<(ClientKey, Result<SessionRow>)>> {
            Ok(Vec::new())
        }

        fn owned(&self, _: &str) -> Result<Vec<(ContainerId, ClientKey)>> {
            Ok(Vec::new())
        }

        fn check_packages(&self, _: ContainerId) -> Result<(u64, Vec<Error>)> {
            Ok((0, Vec::new()))
        }
    }

    fn row() -> SessionRow {
        SessionRow {
            created: Timestamp(0),
            last_access: Timestamp(0),
            timeout: None,
            owner: None,
            generation: 1,
            packages: vec!["a".into(), "b".into()],
        }
    }

    fn place() -> Place {
        Place {
            id: ContainerId::UNNAMED,
            name: "".into(),
        }
    }

    /// Checks the session on the first snapshot, and on the second where that is asked for.
    fn check(first: Option<ErrorKind>, second: Option<ErrorKind>) -> (Check, Result<usize>) {
        let mut check = Check::default();
        let newest: Newest<'_> = &move || Ok(Arc::new(Reading(second)));
        let client = ClientKey::from_bytes([1; 16]);
        let named = check.session(newest, &Reading(first), &place(), client, &row());
        (check, named)
    }

    // C5.4
    #[test]
    fn a_check_goes_on_with_a_new_snapshot_when_one_is_too_old() {
        let (found, named) = check(Some(ErrorKind::SnapshotTooOld), Some(ErrorKind::Corrupt));
        assert_eq!((found.damaged, named.unwrap()), (2, 2));
        let (found, named) = check(Some(ErrorKind::SnapshotTooOld), None);
        assert_eq!((found.damaged, named.unwrap()), (2, 0));
    }

    // C5.4
    #[test]
    fn what_is_no_damage_fails_the_check() {
        let too_old = Some(ErrorKind::SnapshotTooOld);
        for kind in [ErrorKind::Unavailable, ErrorKind::Closed] {
            for (first, second) in [(Some(kind), None), (too_old, Some(kind))] {
                let (found, named) = check(first, second);
                assert_eq!(named.unwrap_err().kind(), kind);
                assert!(found.is_clean());
            }
        }
        let (found, named) = check(too_old, too_old);
        assert_eq!(named.unwrap_err().kind(), ErrorKind::SnapshotTooOld);
        assert!(found.is_clean());
    }
}

//! Looks at every row of a store (C5.4).

use super::Store;
use crate::container::scan;
use crate::error::{Error, Result};
use crate::storage::merge::lost_package;

/// No more errors than this are kept; the rest is counted.
const KEPT: usize = 1000;

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

impl Store {
    /// Reads every record of the store and verifies its checksum, and that no package that a session
    /// lists is missing. Damage is reported, not repaired; the store goes on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if the file's structure is so damaged that rows cannot be
    /// reached; or another failure of the storage.
    pub fn check(&self) -> Result<Check> {
        let house = &self.inner.house;
        let registry = house.registry.load_full();
        let mut check = Check::default();
        for room in registry.rooms() {
            let name = &*room.place.name;
            scan(house, room.id(), |snapshot, _, row| {
                check.sessions += 1;
                let (client, row) = match row {
                    Ok(row) => row,
                    Err((_, error)) => {
                        check.report(error.clone().in_container(name));
                        return Ok(());
                    }
                };
                for package in &row.packages {
                    let found = snapshot.package(room.id(), client, package);
                    let named = |e: Error| e.in_container(name).in_package(&**package);
                    match found {
                        Ok(Some(_)) => {}
                        Ok(None) => check.report(named(lost_package())),
                        Err(error) => check.report(named(error)),
                    }
                }
                Ok(())
            })?;
            let (packages, _) = house.storage.snapshot()?.check_packages(room.id())?;
            check.packages += packages;
        }
        Ok(check)
    }
}

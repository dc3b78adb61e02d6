//! After a failure: which of the ways that the specification allows the store took, if any.

use super::ops::{KEYS, PACKAGES};
use super::play::Play;
use super::spec::{ModelContainer, Row, Spec};
use cloakroom::Result;
use std::time::{Duration, Instant};

/// The milliseconds at which the clock of a play begins.
const START: i64 = 1_767_225_600_000;

/// Something that the store serves otherwise than foretold.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    id: usize,
    container: ModelContainer,
    /// Package and key; without them, when the session was created.
    key: Option<(usize, usize)>,
    /// The value that the store serves.
    pub found: Option<i64>,
    /// The value that the specification predicts.
    pub foretold: Option<i64>,
}

/// What a mismatch after a failure amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something acknowledged is not there.
    Lost,
    /// A commit is there in part.
    Torn,
    /// Something is there that nobody committed, or that had ended.
    Phantom,
}

/// How the play goes on after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// As the specification says.
    Whole,
    /// As the specification says, but there is no telling which of two ways a commit ended.
    Either,
    /// Not as it says.
    Not(Verdict),
}

impl Play {
    /// Everything that the store serves under these ids otherwise than a specification says.
    pub(super) fn mismatches(
        &self,
        spec: &Spec,
        ids: impl IntoIterator<Item = usize>,
    ) -> Result<Vec<Mismatch>> {
        let mut found = Vec::new();
        let txn = self.store().begin()?;
        for id in ids {
            for container in ModelContainer::BOTH {
                let handle = txn.container(container.name())?;
                let data = handle.session_data(&self.ids[id])?;
                let row = spec.served(id, container);
                let mut hold = |key, found_here: Option<i64>, foretold: Option<i64>| {
                    if found_here != foretold {
                        found.push(Mismatch {
                            id,
                            container,
                            key,
                            found: found_here,
                            foretold,
                        });
                    }
                };
                let created = data.created_at()?.map(|time| time.timestamp_millis());
                hold(None, created, row.map(|row| row.created as i64 + START));
                for (package, name) in PACKAGES.iter().enumerate() {
                    let pkg = data.pkg(name);
                    for (key, name) in KEYS.iter().enumerate() {
                        let foretold = row.and_then(|row| value(row, package, key));
                        hold(Some((package, key)), pkg.get(name)?, foretold);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Compares the served values with the specification.
    pub(super) fn expect(&mut self, ids: impl IntoIterator<Item = usize>) -> Result<()> {
        let ids: Vec<usize> = ids.into_iter().collect();
        let found = self.mismatches(&self.spec, ids.iter().copied())?;
        self.spec.look_over(&ids);
        assert!(found.is_empty(), "{found:?}");
        Ok(())
    }

    /// Holds all that is served against the specification, and counts the rows.
    ///
    /// # Errors
    ///
    /// A failure of the storage.
    ///
    /// # Panics
    ///
    /// If the store is otherwise than the specification says.
    pub fn expect_all(&mut self) -> Result<()> {
        self.expect(0..self.ids.len())?;
        let check = self.store().check()?;
        assert!(check.is_clean(), "{check:?}");
        let (sessions, packages) = self.spec.rows();
        for (found, foretold) in [(check.sessions, sessions), (check.packages, packages)] {
            let (least, most) = self.flushed;
            assert!(
                foretold + least <= found && found <= foretold + most,
                "{found} rows instead of {foretold}, besides {least} to {most}"
            );
        }
        Ok(())
    }

    /// Ends the process, as far as the play knows one: nothing more reaches the disk.
    pub fn end(&mut self) {
        self.disk.crash();
        self.open = [const { None }; 3];
        self.store = None;
        let ram = self.scene.ram;
        for spec in self.all_specs() {
            spec.abort_all();
            spec.restart(ram);
            spec.touched = false;
        }
    }

    fn all_specs(&mut self) -> impl Iterator<Item = &mut Spec> {
        std::iter::once(&mut self.spec).chain(&mut self.instead)
    }

    /// After [`end`](Self::end), once the store is open again: which way it took.
    ///
    /// # Errors
    ///
    /// A failure of the storage; it can be tried again.
    pub fn recover(&mut self) -> Result<Recovered> {
        self.let_end_what_may()?;
        let recovered = self.choose()?;
        if recovered != Recovered::Whole {
            return Ok(recovered);
        }
        self.sweep_all()?;
        let txn = self.store().begin()?;
        let mut accessed = Vec::new();
        for id in 0..self.ids.len() {
            for container in ModelContainer::BOTH {
                if self.spec.served(id, container).is_some() {
                    let handle = txn.container(container.name())?;
                    let data = handle.session_data(&self.ids[id])?;
                    let last = data.last_access()?.unwrap();
                    accessed.push((id, container, since_start(last.timestamp_millis())));
                }
            }
        }
        txn.abort();
        for (id, container, at) in accessed {
            self.spec.recovered(id, container, at);
        }
        self.expect_all()?;
        Ok(recovered)
    }

    /// After a failure that the store outlived, once the disk works again: which way it took.
    ///
    /// # Errors
    ///
    /// A failure of the storage.
    ///
    /// # Panics
    ///
    /// If the store does not go on by itself within a minute (C2.13).
    pub fn go_on(&mut self) -> Result<Recovered> {
        for t in 0..self.open.len() {
            self.abort(t);
        }
        self.all_specs().for_each(Spec::abort_all);
        self.await_store()?;
        // A setting whose change failed may be in the file all the same.
        for container in ModelContainer::BOTH {
            let settings = self.settings(container, self.spec.policy(container));
            self.store().register(container.name(), settings)?;
        }
        let recovered = self.choose()?;
        if recovered == Recovered::Whole {
            self.sweep_all()?;
            self.expect_all()?;
        }
        Ok(recovered)
    }

    /// Waits until the store has opened itself again.
    ///
    /// # Errors
    ///
    /// If its disk crashes meanwhile.
    ///
    /// # Panics
    ///
    /// If it does not within a minute (C2.13).
    pub fn await_store(&self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        while let Some(store) = &self.store {
            match store.begin() {
                // It reads before it can write again.
                Ok(_) if !store.statistics()?.is_read_only() => break,
                // Reading goes on then.
                Ok(_) if self.disk.has_crashed() => store.checkpoint()?,
                Ok(_) => assert!(Instant::now() < until, "the store does not go on"),
                Err(error) if self.disk.has_crashed() => return Err(error),
                Err(error) => assert!(Instant::now() < until, "the store does not go on: {error}"),
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// An access that was not yet on the disk is lost in a crash, and the session may be over for it.
    fn let_end_what_may(&mut self) -> Result<()> {
        let ids = 0..self.ids.len();
        let places: Vec<_> = ids
            .flat_map(|id| ModelContainer::BOTH.map(|container| (id, container)))
            .collect();
        let txn = self.store().begin()?;
        let mut over = Vec::new();
        for (id, container) in places {
            let handle = txn.container(container.name())?;
            if handle.session_data(&self.ids[id])?.created_at()?.is_none() {
                over.push((id, container));
            }
        }
        txn.abort();
        for spec in self.all_specs() {
            for (id, container) in &over {
                if spec.may_be_over(*id, *container) {
                    spec.is_over(*id, *container);
                }
            }
        }
        Ok(())
    }

    /// Sweeps all containers. What a sweep removes is gone, whether or not another sweep was under way.
    fn sweep_all(&mut self) -> Result<()> {
        for container in ModelContainer::BOTH {
            self.store().container(container.name())?.sweep()?;
            self.spec.sweep(container);
        }
        Ok(())
    }

    /// Takes the specification that the store went by.
    fn choose(&mut self) -> Result<Recovered> {
        let mut fits = Vec::new();
        let mut misfits = Vec::new();
        for spec in std::iter::once(&self.spec).chain(&self.instead) {
            let found = self.mismatches(spec, 0..self.ids.len())?;
            if found.is_empty() {
                fits.push(spec.clone());
            } else {
                misfits.push(found);
            }
        }
        let Some(chosen) = fits.first().cloned() else {
            let verdict = verdict(&misfits);
            eprintln!("{verdict:?}: {misfits:?}");
            return Ok(Recovered::Not(verdict));
        };
        let open = fits.iter().any(|other| other.differs_from(&chosen));
        self.spec = chosen;
        self.instead.clear();
        Ok(if open {
            Recovered::Either
        } else {
            Recovered::Whole
        })
    }
}

/// The milliseconds since the clock of a play began.
pub(super) fn since_start(millis: i64) -> u64 {
    (millis - START) as u64
}

fn value(row: &Row, package: usize, key: usize) -> Option<i64> {
    row.packages.get(&package)?.get(&key).copied()
}

/// Each list holds the differences from one outcome that the specification allows.
fn verdict(misfits: &[Vec<Mismatch>]) -> Verdict {
    let allowed_somewhere = |found: &Mismatch| {
        let same = |other: &&Mismatch| {
            (other.id, other.container, other.key) == (found.id, found.container, found.key)
        };
        misfits
            .iter()
            .any(|list| !list.iter().any(|other| same(&other)))
    };
    let all = || misfits.iter().flatten();
    if misfits.len() > 1 && all().all(allowed_somewhere) {
        return Verdict::Torn;
    }
    let nowhere = |found: &&Mismatch| !allowed_somewhere(found);
    if all().filter(nowhere).any(|found| found.foretold.is_some()) {
        Verdict::Lost
    } else {
        Verdict::Phantom
    }
}

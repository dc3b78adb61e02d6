//! A store and its specification beside each other: every step is taken by both.

use super::ops::{C, Cookies, KEYS, Op, PACKAGES, Scene, T};
use super::spec::{At, ModelContainer, Policy, Spec, Step};
use crate::disk::Disk;
use cloakroom::torture::InjectedFault;
use cloakroom::{
    ClientId, Clock, ContainerSettings, PkgData, Result, Savepoint, Session, Store, Transaction,
};
use std::time::Duration;

/// The name of the store's file.
pub(super) const FILE: &str = "store";
const SECRET: [u8; 32] = [7; 32];
/// So little that there is a checkpoint every few commits.
const CHECKPOINT: usize = 3000;

/// The same beside each other: the store and its specification.
pub struct Play {
    pub(super) scene: Scene,
    pub(super) bug: Option<InjectedFault>,
    pub disk: Disk,
    clock: Clock,
    /// There is none while it is being opened.
    pub(super) store: Option<Store>,
    pub(super) spec: Spec,
    /// What the store may be like instead, after a step that failed.
    pub(super) instead: Vec<Spec>,
    /// Every id that was ever handed out, by its number in the specification.
    pub(super) ids: Vec<ClientId>,
    pub(super) jars: [usize; 2],
    pub(super) open: [Option<Open>; 3],
    /// Sessions made by [`Play::flush`], at the least and at the most.
    pub(super) flushed: (u64, u64),
    openings: u64,
    /// Commits that were acknowledged.
    pub commits: u64,
}

/// A transaction, and the cookies that its requests came with.
pub(super) struct Open {
    pub(super) txn: Transaction,
    savepoints: Vec<Savepoint>,
    presented: [Option<usize>; 2],
}

impl Play {
    /// On a disk, where the scene says so. The store is yet to be opened.
    pub fn new(scene: Scene, disk: Disk, bug: Option<InjectedFault>) -> Self {
        Self {
            scene,
            bug,
            disk,
            clock: Clock::manual("2026-01-01T00:00:00Z".parse().unwrap()),
            store: None,
            spec: Spec::new(scene.policies),
            instead: Vec::new(),
            ids: Vec::new(),
            jars: [0; 2],
            open: [const { None }; 3],
            flushed: (0, 0),
            openings: 0,
            commits: 0,
        }
    }

    /// Opens the store, which may be new.
    ///
    /// # Errors
    ///
    /// A failure of the storage.
    pub fn open(&mut self) -> Result<()> {
        self.openings += 1;
        let builder = Store::builder()
            .clock(self.clock.clone())
            .secret(SECRET)
            .guessable_ids(self.openings << 32)
            .cache_size(self.scene.cache)
            .implicit_sweeps(false)
            .checkpoints_in_the_foreground(CHECKPOINT)
            .verify_on_open(self.openings.is_multiple_of(2))
            .snapshot_max_age(Duration::from_secs(1 << 40));
        let builder = match self.bug {
            Some(bug) => builder.bug(bug),
            None => builder,
        };
        let store = if self.scene.file {
            builder.open_in(self.disk.folder(), FILE)?
        } else {
            builder.in_memory()?
        };
        for container in ModelContainer::BOTH {
            let settings = self.settings(container, self.spec.policy(container));
            store.register(container.name(), settings)?;
        }
        let endless = ContainerSettings::new().timeout(Duration::ZERO);
        store.register("beside", endless)?;
        // As texts, the way they come back in cookies.
        for id in &mut self.ids {
            *id = store.client_ids().verify(id.as_str()).unwrap();
        }
        self.store = Some(store);
        if self.ids.is_empty() {
            self.forget(0);
            self.forget(1);
        }
        Ok(())
    }

    pub(super) fn settings(&self, container: ModelContainer, policy: Policy) -> ContainerSettings {
        let settings = ContainerSettings::new()
            .timeout(Duration::from_millis(policy.timeout))
            .resolution(Duration::from_millis(policy.resolution))
            .max_lifetime(policy.max_lifetime.map(Duration::from_millis));
        if self.scene.ram && container == ModelContainer::Second {
            settings.in_memory()
        } else {
            settings
        }
    }

    /// Whether the store is yet to be opened.
    pub fn is_closed(&self) -> bool {
        self.store.is_none()
    }

    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    fn forget(&mut self, c: C) {
        let id = self.store().client_ids().issue();
        self.jars[c] = self.learn(id);
        self.spec.fresh.insert(self.jars[c]);
    }

    fn learn(&mut self, id: ClientId) -> usize {
        assert!(!self.ids.contains(&id), "an id was handed out twice");
        self.ids.push(id);
        self.ids.len() - 1
    }

    /// Writes the touches that wait, with a commit beside them. A snapshot without them would show a
    /// session as expired if it was ended, too, before it is looked at: which of the two, is open.
    fn flush(&mut self) -> Result<()> {
        if self.spec.touched {
            let txn = self.store().begin()?;
            let id = self.store().client_ids().issue();
            let beside = txn.container("beside")?.session_data(&id)?;
            beside.pkg(PACKAGES[0]).insert(KEYS[0], 0)?;
            self.flushed.1 += 1;
            txn.commit()?;
            self.flushed.0 += 1;
            self.spec.touched = false;
            self.spec.flushed();
        }
        Ok(())
    }

    fn begin(&mut self, t: T) -> Result<()> {
        if self.open[t].is_none() {
            self.flush()?;
            let txn = self.store().begin()?;
            // The snapshot is that of the first look (C2.1), at a session that nobody has.
            let nobody = txn.session(&self.store().client_ids().issue())?;
            nobody.last_access()?;
            self.spec.begin(t);
            self.open[t] = Some(Open {
                txn,
                savepoints: Vec::new(),
                presented: [None; 2],
            });
        }
        Ok(())
    }

    /// The session of a visitor in a transaction, and the number of the id it bore there.
    fn session(&mut self, t: T, c: C) -> Result<(Session, usize)> {
        self.begin(t)?;
        let jar = self.jars[c];
        let open = self.open[t].as_mut().unwrap();
        let id = *open.presented[c].get_or_insert(jar);
        let session = open.txn.session(&self.ids[id])?;
        self.spec.enter(t, id);
        Ok((session, id))
    }

    fn pkg(&mut self, t: T, c: C, at: At) -> Result<(PkgData, usize)> {
        let (_, id) = self.session(t, c)?;
        let open = self.open[t].as_ref().unwrap();
        let handle = open.txn.container(at.container.name())?;
        let data = handle.session_data(&self.ids[id])?;
        Ok((data.pkg(PACKAGES[at.package]), id))
    }

    /// The specification says that a session is to be founded under a new id; the store tells which.
    fn issued(&mut self, t: T, id: usize, session: &Session) {
        if self.spec.lacks_id(t, id) {
            let new = session
                .client_id()
                .expect("an id is issued for what is inserted");
            let new = self.learn(new);
            self.spec.issued(t, id, new);
        }
    }

    fn step(&mut self, t: T, c: C, at: At, step: Step) -> Result<()> {
        let (pkg, id) = self.pkg(t, c, at)?;
        let key = KEYS[at.key];
        match step {
            Step::Add(n) => pkg.add(key, n),
            Step::Max(n) => pkg.max(key, n),
            Step::Commute(_) => pkg.commute(key, move |value| step.of(value)),
        }?;
        self.spec.step(t, id, at, step);
        let (session, _) = self.session(t, c)?;
        self.issued(t, id, &session);
        Ok(())
    }

    /// Takes a step.
    ///
    /// # Errors
    ///
    /// A failure of the storage; what the store may then be like is remembered.
    ///
    /// # Panics
    ///
    /// If the store does otherwise than the specification says.
    pub fn run(&mut self, op: Op) -> Result<()> {
        match op {
            Op::Begin(t) => self.begin(t)?,
            Op::Commit(t, cookies) => self.commit(t, cookies)?,
            Op::Together => self.commit_together()?,
            Op::Abort(t) => self.abort(t),
            Op::Advance(ms) => {
                // Or they would be written at a moment of their own.
                self.flush()?;
                self.clock.advance(Duration::from_millis(ms));
                self.spec.now += ms;
            }
            Op::Sweep(container) => {
                let swept = self.store().container(container.name())?.sweep()?;
                assert_eq!(swept.removed, self.spec.sweep(container));
            }
            Op::Reopen => self.reopen()?,
            Op::Configure(container, policy) => {
                (0..self.open.len()).for_each(|t| self.abort(t));
                let settings = self.settings(container, policy);
                self.store().register(container.name(), settings)?;
                self.spec.configure(container, policy);
            }
            Op::Forget(c) => self.forget(c),
            inside => self.run_inside(inside)?,
        }
        Ok(())
    }

    /// A step within a transaction.
    fn run_inside(&mut self, op: Op) -> Result<()> {
        match op {
            Op::Get(t, c, at) => {
                let (pkg, id) = self.pkg(t, c, at)?;
                let value: Option<i64> = pkg.get(KEYS[at.key])?;
                assert_eq!(value, self.spec.get(t, id, at));
            }
            Op::Insert(t, c, at, value) => {
                let (pkg, id) = self.pkg(t, c, at)?;
                pkg.insert(KEYS[at.key], value)?;
                self.spec.insert(t, id, at, value);
                let (session, _) = self.session(t, c)?;
                self.issued(t, id, &session);
            }
            Op::Remove(t, c, at) => {
                let (pkg, id) = self.pkg(t, c, at)?;
                let there = pkg.remove(KEYS[at.key])?;
                assert_eq!(there, self.spec.remove(t, id, at));
            }
            Op::Clear(t, c, at) => {
                let (pkg, id) = self.pkg(t, c, at)?;
                pkg.clear()?;
                self.spec.clear(t, id, at);
            }
            Op::Keys(t, c, at) => {
                let (pkg, id) = self.pkg(t, c, at)?;
                let keys = pkg.keys()?;
                let foretold = self.spec.content(t, id, at).into_keys();
                assert_eq!(keys, foretold.map(|key| KEYS[key]).collect::<Vec<_>>());
            }
            Op::Add(t, c, at, n) => self.step(t, c, at, Step::Add(n))?,
            Op::Max(t, c, at, n) => self.step(t, c, at, Step::Max(n))?,
            Op::Commute(t, c, at, n) => self.step(t, c, at, Step::Commute(n))?,
            Op::Savepoint(t) => {
                self.begin(t)?;
                let open = self.open[t].as_mut().unwrap();
                open.savepoints.push(open.txn.savepoint()?);
                self.spec.savepoint(t);
            }
            Op::RollBack(t, n) => {
                self.begin(t)?;
                let open = self.open[t].as_mut().unwrap();
                if !open.savepoints.is_empty() {
                    let n = n % open.savepoints.len();
                    open.txn.rollback_to(&open.savepoints[n])?;
                    open.savepoints.truncate(n + 1);
                    self.spec.roll_back(t, n);
                }
            }
            session => self.run_on_session(session)?,
        }
        Ok(())
    }

    /// A step that concerns a session as a whole.
    fn run_on_session(&mut self, op: Op) -> Result<()> {
        match op {
            Op::Exists(t, c) => {
                let (session, id) = self.session(t, c)?;
                assert_eq!(session.exists()?, self.spec.exists(t, id, None));
            }
            Op::ExistsIn(t, c, container) => {
                let at = At {
                    container,
                    package: 0,
                    key: 0,
                };
                let (_, id) = self.pkg(t, c, at)?;
                let open = self.open[t].as_ref().unwrap();
                let handle = open.txn.container(container.name())?;
                let data = handle.session_data(&self.ids[id])?;
                assert_eq!(data.exists()?, self.spec.exists(t, id, Some(container)));
            }
            Op::WhoAmI(t, c) => {
                let (session, id) = self.session(t, c)?;
                let known = session.client_id();
                let foretold = self.spec.client_id(t, id).map(|id| &self.ids[id]);
                assert!(known.as_ref() == foretold);
            }
            Op::Rotate(t, c) => {
                let (session, id) = self.session(t, c)?;
                let new = session.rotate()?;
                self.spec.rotate(t, id);
                let new = self.learn(new);
                self.spec.issued(t, id, new);
            }
            Op::Destroy(t, c) => {
                let (session, id) = self.session(t, c)?;
                session.destroy()?;
                self.spec.destroy(t, id);
            }
            Op::SetTimeout(t, c, timeout) => {
                let (session, id) = self.session(t, c)?;
                session.set_timeout(timeout.map(Duration::from_millis))?;
                self.spec.set_timeout(t, id, timeout);
                self.issued(t, id, &session);
            }
            other => unreachable!("{other:?} is no step on a session"),
        }
        Ok(())
    }

    pub(super) fn abort(&mut self, t: T) {
        if let Some(open) = self.open[t].take() {
            open.txn.abort();
            self.spec.abort(t);
        }
    }

    fn reopen(&mut self) -> Result<()> {
        if !self.scene.file {
            return Ok(());
        }
        (0..self.open.len()).for_each(|t| self.abort(t));
        if let Some(store) = self.store.take() {
            store.close()?;
        }
        self.spec.touched = false;
        self.spec.flushed();
        self.spec.restart(self.scene.ram);
        self.open()
    }

    /// The ids that visitors have if the transaction commits, where those are new.
    fn given(&mut self, t: T, open: &Open) -> Vec<(C, usize)> {
        (0..2)
            .filter_map(|c| Some((c, self.spec.given(t, open.presented[c]?)?)))
            .collect()
    }

    /// Ends a transaction, if it is open.
    ///
    /// # Errors
    ///
    /// A failure of the storage; what the store may then be like is remembered.
    pub fn commit(&mut self, t: T, cookies: Cookies) -> Result<()> {
        let Some(open) = self.open[t].take() else {
            return Ok(());
        };
        let given = self.given(t, &open);
        let answer = open.txn.commit();
        let committed = answer.is_ok();
        self.all_answered(vec![vec![(t, answer)]])?;
        if committed && cookies == Cookies::Taken {
            for (c, id) in given {
                self.jars[c] = id;
            }
        }
        self.expect(self.jars)
    }
}

//! Random transactions against an executable specification of the contract (C2, C3, C4.7, C4.8). It
//! predicts every value read and the outcome of every commit.
//!
//! Where the contract leaves freedom, the specification says which way it is taken:
//! - A session is looked at when a transaction first needs it, in the container concerned, or in all of
//!   them where there is none yet. Its existence is that of the snapshot, its access time the latest.
//! - A key that the transaction itself put or removed is its own and not read; a sum of its own on top of
//!   what is stored is read. Listing reads all of a package, own or not.
//! - Destroying or rotating what is not there changes nothing and observes nothing.
//! - A transaction that changes a session conflicts if that ended in any container that it looked at,
//!   also by a sweep.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "model/spec.rs"]
mod spec;

use cloakroom::{
    ClientId, Clock, ContainerSettings, PkgData, Savepoint, Session, Store, Transaction,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use spec::{At, Outcome, Policy, Room, Spec, Step};
use std::time::Duration;

const PACKAGES: [&str; 2] = ["p", "q"];
const KEYS: [&str; 3] = ["a", "b", "c"];
const CASES: u32 = 300;

/// Which of the three transactions that may be open, and which of the two visitors.
type T = usize;
type C = usize;

#[derive(Clone, Copy, Debug)]
enum Op {
    Begin(T),
    Get(T, C, At),
    Insert(T, C, At, i64),
    Remove(T, C, At),
    Clear(T, C, At),
    Keys(T, C, At),
    Add(T, C, At, i64),
    Max(T, C, At, i64),
    Commute(T, C, At, i64),
    Exists(T, C),
    ExistsIn(T, C, Room),
    WhoAmI(T, C),
    Rotate(T, C),
    Destroy(T, C),
    SetTimeout(T, C, Option<u64>),
    Savepoint(T),
    RollBack(T, usize),
    /// And then the visitors keep their old ids, or take the new ones that they were given.
    Commit(T, Cookies),
    Abort(T),
    Advance(u64),
    Sweep(Room),
    Reopen,
    /// A visitor comes without a cookie.
    Forget(C),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cookies {
    Kept,
    Taken,
}

/// What a case is run on.
#[derive(Clone, Copy, Debug)]
struct Scene {
    file: bool,
    /// Whether the second container lives in memory.
    ram: bool,
    policies: [Policy; 2],
}

/// The same beside each other: the store and its specification.
struct Both {
    scene: Scene,
    folder: Option<tempfile::TempDir>,
    clock: Clock,
    store: Store,
    spec: Spec,
    /// Every id that was ever handed out, by its number in the specification.
    ids: Vec<ClientId>,
    jars: [usize; 2],
    open: [Option<Open>; 3],
    /// Sessions made by [`Both::flush`].
    flushed: u64,
}

/// A transaction, and the cookies that its requests came with.
struct Open {
    txn: Transaction,
    savepoints: Vec<Savepoint>,
    borne: [Option<usize>; 2],
}

fn open_store(scene: &Scene, folder: Option<&tempfile::TempDir>, clock: &Clock) -> Store {
    let builder = Store::builder()
        .clock(clock.clone())
        .implicit_sweeps(false)
        .snapshot_max_age(Duration::from_secs(1 << 40));
    let store = match folder {
        Some(folder) => builder.open(folder.path().join("store")),
        None => builder.in_memory(),
    }
    .unwrap();
    let settings = |policy: &Policy| {
        ContainerSettings::new()
            .timeout(Duration::from_millis(policy.timeout))
            .resolution(Duration::from_millis(policy.resolution))
            .max_lifetime(policy.max_lifetime.map(Duration::from_millis))
    };
    let [first, second] = &scene.policies;
    store.register("", settings(first)).unwrap();
    let second = settings(second);
    let second = if scene.ram {
        second.in_memory()
    } else {
        second
    };
    store.register("other", second).unwrap();
    let endless = ContainerSettings::new().timeout(Duration::ZERO);
    store.register("beside", endless).unwrap();
    store
}

impl Both {
    fn new(scene: Scene) -> Self {
        let folder = scene.file.then(|| tempfile::tempdir().unwrap());
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let store = open_store(&scene, folder.as_ref(), &clock);
        let mut both = Self {
            scene,
            folder,
            clock,
            store,
            spec: Spec::new(scene.policies),
            ids: Vec::new(),
            jars: [0; 2],
            open: [const { None }; 3],
            flushed: 0,
        };
        both.forget(0);
        both.forget(1);
        both
    }

    fn forget(&mut self, c: C) {
        let id = self.store.client_ids().issue();
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
    fn flush(&mut self) {
        if std::mem::take(&mut self.spec.touched) {
            let txn = self.store.begin().unwrap();
            let id = self.store.client_ids().issue();
            let beside = txn.container("beside").unwrap().session_data(&id).unwrap();
            beside.pkg(PACKAGES[0]).insert(KEYS[0], 0).unwrap();
            txn.commit().unwrap();
            self.flushed += 1;
        }
    }

    fn begin(&mut self, t: T) {
        if self.open[t].is_none() {
            self.flush();
            self.spec.begin(t);
            self.open[t] = Some(Open {
                txn: self.store.begin().unwrap(),
                savepoints: Vec::new(),
                borne: [None; 2],
            });
        }
    }

    /// The session of a visitor in a transaction, and the number of the id it bore there.
    fn session(&mut self, t: T, c: C) -> (Session, usize) {
        self.begin(t);
        let jar = self.jars[c];
        let open = self.open[t].as_mut().unwrap();
        let id = *open.borne[c].get_or_insert(jar);
        self.spec.enter(t, id);
        (open.txn.session(&self.ids[id]).unwrap(), id)
    }

    fn pkg(&mut self, t: T, c: C, at: At) -> (PkgData, usize) {
        let (_, id) = self.session(t, c);
        let open = self.open[t].as_ref().unwrap();
        let name = match at.room {
            Room::First => "",
            Room::Second => "other",
        };
        let container = open.txn.container(name).unwrap();
        let data = container.session_data(&self.ids[id]).unwrap();
        (data.pkg(PACKAGES[at.package]), id)
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

    fn step(&mut self, t: T, c: C, at: At, step: Step) {
        let (pkg, id) = self.pkg(t, c, at);
        let key = KEYS[at.key];
        match step {
            Step::Add(n) => pkg.add(key, n),
            Step::Max(n) => pkg.max(key, n),
            Step::Commute(_) => pkg.commute(key, move |value| step.of(value)),
        }
        .unwrap();
        self.spec.step(t, id, at, step);
        let (session, _) = self.session(t, c);
        self.issued(t, id, &session);
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Begin(t) => self.begin(t),
            Op::Get(t, c, at) => {
                let (pkg, id) = self.pkg(t, c, at);
                let value: Option<i64> = pkg.get(KEYS[at.key]).unwrap();
                assert_eq!(value, self.spec.get(t, id, at));
            }
            Op::Insert(t, c, at, value) => {
                let (pkg, id) = self.pkg(t, c, at);
                pkg.insert(KEYS[at.key], value).unwrap();
                self.spec.insert(t, id, at, value);
                let (session, _) = self.session(t, c);
                self.issued(t, id, &session);
            }
            Op::Remove(t, c, at) => {
                let (pkg, id) = self.pkg(t, c, at);
                let there = pkg.remove(KEYS[at.key]).unwrap();
                assert_eq!(there, self.spec.remove(t, id, at));
            }
            Op::Clear(t, c, at) => {
                let (pkg, id) = self.pkg(t, c, at);
                pkg.clear().unwrap();
                self.spec.clear(t, id, at);
            }
            Op::Keys(t, c, at) => {
                let (pkg, id) = self.pkg(t, c, at);
                let keys = pkg.keys().unwrap();
                let foretold = self.spec.content(t, id, at).into_keys();
                assert_eq!(keys, foretold.map(|key| KEYS[key]).collect::<Vec<_>>());
            }
            Op::Add(t, c, at, n) => self.step(t, c, at, Step::Add(n)),
            Op::Max(t, c, at, n) => self.step(t, c, at, Step::Max(n)),
            Op::Commute(t, c, at, n) => self.step(t, c, at, Step::Commute(n)),
            Op::Exists(t, c) => {
                let (session, id) = self.session(t, c);
                assert_eq!(session.exists().unwrap(), self.spec.exists(t, id, None));
            }
            Op::ExistsIn(t, c, room) => {
                let at = At {
                    room,
                    package: 0,
                    key: 0,
                };
                let (_, id) = self.pkg(t, c, at);
                let open = self.open[t].as_ref().unwrap();
                let name = if room == Room::First { "" } else { "other" };
                let container = open.txn.container(name).unwrap();
                let data = container.session_data(&self.ids[id]).unwrap();
                assert_eq!(data.exists().unwrap(), self.spec.exists(t, id, Some(room)));
            }
            Op::WhoAmI(t, c) => {
                let (session, id) = self.session(t, c);
                let known = session.client_id();
                let foretold = self.spec.client_id(t, id).map(|id| &self.ids[id]);
                assert!(known.as_ref() == foretold);
            }
            Op::Rotate(t, c) => {
                let (session, id) = self.session(t, c);
                let new = session.rotate().unwrap();
                self.spec.rotate(t, id);
                let new = self.learn(new);
                self.spec.issued(t, id, new);
            }
            Op::Destroy(t, c) => {
                let (session, id) = self.session(t, c);
                session.destroy().unwrap();
                self.spec.destroy(t, id);
            }
            Op::SetTimeout(t, c, timeout) => {
                let (session, id) = self.session(t, c);
                session
                    .set_timeout(timeout.map(Duration::from_millis))
                    .unwrap();
                self.spec.set_timeout(t, id, timeout);
            }
            Op::Savepoint(t) => {
                self.begin(t);
                let open = self.open[t].as_mut().unwrap();
                open.savepoints.push(open.txn.savepoint().unwrap());
                self.spec.savepoint(t);
            }
            Op::RollBack(t, n) => {
                self.begin(t);
                let open = self.open[t].as_mut().unwrap();
                if !open.savepoints.is_empty() {
                    let n = n % open.savepoints.len();
                    open.txn.rollback_to(&open.savepoints[n]).unwrap();
                    open.savepoints.truncate(n + 1);
                    self.spec.roll_back(t, n);
                }
            }
            Op::Commit(t, cookies) => self.commit(t, cookies),
            Op::Abort(t) => {
                if let Some(open) = self.open[t].take() {
                    open.txn.abort();
                    self.spec.abort(t);
                }
            }
            Op::Advance(ms) => {
                self.clock.advance(Duration::from_millis(ms));
                self.spec.now += ms;
            }
            Op::Sweep(room) => {
                let name = if room == Room::First { "" } else { "other" };
                let swept = self.store.container(name).unwrap().sweep().unwrap();
                assert_eq!(swept.removed, self.spec.sweep(room));
            }
            Op::Reopen => self.reopen(),
            Op::Forget(c) => self.forget(c),
        }
    }

    fn commit(&mut self, t: T, cookies: Cookies) {
        let Some(open) = self.open[t].take() else {
            return;
        };
        let given: Vec<_> = (0..2)
            .filter_map(|c| Some((c, self.spec.given(t, open.borne[c]?)?)))
            .collect();
        let foretold = self.spec.commit(t);
        let outcome = match open.txn.commit() {
            Ok(()) => Outcome::Committed,
            Err(error) if error.is_conflict() => Outcome::Conflict,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(outcome, foretold);
        if outcome == Outcome::Committed && cookies == Cookies::Taken {
            for (c, id) in given {
                self.jars[c] = id;
            }
        }
        self.compare(self.jars);
    }

    fn reopen(&mut self) {
        let Some(folder) = &self.folder else { return };
        for t in 0..self.open.len() {
            if let Some(open) = self.open[t].take() {
                open.txn.abort();
                self.spec.abort(t);
            }
        }
        self.store.clone().close().unwrap();
        self.store = open_store(&self.scene, Some(folder), &self.clock);
        // As texts, the way they come back in cookies.
        for id in &mut self.ids {
            *id = self.store.client_ids().verify(id.as_str()).unwrap();
        }
        self.spec.restart(self.scene.ram);
    }

    /// Everything that the store serves now under these ids.
    fn compare(&self, ids: impl IntoIterator<Item = usize>) {
        let txn = self.store.begin().unwrap();
        for number in ids {
            let id = &self.ids[number];
            for room in Room::BOTH {
                let name = if room == Room::First { "" } else { "other" };
                let data = txn.container(name).unwrap().session_data(id).unwrap();
                let row = self.spec.served(number, room);
                let created = data
                    .created_at()
                    .unwrap()
                    .map(|time| time.timestamp_millis());
                let start = 1_767_225_600_000;
                assert_eq!(created, row.map(|row| row.created as i64 + start));
                for (package, name) in PACKAGES.iter().enumerate() {
                    let content = row.and_then(|row| row.packages.get(&package));
                    for (key, name_of_key) in KEYS.iter().enumerate() {
                        let value: Option<i64> = data.pkg(name).get(name_of_key).unwrap();
                        let foretold = content.and_then(|content| content.get(&key)).copied();
                        assert_eq!(value, foretold, "{number} {room:?} {name} {name_of_key}");
                    }
                }
            }
        }
    }
}

fn play(scene: Scene, ops: &[Op]) {
    let mut both = Both::new(scene);
    for op in ops {
        both.run(*op);
    }
    for t in 0..both.open.len() {
        both.commit(t, Cookies::Taken);
    }
    both.compare(0..both.ids.len());
    let check = both.store.check().unwrap();
    assert!(check.is_clean(), "{check:?}");
    let (sessions, packages) = both.spec.rows();
    let found = (check.sessions - both.flushed, check.packages - both.flushed);
    assert_eq!(found, (sessions, packages));
}

fn at() -> impl Strategy<Value = At> {
    // Unevenly, so that transactions meet.
    let room = prop_oneof![2 => Just(Room::First), 1 => Just(Room::Second)];
    let package = prop_oneof![3 => Just(0_usize), 1 => Just(1)];
    let key = prop_oneof![3 => Just(0_usize), 2 => Just(1), 1 => Just(2)];
    (room, package, key).prop_map(|(room, package, key)| At { room, package, key })
}

fn op() -> impl Strategy<Value = Op> {
    let room = || prop_oneof![Just(Room::First), Just(Room::Second)];
    let cookies = prop_oneof![1 => Just(Cookies::Kept), 3 => Just(Cookies::Taken)];
    let (t, c, n) = (|| 0..3_usize, || 0..2_usize, || 0..5_i64);
    let timeout = prop_oneof![
        Just(None),
        Just(Some(0)),
        Just(Some(15_000)),
        Just(Some(90_000))
    ];
    let time = prop_oneof![
        Just(1),
        Just(4_000),
        Just(11_000),
        Just(31_000),
        Just(61_000)
    ];
    prop_oneof![
        3 => t().prop_map(Op::Begin),
        8 => (t(), c(), at()).prop_map(|(t, c, at)| Op::Get(t, c, at)),
        12 => (t(), c(), at(), n()).prop_map(|(t, c, at, n)| Op::Insert(t, c, at, n)),
        3 => (t(), c(), at()).prop_map(|(t, c, at)| Op::Remove(t, c, at)),
        2 => (t(), c(), at()).prop_map(|(t, c, at)| Op::Clear(t, c, at)),
        3 => (t(), c(), at()).prop_map(|(t, c, at)| Op::Keys(t, c, at)),
        4 => (t(), c(), at(), n()).prop_map(|(t, c, at, n)| Op::Add(t, c, at, n)),
        2 => (t(), c(), at(), n()).prop_map(|(t, c, at, n)| Op::Max(t, c, at, n)),
        3 => (t(), c(), at(), n()).prop_map(|(t, c, at, n)| Op::Commute(t, c, at, n)),
        2 => (t(), c()).prop_map(|(t, c)| Op::Exists(t, c)),
        1 => (t(), c(), room()).prop_map(|(t, c, room)| Op::ExistsIn(t, c, room)),
        1 => (t(), c()).prop_map(|(t, c)| Op::WhoAmI(t, c)),
        2 => (t(), c()).prop_map(|(t, c)| Op::Rotate(t, c)),
        2 => (t(), c()).prop_map(|(t, c)| Op::Destroy(t, c)),
        1 => (t(), c(), timeout).prop_map(|(t, c, timeout)| Op::SetTimeout(t, c, timeout)),
        1 => t().prop_map(Op::Savepoint),
        2 => (t(), 0..3_usize).prop_map(|(t, n)| Op::RollBack(t, n)),
        12 => (t(), cookies).prop_map(|(t, cookies)| Op::Commit(t, cookies)),
        1 => t().prop_map(Op::Abort),
        5 => time.prop_map(Op::Advance),
        1 => room().prop_map(Op::Sweep),
        1 => Just(Op::Reopen),
        1 => c().prop_map(Op::Forget),
    ]
}

const LONG: Policy = Policy {
    timeout: 60_000,
    resolution: 10_000,
    max_lifetime: None,
};
const SHORT: Policy = Policy {
    timeout: 30_000,
    resolution: 0,
    max_lifetime: Some(120_000),
};
const ENDLESS: Policy = Policy {
    timeout: 0,
    resolution: 10_000,
    max_lifetime: None,
};

fn scene() -> impl Strategy<Value = Scene> {
    let policy = || prop_oneof![3 => Just(LONG), 3 => Just(SHORT), 1 => Just(ENDLESS)];
    let file = prop_oneof![1 => Just(true), 7 => Just(false)];
    (file, any::<bool>(), policy(), policy()).prop_map(|(file, ram, first, second)| Scene {
        file,
        ram,
        policies: [first, second],
    })
}

fn number_from(variable: &str) -> Option<u64> {
    let number = std::env::var(variable).ok()?;
    Some(number.parse().expect("a number"))
}

/// The same cases in every run, so that a change is not blamed for what it did not do. `CLOAKROOM_SEED`
/// runs others, `CLOAKROOM_CASES` runs more; a failure prints its seed.
fn seed() -> u64 {
    number_from("CLOAKROOM_SEED").unwrap_or(20_261_122)
}

// C2.1, C2.2, C2.4, C2.5, C2.7 to C2.9, C2.11, C2.12, C3.2 to C3.8, C4.7, C4.8
#[test]
fn every_read_and_every_outcome_is_as_the_contract_says() {
    let seed = seed();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: number_from("CLOAKROOM_CASES").map_or(CASES, |cases| cases as u32),
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let cases = (scene(), proptest::collection::vec(op(), 1..80));
    let result = runner.run(&cases, |(scene, ops)| {
        play(scene, &ops);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (scene, ops))) => {
            let ops: String = ops.iter().map(|op| format!("\n    {op:?},")).collect();
            panic!("CLOAKROOM_SEED={seed}: {why}\n{scene:?}{ops}")
        }
        Err(TestError::Abort(why)) => panic!("CLOAKROOM_SEED={seed}: {why}"),
    }
}

//! Runs random transactions from real threads on one store or several of one server, and records the history.

use super::attempt::Attempt;
use super::model::{Anomaly, Op, Outcome, Tick, Transaction};
use super::world::World;
use cloakroom::{ContainerSettings, Error, ErrorKind, Store, StoreBuilder};
use fastrand::Rng;
use std::sync::Barrier;
use std::task::{Context, Waker};
use std::time::Duration;

/// A history, and the failures during its recording.
pub struct Recorded {
    /// All attempts of all transactions.
    pub transactions: Vec<Transaction>,
    /// Errors that no transaction should have met.
    pub errors: Vec<Anomaly>,
}

/// What a transaction gave up with.
enum Halt {
    /// On purpose.
    Abort,
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Records one history of `seed`, on a store that `builder` makes; a quarter of the histories use a file. The
/// operations of the threads depend on the seed alone; their interleaving does not.
#[must_use]
pub fn record(seed: u64, builder: StoreBuilder) -> Recorded {
    let mut rng = Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    // Without tombstones, incarnations alone keep sessions from coming back.
    let builder = if rng.bool() {
        builder.tombstone_lifetime(Duration::ZERO)
    } else {
        builder
    };
    let store = if rng.u32(..4) == 0 {
        builder.open(folder.path().join("store")).unwrap()
    } else {
        builder.in_memory().unwrap()
    };
    store.register("bank", ContainerSettings::new()).unwrap();
    let in_memory = ContainerSettings::new().in_memory();
    store.register("cache", in_memory).unwrap();
    record_on(vec![store], &mut rng)
}

/// Records one history of `seed`, on so many stores of one server. Each stands for a process: what it knows of the others,
/// it knows from the server.
#[must_use]
pub fn record_together(seed: u64, stores: usize, open: impl Fn() -> Store) -> Recorded {
    let mut rng = Rng::with_seed(seed);
    let first = open();
    // A container in memory is of one process alone.
    for name in ["bank", "cache"] {
        first.register(name, ContainerSettings::new()).unwrap();
    }
    let mut all = vec![first];
    all.extend((1..stores).map(|_| open()));
    record_on(all, &mut rng)
}

fn record_on(stores: Vec<Store>, rng: &mut Rng) -> Recorded {
    let counts = [1 + rng.usize(..2), 2, 3];
    let mut world = World::new(stores, counts);
    let mut alone = Thread::new(&world, 0, rng);
    alone.by_itself(|attempt| attempt.found());
    let (mut transactions, mut errors) = (alone.transactions, alone.errors);
    world.forget_that_ids_are_fresh();

    let (threads, each) = (2 + rng.usize(..5), 4 + rng.usize(..16));
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|n| {
                let (world, start, mut rng) = (&world, &start, rng.fork());
                scope.spawn(move || {
                    let mut thread = Thread::new(world, n, &mut rng);
                    start.wait();
                    for _ in 0..each {
                        thread.transaction();
                    }
                    (thread.transactions, thread.errors)
                })
            })
            .collect();
        for thread in running {
            let (more, failed) = thread.join().unwrap();
            transactions.extend(more);
            errors.extend(failed);
        }
    });
    let mut last = Thread::new(&world, 0, rng);
    last.by_itself(|attempt| attempt.read_all());
    transactions.extend(last.transactions);
    errors.extend(last.errors);
    transactions.sort_by_key(|t| t.begin);
    Recorded {
        transactions,
        errors,
    }
}

/// What one thread does and notes.
struct Thread<'a> {
    world: &'a World,
    store: &'a Store,
    rng: &'a mut Rng,
    transactions: Vec<Transaction>,
    errors: Vec<Anomaly>,
}

impl<'a> Thread<'a> {
    fn new(world: &'a World, number: usize, rng: &'a mut Rng) -> Self {
        Self {
            world,
            store: world.store(number),
            rng,
            transactions: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn note(&mut self, begin: Tick, ops: Vec<Op>, outcome: Outcome) {
        let end = self.world.tick();
        self.transactions.push(Transaction {
            begin,
            end,
            outcome,
            ops,
        });
    }

    /// What became of a transaction that gave up, or whose commit did.
    fn outcome_of(&mut self, halt: &Halt) -> Outcome {
        match halt {
            Halt::Abort => Outcome::Aborted,
            Halt::Failed(error) if error.is_conflict() => Outcome::Conflict,
            Halt::Failed(error) => {
                self.errors.push(Anomaly {
                    name: "error".to_owned(),
                    story: error.to_string(),
                });
                match error.kind() {
                    ErrorKind::OutcomeUnknown => Outcome::Unknown,
                    _ => Outcome::Aborted,
                }
            }
        }
    }

    /// One transaction while no other runs.
    fn by_itself(&mut self, work: impl Fn(&mut Attempt<'_>) -> cloakroom::Result<()>) {
        let begin = self.world.tick();
        let mut ops = Vec::new();
        let outcome = self.store.begin().and_then(|txn| {
            let mut attempt = Attempt::new(self.world, &txn);
            work(&mut attempt)?;
            ops = attempt.ops;
            txn.commit()
        });
        let outcome = match outcome {
            Ok(()) => Outcome::Committed,
            Err(error) => self.outcome_of(&Halt::Failed(error)),
        };
        self.note(begin, ops, outcome);
    }

    fn transaction(&mut self) {
        match self.rng.u32(..4) {
            0 => self.transact(),
            _ => self.begin_and_commit(),
        }
    }

    fn steps(attempt: &mut Attempt<'_>, rng: &mut Rng) -> Result<(), Halt> {
        for _ in 0..=rng.u32(..6) {
            attempt.step(rng)?;
            if rng.u32(..3) == 0 {
                std::thread::yield_now();
            }
        }
        if rng.u32(..10) == 0 {
            return Err(Halt::Abort);
        }
        Ok(())
    }

    fn begin_and_commit(&mut self) {
        let begin = self.world.tick();
        let txn = match self.store.begin() {
            Ok(txn) => txn,
            Err(error) => {
                self.outcome_of(&Halt::Failed(error));
                return;
            }
        };
        let mut attempt = Attempt::new(self.world, &txn);
        let done = Self::steps(&mut attempt, self.rng);
        let (ops, raised, counted) = (attempt.ops, attempt.raised, attempt.counted);
        let outcome = match done {
            Err(halt) => {
                if self.rng.bool() {
                    txn.abort();
                } else {
                    drop(txn);
                }
                self.outcome_of(&halt)
            }
            Ok(()) => {
                let committed = match self.rng.u32(..8) {
                    0..4 => Some(txn.commit()),
                    choice if choice < 7 || counted => Some(pollster::block_on(txn.commit_async())),
                    _ => commit_and_leave(txn),
                };
                match committed {
                    None => Outcome::Unknown,
                    Some(Ok(())) => Outcome::Committed,
                    Some(Err(error)) => self.outcome_of(&Halt::Failed(error)),
                }
            }
        };
        if outcome == Outcome::Committed {
            self.world.offer(raised);
        }
        self.note(begin, ops, outcome);
    }

    /// Through the store's own loop: every attempt is a transaction that was refused, but the last.
    fn transact(&mut self) {
        let world = self.world;
        let mut begin = world.tick();
        let mut ops = None;
        let mut raised = Vec::new();
        let done = self.store.transact(|txn| {
            // Where there was an attempt before, this one began after that one's work, at least.
            if let Some((ops, worked)) = ops.take() {
                self.note(begin, ops, Outcome::Conflict);
                begin = worked;
            }
            let mut attempt = Attempt::new(world, txn);
            let done = Self::steps(&mut attempt, self.rng);
            ops = Some((attempt.ops, world.tick()));
            raised = attempt.raised;
            done
        });
        let outcome = match done {
            Ok(()) => Outcome::Committed,
            Err(halt) => self.outcome_of(&halt),
        };
        if outcome == Outcome::Committed {
            world.offer(raised);
        }
        if let Some((ops, _)) = ops {
            self.note(begin, ops, outcome);
        }
    }
}

/// Looks at a commit once; where it is not done, nobody learns what becomes of it.
fn commit_and_leave(txn: cloakroom::Transaction) -> Option<cloakroom::Result<()>> {
    let mut commit = Box::pin(txn.commit_async());
    let mut context = Context::from_waker(Waker::noop());
    match commit.as_mut().poll(&mut context) {
        std::task::Poll::Ready(outcome) => Some(outcome),
        std::task::Poll::Pending => None,
    }
}

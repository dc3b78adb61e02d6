//! What the encryption of records costs: loads and commits of a store with keys, beside one without.

#[allow(
    dead_code,
    reason = "the benches share it, and this one uses some of it"
)]
mod support;

use cloakroom::{ClientId, KeyRing, Store};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;
use support::{Dice, Effort, KEY, Outcome, PACKAGES, Report, fill, scratch, still_clock, timed};

const TIME: (&str, &str) = ("nanoseconds_per_operation", "ns");
const SESSIONS: usize = 20_000;
const SLICES: usize = 10;
/// Loads and commits of a round.
const LOADS: usize = 200_000;
const COMMITS: usize = 20_000;

/// A store, and the sessions in it.
struct Filled {
    engine: &'static str,
    store: Store,
    clients: Vec<ClientId>,
}

impl Filled {
    fn open(
        path: &Path,
        engine: &'static str,
        keys: Option<KeyRing>,
        count: usize,
    ) -> Outcome<Self> {
        let builder = Store::builder()
            .clock(still_clock()?)
            .checkpoint_interval(Duration::from_secs(3600))
            .implicit_sweeps(false);
        let builder = match keys {
            Some(keys) => builder.encryption(keys),
            None => builder,
        };
        let store = builder.open(path)?;
        let clients = fill(&store, count)?;
        Ok(Self {
            engine,
            store,
            clients,
        })
    }

    /// A session and two of its packages.
    fn load(&self, dice: &mut Dice) -> Outcome {
        let txn = self.store.begin()?;
        let session = txn.session(dice.pick(&self.clients)?)?;
        for package in PACKAGES.iter().take(2) {
            let value: Option<String> = session.pkg(package).get(KEY)?;
            black_box(value.ok_or("the session is gone")?);
        }
        Ok(())
    }

    /// One value of a package, read and written, until it is durable.
    fn commit(&self, dice: &mut Dice) -> Outcome {
        let txn = self.store.begin()?;
        let session = txn.session(dice.pick(&self.clients)?)?;
        let package = session.pkg(PACKAGES.first().ok_or("no package")?);
        let value: Option<String> = package.get(KEY)?;
        black_box(value.ok_or("the session is gone")?);
        package.insert(KEY, dice.value())?;
        Ok(txn.commit()?)
    }
}

type Once = fn(&Filled, &mut Dice) -> Outcome;

fn main() -> Outcome {
    let effort = Effort::from_args();
    let mut report = Report::new("encryption", effort);
    let folder = scratch()?;
    let count = effort.sessions(SESSIONS);
    let path = |name: &str| folder.path().join(name);
    let stores = [
        Filled::open(&path("plain"), "plain", None, count)?,
        Filled::open(
            &path("keys"),
            "encrypted",
            Some(KeyRing::new(1, [7; 32])),
            count,
        )?,
    ];
    let operations: [(&str, Once, usize); 2] = [
        ("load-two", Filled::load, LOADS),
        ("commit", Filled::commit, COMMITS),
    ];
    for round in 0..report.rounds() {
        for (operation, once, each) in operations {
            let slice = effort.scaled(each).div_ceil(SLICES);
            let mut times = [Duration::ZERO; 2];
            // In turns, so that both have the same weather.
            for turn in 0..SLICES {
                for (filled, time) in stores.iter().zip(&mut times) {
                    *time += timed(1, |_| {
                        let mut dice = Dice::new((round * 1000 + turn) as u64);
                        (0..slice).try_for_each(|_| once(filled, &mut dice))
                    })?;
                }
            }
            for (filled, time) in stores.iter().zip(times) {
                let each = time.as_secs_f64() * 1e9 / (slice * SLICES) as f64;
                report.add(operation, filled.engine, TIME, each);
            }
        }
    }
    for filled in stores {
        filled.store.close()?;
    }
    report.finish()
}

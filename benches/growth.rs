//! How the cost of operations grows. Each runs at n, 2n, 4n and 8n. The processor time is divided by the number of
//! touched items, so a constant figure means proportional growth.

#[allow(dead_code, reason = "what the other benches use")]
mod support;

use cloakroom::{ClientId, ContainerSettings, PkgData, Store, StoreBuilder, Transaction};
use std::hint::black_box;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use support::{Effort, Outcome, Report, ratio, scratch, still_clock};

const PER_ITEM: (&str, &str) = ("processor_ns_per_item", "ns");
const STEPS: [usize; 4] = [1, 2, 4, 8];
/// From n to 8n, a figure may become so many times as large: caches and a logarithm.
const TOLERATED: f64 = 3.0;

/// An operation on `n` things: how long it took, and how many it touched.
type Operation = fn(usize) -> Outcome<(Duration, usize)>;

/// With how many things each begins, in a full run.
const OPERATIONS: [(&str, usize, Operation); 15] = [
    ("read-absent-keys-descending", 40_000, read_absent),
    ("add-on-one-key", 10_000, add),
    ("commute-on-one-key", 10_000, commute),
    ("savepoint-before-each-insert", 10_000, savepoints),
    ("roll-back-to-each-savepoint", 10_000, roll_back),
    ("insert-into-a-package", 10_000, insert),
    ("list-keys", 10_000, list),
    ("packages-of-one-session", 2_000, packages),
    ("sessions-of-one-transaction", 4_000, sessions),
    ("exists-beside-containers", 200, containers),
    ("sessions-of-an-owner", 4_000, owned),
    ("end-sessions-and-reclaim", 4_000, end),
    ("change-one-of-many-keys", 10_000, change),
    ("commits-beside-held-snapshots", 1_000, beside_held),
    ("commits-that-wait-for-a-turn", 4_000, in_line),
];

fn main() -> Outcome {
    let effort = Effort::from_args();
    let mut report = Report::new("growth", effort);
    for round in 0..report.rounds() {
        for (name, full, operation) in OPERATIONS {
            let sizes = STEPS.map(|step| (step, size(effort, full) * step));
            if round == 0 {
                // Not for the figures: the first run of all pays for what comes once.
                operation(sizes[0].1)?;
            }
            for (step, n) in sizes {
                let (time, touched) = operation(n)?;
                let each = time.as_secs_f64() * 1e9 / touched.max(1) as f64;
                report.add(&case(name, step), "cloakroom", PER_ITEM, each);
            }
        }
    }
    for (name, ..) in OPERATIONS {
        let [first, .., last] = STEPS;
        let each = |step| report.median(&case(name, step), "cloakroom", PER_ITEM.0);
        let growth = ratio(each(last), each(first));
        report.at_most(&format!("{name}: 8n to n"), growth, TOLERATED);
    }
    report.finish()
}

fn size(effort: Effort, full: usize) -> usize {
    match effort {
        Effort::Full => full,
        Effort::Quick => full / 4,
        Effort::Smoke => 4,
    }
}

fn case(name: &str, step: usize) -> String {
    match step {
        1 => format!("{name}/n"),
        step => format!("{name}/{step}n"),
    }
}

fn builder() -> Outcome<StoreBuilder> {
    let builder = Store::builder().clock(still_clock()?);
    let builder = builder.implicit_sweeps(false).max_package_size(256 << 20);
    Ok(builder.max_keys(usize::MAX).max_packages(usize::MAX))
}

fn store() -> Outcome<Store> {
    Ok(builder()?.in_memory()?)
}

/// A transaction of a store, and a package of a session that is there.
fn begin(store: &Store) -> Outcome<(Transaction, PkgData)> {
    let id = visitor(store)?;
    reopen(store, &id)
}

fn reopen(store: &Store, id: &ClientId) -> Outcome<(Transaction, PkgData)> {
    let txn = store.begin()?;
    let package = txn.session(id)?.pkg("package");
    Ok((txn, package))
}

fn visitor(store: &Store) -> Outcome<ClientId> {
    let id = store.client_ids().issue();
    let txn = store.begin()?;
    txn.session(&id)?.pkg("package").insert("key", 0)?;
    txn.commit()?;
    Ok(id)
}

fn name(n: usize) -> String {
    format!("{n:07}")
}

/// How long `work` takes, for `n` things.
fn timed(n: usize, work: impl FnOnce() -> Outcome) -> Outcome<(Duration, usize)> {
    let (start, used) = (Instant::now(), processor_time());
    work()?;
    let time = match (used, processor_time()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => start.elapsed(),
    };
    Ok((time, n))
}

/// What the threads of this process have had of the processors, where the system tells: whatever else runs does not
/// disturb it, and no disk.
fn processor_time() -> Option<Duration> {
    // Or the system would tell it as of the last tick.
    std::thread::yield_now();
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let times = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        sum += times.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(sum))
}

fn read_absent(n: usize) -> Outcome<(Duration, usize)> {
    let store = store()?;
    let (txn, package) = begin(&store)?;
    timed(n, || {
        for n in (0..n).rev() {
            black_box(package.get::<u64>(&name(n))?);
        }
        package.insert("key", 1)?;
        Ok(txn.commit()?)
    })
}

fn add(n: usize) -> Outcome<(Duration, usize)> {
    let store = store()?;
    let (txn, package) = begin(&store)?;
    timed(n, || {
        for _ in 0..n {
            package.add("key", 1)?;
        }
        Ok(txn.commit()?)
    })
}

fn commute(n: usize) -> Outcome<(Duration, usize)> {
    let store = store()?;
    let (txn, package) = begin(&store)?;
    timed(n, || {
        for _ in 0..n {
            package.commute("key", |n: Option<u64>| n.unwrap_or(0) + 1)?;
        }
        Ok(txn.commit()?)
    })
}

fn savepoints(n: usize) -> Outcome<(Duration, usize)> {
    let store = store()?;
    let (txn, package) = begin(&store)?;
    timed(n, || {
        for n in 0..n {
            txn.savepoint()?;
            package.insert(&name(n), n)?;
        }
        Ok(txn.commit()?)
    })
}

fn roll_back(n: usize) -> Outcome<(Duration, usize)> {
    let store = store()?;
    let (txn, package) = begin(&store)?;
    let mut savepoints = Vec::with_capacity(n);
    for n in 0..n {
        savepoints.push(txn.savepoint()?);
        package.insert(&name(n), n)?;
    }
    timed(n, || {
        for savepoint in savepoints.iter().rev() {
            txn.rollback_to(savepoint)?;
        }
        Ok(())
    })
}

fn insert(n: usize) -> Outcome<(Duration, usize)> {
    let store = store()?;
    let (txn, package) = begin(&store)?;
    timed(n, || {
        for n in 0..n {
            package.insert(&name(n), n)?;
        }
        Ok(txn.commit()?)
    })
}

/// A session with a package of so many keys.
fn with_keys(store: &Store, keys: usize) -> Outcome<ClientId> {
    let id = visitor(store)?;
    let (txn, package) = reopen(store, &id)?;
    for n in 0..keys {
        package.insert(&name(n), n)?;
    }
    txn.commit()?;
    Ok(id)
}

fn list(n: usize) -> Outcome<(Duration, usize)> {
    let store = store()?;
    let id = with_keys(&store, n)?;
    let (_txn, package) = reopen(&store, &id)?;
    timed(n, || {
        black_box(package.keys()?);
        Ok(())
    })
}

fn packages(n: usize) -> Outcome<(Duration, usize)> {
    let store = store()?;
    let id = visitor(&store)?;
    timed(n, || {
        let txn = store.begin()?;
        let session = txn.session(&id)?;
        for n in 0..n {
            let package = session.pkg(&name(n));
            black_box(package.get::<u64>("key")?);
            package.insert("key", n)?;
        }
        Ok(txn.commit()?)
    })
}

fn sessions(n: usize) -> Outcome<(Duration, usize)> {
    let store = store()?;
    timed(n, || {
        let txn = store.begin()?;
        for n in 0..n {
            let id = store.client_ids().issue();
            txn.session(&id)?.pkg("package").insert("key", n)?;
        }
        Ok(txn.commit()?)
    })
}

fn containers(n: usize) -> Outcome<(Duration, usize)> {
    let store = store()?;
    for n in 0..n {
        store.register(&name(n), ContainerSettings::new().in_memory())?;
    }
    let txn = store.begin()?;
    let session = txn.session(&store.client_ids().issue())?;
    timed(n, || {
        for n in 0..n {
            black_box(session.pkg(&name(n)).get::<u64>("key")?);
            session.pkg(&name(n)).insert("key", n)?;
        }
        black_box(session.exists()?);
        Ok(txn.commit()?)
    })
}

/// So many sessions of one owner.
fn with_owner(store: &Store, sessions: usize) -> Outcome<Vec<ClientId>> {
    let ids: Vec<_> = (0..sessions).map(|_| store.client_ids().issue()).collect();
    for some in ids.chunks(1000) {
        let txn = store.begin()?;
        for id in some {
            let session = txn.session(id)?;
            session.pkg("package").insert("key", 1)?;
            session.set_owner(Some("owner"))?;
        }
        txn.commit()?;
    }
    Ok(ids)
}

fn owned(n: usize) -> Outcome<(Duration, usize)> {
    let store = store()?;
    with_owner(&store, n)?;
    timed(n, || {
        let found = store.sessions_of("owner")?.len();
        (found == n).then_some(()).ok_or("sessions are missing")?;
        Ok(())
    })
}

fn end(n: usize) -> Outcome<(Duration, usize)> {
    let clock = still_clock()?;
    let store = builder()?.clock(clock.clone()).in_memory()?;
    let ids = with_owner(&store, n)?;
    timed(n, || {
        for some in ids.chunks(1000) {
            let txn = store.begin()?;
            for id in some {
                txn.session(id)?.destroy()?;
            }
            txn.commit()?;
        }
        clock.advance(Duration::from_secs(60));
        store.container("")?.sweep()?;
        Ok(())
    })
}

/// Each change reads and writes the package whole, so what is touched is its keys.
fn change(n: usize) -> Outcome<(Duration, usize)> {
    const CHANGES: usize = 20;
    let store = store()?;
    let id = with_keys(&store, n)?;
    timed(CHANGES * n, || {
        for change in 0..CHANGES {
            let (txn, package) = reopen(&store, &id)?;
            package.insert(&name(n / 2), change)?;
            txn.commit()?;
        }
        Ok(())
    })
}

/// The commits are as many, however many snapshots are held.
fn beside_held(n: usize) -> Outcome<(Duration, usize)> {
    const COMMITS: usize = 2_000;
    let folder = scratch()?;
    let builder = builder()?.snapshot_max_age(Duration::MAX);
    let store = builder.open(folder.path().join("store"))?;
    let id = visitor(&store)?;
    let mut held = Vec::with_capacity(n);
    let commit = |k: usize| -> Outcome {
        let (txn, package) = reopen(&store, &id)?;
        package.insert("key", k)?;
        Ok(txn.commit()?)
    };
    for k in 0..n {
        let txn = store.begin()?;
        txn.session(&id)?.exists()?;
        held.push(txn);
        commit(k)?;
    }
    timed(COMMITS, || (0..COMMITS).try_for_each(commit))
}

/// Commits to a session whose turn another transaction holds: they come, are polled once more, and go again.
fn in_line(n: usize) -> Outcome<(Duration, usize)> {
    let store = builder()?
        .turn_wait(Duration::from_secs(3600))
        .in_memory()?;
    let id = visitor(&store)?;
    let change = |k: usize| -> cloakroom::Result<Transaction> {
        let txn = store.begin()?;
        txn.session(&id)?.pkg("package").insert("key", k)?;
        Ok(txn)
    };
    let (mut attempts, mut time) = (0, Err("the turn was not held".into()));
    store.transact(|txn| {
        txn.session(&id)?.pkg("package").get::<usize>("key")?;
        attempts += 1;
        if attempts == 1 {
            // It meets a conflict, and holds the turn when it runs again.
            change(1)?.commit()?;
            return txn.session(&id)?.pkg("package").insert("key", 2);
        }
        let commits = (2..n + 2).map(&change).collect::<Result<Vec<_>, _>>()?;
        time = timed(n, || {
            let mut commits: Vec<_> = commits
                .into_iter()
                .map(|it| Box::pin(it.commit_async()))
                .collect();
            let nobody = &mut Context::from_waker(Waker::noop());
            for _ in 0..2 {
                let are_waiting = commits
                    .iter_mut()
                    .all(|it| it.as_mut().poll(nobody).is_pending());
                are_waiting.then_some(()).ok_or("a commit did not wait")?;
            }
            Ok(())
        });
        Ok(())
    })?;
    time
}

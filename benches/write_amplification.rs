//! Bytes and syncs per commit, touch, load and sweep, counted at the file.

#[path = "support/counting.rs"]
mod counting;
mod support;

use cloakroom::{ClientId, Clock, Store};
use counting::{Counting, Counts};
use redb::backends::FileBackend;
use redb::{Database, ReadableTable};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use support::raw::{ROWS, Raw, SESSIONS, key, row};
use support::{
    Dice, Effort, KEY, Outcome, PACKAGES, Report, VALUE_LEN, fill, open, ratio, scratch,
    still_clock, timed,
};

const BYTES: (&str, &str) = ("bytes_per_commit", "B");
const SYNCS: (&str, &str) = ("syncs_per_commit", "syncs");
const RATE: (&str, &str) = ("commits_per_second", "1/s");
const SECONDS: (&str, &str) = ("seconds_per_checkpoint", "s");
const AMPLIFICATION: (&str, &str) = ("amplification", "x");
const WRITERS: [usize; 3] = [1, 16, 64];

fn main() -> Outcome {
    let effort = Effort::from_args();
    let mut report = Report::new("write_amplification", effort);
    let folder = scratch()?;
    for sessions in [1_000, 100_000] {
        let folder = folder.path().join(sessions.to_string());
        std::fs::create_dir(&folder)?;
        let stores = BothStores::fill(&folder, effort.sessions(sessions))?;
        for round in 0..report.rounds() {
            commits(&stores, sessions, round, effort, &mut report)?;
        }
        if sessions == 100_000 {
            touches(&stores, &mut report)?;
            loads(&stores, effort, &mut report)?;
            sweeps(&stores, effort, &mut report)?;
        }
        stores.store.close()?;
    }
    compare(&mut report);
    report.finish()
}

/// One set of sessions, in a store of ours and in plain redb.
struct BothStores {
    store: Store,
    clock: Clock,
    clients: Vec<ClientId>,
    raw: Raw,
    raw_counts: Arc<Counts>,
}

impl BothStores {
    fn fill(folder: &Path, sessions: usize) -> Outcome<Self> {
        let clock = still_clock()?;
        let store = open(&folder.join("store.cloakroom"), &clock)?;
        let raw_counts = Arc::new(Counts::default());
        let raw = Database::builder().create_with_backend(Counting {
            file: FileBackend::new(std::fs::File::create_new(folder.join("raw.redb"))?)?,
            counts: raw_counts.clone(),
        })?;
        Ok(Self {
            clients: fill(&store, sessions)?,
            raw: Raw::fill(raw, sessions)?,
            raw_counts,
            store,
            clock,
        })
    }

    fn written(&self) -> Outcome<(u64, u64)> {
        let statistics = self.store.statistics()?;
        Ok((statistics.bytes_written(), statistics.syncs()))
    }

    /// One durable, two-phase commit that rewrites a package of each of `group` sessions.
    fn rewrite_packages(&self, group: usize, dice: &mut Dice) -> Outcome {
        let mut txn = self.raw.database.begin_write()?;
        txn.set_two_phase_commit(true);
        {
            let mut rows = txn.open_table(ROWS)?;
            for _ in 0..group {
                let client = dice.pick(&self.raw.clients)?;
                let [package, _] = PACKAGES;
                rows.insert(&*key(client, package), &*row(dice))?;
            }
        }
        Ok(txn.commit()?)
    }

    /// One durable, two-phase commit that rewrites the session rows of `group` sessions.
    fn rewrite_sessions(&self, group: usize, dice: &mut Dice) -> Outcome {
        let mut txn = self.raw.database.begin_write()?;
        txn.set_two_phase_commit(true);
        {
            let mut sessions = txn.open_table(SESSIONS)?;
            for _ in 0..group {
                let client = dice.pick(&self.raw.clients)?;
                let (_, time) = (sessions.get(client)?, dice.roll().to_le_bytes());
                sessions.insert(client, time.repeat(11).as_slice())?;
            }
        }
        Ok(txn.commit()?)
    }
}

/// What was written in a round, per commit.
fn add_written(
    report: &mut Report,
    (case, engine): (&str, &str),
    (before, after): ((u64, u64), (u64, u64)),
    commits: usize,
) {
    let per_commit = |n: u64| n as f64 / commits as f64;
    report.add(case, engine, BYTES, per_commit(after.0 - before.0));
    report.add(case, engine, SYNCS, per_commit(after.1 - before.1));
}

/// One changed package of a random session, by a number of writers at once.
fn commits(
    stores: &BothStores,
    sessions: usize,
    round: usize,
    effort: Effort,
    report: &mut Report,
) -> Outcome {
    for writers in WRITERS {
        let case = format!("commit/uniform/{sessions}/w{writers}");
        let each = effort.scaled(if writers == 1 { 1000 } else { 16_000 / writers });
        let total = each * writers;
        let mut add = |engine, before: (u64, u64), after: (u64, u64), time: Duration| {
            let at = (case.as_str(), engine);
            let bytes = (after.0 - before.0) as f64 / (total * VALUE_LEN) as f64;
            add_written(report, at, (before, after), total);
            report.add(&case, engine, RATE, total as f64 / time.as_secs_f64());
            report.add(&case, engine, AMPLIFICATION, bytes);
        };

        let before = stores.written()?;
        let time = timed(writers, |writer| {
            let mut dice = Dice::new((round * 1000 + writers * 100_000 + writer) as u64);
            for _ in 0..each {
                change_one_package(stores, &mut dice)?;
            }
            Ok(())
        })?;
        add("cloakroom", before, stores.written()?, time);

        // The least that redb needs for as many changes, if they always came in full groups.
        let before = stores.raw_counts.now();
        let mut dice = Dice::new(round as u64);
        let start = Instant::now();
        for _ in 0..each {
            stores.rewrite_packages(writers, &mut dice)?;
        }
        add("redb", before, stores.raw_counts.now(), start.elapsed());

        // The second half of what they cost, and the less of it the more commits share a checkpoint.
        let (before, start) = (stores.written()?, Instant::now());
        stores.store.checkpoint()?;
        let drain = format!("checkpoint-of-{total}/uniform/{sessions}/w{writers}");
        add_written(
            report,
            (&drain, "cloakroom"),
            (before, stores.written()?),
            total,
        );
        report.add(&drain, "cloakroom", SECONDS, start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn change_one_package(stores: &BothStores, dice: &mut Dice) -> Outcome {
    let client = dice.pick(&stores.clients)?;
    let [package, _] = PACKAGES;
    let txn = stores.store.begin()?;
    txn.session(client)?
        .pkg(package)
        .insert(KEY, dice.value())?;
    Ok(txn.commit()?)
}

/// Reads one session, as a request does that changes nothing.
fn load(store: &Store, client: &ClientId) -> Outcome {
    let [package, _] = PACKAGES;
    let txn = store.begin()?;
    let value: Option<String> = txn.session(client)?.pkg(package).get(KEY)?;
    std::hint::black_box(value.ok_or("the session is gone")?);
    Ok(txn.commit()?)
}

/// Access times that are due: alone, and as many as 64 visitors leave behind.
fn touches(stores: &BothStores, report: &mut Report) -> Outcome {
    // Past the resolution of 600 s and well within the timeout: each session is due once.
    stores.clock.advance(Duration::from_secs(700));
    let mut clients = stores.clients.iter();
    for round in 0..report.rounds() {
        for visitors in [1, 64] {
            let case = format!("touch/uniform/100000/w{visitors}");
            let before = stores.written()?;
            for client in clients.by_ref().take(visitors) {
                load(&stores.store, client)?;
            }
            settle(stores, before)?;
            let at = (case.as_str(), "cloakroom");
            add_written(report, at, (before, stores.written()?), visitors);

            let before = stores.raw_counts.now();
            stores.rewrite_sessions(visitors, &mut Dice::new(round as u64 + 77))?;
            let after = stores.raw_counts.now();
            add_written(report, (&case, "redb"), (before, after), visitors);
        }
    }
    // Everybody else is touched now, so that the loads find nothing due.
    let before = stores.written()?;
    for client in clients {
        load(&stores.store, client)?;
    }
    settle(stores, before)
}

/// Waits until touches have been written and nothing more comes: they take a second at most.
fn settle(stores: &BothStores, before: (u64, u64)) -> Outcome {
    const STEP: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + Duration::from_secs(5);
    while stores.written()? == before {
        if Instant::now() > deadline {
            return Err("touches were not written within five seconds".into());
        }
        thread::park_timeout(STEP);
    }
    let mut seen = stores.written()?;
    let mut quiet = Instant::now();
    while quiet.elapsed() < STEP * 4 {
        thread::park_timeout(STEP);
        if stores.written()? != seen {
            (seen, quiet) = (stores.written()?, Instant::now());
        }
    }
    Ok(())
}

/// A million loads inside the resolution window, beside writing each access.
fn loads(stores: &BothStores, effort: Effort, report: &mut Report) -> Outcome {
    stores.store.checkpoint()?;
    let case = "load/uniform/100000/w1";
    for round in 0..report.rounds() {
        let total = effort.scaled(1_000_000);
        let mut dice = Dice::new(round as u64 + 5);
        let before = stores.written()?;
        let start = Instant::now();
        for _ in 0..total {
            load(&stores.store, dice.pick(&stores.clients)?)?;
        }
        let rate = total as f64 / start.elapsed().as_secs_f64();
        add_written(
            report,
            (case, "cloakroom"),
            (before, stores.written()?),
            total,
        );
        report.add(case, "cloakroom", RATE, rate);

        // Each load in a commit of its own, as where a session is saved at the end of each request.
        let total = effort.scaled(500);
        let before = stores.raw_counts.now();
        let start = Instant::now();
        for _ in 0..total {
            stores.rewrite_sessions(1, &mut dice)?;
        }
        let rate = total as f64 / start.elapsed().as_secs_f64();
        let after = stores.raw_counts.now();
        add_written(report, (case, "redb-each-access"), (before, after), total);
        report.add(case, "redb-each-access", RATE, rate);
    }
    Ok(())
}

/// A sweep with nothing to do, and one that finds a tenth of the sessions expired. Here, a commit
/// is a session that was removed.
fn sweeps(stores: &BothStores, effort: Effort, report: &mut Report) -> Outcome {
    const SECONDS: (&str, &str) = ("seconds_per_sweep", "s");
    let container = stores.store.container("")?;
    for _ in 0..report.rounds() {
        let case = "sweep-none-stale/uniform/100000/w1";
        let before = stores.written()?;
        let start = Instant::now();
        let swept = container.sweep()?;
        report.add(case, "cloakroom", SECONDS, start.elapsed().as_secs_f64());
        add_written(report, (case, "cloakroom"), (before, stores.written()?), 1);
        if swept.removed != 0 {
            return Err("a sweep removed a session that had not expired".into());
        }

        let stale = effort.sessions(100_000) / 10;
        let brief = fill(&stores.store, stale)?;
        for clients in brief.chunks(1000) {
            let txn = stores.store.begin()?;
            for client in clients {
                txn.session(client)?
                    .set_timeout(Some(Duration::from_secs(60)))?;
            }
            txn.commit()?;
        }
        stores.clock.advance(Duration::from_secs(61));
        let case = "sweep-tenth-stale/uniform/100000/w1";
        let before = stores.written()?;
        let start = Instant::now();
        let swept = container.sweep()?;
        report.add(case, "cloakroom", SECONDS, start.elapsed().as_secs_f64());
        add_written(
            report,
            (case, "cloakroom"),
            (before, stores.written()?),
            stale,
        );
        if swept.removed != stale as u64 {
            return Err(format!("{} of {stale} stale sessions went", swept.removed).into());
        }
    }
    Ok(())
}

fn compare(report: &mut Report) {
    let [one, many] = [1, 64].map(|w| format!("commit/uniform/100000/w{w}"));
    let median = |report: &Report, case: &str, engine: &str, metric: (&str, &str)| {
        report.median(case, engine, metric.0)
    };
    let ours = median(report, &many, "cloakroom", RATE);
    let speedup = ratio(ours, median(report, &one, "cloakroom", RATE));
    report.at_least("commits per second, 64 writers to one", speedup, 3.0);
    let bytes = median(report, &many, "cloakroom", BYTES);
    report.at_most("bytes per commit, 64 writers", bytes, 10_000.0);
    let raw = median(report, &many, "redb", BYTES);
    report.at_most(
        "  to plain redb in full groups of 64",
        ratio(bytes, raw),
        1.1,
    );
    let one = median(report, &one, "cloakroom", SYNCS);
    report.at_most("syncs per commit, one writer", one, 2.0);
    let load = "load/uniform/100000/w1";
    let written = median(report, load, "cloakroom", BYTES);
    report.at_most("bytes per load inside the resolution", written, 0.0);
    let none = median(
        report,
        "sweep-none-stale/uniform/100000/w1",
        "cloakroom",
        BYTES,
    );
    report.at_most("bytes of a sweep with nothing stale", none, 0.0);
}

//! Sweeps the tenth of the sessions that has expired, while one writer commits.

use crate::beside::{Beside, beside};
use crate::engine::Site;
use crate::engines::cloakroom::{clients, open_store, still_clock};
use crate::engines::{CACHE, named, zodb};
use crate::payload::{Dice, KEY, PACKAGES, Pick, client, first_value, row, value};
use crate::prepared::{PreparedEngines, progress};
use crate::report::{Metric, Report};
use crate::settings::Settings;
use anyhow::{Context, Result, ensure};
use cloakroom::{ClientId, Clock, Store};
use rusqlite::{Connection, params};
use std::sync::Arc;
use std::time::Duration;

const SECONDS: Metric = ("seconds_per_sweep", "s");
/// Engines that can be swept.
const ENGINES: [&str; 3] = ["cloakroom", "sqlite", "zodb"];
/// Sessions that expire at once have this timeout, by the clock that is moved by hand.
const BRIEF: u64 = 60;

pub(crate) fn main(settings: &Settings) -> Result<()> {
    let mut report = Report::new("sweep").against("sqlite");
    let sessions = settings.sessions_or(if settings.quick { 100_000 } else { 1_000_000 });
    let case = format!("sweep-tenth-stale/uniform/{sessions}/w1");
    let folder = PreparedEngines::folder()?;
    let peers: Vec<_> = named(&settings.engines)?
        .into_iter()
        .filter(|peer| ENGINES.contains(&peer.name()))
        .collect();
    let bar = progress((settings.rounds() * peers.len() + peers.len()) as u64);
    let mut swept: Vec<Box<dyn Swept>> = Vec::new();
    for peer in &peers {
        bar.set_message(format!("{}: making {sessions} sessions", peer.name()));
        bar.tick();
        if let Some(how) = peer.missing() {
            report.note(format!("{} was left out: {how}", peer.name()));
            continue;
        }
        let site = Site {
            folder: folder.path().join(peer.name()),
            sessions,
        };
        std::fs::create_dir(&site.folder)?;
        swept.push(match peer.name() {
            "cloakroom" => {
                peer.make(&site)?;
                Box::new(Ours::open(&site)?)
            }
            "sqlite" => Box::new(Sqlite::make(&site)?),
            _ => {
                peer.make(&site)?;
                Box::new(Zope { site, done: false })
            }
        });
        bar.inc(1);
    }
    ensure!(!swept.is_empty(), "no engine can run");
    for round in 0..settings.rounds() {
        for engine in &mut swept {
            let name = engine.name();
            bar.set_message(format!("{case} {name}"));
            bar.tick();
            let swept = engine.sweep(round, sessions / 10);
            match swept.with_context(|| format!("{case} on {name}"))? {
                Some(Sweep::Beside(mut felt)) => {
                    report.add(&case, name, SECONDS, felt.time.as_secs_f64());
                    felt.report(&mut report, &case, name);
                }
                Some(Sweep::Alone(time)) => {
                    report.add(&case, name, SECONDS, time.as_secs_f64());
                }
                None => {}
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    report.note("cloakroom  Container::sweep: a scan in bounded batches");
    report.note("sqlite     one DELETE by an index on the time; packages by ON DELETE CASCADE");
    report.note("zodb       zope.session's sweep() and its commit, once, with nobody else writing");
    report.note("p99_us, longest_commit_ms: of one writer, commits that any part of it fell into;");
    report.note("p99_alone_us: in the two seconds before");
    report.finish(SECONDS)
}

trait Swept {
    fn name(&self) -> &'static str;

    /// Adds `stale` sessions that have expired, and sweeps. `None` if it was swept once and cannot be
    /// again.
    fn sweep(&mut self, round: usize, stale: usize) -> Result<Option<Sweep>>;
}

enum Sweep {
    Beside(Beside),
    Alone(Duration),
}

/// How long the writer is alone before.
const ALONE: Duration = Duration::from_secs(2);

struct Ours {
    store: Store,
    clock: Clock,
    clients: Arc<[ClientId]>,
}

impl Ours {
    fn open(site: &Site) -> Result<Self> {
        let clock = still_clock()?;
        let store = open_store(site, &clock)?;
        let clients = clients(site, &store)?;
        Ok(Self {
            store,
            clock,
            clients,
        })
    }
}

impl Swept for Ours {
    fn name(&self) -> &'static str {
        "cloakroom"
    }

    fn sweep(&mut self, _: usize, stale: usize) -> Result<Option<Sweep>> {
        for first in (0..stale).step_by(1000) {
            let txn = self.store.begin()?;
            for number in first..stale.min(first + 1000) {
                let session = txn.session(&self.store.client_ids().issue())?;
                for package in PACKAGES {
                    let value = first_value(number, package);
                    session.pkg(package).insert(KEY, value)?;
                }
                session.set_timeout(Some(Duration::from_secs(BRIEF)))?;
            }
            txn.commit()?;
        }
        // The work of adding them is no part of removing them.
        self.store.checkpoint()?;
        self.clock.advance(Duration::from_secs(BRIEF + 1));
        let container = self.store.container("")?;
        let [package, _] = PACKAGES;
        let commit = |dice: &mut Dice| {
            let number = dice.pick(Pick::Uniform, self.clients.len());
            let client = self.clients.get(number).context("no such session")?;
            let txn = self.store.begin()?;
            let package = txn.session(client)?.pkg(package);
            package.insert(KEY, value(dice.roll()))?;
            Ok(txn.commit()?)
        };
        let sweep = || {
            let swept = container.sweep()?;
            ensure!(swept.removed == stale as u64, "{} went", swept.removed);
            Ok(())
        };
        Ok(Some(Sweep::Beside(beside(vec![commit], ALONE, sweep)?)))
    }
}

struct Sqlite {
    site: Site,
    connection: Connection,
}

impl Sqlite {
    fn make(site: &Site) -> Result<Self> {
        let connection = connect(site)?;
        connection.execute_batch(
            "CREATE TABLE sessions (client BLOB PRIMARY KEY, expires INTEGER) WITHOUT ROWID;
             CREATE INDEX by_time ON sessions (expires);
             CREATE TABLE packages (
                 client BLOB REFERENCES sessions ON DELETE CASCADE, package TEXT, row BLOB,
                 PRIMARY KEY (client, package)
             ) WITHOUT ROWID",
        )?;
        let mut made = Self {
            site: site.clone(),
            connection,
        };
        made.add(0..site.sessions, 1)?;
        Ok(made)
    }

    fn add(&mut self, numbers: std::ops::Range<usize>, expires: i64) -> Result<()> {
        let numbers: Vec<_> = numbers.collect();
        for numbers in numbers.chunks(1000) {
            let txn = self.connection.transaction()?;
            {
                let mut session = txn.prepare_cached("INSERT INTO sessions VALUES (?1, ?2)")?;
                let mut put = txn.prepare_cached("INSERT INTO packages VALUES (?1, ?2, ?3)")?;
                for number in numbers {
                    let client = client(*number);
                    session.execute(params![client, expires])?;
                    for package in PACKAGES {
                        let row = row(&first_value(*number, package));
                        put.execute(params![client, package, row])?;
                    }
                }
            }
            txn.commit()?;
        }
        Ok(())
    }
}

fn connect(site: &Site) -> Result<Connection> {
    let connection = Connection::open(site.folder.join("sweep.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -((CACHE >> 10) as i64))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.busy_timeout(Duration::from_secs(600))?;
    Ok(connection)
}

impl Swept for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn sweep(&mut self, round: usize, stale: usize) -> Result<Option<Sweep>> {
        let sessions = self.site.sessions;
        let first = sessions + round * stale;
        self.add(first..first + stale, 0)?;
        let writer = connect(&self.site)?;
        let [package, _] = PACKAGES;
        let commit = move |dice: &mut Dice| {
            let client = client(dice.pick(Pick::Uniform, sessions));
            writer.execute(
                "UPDATE packages SET row = ?3 WHERE client = ?1 AND package = ?2",
                params![client, package, row(&value(dice.roll()))],
            )?;
            Ok(())
        };
        let sweep = || {
            let removed = "DELETE FROM sessions WHERE expires < 1";
            let removed = self.connection.execute(removed, [])?;
            ensure!(removed == stale, "{removed} went");
            Ok(())
        };
        Ok(Some(Sweep::Beside(beside(vec![commit], ALONE, sweep)?)))
    }
}

struct Zope {
    site: Site,
    done: bool,
}

impl Swept for Zope {
    fn name(&self) -> &'static str {
        "zodb"
    }

    fn sweep(&mut self, _: usize, stale: usize) -> Result<Option<Sweep>> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        let (seconds, removed) = zodb::sweep(&self.site)?;
        ensure!(removed == stale as u64, "{removed} went");
        Ok(Some(Sweep::Alone(Duration::from_secs_f64(seconds))))
    }
}

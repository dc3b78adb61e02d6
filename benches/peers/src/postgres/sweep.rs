//! A sweep of sessions that have all expired, while others are changed.

use super::OPERATIONS;
use super::place::Place;
use super::side::{CONNECTIONS, fill, found, sized_record, sized_value_of};
use crate::beside::{Beside, beside};
use crate::engines::tower_sessions::runtime;
use crate::payload::{Dice, KEY, PACKAGES, Pick};
use crate::report::{Metric, Report};
use anyhow::{Context, Result, ensure};
use cloakroom::{ClientId, Clock, Store};
use std::time::Duration;
use tower_sessions::session::Record;
use tower_sessions::{ExpiredDeletion, SessionStore};
use tower_sessions_sqlx_store::PostgresStore;
use tower_sessions_sqlx_store::sqlx::postgres::PgPoolOptions;

const SECONDS: Metric = ("seconds_per_sweep", "s");
/// Sessions that are there before and after.
const LIVE: usize = 10_000;
/// How many threads change them.
const WRITERS: usize = 16;
/// How long these are alone before the sweep.
const ALONE: Duration = Duration::from_secs(3);
/// Sessions that expire at once have this timeout, by the clock that is moved by hand.
const BRIEF: Duration = Duration::from_secs(60);

/// How many sessions are removed, and the bytes of each package.
#[derive(Clone, Copy)]
pub(super) struct Sweep {
    pub(super) sessions: usize,
    pub(super) bytes: usize,
}

impl Sweep {
    pub(super) fn ours(self, place: &Place<'_>, report: &mut Report, name: &str) -> Result<()> {
        let runtime = runtime()?;
        let clock = Clock::manual(Clock::system().now());
        let builder = place.builder()?.clock(clock.clone());
        let builder = builder.implicit_sweeps(false);
        let store = runtime.block_on(builder.connect(&place.url()))?;
        let found = |timeout| {
            let store = store.clone();
            move |number| found(store.clone(), number, self.bytes, timeout)
        };
        runtime.block_on(fill(self.sessions, found(Some(BRIEF))))?;
        let live = runtime.block_on(fill(LIVE, found(None)))?;
        clock.advance(BRIEF + Duration::from_secs(1));
        let container = store.container("")?;
        let writers = (0..WRITERS).map(|_| self.writer(&store, &live)).collect();
        let felt = beside(writers, ALONE, || {
            let swept = container.sweep()?;
            ensure!(
                swept.removed == self.sessions as u64,
                "{} went",
                swept.removed
            );
            Ok(())
        })?;
        self.report(felt, report, name);
        Ok(())
    }

    fn writer(
        self,
        store: &Store,
        live: &[ClientId],
    ) -> impl FnMut(&mut Dice) -> Result<()> + Send {
        let [package, _] = PACKAGES;
        move |dice| {
            let client = live.get(dice.pick(Pick::Uniform, LIVE));
            let txn = store.begin()?;
            let package = txn
                .session(client.context("no such session")?)?
                .pkg(package);
            package.insert(KEY, sized_value_of(dice, self.bytes))?;
            Ok(txn.commit()?)
        }
    }

    pub(super) fn tower(self, place: &Place<'_>, report: &mut Report, name: &str) -> Result<()> {
        let runtime = runtime()?;
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS);
        let pool = runtime.block_on(pool.connect(&place.tower_url()))?;
        let store = PostgresStore::new(pool);
        runtime.block_on(store.migrate())?;
        let live = |number| sized_record(number, self.bytes);
        let expired = move |number| {
            let mut record = live(LIVE + number);
            record.expiry_date -= time::Duration::WEEK * 2;
            record
        };
        let saving = |record: Record| {
            let store = store.clone();
            async move { Ok::<_, anyhow::Error>(store.save(&record).await?) }
        };
        runtime.block_on(fill(self.sessions, |number| saving(expired(number))))?;
        runtime.block_on(fill(LIVE, |number| saving(live(number))))?;
        let writer = || {
            let [package, _] = PACKAGES;
            let (runtime, store) = (&runtime, store.clone());
            move |dice: &mut Dice| -> Result<()> {
                let mut record = live(dice.pick(Pick::Uniform, LIVE));
                let value = sized_value_of(dice, self.bytes);
                record.data.insert(package.to_owned(), value.into());
                Ok(runtime.block_on(store.save(&record))?)
            }
        };
        let writers = (0..WRITERS).map(|_| writer()).collect();
        let felt = beside(writers, ALONE, || {
            Ok(runtime.block_on(store.delete_expired())?)
        })?;
        self.report(felt, report, name);
        Ok(())
    }

    fn report(self, mut felt: Beside, report: &mut Report, name: &str) {
        let case = format!("sweep/{}/w{WRITERS}", self.sessions);
        let seconds = felt.time.as_secs_f64();
        report.add(&case, name, SECONDS, seconds);
        report.add(&case, name, OPERATIONS, self.sessions as f64 / seconds);
        felt.report(report, &case, name);
    }
}

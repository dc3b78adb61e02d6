//! Sessions in PostgreSQL: loads, commits, and both in one transaction, by 1, 16 and 64 clients at once, and requests under
//! wrk. The store of tower-sessions on the same server takes turns.

mod measure;
mod place;
mod side;
mod site;
mod sweep;

use crate::engines::tower_sessions::runtime;
use crate::payload::VALUE_LEN;
use crate::prepared::progress;
use crate::report::{Metric, Report};
use crate::run::Span;
use crate::settings::Settings;
use crate::wrk;
use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use cloakroom_postgres_server::{Server, is_available};
use measure::Measure;
use place::Place;
use side::{OURS, Side};
use site::Site;
use sweep::Sweep;

const OPERATIONS: Metric = ("operations_per_second", "1/s");
const TOWER: &str = "tower-sessions-postgres";

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    settings: Settings,
    /// The bytes of each of the two packages. Default: 300.
    #[arg(long, default_value_t = VALUE_LEN)]
    value_bytes: usize,
    /// Only these works. Default: all but `sweep`.
    #[arg(long, value_delimiter = ',')]
    works: Vec<Work>,
    /// Connections are encrypted.
    #[arg(long)]
    tls: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// A transaction that reads both packages.
    Load,
    /// A change of a package is committed. The session was loaded before the clock ran.
    Commit,
    /// A transaction that reads both packages and changes one.
    LoadAndCommit,
    /// A request that reads a package, under axum and wrk.
    HttpRead,
    /// A request that changes a package.
    HttpWrite,
    /// A sweep of as many sessions, which have all expired, while others are changed. Makes sessions of its own.
    Sweep,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Commit => "commit",
            Self::LoadAndCommit => "load+commit",
            Self::HttpRead => "http-read",
            Self::HttpWrite => "http-write",
            Self::Sweep => "sweep",
        }
    }

    fn path(self) -> Option<&'static str> {
        match self {
            Self::HttpRead => Some("read"),
            Self::HttpWrite => Some("write"),
            _ => None,
        }
    }
}

pub(crate) fn main(options: &Options) -> Result<()> {
    let settings = &options.settings;
    ensure!(is_available(), "there is no PostgreSQL");
    let mut report = Report::new("postgres").against(TOWER);
    // As it is installed: with fsync. The servers of tests vacuum more rarely.
    let server = Server::builder().set("autovacuum_naptime", "1min");
    let server = if options.tls { server.tls() } else { server };
    let server = server.start();
    let count = settings.sessions_or(if settings.quick { 2_000 } else { 100_000 });
    if options.works.contains(&Work::Sweep) {
        let sweep = Sweep {
            sessions: count,
            bytes: options.value_bytes,
        };
        for _ in 0..settings.rounds() {
            sweep.ours(&Place::new(&server), &mut report, OURS)?;
            sweep.tower(&Place::new(&server), &mut report, TOWER)?;
        }
    }
    measure_all(options, (&server, count), &mut report)?;
    report.note("processor time: of the process of the application, and of the server's processes");
    report.finish(OPERATIONS)
}

/// Measures all works but sweeps, in turns.
fn measure_all(
    options: &Options,
    (server, count): (&Server, usize),
    report: &mut Report,
) -> Result<()> {
    let settings = &options.settings;
    let Span::For(time) = settings.span() else {
        bail!("this bench runs for a time");
    };
    let steps = steps(options);
    if steps.is_empty() {
        return Ok(());
    }
    let places = [Place::new(server), Place::new(server)];
    let [one, other] = &places;
    let runtime = runtime()?;
    let sides = runtime.block_on(async {
        let ours = Side::ours(one, count, options.value_bytes).await?;
        let tower = Side::tower(other, count, options.value_bytes).await?;
        Ok::<_, anyhow::Error>([ours, tower])
    })?;
    for (side, place) in sides.iter().zip(&places) {
        let case = format!("storage/{count}");
        let metric = ("stored_bytes_per_session", "B");
        let bytes = stored_bytes(&place.database)?;
        report.add(&case, side.name(), metric, bytes / count as f64);
    }
    let bar = progress((settings.rounds() * steps.len() * sides.len()) as u64);
    for round in 0..settings.rounds() {
        for (work, clients) in &steps {
            let case = format!("{}/uniform/{count}/c{clients}", work.name());
            for side in &sides {
                bar.set_message(format!("{case} {}", side.name()));
                bar.tick();
                let measured = match work.path() {
                    None => {
                        let measure = Measure {
                            work: *work,
                            clients: *clients,
                            time,
                            seed: round as u64 + 1,
                        };
                        runtime.block_on(measure.run(side, server))?
                    }
                    Some(path) => Site::start(side, &runtime)?.run(path, time, server)?,
                };
                for (metric, value) in measured {
                    report.add(&case, side.name(), metric, value);
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Works, each with the number of clients at once.
fn steps(options: &Options) -> Vec<(Work, usize)> {
    let mut steps = Vec::new();
    for work in Work::value_variants() {
        let is_named = options.works.contains(work);
        if *work == Work::Sweep || !(is_named || options.works.is_empty()) {
            continue;
        }
        match (work.path(), wrk::missing()) {
            (None, _) => {
                let clients = options.settings.writers().into_iter();
                steps.extend(clients.map(|clients| (*work, clients)));
            }
            (Some(_), None) => steps.push((*work, wrk::CONNECTIONS)),
            (Some(_), Some(how)) => eprintln!("{} IS LEFT OUT: {how}", work.name()),
        }
    }
    steps
}

/// What the tables take on the disk, with their indexes and all else.
fn stored_bytes(database: &cloakroom_postgres_server::Database) -> Result<f64> {
    let query = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class \
                 WHERE relkind = 'r' AND relnamespace NOT IN \
                 (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\\_%' OR nspname = 'information_schema')";
    Ok(database.sql(query).trim().parse()?)
}

//! Sessions in PostgreSQL: loads, commits, and both in one transaction, by 1, 16 and 64 clients at once, and requests under
//! wrk. The store of tower-sessions on the same server takes turns.

mod measure;
mod side;
mod site;

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
use side::Side;
use site::Site;

const OPERATIONS: Metric = ("operations_per_second", "1/s");
const TOWER: &str = "tower-sessions-postgres";

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    settings: Settings,
    /// The bytes of each of the two packages. Default: 300.
    #[arg(long, default_value_t = VALUE_LEN)]
    value_bytes: usize,
    /// Only these works.
    #[arg(long, value_delimiter = ',')]
    works: Vec<Work>,
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
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Commit => "commit",
            Self::LoadAndCommit => "load+commit",
            Self::HttpRead => "http-read",
            Self::HttpWrite => "http-write",
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
    let Span::For(time) = settings.span() else {
        bail!("this bench runs for a time");
    };
    let mut report = Report::new("postgres").against(TOWER);
    // As it is installed: with fsync.
    let server = Server::start();
    let databases = [server.database(), server.database()];
    let [one, other] = &databases;
    let count = settings.sessions_or(if settings.quick { 2_000 } else { 100_000 });
    let runtime = runtime()?;
    let sides = runtime.block_on(async {
        let ours = Side::ours(one, count, options.value_bytes).await?;
        let tower = Side::tower(other, count, options.value_bytes).await?;
        Ok::<_, anyhow::Error>([ours, tower])
    })?;
    let sizes = databases.iter().map(stored_bytes);
    let sizes: Vec<f64> = sizes.collect::<Result<_>>()?;
    for (side, bytes) in sides.iter().zip(sizes) {
        let case = format!("storage/{count}");
        let metric = ("stored_bytes_per_session", "B");
        report.add(&case, side.name(), metric, bytes / count as f64);
    }
    let steps = steps(options);
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
                        runtime.block_on(measure.run(side, &server))?
                    }
                    Some(path) => Site::start(side)?.run(path, time, &server)?,
                };
                for (metric, value) in measured {
                    report.add(&case, side.name(), metric, value);
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    report.note("processor time: of the process of the application, and of the server's processes");
    report.finish(OPERATIONS)
}

/// Works, each with the number of clients at once.
fn steps(options: &Options) -> Vec<(Work, usize)> {
    let mut steps = Vec::new();
    for work in Work::value_variants() {
        if !options.works.is_empty() && !options.works.contains(work) {
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

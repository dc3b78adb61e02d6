//! The cost of a request: loads, commits in memory, client ids, and the layer over real HTTP.

mod support;

use axum::Router;
use axum::routing::{get, post};
use cloakroom::http::{CookieSettings, SessionLayer};
use cloakroom::{ClientId, Session, Store};
use hmac::{Hmac, KeyInit, Mac};
use redb::{Database, ReadOnlyTable, ReadableDatabase};
use sha2::Sha256;
use std::future::IntoFuture;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::raw::{Client, ROWS, Raw, SESSIONS as SESSION_ROWS, key};
use support::{
    Dice, Effort, KEY, Outcome, PACKAGES, Report, fill, open, ratio, scratch, still_clock, timed,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{self, Runtime};

const TIME: (&str, &str) = ("nanoseconds_per_operation", "ns");
const RATE: (&str, &str) = ("operations_per_second", "1/s");
const REQUESTS: (&str, &str) = ("requests_per_second", "1/s");
const SESSIONS: usize = 100_000;
const THREADS: [usize; 2] = [1, 2];
const SLICES: usize = 10;

fn main() -> Outcome {
    let effort = Effort::from_args();
    let mut report = Report::new("session_paths", effort);
    let folder = scratch()?;
    let store = open(&folder.path().join("store.cloakroom"), &still_clock()?)?;
    let clients = fill(&store, effort.sessions(SESSIONS))?;
    let raw = Database::create(folder.path().join("raw.redb"))?;
    let raw = Raw::fill(raw, clients.len())?;
    loads(&store, &clients, &raw, effort, &mut report)?;
    ids(&store, effort, &mut report)?;
    in_memory(effort, &mut report)?;
    requests(&store, &clients, effort, &mut report)?;
    store.close()?;
    compare(&mut report);
    report.finish()
}

/// One way of doing an operation; `once` does it a single time.
struct Contender<'a> {
    operation: &'static str,
    engine: &'static str,
    once: Box<dyn Fn(&mut Dice) -> Outcome + Sync + 'a>,
}

impl<'a> Contender<'a> {
    fn new(
        operation: &'static str,
        engine: &'static str,
        once: impl Fn(&mut Dice) -> Outcome + Sync + 'a,
    ) -> Self {
        Self {
            operation,
            engine,
            once: Box::new(once),
        }
    }
}

/// Lets all contenders do `each` operations a thread, on one thread and on two. They take turns in
/// slices, so that all have the same weather.
fn race(contenders: &[Contender], sessions: &str, each: usize, report: &mut Report) -> Outcome {
    let slice = each.div_ceil(SLICES);
    let runs: Vec<_> = contenders
        .iter()
        .flat_map(|contender| THREADS.map(|threads| (contender, threads)))
        .collect();
    for round in 0..report.rounds() {
        let mut times = vec![Duration::ZERO; runs.len()];
        for turn in 0..SLICES {
            for ((contender, threads), time) in runs.iter().zip(&mut times) {
                *time += timed(*threads, |thread| {
                    let mut dice = Dice::new((round * 1000 + turn * 10 + thread) as u64);
                    (0..slice).try_for_each(|_| (contender.once)(&mut dice))
                })?;
            }
        }
        for ((contender, threads), time) in runs.iter().zip(times) {
            let case = format!("{}/{sessions}/w{threads}", contender.operation);
            let (seconds, done) = (time.as_secs_f64(), (slice * SLICES) as f64);
            report.add(&case, contender.engine, TIME, seconds * 1e9 / done);
            let rate = done * *threads as f64 / seconds;
            report.add(&case, contender.engine, RATE, rate);
        }
    }
    Ok(())
}

/// A session and one or two of its packages, as a request finds them: all in cache.
fn loads(
    store: &Store,
    clients: &[ClientId],
    raw: &Raw,
    effort: Effort,
    report: &mut Report,
) -> Outcome {
    let reader = Reader::new(raw)?;
    let load = |packages| {
        move |dice: &mut Dice| {
            let txn = store.begin()?;
            read(&txn.session(dice.pick(clients)?)?, packages)
        }
    };
    let raw_load = |packages| {
        let reader = &reader;
        move |dice: &mut Dice| {
            black_box(reader.read(dice.pick(&raw.clients)?, packages)?);
            Ok(())
        }
    };
    let contenders = [
        Contender::new("load-one", "cloakroom", load(1)),
        Contender::new("load-one", "redb", raw_load(1)),
        Contender::new("load-two", "cloakroom", load(2)),
        Contender::new("load-two", "redb", raw_load(2)),
        Contender::new("load-two-commit", "cloakroom", |dice: &mut Dice| {
            let txn = store.begin()?;
            read(&txn.session(dice.pick(clients)?)?, 2)?;
            Ok(txn.commit()?)
        }),
    ];
    let sessions = format!("uniform/{SESSIONS}");
    race(&contenders, &sessions, effort.scaled(200_000), report)
}

/// A read transaction that is kept, as a store would share it.
struct Reader {
    sessions: ReadOnlyTable<&'static Client, &'static [u8]>,
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl Reader {
    fn new(raw: &Raw) -> Outcome<Self> {
        let txn = raw.database.begin_read()?;
        Ok(Self {
            sessions: txn.open_table(SESSION_ROWS)?,
            rows: txn.open_table(ROWS)?,
        })
    }

    /// The bytes of a session's row and of its first `packages` packages.
    fn read(&self, client: &Client, packages: usize) -> Outcome<usize> {
        let session = self.sessions.get(client)?.ok_or("no such session")?;
        let mut bytes = session.value().len();
        for package in PACKAGES.iter().take(packages) {
            let row = self.rows.get(&*key(client, package))?;
            bytes += row.ok_or("no such package")?.value().len();
        }
        Ok(bytes)
    }
}

fn read(session: &Session, packages: usize) -> Outcome {
    for package in PACKAGES.iter().take(packages) {
        let value: Option<String> = session.pkg(package).get(KEY)?;
        black_box(value.ok_or("the session is gone")?);
    }
    Ok(())
}

/// Issuing and verifying, beside one HMAC-SHA-256 of an id's length.
fn ids(store: &Store, effort: Effort, report: &mut Report) -> Outcome {
    let ids = store.client_ids();
    let known = ids.issue();
    let mut forged = known.as_str().to_owned();
    let last = if forged.pop() == Some('A') { 'E' } else { 'A' };
    forged.push(last);
    let message = [7; 51];
    let secret = [9; 32];
    let keyed = Hmac::<Sha256>::new_from_slice(&secret)?;
    let contenders = [
        Contender::new("issue", "cloakroom", |_| {
            black_box(ids.issue());
            Ok(())
        }),
        Contender::new("verify", "cloakroom", |_| {
            let id = ids.verify(black_box(known.as_str()));
            black_box(id.ok_or("an id of ours was refused")?);
            Ok(())
        }),
        Contender::new("verify", "hmac-sha256", |_| {
            let mut mac = Hmac::<Sha256>::new_from_slice(black_box(&secret))?;
            mac.update(black_box(&message));
            black_box(mac.finalize());
            Ok(())
        }),
        Contender::new("verify", "hmac-sha256-keyed", |_| {
            let mut mac = keyed.clone();
            mac.update(black_box(&message));
            black_box(mac.finalize());
            Ok(())
        }),
        Contender::new("verify-forged", "cloakroom", |_| {
            match ids.verify(black_box(&forged)) {
                Some(_) => Err("a forged id was accepted".into()),
                None => Ok(()),
            }
        }),
    ];
    race(&contenders, "none/0", effort.scaled(500_000), report)
}

/// Inserting one value and committing, where no disk is involved.
fn in_memory(effort: Effort, report: &mut Report) -> Outcome {
    let sessions = 10_000;
    let builder = Store::builder().clock(still_clock()?);
    let store = builder.implicit_sweeps(false).in_memory()?;
    let clients = fill(&store, effort.sessions(sessions))?;
    let [package, _] = PACKAGES;
    let contender = Contender::new("insert-commit-memory", "cloakroom", |dice: &mut Dice| {
        let txn = store.begin()?;
        let session = txn.session(dice.pick(&clients)?)?;
        session.pkg(package).insert(KEY, dice.value())?;
        Ok(txn.commit()?)
    });
    let sessions = format!("uniform/{sessions}");
    race(&[contender], &sessions, effort.scaled(30_000), report)?;
    Ok(store.close()?)
}

const HELLO: &str = "welcome back";

async fn hello() -> &'static str {
    HELLO
}

async fn hello_from_session(session: Session) -> cloakroom::Result<&'static str> {
    let [package, _] = PACKAGES;
    let value: Option<String> = session.pkg(package).get(KEY)?;
    Ok(if black_box(value).is_some() {
        HELLO
    } else {
        "who are you?"
    })
}

async fn seed(session: Session) -> cloakroom::Result<&'static str> {
    session.pkg("seed").insert(KEY, 1)?;
    Ok(HELLO)
}

/// A server on a number of threads of its own.
struct Server {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Server {
    fn start(threads: usize, app: Router) -> Outcome<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(axum::serve(listener, app).into_future());
        Ok(Self {
            address,
            _runtime: runtime,
        })
    }
}

/// The same small answer without the layer, with it, and with a session that is read; over eight
/// kept-alive connections on loopback; the three take turns in slices.
fn requests(store: &Store, clients: &[ClientId], effort: Effort, report: &mut Report) -> Outcome {
    let layer = || SessionLayer::new(store.clone()).cookie(CookieSettings::new().plain_http());
    let client = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let per_slice = effort.scaled(80_000).div_ceil(SLICES);
    for threads in THREADS {
        let bare = Router::new().route("/", get(hello));
        let reading = Router::new()
            .route("/", get(hello_from_session))
            .route("/seed", post(seed));
        let engines = [
            (
                "request-read",
                "axum",
                Server::start(threads, bare.clone())?,
            ),
            (
                "request-read",
                "cloakroom",
                Server::start(threads, reading.layer(layer()))?,
            ),
            (
                "request-unused",
                "cloakroom",
                Server::start(threads, bare.layer(layer()))?,
            ),
        ];
        let [_, (_, _, reading), _] = &engines;
        let cookie = client.block_on(cookie_name(reading.address))?;
        let cookies: Vec<_> = clients
            .iter()
            .take(CONNECTIONS)
            .map(|id| format!("{cookie}={}", id.as_str()))
            .collect();
        for (_, _, server) in &engines {
            client.block_on(ask(server.address, &cookies, per_slice / 4 + 1))?;
        }
        for _ in 0..report.rounds() {
            let mut times = [Duration::ZERO; 3];
            for _ in 0..SLICES {
                for ((_, _, server), time) in engines.iter().zip(&mut times) {
                    *time += client.block_on(ask(server.address, &cookies, per_slice))?;
                }
            }
            for ((operation, engine, _), time) in engines.iter().zip(times) {
                let case = format!("{operation}/uniform/{SESSIONS}/w{threads}");
                let rate = (per_slice * SLICES) as f64 / time.as_secs_f64();
                report.add(&case, engine, REQUESTS, rate);
            }
        }
    }
    Ok(())
}

const CONNECTIONS: usize = 8;

/// The name of the store's cookie, from a first visit.
async fn cookie_name(address: SocketAddr) -> Outcome<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = "POST /seed HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut response = Response::default();
    let head = response.read(&mut stream).await?;
    let cookie = head.lines().find_map(|l| l.strip_prefix("set-cookie: "));
    let (name, _) = cookie
        .and_then(|c| c.split_once('='))
        .ok_or("no cookie was set")?;
    Ok(name.to_owned())
}

/// `total` requests over eight connections, each with a visitor of its own.
async fn ask(address: SocketAddr, cookies: &[String], total: usize) -> Outcome<Duration> {
    let mut connections = Vec::new();
    for cookie in cookies {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!("GET / HTTP/1.1\r\nHost: bench\r\nCookie: {cookie}\r\n\r\n");
        connections.push((stream, request));
    }
    let each = total.div_ceil(connections.len().max(1));
    let start = Instant::now();
    let running: Vec<_> = connections
        .into_iter()
        .map(|(mut stream, request)| {
            tokio::spawn(async move {
                let mut response = Response::default();
                for _ in 0..each {
                    stream.write_all(request.as_bytes()).await.map_err(said)?;
                    response.read(&mut stream).await.map_err(said)?;
                    if !response.bytes.ends_with(HELLO.as_bytes()) {
                        return Err("the session was not found".to_owned());
                    }
                }
                Ok(())
            })
        })
        .collect();
    for connection in running {
        connection.await??;
    }
    // Rounded up to whole requests on each connection; the time is that of `total`.
    let asked = each * cookies.len();
    Ok(start.elapsed().mul_f64(total as f64 / asked as f64))
}

fn said(error: impl ToString) -> String {
    error.to_string()
}

#[derive(Default)]
struct Response {
    bytes: Vec<u8>,
}

impl Response {
    /// Reads one whole response and gives its head.
    async fn read(&mut self, stream: &mut TcpStream) -> Outcome<&str> {
        self.bytes.clear();
        loop {
            if stream.read_buf(&mut self.bytes).await? == 0 {
                return Err("the server hung up".into());
            }
            if let Some((head, length)) = parse(&self.bytes)?
                && self.bytes.len() >= head + length
            {
                let head = self.bytes.get(..head).unwrap_or_default();
                return Ok(std::str::from_utf8(head)?);
            }
        }
    }
}

/// The lengths of head and body, once the head is complete.
fn parse(bytes: &[u8]) -> Outcome<Option<(usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(bytes.get(..end).unwrap_or_default())?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(format!("not a success: {head}").into());
    }
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "));
    Ok(Some((end + 4, length.ok_or("no length")?.parse()?)))
}

fn compare(report: &mut Report) {
    let [one, two] = THREADS.map(|threads| format!("load-two/uniform/{SESSIONS}/w{threads}"));
    let load = report.median(&one, "cloakroom", TIME.0);
    let raw = report.median(&one, "redb", TIME.0);
    report.at_most("load of two packages to plain redb", ratio(load, raw), 2.0);
    for (engine, what, target) in [
        ("cloakroom", "loads of two threads to one", 1.7),
        ("redb", "  the same in plain redb, for comparison", 1.7),
    ] {
        let [one, two] = [&one, &two].map(|case| report.median(case, engine, RATE.0));
        report.at_least(what, ratio(two, one), target);
    }
    let verify = "verify/none/0/w1";
    for (engine, what) in [
        (
            "hmac-sha256",
            "verifying to one HMAC, its key set-up included",
        ),
        (
            "hmac-sha256-keyed",
            "verifying to one HMAC with the key set up",
        ),
    ] {
        let ours = report.median(verify, "cloakroom", TIME.0);
        let hmac = report.median(verify, engine, TIME.0);
        report.at_most(what, ratio(ours, hmac), 2.0);
    }
    for threads in THREADS {
        let [read, unused] = ["request-read", "request-unused"]
            .map(|operation| format!("{operation}/uniform/{SESSIONS}/w{threads}"));
        let bare = report.median(&read, "axum", REQUESTS.0);
        for (case, what) in [(read, "session read"), (unused, "session not used")] {
            let ours = report.median(&case, "cloakroom", REQUESTS.0);
            let what = format!("requests to the bare handler, {what}, {threads} threads");
            report.at_least(&what, ratio(ours, bare), 0.9);
        }
    }
}

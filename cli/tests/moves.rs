//! `move`: a store goes from a file into PostgreSQL and back, and nothing is lost on the way.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "support/server.rs"]
mod server;
mod support;
#[path = "support/web.rs"]
#[allow(dead_code, reason = "each test uses a part")]
mod web;

use axum::Router;
use axum::routing::get;
use cloakroom::http::{CookieSettings, SessionLayer};
use cloakroom::{ClientId, ContainerSettings, Error, KeyRing, Session, Store, StoreBuilder};
use server::{Served, command, ended, output, run, until};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::session;

/// Random numbers of a seed that a failing test prints.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let seed = now.as_nanos() as u64 | 1;
        eprintln!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// Without sweeps, which would be a difference.
fn builder() -> StoreBuilder {
    Store::builder().implicit_sweeps(false)
}

/// Fills a store with sessions of all kinds. Returns the ids that live, and those that have ended.
fn fill(store: &Store, chance: &mut Chance, count: usize) -> (Vec<ClientId>, Vec<ClientId>) {
    let settings = |secs| ContainerSettings::new().timeout(Duration::from_secs(secs));
    store.register("cart", settings(9000)).unwrap();
    store.register("gone", settings(9000)).unwrap();
    store.register("quick", settings(9000).in_memory()).unwrap();
    store.register_alias("wishes", "cart").unwrap();
    store.unregister("gone").unwrap();
    store.rotate_secret().unwrap();
    let (mut live, mut ended) = (Vec::new(), Vec::new());
    for n in 0..count {
        let size = match chance.below(9) {
            0 => chance.below(40_000),
            _ => chance.below(300),
        };
        let (owner, kind) = (chance.below(9), chance.below(64));
        let id = session(store, |session| {
            session.pkg("visits").insert("count", n)?;
            if kind & 1 == 0 {
                session
                    .pkg("cart")
                    .insert("tea", "ü".repeat(size as usize))?;
            }
            if kind & 2 == 0 {
                session
                    .pkg("wishes")
                    .insert("cups", vec![Some(1.5), None])?;
            }
            if kind & 4 == 0 {
                session.set_owner(Some(&format!("user {owner}")))?;
                session.set_label("a \u{1f980} phone")?;
            }
            if kind & 8 == 0 {
                session.set_timeout(Some(Duration::from_secs(5000 + n as u64)))?;
            }
            session.pkg("quick").insert("n", n)
        });
        match chance.below(6) {
            0 => {
                store.end(id.key()).unwrap();
                ended.push(id);
            }
            1 => {
                let renewed = store
                    .transact(|txn| {
                        let session = txn.session(&id)?;
                        session.rotate()?;
                        Ok::<_, Error>(session.client_id())
                    })
                    .unwrap();
                live.push(renewed.unwrap());
                ended.push(id);
            }
            _ => live.push(id),
        }
    }
    (live, ended)
}

/// All that a store has, but for when it was written down.
fn everything(store: &Store) -> Vec<String> {
    let mut lines = Vec::new();
    store.export(&mut lines).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    let mut lines: Vec<_> = lines.lines().skip(1).map(str::to_owned).collect();
    lines.push(format!("{:?}", store.identity()));
    lines.push(format!(
        "{:?}",
        store
            .secrets()
            .unwrap()
            .iter()
            .map(|it| it.name)
            .collect::<Vec<_>>()
    ));
    lines
}

fn assert_ids(store: &Store, (live, ended): &(Vec<ClientId>, Vec<ClientId>)) {
    for (ids, lives) in [(live, true), (ended, false)] {
        for id in ids {
            let txn = store.begin().unwrap();
            let id = store.client_ids().verify(id.as_str()).expect("it is ours");
            let session = txn.session(&id).unwrap();
            assert_eq!(session.exists().unwrap(), lives);
        }
    }
}

/// The rows of clients that are in the schema so far.
fn rows(served: &Served, schema: &str) -> u64 {
    let table = format!("{schema}.cloakroom_client");
    let there = served
        .database()
        .sql(&format!("SELECT to_regclass('{table}') IS NOT NULL"));
    match &*there {
        "t" => (served
            .database()
            .sql(&format!("SELECT count(*) FROM {table}")))
        .parse()
        .unwrap(),
        _ => 0,
    }
}

fn there_and_back(keys: Option<(&Path, KeyRing)>) {
    let Some(served) = Served::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (first, last) = (
        folder.path().join("first.redb"),
        folder.path().join("last.redb"),
    );
    let builder = || match &keys {
        Some((_, ring)) => builder().encryption(ring.clone()),
        None => builder(),
    };
    let store = builder().open(&first).unwrap();
    let ids = fill(&store, &mut Chance::new(), 400);
    let original = everything(&store);
    store.close().unwrap();
    let url = served.url("moved");
    let moved = |from: &str, to: &str| {
        let mut arguments = vec!["move", from, to, "--json"];
        if let Some((file, _)) = &keys {
            arguments.extend(["--key-file", file.to_str().unwrap()]);
        }
        let run = run(folder.path(), &arguments).exits(0);
        assert!(!format!("{run:?}").contains(&served.password()), "{run:?}");
        let told = run.json();
        assert_eq!(told["skipped"], 0);
        assert_eq!(told["damaged"], 0);
        assert!(told["sessions"].as_u64().unwrap() > 300);
        assert_eq!(told["verified"], told["sessions"]);
    };
    moved("first.redb", &url);
    let store = served.open(builder(), "moved").unwrap();
    assert_eq!(everything(&store), original);
    assert_ids(&store, &ids);
    store.close().unwrap();
    moved(&url, "last.redb");
    let store = builder().open(&last).unwrap();
    assert_eq!(everything(&store), original);
    assert_ids(&store, &ids);
    store.close().unwrap();
}

// C10.1
#[test]
fn a_store_goes_there_and_back_and_is_the_same() {
    there_and_back(None);
}

// C10.1
#[test]
fn an_encrypted_store_goes_there_and_back_and_stays_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    fs::write(&file, format!("1 {}\n", "2a".repeat(32))).unwrap();
    there_and_back(Some((&file, KeyRing::new(1, [0x2a; 32]))));
}

// C10.1
#[test]
fn a_move_that_was_killed_goes_on() {
    let Some(served) = Served::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("first.redb");
    let store = builder().open(&path).unwrap();
    let ids = fill(&store, &mut Chance::new(), 1500);
    let original = everything(&store);
    store.close().unwrap();
    let url = served.url("moved");
    let arguments = ["move", "first.redb", &url];
    let begin = || command(folder.path(), &arguments).spawn().unwrap();
    // Killed as soon as something is there, and once more later.
    let mut before = 0;
    for _ in 0..2 {
        let mut child = begin();
        until("rows are there", || rows(&served, "moved") > before);
        child.kill().unwrap();
        child.wait().unwrap();
        before = rows(&served, "moved");
        assert!(before < 1100, "{before}: it was too fast to be killed");
        // Until it is finished, it is no store.
        let error = served.open(builder(), "moved").unwrap_err();
        assert!(error.to_string().contains("unfinished copy"), "{error}");
    }
    // Ctrl-C ends it, and it says how to go on.
    let child = begin();
    until("more rows are there", || rows(&served, "moved") > before);
    let mut kill = Command::new("kill");
    assert!(
        kill.arg("-INT")
            .arg(child.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    let stopped = support::Run::of(&output(child));
    stopped.fails(4, "broken off", "Run the same command again");
    run(folder.path(), &["--store", &url, "stats"]).fails(3, "unfinished copy", "run it again");
    let told = run(folder.path(), &["move", "first.redb", &url, "--json"])
        .exits(0)
        .json();
    let count = |name: &str| told[name].as_u64().unwrap();
    assert!(count("skipped") > 0 && count("sessions") > 0, "{told}");
    assert_eq!(count("verified"), count("skipped") + count("sessions"));
    let store = served.open(builder(), "moved").unwrap();
    assert_eq!(everything(&store), original);
    assert_ids(&store, &ids);
    store.close().unwrap();
    // The file is as it was.
    let store = builder().open(&path).unwrap();
    assert_eq!(everything(&store), original);
}

// C10.1
#[test]
fn a_move_back_that_was_killed_goes_on() {
    let Some(served) = Served::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = served.open(builder(), "shop").unwrap();
    let ids = fill(&store, &mut Chance::new(), 1500);
    let original = everything(&store);
    store.close().unwrap();
    let url = served.url("shop");
    let target = folder.path().join("last.redb");
    let mut child = command(folder.path(), &["move", &url, "last.redb"])
        .spawn()
        .unwrap();
    until("there is a file", || target.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let run = run(folder.path(), &["move", &url, "last.redb"]).exits(0);
    assert!(
        run.out.contains("Store::open") && run.out.contains("drop the tables"),
        "{run:?}"
    );
    let store = builder().open(&target).unwrap();
    assert_eq!(everything(&store), original);
    assert_ids(&store, &ids);
}

// C2.11
#[test]
fn nothing_is_moved_over_another_store_or_from_one_in_use() {
    let Some(served) = Served::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("first.redb");
    let store = builder().open(&path).unwrap();
    let id = session(&store, |session| session.pkg("cart").insert("tea", 1));
    let url = served.url("moved");
    let moved = || run(folder.path(), &["move", "first.redb", &url]);
    moved().fails(3, "open", "Stop it");
    assert_eq!(rows(&served, "moved"), 0);
    store.close().unwrap();

    // Another store is there.
    served.open(builder(), "other").unwrap().close().unwrap();
    let other = served.url("other");
    run(folder.path(), &["move", "first.redb", &other]).fails(
        3,
        "no copy of the other",
        "?schema=",
    );
    let done = moved().exits(0);
    assert!(done.out.contains("1 session moved"), "{done:?}");
    assert!(
        done.out.contains("Store::connect") && done.out.contains("delete first.redb"),
        "{done:?}"
    );
    // What was ended there must not come back.
    let store = served.open(builder(), "moved").unwrap();
    store.end(id.key()).unwrap();
    store.close().unwrap();
    moved().fails(3, "no unfinished copy", "Nothing was changed");
    run(folder.path(), &["move", &url, "first.redb"]).fails(
        3,
        "no unfinished copy",
        "another file",
    );
    let store = served.open(builder(), "moved").unwrap();
    assert!(store.entry(id.key()).unwrap().is_none());
    store.close().unwrap();

    run(folder.path(), &["move", "first.redb", "second.redb"]).fails(
        2,
        "server",
        "cloakroom backup",
    );
    run(folder.path(), &["move", &url, &url]).fails(2, "where it is", "no store yet");
    run(folder.path(), &["move", "none.redb", &url]).fails(3, "no store", "Check the path");
    run(
        folder.path(),
        &["--at", "http://127.0.0.1:1", "move", "first.redb", &url],
    )
    .fails(2, "administration", "stop the application");
    let mut to_nowhere = command(folder.path(), &["move", "first.redb"]);
    to_nowhere.arg("postgres://ann:s3cret@127.0.0.1:1/shop?deadline=300ms");
    ended(to_nowhere).fails(3, "cannot be reached", "Check the address");
}

async fn count(session: Session) -> Result<String, Error> {
    let visits = session.pkg("visits");
    let count = visits.update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(count.to_string())
}

async fn app(store: Store) -> Router {
    let layer = SessionLayer::new(store).cookie(CookieSettings::new().plain_http());
    Router::new().route("/", get(count)).layer(layer)
}

// C4.2
#[test]
fn a_visitor_stays_logged_in_after_the_move() {
    let Some(served) = Served::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("first.redb");
    let store = builder().open(&path).unwrap();
    let site = web::Served::new(app(store.clone()));
    let first = site.get("/", None);
    let cookie = first.cookie.expect("a cookie");
    assert_eq!(site.get("/", Some(&cookie)).text, "2");
    drop(site);
    store.close().unwrap();
    let url = served.url("moved");
    run(folder.path(), &["move", "first.redb", &url]).exits(0);
    let store = served.open(builder(), "moved").unwrap();
    let site = web::Served::new(app(store));
    assert_eq!(site.get("/", Some(&cookie)).text, "3");
    drop(site);
    run(folder.path(), &["move", &url, "last.redb"]).exits(0);
    let store = builder().open(folder.path().join("last.redb")).unwrap();
    let site = web::Served::new(app(store));
    assert_eq!(site.get("/", Some(&cookie)).text, "4");
}

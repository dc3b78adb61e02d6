//! Sessions of other libraries, in files that these libraries make, are imported, and their visitors stay logged in.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;
#[path = "support/web.rs"]
mod web;

use axum::Router;
use axum::routing::get;
use axum_session::{SessionConfig, SessionStore as AxumSessionStore};
use axum_session_sqlx::SessionSqlitePool;
use cloakroom::http::{CookieSettings, SessionLayer};
use cloakroom::{Error, Store};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use support::Place;
use time::OffsetDateTime;
use tower_sessions::session::{Id, Record};
use tower_sessions::{Expiry, SessionManagerLayer, SessionStore};
use tower_sessions_cloakroom_store::CloakroomStore;
use tower_sessions_sqlx_store::SqliteStore;
use tower_sessions_sqlx_store::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use tower_sessions_sqlx_store::sqlx::{self, SqlitePool};
use web::Served;

const TOWER: &str = "tower-sessions-sqlite";
const AXUM: &str = "axum-session-sqlite";
const EXPRESS: &str = "express-session-sqlite";

/// Deeply nested, with a key that an export writes in another way.
fn cart() -> Value {
    let nested = (0..40).fold(json!(null), |inner, _| json!([inner]));
    json!({ "tea": 2, "$price": 1.5, "notes": ["grün", null, true, -3], "nested": nested })
}

async fn pool(file: &Path, journal: SqliteJournalMode) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(journal);
    SqlitePool::connect_with(options).await.unwrap()
}

/// The application, whichever its store.
fn with_tower_sessions<S: SessionStore + Clone>(store: S) -> Router {
    async fn log_in(session: tower_sessions::Session) {
        session.insert("user", "ann").await.unwrap();
        session.insert("cart", cart()).await.unwrap();
    }
    async fn user(session: tower_sessions::Session) -> String {
        let cart: Option<Value> = session.get("cart").await.unwrap();
        assert_eq!(cart.is_some(), cart == Some(self::cart()));
        session.get("user").await.unwrap().unwrap_or_default()
    }
    async fn visits(session: tower_sessions::Session) -> String {
        let visits: u32 = session.get("visits").await.unwrap().unwrap_or_default();
        session.insert("visits", visits + 1).await.unwrap();
        visits.to_string()
    }
    let layer = SessionManagerLayer::new(store)
        .with_secure(false)
        .with_expiry(Expiry::OnInactivity(time::Duration::days(1)));
    Router::new()
        .route("/log-in", get(log_in))
        .route("/user", get(user))
        .route("/visits", get(visits))
        .layer(layer)
}

fn import(place: &Place, format: &str, file: &Path, more: &[&str]) -> support::Run {
    let file = file.to_str().unwrap();
    place.run(&[&["import", "--json", "--from", format, file], more].concat())
}

/// The running application of tower-sessions, and the cookie of a visitor who is logged in.
fn running(file: &Path) -> (Served, SqliteStore, SqlitePool, String) {
    let mut stores = None;
    let app = Served::new(async {
        let pool = pool(file, SqliteJournalMode::Wal).await;
        let store = SqliteStore::new(pool.clone());
        store.migrate().await.unwrap();
        stores = Some((store.clone(), pool));
        with_tower_sessions(store)
    });
    let (store, pool) = stores.unwrap();
    let cookie = app.get("/log-in", None).cookie.unwrap();
    (app, store, pool, cookie)
}

#[test]
fn visitors_of_tower_sessions_stay_logged_in() {
    let place = Place::empty();
    let file = place.file("old.sqlite");
    let (old, old_store, _pool, cookie) = running(&file);
    assert_eq!(old.get("/user", Some(&cookie)).text, "ann");
    let expired = Record {
        id: Id::default(),
        data: [("user".to_owned(), "eve".into())].into(),
        expiry_date: OffsetDateTime::now_utc() - Duration::from_secs(5),
    };
    old.wait(old_store.save(&expired)).unwrap();

    // The application runs on, and what it wrote is in its log.
    let before = fs::read(&file).unwrap();
    let names = place.names();
    let run = import(&place, TOWER, &file, &["--create"]).exits(0);
    let done = json!({
        "sessions": 1, "skipped": 0, "expired": 1, "damaged": 0, "rows": [], "is_complete": true,
    });
    assert_eq!(run.json(), done);
    assert!(fs::read(&file).unwrap() == before, "the file was changed");
    let (_, id) = cookie.split_once('=').unwrap();
    assert!(!format!("{run:?}").contains(id));
    let added: Vec<_> = place
        .names()
        .into_iter()
        .filter(|it| !names.contains(it))
        .collect();
    assert_eq!(added, ["sessions.redb"]);

    // One line is changed.
    let new_store = CloakroomStore::open(&place.path).unwrap();
    let new = Served::new(async { with_tower_sessions(new_store.clone()) });
    let id: Id = id.parse().unwrap();
    let loaded = |loaded: Option<Record>| {
        let record = loaded.expect("the record is there");
        (
            record.data,
            record.expiry_date.unix_timestamp_nanos() / 1_000_000,
        )
    };
    let here = loaded(new.wait(SessionStore::load(&new_store, &id)).unwrap());
    assert_eq!(here, loaded(old.wait(old_store.load(&id)).unwrap()));
    let page = new.get("/user", Some(&cookie));
    assert_eq!((page.status, &*page.text), (200, "ann"));
    let visits = [0, 1].map(|_| new.get("/visits", Some(&cookie)).text);
    assert_eq!(visits, ["0", "1"]);
    assert_eq!(new.get("/user", None).text, "");
}

#[test]
fn a_file_that_no_application_has_open_stays_alone() {
    let place = Place::empty();
    for (name, journal) in [
        ("log.sqlite", SqliteJournalMode::Wal),
        ("with space? #.sqlite", SqliteJournalMode::Delete),
        ("log, with space? #.sqlite", SqliteJournalMode::Wal),
    ] {
        let file = place.file(name);
        let app = Served::new(async {
            let pool = pool(&file, journal).await;
            SqliteStore::new(pool.clone()).migrate().await.unwrap();
            pool.close().await;
            Router::new()
        });
        drop(app);
        // A thread of the pool closes the file, which removes the log.
        let log = place.file(&format!("{name}-wal"));
        let mut looks = 0..600;
        while log.exists() {
            looks.next().expect("the file is closed");
            thread::sleep(Duration::from_millis(100));
        }
        let (before, names) = (fs::read(&file).unwrap(), place.names());
        let run = import(&place, TOWER, &file, &["--create"]).exits(0);
        assert_eq!(run.json()["sessions"], 0);
        assert!(fs::read(&file).unwrap() == before);
        let others = place
            .names()
            .into_iter()
            .filter(|name| name != "sessions.redb");
        let names = names.into_iter().filter(|name| name != "sessions.redb");
        assert!(others.eq(names), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn what_the_log_holds_is_imported_through_a_link() {
    let place = Place::empty();
    let file = place.file("old.sqlite");
    let (_old, _store, _pool, _cookie) = running(&file);
    let link = place.file("link.sqlite");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let done = import(&place, TOWER, &link, &["--create"]).exits(0).json();
    assert_eq!(done["sessions"], 1, "{done}");
}

#[test]
fn damaged_rows_are_named_and_the_others_imported() {
    let place = Place::empty();
    let file = place.file("old.sqlite");
    let (app, _, pool, cookie) = running(&file);
    app.wait(async {
        let row = "INSERT INTO tower_sessions VALUES (?, ?, datetime('now'))";
        let other = Record {
            id: Id(7),
            data: [("password".to_owned(), "hunter2".into())].into(),
            expiry_date: OffsetDateTime::now_utc() + Duration::from_secs(500),
        };
        let other = rmp_serde::to_vec(&other).unwrap();
        let cut = other[..other.len() - 12].to_vec();
        for (id, data) in [
            ("aSecretIdOfTwentyTwo__", cut),
            ("anothersIdOfTwentyTwo_", other),
            ("\u{202e}\u{1b}[31m", vec![0xc1]),
        ] {
            let query = sqlx::query(row).bind(id).bind(data);
            query.execute(&pool).await.unwrap();
        }
    });
    let run = import(&place, TOWER, &file, &["--create"]).exits(1);
    let rows = json!([
        { "id": "aSec…", "error": "its data is no record of tower-sessions" },
        { "id": "anot…", "error": "its data is that of another id" },
        { "id": "\u{202e}…", "error": "its data is no record of tower-sessions" },
    ]);
    let json = run.json();
    assert_eq!((&json["rows"], &json["sessions"]), (&rows, &json!(1)));
    let more = [
        "import",
        "old.sqlite",
        "--from",
        TOWER,
        "--on-duplicate",
        "skip",
    ];
    let run = place.run(&more).exits(1);
    assert!(run.out.contains("1 were there already"), "{run:?}");
    let says = "the row of aSec… was left out: its data is no record of tower-sessions\n";
    assert!(run.err.contains(says), "{run:?}");
    let all = format!("{run:?}{json}");
    for secret in ["SecretIdOf", "hunter2", "\u{1b}", &cookie[3..]] {
        assert!(!all.contains(secret), "{all}");
    }
    assert!(run.err.contains("\\u{202e}…"), "{run:?}");
}

#[test]
fn an_import_that_has_ended_early_goes_on() {
    let place = Place::empty();
    let file = place.file("old.sqlite");
    let (app, store, pool, _) = running(&file);
    let ids: Vec<_> = (0..600).map(|_| Id::default()).collect();
    app.wait(async {
        for id in &ids {
            let record = Record {
                id: *id,
                data: [("user".to_owned(), "bob".into())].into(),
                expiry_date: OffsetDateTime::now_utc() + Duration::from_secs(500),
            };
            store.save(&record).await.unwrap();
        }
        // The same tables, but for the first of them.
        let other = "DELETE FROM tower_sessions WHERE id <> ?";
        let copy = pool_of_copy(&file, &place.file("copy.sqlite")).await;
        sqlx::query(other)
            .bind(ids[590].to_string())
            .execute(&copy)
            .await
            .unwrap();
        copy.close().await;
    });
    import(&place, TOWER, &place.file("copy.sqlite"), &["--create"]).exits(0);
    let run = import(&place, TOWER, &file, &[]).exits(3);
    let says = "the store has this session already; 512 sessions imported before that";
    assert!(run.err.contains(says), "{run:?}");
    assert!(run.err.contains("--on-duplicate skip"), "{run:?}");
    let run = import(&place, TOWER, &file, &["--on-duplicate", "skip"]).exits(0);
    let json = run.json();
    assert_eq!(
        (&json["sessions"], &json["skipped"]),
        (&json!(88), &json!(513))
    );
    drop(pool);
    place.run(&["check"]).exits(0);
}

async fn pool_of_copy(file: &Path, copy: &Path) -> SqlitePool {
    for end in ["", "-wal"] {
        let with = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
        fs::copy(with(file), with(copy)).unwrap();
    }
    pool(copy, SqliteJournalMode::Wal).await
}

/// An application with a layer of cloakroom that reads another library's cookie.
fn with_cloakroom(place: &Place, cookie: &str, package: &'static str) -> Served {
    let store = Store::open(&place.path).unwrap();
    let user = move |session: cloakroom::Session| async move {
        let package = session.pkg(package);
        let cart: Option<Value> = package.get("cart")?;
        let tea = cart.map_or(0, |cart| cart["tea"].as_u64().unwrap());
        let user: String = package.get("user")?.unwrap_or_default();
        Ok::<_, Error>(format!("{user} {tea}"))
    };
    let add = |session: cloakroom::Session| async move { session.pkg("visits").add("count", 1) };
    let cookie = CookieSettings::new()
        .third_party(cookie)
        .unwrap()
        .existing_only();
    let layer = SessionLayer::new(store).cookie(cookie);
    let app = Router::new()
        .route("/user", get(user))
        .route("/add", get(add))
        .layer(layer);
    Served::new(async { app })
}

#[test]
fn visitors_of_axum_session_stay_logged_in() {
    async fn log_in(session: axum_session::Session<SessionSqlitePool>) {
        session.set("user", "ann");
        session.set("cart", cart());
    }
    let place = Place::empty();
    let file = place.file("old.sqlite");
    let mut pool_of_old = None;
    let old = Served::new(async {
        let pool = pool(&file, SqliteJournalMode::Delete).await;
        pool_of_old = Some(pool.clone());
        let config = SessionConfig::default().with_secure(false);
        let store = AxumSessionStore::new(Some(SessionSqlitePool::from(pool)), config);
        let layer = axum_session::SessionLayer::new(store.await.unwrap());
        Router::new().route("/log-in", get(log_in)).layer(layer)
    });
    let cookie = old.get("/log-in", None).cookie.unwrap();
    let (name, id) = cookie.split_once('=').unwrap();
    old.wait(async {
        let row = r#"INSERT INTO sessions VALUES ('encrypted-with-a-key', 9999999999, 'b64/ciphertext=')"#;
        sqlx::query(row).execute(pool_of_old.as_ref().unwrap()).await.unwrap();
        let row = r#"INSERT INTO sessions VALUES ('expired', 1000, '{"data":{},"longterm":false}')"#;
        sqlx::query(row).execute(pool_of_old.as_ref().unwrap()).await.unwrap();
    });
    let run = import(&place, AXUM, &file, &["--create"]).exits(1);
    let json = run.json();
    assert_eq!(
        (&json["sessions"], &json["expired"]),
        (&json!(1), &json!(1))
    );
    let error = json["rows"][0]["error"].as_str().unwrap();
    assert!(error.contains("or is encrypted"), "{error}");
    assert!(!format!("{run:?}").contains(id));

    let new = with_cloakroom(&place, name, "axum-session");
    let page = new.get("/user", Some(&cookie));
    assert_eq!((page.status, &*page.text), (200, "ann 2"));
    assert_eq!(new.get("/add", Some(&cookie)).status, 200);
    // Nobody begins a session under an id of his own.
    assert_eq!(new.get("/add", Some("session=0b7a")).status, 403);
}

#[test]
fn visitors_of_express_session_stay_logged_in() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/express");
    let cookies = fs::read(fixtures.join("cookies.json")).unwrap();
    let cookies: Value = serde_json::from_slice(&cookies).unwrap();
    for name in ["connect-sqlite3.db", "better-sqlite3-session-store.db"] {
        let place = Place::empty();
        let secret = place.file("secret");
        fs::write(
            &secret,
            format!("{}\n", cookies["secret"].as_str().unwrap()),
        )
        .unwrap();
        let cookie = cookies[name].as_str().unwrap();
        let more = [
            "--create",
            "--cookie-secret-file",
            "secret",
            "--container",
            "shop",
        ];
        let run = import(&place, EXPRESS, &fixtures.join(name), &more).exits(0);
        let json = run.json();
        assert_eq!(
            (&json["sessions"], &json["expired"]),
            (&json!(1), &json!(1))
        );
        let new = with_cloakroom(&place, "connect.sid", "shop");
        let page = new.get("/user", Some(cookie));
        assert_eq!((page.status, &*page.text), (200, "ann 2"), "{name}");
        // The signature is a part of the id.
        let last = cookie.len() - 1;
        let forged = format!(
            "{}{}",
            &cookie[..last],
            if cookie.ends_with('A') { 'B' } else { 'A' }
        );
        assert_eq!(new.get("/user", Some(&forged)).text, " 0");
        drop(new);
        let show = place.run(&["list", "--json"]).exits(0);
        assert!(show.out.contains("2086-11-14T"), "{show:?}");
    }
}

#[test]
fn the_id_of_express_session_is_adopted_alone_without_its_secret() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/express");
    let place = Place::empty();
    let file = fixtures.join("connect-sqlite3.db");
    import(&place, EXPRESS, &file, &["--create"]).exits(0);
    let cookies = fs::read_to_string(fixtures.join("cookies.json")).unwrap();
    let id = cookies
        .split("s%3A")
        .nth(1)
        .unwrap()
        .split('.')
        .next()
        .unwrap();
    place.edit(|store| {
        let id = store.client_ids().adopt(id.as_bytes()).unwrap();
        let user = store.transact(|txn| txn.session(&id)?.pkg("express-session").get("user"));
        assert_eq!(user.unwrap(), Some("ann".to_owned()));
    });
}

#[test]
fn other_files_are_refused_before_a_store_is_made() {
    let place = Place::empty();
    fs::write(
        place.file("text"),
        "no database, but longer than a header of one: ".repeat(9),
    )
    .unwrap();
    fs::write(place.file("empty"), "").unwrap();
    let run = |file: &str, more: &[&str]| {
        place.run(&[&["import", "--create", "--from", TOWER, file], more].concat())
    };
    run("text", &[]).fails(3, "text is no database of SQLite", "--from");
    run("empty", &[]).fails(3, "no table \"tower_sessions\"", "--table");
    run("missing", &[]).fails(3, "missing cannot be read", "Check the path");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/express");
    let express = fixtures.join("connect-sqlite3.db");
    let express = express.to_str().unwrap();
    run(express, &["--table", "sessions"]).fails(3, "with the columns of", "--from names");
    run(express, &["--cookie-secret-file", "text"]).fails(2, "only express-session", "Leave");
    run("text", &["--after-line", "3"]).exits(2);
    let names: Vec<_> = place.names();
    assert_eq!(names, ["empty", "text"]);
    let plain = ["import", "--from", EXPRESS, express];
    place.run(&plain).fails(3, "", "No command creates a store");
}

#[tokio::test]
async fn a_view_that_never_ends_is_no_table_of_sessions() {
    let place = Place::empty();
    let file = place.file("view.sqlite");
    let pool = pool(&file, SqliteJournalMode::Delete).await;
    let view = "CREATE VIEW tower_sessions AS WITH RECURSIVE n(id, data, expiry_date) AS \
                (SELECT 1, 2, 3 UNION ALL SELECT id + 1, 2, 3 FROM n) SELECT * FROM n";
    sqlx::query(view).execute(&pool).await.unwrap();
    pool.close().await;
    let arguments = ["import", "--create", "--from", TOWER, "view.sqlite"];
    place
        .run(&arguments)
        .fails(3, "no table \"tower_sessions\"", "--table");
}

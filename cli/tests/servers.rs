//! The command line on a store in PostgreSQL: every command works on it, or says what to use instead.
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

use cloakroom::{ContainerSettings, Store};
use server::{Served, command, ended, run};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};
use std::time::Duration;
use support::{Run, session};

/// A store with a session of each of these owners.
fn with_owners(served: &Served, schema: &str, owners: &[&str]) -> Vec<String> {
    let store = served.open(Store::builder(), schema).unwrap();
    store
        .register(
            "cart",
            ContainerSettings::new().timeout(Duration::from_secs(7200)),
        )
        .unwrap();
    let keys = owners.iter().map(|owner| {
        let id = session(&store, |session| {
            session.set_owner(Some(owner))?;
            session.pkg("cart").insert("tea", "green")
        });
        id.key().to_string()
    });
    let keys = keys.collect();
    store.close().unwrap();
    keys
}

// C9.2
#[test]
fn every_command_works_on_a_server_or_says_what_to_use_instead() {
    let Some(served) = Served::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = served.url("shop");
    let keys = with_owners(&served, "shop", &["ann", "ann", "bob"]);
    let run = |arguments: &[&str]| {
        let mut command = command(folder.path(), arguments);
        command.env("CLOAKROOM_STORE", &url);
        let run = ended(command);
        assert!(!format!("{run:?}").contains(&served.password()), "{run:?}");
        run
    };
    let stats = run(&["stats", "--json"]).exits(0).json();
    let sessions = |container: &serde_json::Value| container["sessions"].as_u64().unwrap();
    let all = stats["containers"].as_array().unwrap();
    assert_eq!(all.iter().map(sessions).sum::<u64>(), 3);
    assert!(!run(&["stats"]).exits(0).out.contains("file "));
    run(&["stats", "--quick"]).exits(0);
    assert!(run(&["containers"]).exits(0).out.contains("server"));
    let set = run(&["containers", "set", "cart", "--timeout", "3h", "--json"]);
    assert_eq!(set.exits(0).json()["timeout_ms"], 3 * 3_600_000);
    let list = run(&["list", "--owner", "ann", "--container", "cart", "--json"])
        .exits(0)
        .json();
    assert_eq!(list["sessions"].as_array().unwrap().len(), 2);
    let shown = run(&["show", &keys[2], "--values"]).exits(0);
    assert!(shown.out.contains("green"), "{shown:?}");
    run(&["show", "0000000000"]).exits(1);
    let check = run(&["check", "--json"]).exits(0).json();
    assert_eq!(check["sessions"], 3);
    assert!(!run(&["check"]).exits(0).out.contains("of the file"));
    run(&["sweep"]).exits(0);
    run(&["export", "--output", "all.jsonl"]).exits(0);
    run(&["end", &keys[0], "--yes"]).exits(0);
    run(&["end", "--owner", "bob", "--yes"]).exits(0);
    run(&["import", "all.jsonl"]).fails(3, "", "--on-duplicate");
    let imported = run(&["import", "all.jsonl", "--on-duplicate", "skip", "--json"]);
    assert_eq!(imported.exits(0).json()["sessions"], 2);
    run(&["end", "--all", "--yes"]).exits(0);
    run(&["secrets", "rotate"]).exits(0);
    run(&["secrets", "retire", "0", "--yes"]).exits(0);
    let secrets = run(&["secrets", "list", "--json"]).exits(0).json();
    assert_eq!(secrets.as_array().unwrap().len(), 1);
    let migrated = run(&["migrate", "--json"]).exits(0).json();
    assert_eq!(migrated["migrated"], false);
    // They need no store.
    run(&["bench", "--time", "30ms"]).exits(0);
    run(&["man"]).exits(0);
    run(&["completions", "bash"]).exits(0);

    run(&["backup", "b"]).fails(2, "in a server", "pg_dump");
    run(&["compact"]).fails(2, "in a server", "VACUUM");
    run(&["salvage", "--to", "s"]).fails(2, "in a server", "export");
    run(&["watch", "--count", "1"]).fails(2, "in a server", "--at URL");
    run(&["restore", "b", "--to", &url]).fails(2, "in a file", "cloakroom move");
    run(&["salvage", "--to", &url]).fails(2, "in a server", "export");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

// C9.2
#[test]
fn a_server_that_cannot_be_used_is_told_with_what_to_do() {
    let Some(served) = Served::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let on = |store: &str, arguments: &[&str]| -> Run {
        let run = run(folder.path(), &[&["--store", store], arguments].concat());
        assert!(!format!("{run:?}").contains("s3cret"), "{run:?}");
        run
    };
    on(&served.url("none"), &["stats"]).fails(3, "no tables of a store", "cloakroom migrate");
    let wrong = served.url("none").replace(&served.password(), "s3cret");
    on(&wrong, &["stats"]).fails(3, "refuses the connection", "PGPASSWORD");
    let nobody = "postgres://ann:s3cret@127.0.0.1:1/shop?deadline=300ms";
    on(nobody, &["list"]).fails(3, "cannot be reached", "Check the address");
    on("postgres://ann:s3cret@db/shop?colour=red", &["list"]).fails(2, "no address", "schema=NAME");
    on("postgres://ann:s3cret@db/shop?deadline=soon", &["list"]).fails(
        2,
        "deadline",
        "schema=NAME",
    );
    // Wrong arguments are repeated, with their passwords hidden.
    let run = on("a.redb", &["admin", "a", "postgres://ann:s3cret@db/shop"]).exits(2);
    assert!(run.err.contains("postgres://ann:***@db/shop"), "{run:?}");
    let help = {
        let mut command = command(folder.path(), &["--help"]);
        command.env("CLOAKROOM_STORE", "postgres://ann:s3cret@db/shop");
        ended(command).exits(0)
    };
    assert!(!help.out.contains("s3cret"), "{help:?}");
}

// C9.2
#[test]
fn the_password_comes_from_the_environment_or_the_file_of_libpq() {
    let Some(served) = Served::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    with_owners(&served, "shop", &["ann"]);
    let password = served.password();
    let url = served.url("shop").replace(&format!(":{password}@"), "@");
    let stats = |edit: &dyn Fn(&mut Command)| {
        let mut command = command(folder.path(), &["--store", &url, "stats"]);
        edit(&mut command);
        ended(command)
    };
    stats(&|_| {}).exits(3);
    stats(&|it| {
        it.env("PGPASSWORD", &password);
    })
    .exits(0);
    let file = folder.path().join("passwords");
    fs::write(
        &file,
        format!("# all\n*:*:*:nobody:x\n*:*:*:*:{password}\n"),
    )
    .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    stats(&|it| {
        it.env("PGPASSFILE", &file);
    })
    .exits(0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    stats(&|it| {
        it.env("PGPASSFILE", &file);
    })
    .fails(3, "is ignored", "chmod");
}

// C10.1
#[test]
fn a_role_that_may_make_no_tables_uses_those_that_migrate_made() {
    let Some(served) = Served::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = served.database().url();
    run(folder.path(), &["migrate", &url]).fails(2, "Make the tables", "--yes");
    run(folder.path(), &["--store", &url, "stats"]).exits(3);
    let made = run(folder.path(), &["migrate", &url, "--yes", "--json"]);
    assert_eq!(made.exits(0).json()["migrated"], true);
    let again = run(folder.path(), &["migrate", &url, "--yes"]).exits(0);
    assert!(again.out.contains("already"), "{again:?}");
    let role = served.database().role();
    for command in ["stats", "sweep", "check"] {
        run(folder.path(), &["--store", &role.url(), command]).exits(0);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(Store::connect(&role.url())).unwrap();
    session(&store, |session| session.pkg("cart").insert("tea", 1));
    store.close().unwrap();
    // There is nothing for it to migrate.
    run(folder.path(), &["migrate", &role.url()]).exits(0);
    let elsewhere = format!("{}?schema=other", role.url());
    run(folder.path(), &["migrate", &elsewhere, "--yes"]).fails(
        3,
        "may not make the tables",
        "migrate",
    );
}

/// The program, which serves the page.
struct Admin(Child, String);

impl Admin {
    fn start(url: &str) -> Self {
        let folder = std::env::temp_dir();
        let listen = ["--json", "admin", url, "--listen", "127.0.0.1:0"];
        let mut command = command(&folder, &listen);
        command.env_remove("CLOAKROOM_TOKEN_FILE");
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = told["url"].as_str().unwrap().replace("http://", "");
        let address = address.trim_end_matches('/').to_owned();
        Self(child, address + "|" + told["token"].as_str().unwrap())
    }

    fn get(&self, accept: &str, method: &str, path: &str) -> (u16, String) {
        let (address, token) = self.1.split_once('|').unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: {accept}\r\n\
             Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// C9.3
#[test]
fn every_page_shows_a_store_in_a_server_and_nothing_about_files() {
    let Some(served) = Served::new() else { return };
    let keys = with_owners(&served, "shop", &["ann"]);
    let admin = Admin::start(&served.url("shop"));
    let session = format!("/sessions/{}", keys[0]);
    let pages = [
        "/",
        "/containers",
        "/containers/edit?name=cart",
        "/sessions",
        &session,
        "/owners?owner=ann",
        "/maintenance",
        "/maintenance/secrets",
        "/settings",
        "/audit",
    ];
    for path in pages {
        for accept in ["text/html", "application/json"] {
            let (status, page) = admin.get(accept, "GET", path);
            assert_eq!(status, 200, "{path} {page}");
            if accept == "text/html" {
                for word in [
                    "Journal",
                    "Checkpoint",
                    "Syncs",
                    "lives in the file",
                    "Back up and download",
                ] {
                    assert!(!page.contains(word), "{path}: {word}");
                }
            }
        }
    }
    assert!(
        admin
            .get("text/html", "GET", "/")
            .1
            .contains("Nothing is wrong")
    );
    assert!(
        admin
            .get("text/html", "GET", "/maintenance")
            .1
            .contains("own backups")
    );
    for work in ["sweep", "check", "measure", "checkpoint"] {
        let (status, answer) =
            admin.get("application/json", "POST", &format!("/maintenance/{work}"));
        assert_eq!(status, 202, "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let task: serde_json::Value = serde_json::from_str(body).unwrap();
        let path = format!("/maintenance/tasks/{}", task["number"]);
        server::until(work, || {
            let (_, answer) = admin.get("application/json", "GET", &path);
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            let task: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_ne!(task["failed"], true, "{task}");
            !task["ended"].is_null()
        });
    }
    let (status, answer) = admin.get("application/json", "POST", "/maintenance/backup");
    assert!(status == 501 && answer.contains("pg_dump"), "{answer}");
}

// C10.2
#[test]
fn the_page_says_that_the_server_is_away_and_that_it_is_back() {
    if !cloakroom_postgres_server::is_available() {
        return;
    }
    // Its own, because it is stopped.
    let server = cloakroom_postgres_server::Server::start();
    let url = format!("{}?deadline=1s", server.url());
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["migrate", &url, "--yes"]).exits(0);
    let admin = Admin::start(&url);
    let says = |text: &str| admin.get("text/html", "GET", "/").1.contains(text);
    assert!(says("Nothing is wrong"));
    server.stop();
    server::until("it is said", || says("database server cannot be reached"));
    let (status, _) = admin.get("text/html", "GET", "/sessions");
    assert_eq!(status, 503);
    server.start_again();
    server::until("it is back", || !says("database server cannot be reached"));
    assert_eq!(admin.get("text/html", "GET", "/sessions").0, 200);
}

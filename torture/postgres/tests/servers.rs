//! Servers: each test has a database of its own, what was acknowledged survives a crash, and nothing stays behind.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

use cloakroom_postgres_server::{Pooler, Server, database, is_available, is_pooler_available};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn each_database_is_one_of_its_own() {
    let (Some(one), Some(other)) = (database(), database()) else {
        return;
    };
    one.sql("CREATE TABLE things (thing int)");
    other.sql("CREATE TABLE things (thing int); INSERT INTO things VALUES (2)");
    assert_eq!(one.sql("SELECT count(*) FROM things"), "0");
    assert_eq!(other.sql("SELECT * FROM things"), "2");
}

#[test]
fn a_database_is_dropped_with_its_test() {
    let (Some(one), Some(other)) = (database(), database()) else {
        return;
    };
    let named = format!(
        "SELECT count(*) FROM pg_database WHERE datname = '{}'",
        one.name()
    );
    assert_eq!(other.sql(&named), "1");
    drop(one);
    assert_eq!(other.sql(&named), "0");
}

#[test]
fn a_plain_role_may_not_create_tables() {
    let Some(database) = database() else { return };
    database.sql("CREATE TABLE things (thing int)");
    let role = database.role();
    let asked = |sql: &str| {
        let mut psql = Command::new("psql");
        let asked = psql.args(["-XAtq", "-d", &role.url(), "-c", sql]);
        asked.output().unwrap().status.success()
    };
    assert!(asked("INSERT INTO things VALUES (1)"));
    assert!(!asked("CREATE TABLE more (thing int)"));
    assert!(!asked("ALTER TABLE things ADD COLUMN more int"));
}

#[test]
fn a_killed_server_has_what_it_acknowledged() {
    if !is_available() {
        return;
    }
    let server = Server::start();
    server.sql("CREATE TABLE things (thing int)");
    server.sql("INSERT INTO things VALUES (7)");
    server.kill();
    assert!(!server.is_running());
    assert!(TcpStream::connect(server.address()).is_err());
    server.start_again();
    assert_eq!(server.sql("SELECT * FROM things"), "7");
    server.stop();
    server.start_again();
    assert_eq!(server.sql("SELECT * FROM things"), "7");
}

#[test]
fn a_server_ends_with_the_process_that_started_it() {
    if !is_available() {
        return;
    }
    let mut program = Command::new(env!("CARGO_BIN_EXE_cloakroom-postgres-server"))
        .args(["sh", "-c", "psql -XAtqc 'SHOW data_directory' $CLOAKROOM_TEST_POSTGRES; echo $CLOAKROOM_TEST_POSTGRES; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let folder = lines.next().unwrap().unwrap();
    let url = lines.next().unwrap().unwrap();
    let address = url.split(['@', '/']).nth(3).unwrap();
    assert!(TcpStream::connect(address).is_ok(), "{address}");
    program.kill().unwrap();
    program.wait().unwrap();
    let since = Instant::now();
    while TcpStream::connect(address).is_ok() || std::fs::exists(&folder).unwrap() {
        assert!(since.elapsed() < Duration::from_secs(30), "{folder}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_with_tls_takes_nothing_else() {
    if !is_available() {
        return;
    }
    let server = Server::builder().tls().start();
    let authority = server.authority().unwrap().display();
    let asked = |parameters: &str| {
        let url = format!("{}?{parameters}", server.url());
        let mut psql = Command::new("psql");
        let asked = psql.args(["-XAtq", "-d", &url, "-c", "SELECT 1"]);
        asked.output().unwrap().status.success()
    };
    assert!(asked(&format!(
        "sslmode=verify-full&sslrootcert={authority}"
    )));
    assert!(!asked("sslmode=disable"));
}

#[tokio::test]
async fn a_pooler_gives_one_connection_to_many() {
    if !is_pooler_available() {
        return;
    }
    let server = Server::start();
    let pooler = Pooler::start(&server, 1);
    let url = server.url_at(pooler.address(), "postgres");
    let mut processes = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let rows = client
            .simple_query("SELECT pg_backend_pid()")
            .await
            .unwrap();
        processes.extend(rows.iter().find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }));
        clients.push(client);
    }
    assert_eq!(processes.len(), 2);
    assert_eq!(processes.first(), processes.last());
}

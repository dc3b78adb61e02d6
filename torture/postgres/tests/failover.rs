//! A primary and its standby: what was acknowledged is there after the promotion, if the standby had to have it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

use cloakroom_postgres_server::{Mirroring, Pair, Passage, Watcher, is_available};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

async fn connect(pair: &Pair) -> Client {
    let (client, connection) = tokio_postgres::connect(&pair.url("postgres"), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// Inserts from `from` on for as long as the primary answers. Gives how many it acknowledged.
async fn insert(client: &Client, from: i32, to: i32) -> i32 {
    for number in from..to {
        let insert = format!("INSERT INTO things VALUES ({number})");
        if client.batch_execute(&insert).await.is_err() {
            return number;
        }
    }
    to
}

fn count(pair: &Pair) -> i32 {
    pair.standby()
        .sql("SELECT count(*) FROM things")
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_has_what_a_synchronous_primary_acknowledged() {
    if !is_available() {
        return;
    }
    let pair = Arc::new(Pair::start(Mirroring::Synchronous));
    let watcher = Watcher::start(&pair);
    pair.primary().sql("CREATE TABLE things (thing int)");
    let client = connect(&pair).await;
    let load = tokio::spawn(async move { insert(&client, 0, i32::MAX).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    pair.primary().kill();
    let acknowledged = load.await.unwrap();
    watcher.promoted();
    assert!(acknowledged > 0);
    // The last one may have arrived without its answer.
    assert!((acknowledged..=acknowledged + 1).contains(&count(&pair)));
    // The same address leads to the new primary.
    let client = connect(&pair).await;
    assert_eq!(insert(&client, 0, 1).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_standby_loses_what_an_asynchronous_primary_acknowledged() {
    if !is_available() {
        return;
    }
    let pair = Arc::new(Pair::start(Mirroring::Asynchronous));
    pair.primary().sql("CREATE TABLE things (thing int)");
    let client = connect(&pair).await;
    assert_eq!(insert(&client, 0, 10).await, 10);
    while pair
        .primary()
        .sql("SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication")
        != "t"
    {}
    pair.link().answers(Passage::Swallowed);
    assert_eq!(insert(&client, 10, 30).await, 30);
    let watcher = Watcher::start(&pair);
    pair.primary().kill();
    pair.link().close();
    watcher.promoted();
    assert_eq!(count(&pair), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_primary_acknowledges_nothing_without_its_standby() {
    if !is_available() {
        return;
    }
    let pair = Pair::start(Mirroring::Synchronous);
    pair.primary().sql("CREATE TABLE things (thing int)");
    let client = connect(&pair).await;
    pair.link().answers(Passage::Held);
    let inserted = tokio::spawn(async move { insert(&client, 0, 1).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!inserted.is_finished());
    pair.link().open();
    assert_eq!(inserted.await.unwrap(), 1);
}

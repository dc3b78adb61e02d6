//! The rules of the merge as tables: the rows that were read, the rows at the commit, the changes, and the result.

mod counters;
mod edit;
mod fixture;
mod packages;
mod sessions;
mod times;

use super::MergeRefusal;
use edit::Edit;
use fixture::{World, check, client, merge, outcome};

// C1.2
#[test]
fn a_container_registered_meanwhile_conflicts() {
    check(&[(
        "whatever the change is",
        "a#1",
        "a#1 registered",
        |e| e.put("p", "k", "1"),
        "Conflict",
    )]);
}

/// An edit that puts one value into the package of a client.
fn put(rows: &World, client: &str, text: &str) -> Edit {
    let mut edit = Edit::new(rows, client);
    edit.put("p", "k", text);
    edit
}

// C2.2
#[test]
fn clients_are_changed_together_or_not_at_all() {
    let read = World::of("a#1 p/1{k=1} b#1 p/1{k=1}");
    let both = || vec![put(&read, "a", "2"), put(&read, "b", "3")];
    assert_eq!(outcome(&read, both()), "a#1 p/9{k=2} b#1 p/9{k=3}");

    let Err(MergeRefusal::Failed(error, of)) = merge(&World::of("a#1 p/1{k=1}"), both()) else {
        panic!("merged");
    };
    assert!(error.is_conflict());
    assert_eq!(of, Some(client("b")), "whose session was at fault");

    let mut again = Edit::new(&read, "a");
    again.commute("p", "k", ("7", 8));
    let mut also = Edit::new(&read, "b");
    also.commute("p", "k", ("8", 9));
    let found = outcome(&read, vec![again, put(&read, "c", "1"), also]);
    assert_eq!(found, "again 8 from 1, again 9 from 1");

    let none = World::of("");
    let three = ["a", "b", "c"].map(|client| put(&none, client, "1"));
    assert!(outcome(&none, three.into()).ends_with("founded:3"));
}

// C2.12
#[test]
fn rows_that_stay_are_not_written() {
    let rows = World::of("a#1@50+~30=ann p/1{k=1}");
    let mut edit = Edit::new(&rows, "a");
    edit.put("p", "k", "1").owner(Some("ann")).timeout(Some(30));
    edit.clear("q").remove("q", "k").touch(40, None);
    let writes = merge(&rows, vec![edit]).unwrap();
    assert!(writes.sessions.is_empty() && writes.packages.is_empty());
    assert!(writes.tombstones.is_empty());

    // One key of a package that stays in the list: the session's row does not change.
    let writes = merge(&rows, vec![put(&rows, "a", "2")]).unwrap();
    assert!(writes.sessions.is_empty());
    assert_eq!(writes.packages.len(), 1);
}

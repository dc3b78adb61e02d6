//! The merge of sessions, their times and their ids.

use super::edit::Edit;
use super::fixture::{World, check, client, fresh, merge, used};
use crate::storage::SessionEnd;
use crate::storage::merge::MergeRefusal;
use std::time::Duration;

// C2.11
#[test]
fn a_write_joins_no_other_session_than_it_was_meant_for() {
    const ONE: &str = "a#1 p/1{k=1}";
    let put: fn(&mut Edit) -> &mut Edit = |e| e.put("p", "k", "2");
    check(&[
        ("it is there", ONE, ONE, put, "a#1 p/9{k=2}"),
        ("it is gone", ONE, "", put, "Conflict"),
        ("there is a later one", ONE, "a#3 p/3{k=1}", put, "Conflict"),
        (
            "another container does not stand in for it",
            ONE,
            "",
            |e| e.without_s().put("s", "k", "2"),
            "Conflict",
        ),
        ("nothing is written", ONE, "", |e| e, ""),
        (
            "one that was founded meanwhile is accessed now",
            "",
            "a#3@50 p/3{j=1}",
            put,
            "a#3@100 p/9{j=1,k=2}",
        ),
        (
            "or was accessed later than that",
            "",
            "a#3@150 p/3{j=1}",
            put,
            "a#3@150 p/9{j=1,k=2}",
        ),
        (
            "in another container it is gone",
            "a#1 p/1{k=1} s:a#1 s/1{k=1}",
            "a#1 p/1{k=1}",
            put,
            "Conflict",
        ),
        (
            "a container that was not looked at",
            ONE,
            ONE,
            |e| e.without_s().put("s", "k", "2"),
            "Conflict s",
        ),
    ]);
}

// C2.7
#[test]
fn the_list_of_packages_is_an_observation() {
    const ONE: &str = "a#1 p/1{k=1}";
    let list: fn(&mut Edit) -> &mut Edit = |e| e.list_packages().put("q", "k", "2");
    check(&[
        ("it is the same", ONE, ONE, list, "a#1 p/1{k=1} q/9{k=2}"),
        (
            "another value is no other package",
            ONE,
            "a#1 p/3{k=7}",
            list,
            "a#1 p/3{k=7} q/9{k=2}",
        ),
        (
            "one was added",
            ONE,
            "a#1 p/1{k=1} r/3{k=1}",
            list,
            "Conflict",
        ),
        ("one is gone", ONE, "a#1", list, "Conflict"),
        ("there was none, and is one", "", ONE, list, "Conflict"),
    ]);
}

// C2.7, C2.11
#[test]
fn existence_is_an_observation() {
    const ONE: &str = "a#1 p/1{k=1}";
    check(&[
        (
            "there it is",
            ONE,
            ONE,
            |e| e.exists(true).put("p", "k", "2"),
            "a#1 p/9{k=2}",
        ),
        (
            "there was none, and is one",
            "",
            ONE,
            |e| e.exists(false).put("p", "k", "2"),
            "Conflict",
        ),
        (
            "there was none in one container, and is one in another",
            "",
            "s:a#3 s/3{k=1}",
            |e| e.exists(false).put("p", "k", "2"),
            "Conflict",
        ),
        (
            "there was none in the container, and is one in another",
            "",
            "s:a#3 s/3{k=1}",
            |e| e.observe().put("s", "k", "2"),
            "s:a#3@100 s/9{k=2}",
        ),
        (
            "there was none in the container, and is one",
            "",
            ONE,
            |e| e.observe().put("s", "k", "2"),
            "Conflict",
        ),
        (
            "there is none still",
            "",
            "",
            |e| e.exists(false).observe().put("p", "k", "2"),
            "a#9@100^100 p/9{k=2} founded:1",
        ),
    ]);
}

// C3.2, C2.11
#[test]
fn a_session_that_had_expired_is_replaced_as_it_was() {
    const OVER: &str = "a#1@5~20=ann p/1{k=1} q/1{k=1}";
    let put: fn(&mut Edit) -> &mut Edit = |e| e.expired().put("p", "j", "2");
    check(&[
        (
            "none of its rows is taken along",
            OVER,
            OVER,
            put,
            "a#9@100^100 p/9{j=2} founded:1",
        ),
        (
            "it was touched",
            OVER,
            "a#1@6~20=ann p/1{k=1} q/1{k=1}",
            put,
            "Conflict",
        ),
        (
            "its timeout was set",
            OVER,
            "a#1@5~900=ann p/1{k=1} q/1{k=1}",
            put,
            "Conflict",
        ),
        (
            "by several packages",
            OVER,
            OVER,
            |e| e.expired().put("p", "j", "2").put("q", "j", "2"),
            "a#9@100^100 p/9{j=2} q/9{j=2} founded:1",
        ),
        (
            "it was swept",
            OVER,
            "",
            put,
            "a#9@100^100 p/9{j=2} founded:1",
        ),
    ]);
}

// C1.4, C1.9, C4.8, C8.1
#[test]
fn a_session_is_founded_once() {
    let put: fn(&mut Edit) -> &mut Edit = |e| e.founder(fresh()).put("p", "k", "1");
    let late: fn(&mut Edit) -> &mut Edit = |e| e.founder(used()).put("p", "k", "1");
    check(&[
        (
            "under a fresh id",
            "",
            "",
            put,
            "a#9@100^100 p/9{k=1} founded:1",
        ),
        (
            "with its timeout and owner",
            "",
            "",
            |e| e.put("p", "k", "1").timeout(Some(30)).owner(Some("ann")),
            "a#9@100^100~30=ann p/9{k=1} founded:1",
        ),
        (
            "in two containers at once",
            "",
            "",
            |e| e.put("p", "k", "1").put("s", "k", "1"),
            "a#9@100^100 p/9{k=1} s:a#9@100^100 s/9{k=1} founded:1",
        ),
        (
            "in one more container it inherits",
            "a#1~30=ann p/1{k=1}",
            "a#1~30=bob p/1{k=1}",
            |e| e.put("s", "k", "1"),
            "a#1~30=bob p/1{k=1} s:a#9@100^100~30=bob s/9{k=1}",
        ),
        (
            "in one more container, under an id that was used up",
            "a#1 p/1{k=1}",
            "a#1 p/1{k=1}",
            |e| e.founder(used()).put("s", "k", "1"),
            "a#1 p/1{k=1} s:a#9@100^100 s/9{k=1}",
        ),
        ("under an id that was used up", "", "", late, "Conflict"),
        (
            "an id that was used up finds what is there",
            "",
            "a#3@100",
            late,
            "a#3@100 p/9{k=1}",
        ),
        ("under an id that is refused", "", "a!101", put, "Conflict"),
        (
            "under an id that was refused until now",
            "",
            "a!100",
            put,
            "a#9@100^100 p/9{k=1} a!100 founded:1",
        ),
        (
            "the time is that of the commit",
            "",
            "a!101 now=101",
            put,
            "a#9@100^100 p/9{k=1} a!101 founded:1",
        ),
        (
            "for its owner alone",
            "",
            "",
            |e| e.home().owner(Some("ann")),
            "a#9@100^100=ann founded:1",
        ),
        (
            "for its timeout alone, where one is there",
            "",
            "s:a#3@40",
            |e| e.home().timeout(Some(30)),
            "s:a#3@100~30",
        ),
        (
            "for its owner alone, under an id that was used up",
            "",
            "",
            |e| e.home().founder(used()).owner(Some("ann")),
            "Conflict",
        ),
        (
            "for its owner alone, under an id that is refused",
            "",
            "a!101",
            |e| e.home().owner(Some("ann")),
            "Conflict",
        ),
        ("nothing founds nothing", "", "", |e| e.remove("p", "k"), ""),
        ("nor does clearing", "", "", |e| e.clear("p"), ""),
    ]);
}

// C4.8
#[test]
fn an_id_that_is_refused_tells_for_how_long() {
    let rows = World::of("a!5100");
    let mut edit = Edit::new(&World::of(""), "a");
    edit.put("p", "k", "1");
    let Err(MergeRefusal::Failed(error, of)) = merge(&rows, vec![edit]) else {
        panic!("merged");
    };
    assert_eq!(error.retry_after(), Some(Duration::from_secs(5)));
    assert_eq!(of, Some(client("a")));
}

// C4.8
#[test]
fn a_dead_id_is_given_up_only_while_it_is_dead() {
    let alone: fn(&mut Edit) -> &mut Edit = |e| e.replaced();
    check(&[
        ("it is dead", "", "", alone, ""),
        ("a session was founded", "", "a#3", alone, "Conflict"),
        (
            "what was founded is destroyed",
            "a#3 p/3{k=1}",
            "a#3 p/3{k=1}",
            |e| e.replaced().ends(SessionEnd::Destroyed),
            "a!110",
        ),
        ("it is refused", "", "a!101", alone, "Conflict"),
        ("it was refused", "", "a!100", alone, "a!100"),
        (
            "its session was ended since",
            "",
            "ended",
            alone,
            "Conflict",
        ),
        (
            "its session was swept since",
            "",
            "expired",
            alone,
            "Conflict",
        ),
    ]);
}

// C4.7, C2.11
#[test]
fn what_is_destroyed_goes_whole() {
    const TWO: &str = "a#1=ann p/1{k=1} q/1{k=1} s:a#2 s/2{k=1} b#1 p/1{k=1}";
    let destroy: fn(&mut Edit) -> &mut Edit = |e| e.ends(SessionEnd::Destroyed);
    check(&[
        ("in all containers", TWO, TWO, destroy, "b#1 p/1{k=1} a!110"),
        ("with what came", "a#1", "a#1 p/2{k=1}", destroy, "a!110"),
        ("what is absent leaves no trace", "", "", destroy, ""),
        (
            "what was observed to be absent, and is there",
            "",
            "a#3",
            |e| e.exists(false).ends(SessionEnd::Destroyed),
            "Conflict",
        ),
        ("another session", "a#1", "a#3", destroy, "Conflict"),
        (
            "one that had expired, and was touched",
            "a#1@5",
            "a#1@6 p/2{k=1}",
            |e| e.expired().ends(SessionEnd::Destroyed),
            "a!110",
        ),
        (
            "what was read of it has changed",
            "a#1 p/1{k=1}",
            "a#1 p/2{k=2}",
            |e| e.read("p", "k").ends(SessionEnd::Destroyed),
            "Conflict p.k",
        ),
    ]);
}

// C4.7
#[test]
fn a_rotation_carries_everything_over() {
    const TWO: &str = "a#1@5^4~30=ann p/1{k=1} q/1{k=1} s:a#2 s/2{k=1}";
    let rotate: fn(&mut Edit) -> &mut Edit = |e| e.ends(SessionEnd::Moves(client("b")));
    check(&[
        (
            "from all containers",
            TWO,
            TWO,
            rotate,
            "b#9@5^4%100~30=ann p/9{k=1} q/9{k=1} s:b#9%100 s/9{k=1} a!110",
        ),
        (
            "with what changed meanwhile, and with its own changes",
            "a#1 p/1{k=1} q/1{k=1}",
            "a#1 p/2{j=2,k=1} q/1{k=1}",
            |e| {
                e.put("p", "k", "3")
                    .remove("q", "k")
                    .owner(Some("ann"))
                    .ends(SessionEnd::Moves(client("b")))
            },
            "b#9%100=ann p/9{j=2,k=3} a!110",
        ),
        (
            "nothing of what had expired",
            "a#1@5 p/1{k=1} s:a#2 s/2{k=1}",
            "a#1@5 p/1{k=1} s:a#2 s/2{k=1}",
            |e| e.expired().ends(SessionEnd::Moves(client("b"))),
            "s:b#9%100 s/9{k=1} a!110",
        ),
        (
            "the new id has a session",
            "a#1",
            "a#1 b#3",
            rotate,
            "Conflict",
        ),
        (
            "the new id was used up",
            "a#1",
            "a#1",
            |e| e.founder(used()).ends(SessionEnd::Moves(client("b"))),
            "Conflict",
        ),
        ("the session was ended", "a#1", "", rotate, "Conflict"),
        (
            "a package that is too large by now",
            "a#1 p/1{k=1}",
            "a#1 p/1{k=1}",
            |e| {
                e.put("p", "k", &"x".repeat(100))
                    .ends(SessionEnd::Moves(client("b")))
            },
            "TooLarge p",
        ),
        (
            "a package without its row",
            "a#1 p?",
            "a#1 p?",
            rotate,
            "Corrupt p",
        ),
    ]);
}

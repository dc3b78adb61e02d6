//! The merge of a session's times, its label, and the age of its id.

use super::edit::Edit;
use super::fixture::{check, client};
use crate::clock::Timestamp;
use crate::storage::SessionEnd;

// C1.9, C3.8
#[test]
fn timeout_and_owner_are_set_in_all_containers() {
    const TWO: &str = "a#1~30=ann s:a#2";
    check(&[
        (
            "set",
            TWO,
            TWO,
            |e| e.timeout(Some(40)).owner(Some("bob")),
            "a#1~40=bob s:a#2~40=bob",
        ),
        (
            "taken back",
            TWO,
            TWO,
            |e| e.timeout(None).owner(None),
            "a#1 s:a#2",
        ),
        (
            "over what was set meanwhile",
            TWO,
            "a#1~50=eve s:a#2",
            |e| e.owner(Some("bob")),
            "a#1~50=bob s:a#2=bob",
        ),
        ("of none", "", "", |e| e.owner(Some("bob")), ""),
    ]);
}

// C8.1
#[test]
fn a_label_and_the_time_of_a_log_in_are_kept_as_an_owner_is() {
    const ONE: &str = "a#1*40\"phone=ann p/1{k=1}";
    check(&[
        (
            "set in all containers",
            "a#1 s:a#2",
            "a#1 s:a#2",
            |e| e.label(Some("phone")).authenticated_at(Some(50)),
            "a#1*50\"phone s:a#2*50\"phone",
        ),
        (
            "taken back",
            ONE,
            ONE,
            |e| e.label(None).authenticated_at(None),
            "a#1=ann p/1{k=1}",
        ),
        (
            "over what was set meanwhile",
            ONE,
            "a#1*45\"tablet=ann p/1{k=1}",
            |e| e.label(Some("desk")),
            "a#1*45\"desk=ann p/1{k=1}",
        ),
        (
            "carried over by a rotation",
            ONE,
            ONE,
            |e| e.ends(SessionEnd::Moves(client("b"))),
            "b#9%100*40\"phone=ann p/9{k=1} a!110",
        ),
        (
            "of none",
            "",
            "",
            |e| e.home().label(Some("phone")),
            "a#9@100^100\"phone founded:1",
        ),
    ]);
}

// C8.4, C8.5
#[test]
fn the_id_of_a_session_has_an_age_and_is_confirmed_by_an_access() {
    const ONE: &str = "a#1@50^40%45 p/1{k=1}";
    check(&[
        (
            "an access confirms it",
            ONE,
            ONE,
            |e| e.touch(100, None).put("p", "k", "2"),
            "a#1@100^40%45+ p/9{k=2}",
        ),
        (
            "a new id is as old as it is, and confirmed by nothing yet",
            "a#1@50^40%45+",
            "a#1@50^40%45+",
            |e| e.ends(SessionEnd::Moves(client("b"))),
            "b#9@50^40%100 a!110",
        ),
        (
            "a further container has the same one",
            "a#1@50^40%45+",
            "a#1@50^40%45+",
            |e| e.put("s", "k", "1"),
            "a#1@50^40%45+ s:a#9@100^100%45+ s/9{k=1}",
        ),
        (
            "a clock that was wrong is put right, and confirms nothing",
            "a#1@500^500%490",
            "a#1@500^500%490",
            |e| {
                let over = SessionEnd::Swept(Timestamp(60));
                e.without_s().touch(100, Some((500, 100))).ends(over)
            },
            "a#1@100^100",
        ),
    ]);
}

// C3.4, C3.5
#[test]
fn touches_merge_by_maximum() {
    const ONE: &str = "a#1@50 p/1{k=1}";
    let touch: fn(&mut Edit) -> &mut Edit = |e| e.touch(100, None).put("p", "k", "2");
    check(&[
        ("later", ONE, ONE, touch, "a#1@100+ p/9{k=2}"),
        (
            "earlier",
            ONE,
            "a#1@105 p/1{k=1}",
            touch,
            "a#1@105+ p/9{k=2}",
        ),
        (
            "than one that lies as far ahead as one may",
            ONE,
            "a#1@110 p/1{k=1}",
            touch,
            "a#1@110+ p/9{k=2}",
        ),
        (
            "than one that lies too far ahead",
            ONE,
            "a#1@111 p/1{k=1}",
            touch,
            "a#1@100+ p/9{k=2}",
        ),
        (
            "with the time of the founding",
            "a#1@50^500 p/1{k=1}",
            "a#1@50^500 p/1{k=1}",
            |e| e.touch(100, Some((500, 100))).put("p", "k", "2"),
            "a#1@100^100+ p/9{k=2}",
        ),
        (
            "with a founding that was lowered meanwhile",
            "a#1@50^500 p/1{k=1}",
            "a#1@50^90 p/1{k=1}",
            |e| e.touch(100, Some((500, 100))).put("p", "k", "2"),
            "a#1@100^90+ p/9{k=2}",
        ),
        (
            "alone it is written elsewhere",
            ONE,
            ONE,
            |e| e.touch(100, None),
            ONE,
        ),
        (
            "with what is written in another container, too",
            "a#1@50 p/1{k=1} s:a#1@100",
            "a#1@50 p/1{k=1} s:a#1@100",
            |e| e.touch(100, None).put("s", "k", "2"),
            "a#1@50 p/1{k=1} s:a#1@100 s/9{k=2}",
        ),
    ]);
}

// C3.7
#[test]
fn a_sweep_takes_what_is_still_over() {
    const OVER: &str = "a#1@5=ann p/1{k=1} b#1";
    let sweep: fn(&mut Edit) -> &mut Edit = |e| {
        let over = SessionEnd::Swept(Timestamp(60));
        e.without_s().expired().ends(over)
    };
    check(&[
        ("whole", OVER, OVER, sweep, "b#1 swept:a@60"),
        ("touched meanwhile", OVER, "a#1@6", sweep, "a#1@6"),
        // The access that confirms the id may be as old as the session.
        ("confirmed meanwhile", OVER, "a#1@5+", sweep, "a#1@5+"),
        ("gone meanwhile", OVER, "b#1", sweep, "b#1"),
        ("founded anew meanwhile", OVER, "a#3@5", sweep, "a#3@5"),
        (
            "whatever container was registered",
            OVER,
            "a#1@5=ann registered",
            sweep,
            "swept:a@60",
        ),
        (
            "times too far ahead are lowered",
            "a#1@500^500",
            "a#1@500^500",
            |e| {
                let over = SessionEnd::Swept(Timestamp(60));
                e.without_s().touch(100, Some((500, 100))).ends(over)
            },
            "a#1@100^100",
        ),
        (
            "but not those of another session",
            "a#1@500",
            "a#3@500",
            |e| {
                e.without_s()
                    .touch(100, None)
                    .ends(SessionEnd::Swept(Timestamp(60)))
            },
            "a#3@500",
        ),
    ]);
}

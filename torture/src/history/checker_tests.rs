//! Hand-made histories: the checker finds every anomaly, and nothing in good ones.

use super::Outcome::{Aborted, Committed, Conflict, Unknown};
use super::{Op, Outcome, Transaction, check};

fn at(begin: u64, end: u64, outcome: Outcome, ops: Vec<Op>) -> Transaction {
    Transaction {
        begin,
        end,
        outcome,
        ops,
    }
}

/// Transactions that all run at the same time.
fn together(transactions: Vec<(Outcome, Vec<Op>)>) -> Vec<Transaction> {
    let count = transactions.len() as u64;
    let numbered = (0..).zip(transactions);
    let at_once = |(n, (outcome, ops))| at(n, count + n, outcome, ops);
    numbered.map(at_once).collect()
}

/// Committed transactions, one after another.
fn in_turn(transactions: Vec<Vec<Op>>) -> Vec<Transaction> {
    let numbered = (0..).zip(transactions);
    let one = |(n, ops): (u64, _)| at(2 * n, 2 * n + 1, Committed, ops);
    numbered.map(one).collect()
}

fn list(name: &str, elements: &[u64]) -> Op {
    Op::ReadList(name.into(), elements.to_vec())
}

fn append(name: &str, element: u64) -> Op {
    Op::Append(name.into(), element)
}

fn read(name: &str, value: impl Into<Option<u64>>) -> Op {
    Op::Read(name.into(), value.into())
}

fn write(name: &str, value: u64) -> Op {
    Op::Write(name.into(), value)
}

fn add(name: &str, bit: u64) -> Op {
    Op::Add(name.into(), bit)
}

fn sum(name: &str, sum: u64) -> Op {
    Op::Sum(name.into(), sum)
}

fn raise(name: &str) -> Op {
    Op::Raise(name.into())
}

fn lower(name: &str) -> Op {
    Op::Lower(name.into())
}

fn seen(name: &str, up: bool) -> Op {
    Op::Seen(name.into(), up)
}

fn listed(prefix: &str, names: &[&str]) -> Op {
    Op::Listed(prefix.into(), names.iter().map(|n| (*n).into()).collect())
}

fn names(history: &[Transaction]) -> Vec<String> {
    let mut names: Vec<_> = check(history).into_iter().map(|a| a.name).collect();
    names.sort();
    names.dedup();
    names
}

#[track_caller]
fn only(name: &str, history: &[Transaction]) {
    assert_eq!(names(history), [name], "{:#?}", check(history));
}

#[track_caller]
fn among(name: &str, history: &[Transaction]) {
    let found = names(history);
    assert!(found.iter().any(|n| n == name), "{:#?}", check(history));
}

#[track_caller]
fn good(history: &[Transaction]) {
    assert_eq!(check(history), []);
}

#[test]
fn a_serial_history_is_good() {
    good(&in_turn(vec![
        vec![read("r", None), write("r", 1), append("l", 1), add("c", 1)],
        vec![
            list("l", &[1]),
            append("l", 2),
            list("l", &[1, 2]),
            raise("p/f"),
        ],
        vec![add("c", 2), sum("c", 3), read("r", 1), write("r", 2)],
        vec![
            listed("p/", &["p/f"]),
            seen("p/f", true),
            lower("p/f"),
            listed("p/", &[]),
        ],
        vec![
            read("r", 2),
            list("l", &[1, 2]),
            sum("c", 3),
            listed("p/", &[]),
        ],
    ]));
}

#[test]
fn concurrent_transactions_may_go_in_any_order() {
    good(&together(vec![
        (Committed, vec![list("l", &[2]), append("l", 1)]),
        (Committed, vec![append("l", 2)]),
        (Committed, vec![list("l", &[]), sum("c", 0)]),
        (Committed, vec![add("c", 4), list("l", &[2, 1])]),
        (
            Conflict,
            vec![list("l", &[2]), append("l", 9), list("l", &[2, 9])],
        ),
    ]));
}

#[test]
fn a_reader_without_changes_may_miss_who_commits_meanwhile() {
    good(&[
        at(
            0,
            9,
            Committed,
            vec![list("l", &[]), sum("c", 0), seen("f", false)],
        ),
        at(
            1,
            2,
            Committed,
            vec![append("l", 1), add("c", 1), raise("f")],
        ),
        at(
            3,
            4,
            Committed,
            vec![list("l", &[1]), sum("c", 1), seen("f", true)],
        ),
    ]);
}

#[test]
fn a_rolled_back_change_is_not_seen_afterwards() {
    let rolled = vec![
        append("l", 1),
        Op::Savepoint,
        append("l", 2),
        list("l", &[1, 2]),
        Op::RollBack(0),
        list("l", &[1]),
    ];
    good(&in_turn(vec![rolled.clone(), vec![list("l", &[1])]]));
    among("G1b", &in_turn(vec![rolled, vec![list("l", &[1, 2])]]));
}

#[test]
fn a_listing_tells_nothing_of_what_the_transaction_took_back_later() {
    good(&together(vec![
        (Committed, vec![raise("p/f"), append("l", 1)]),
        (
            Committed,
            vec![
                list("l", &[1]),
                Op::Savepoint,
                seen("p/f", true),
                lower("p/f"),
                listed("p/", &[]),
                Op::RollBack(0),
                listed("p/", &["p/f"]),
            ],
        ),
    ]));
}

#[test]
fn an_unknown_outcome_is_what_others_saw() {
    let unknown = at(0, 1, Unknown, vec![append("l", 1), add("c", 1), raise("f")]);
    let with = vec![list("l", &[1]), sum("c", 1), seen("f", true)];
    let without = vec![list("l", &[]), sum("c", 0), seen("f", false)];
    let half = vec![list("l", &[1]), sum("c", 0), seen("f", true)];
    let and = |ops| [unknown.clone(), at(4, 5, Committed, ops)];
    good(&and(with.clone()));
    good(&and(without.clone()));
    among("G-single", &and(half));
    let late = [and(without)[1].clone(), at(6, 7, Committed, with)];
    good(&[unknown.clone(), late[0].clone(), late[1].clone()]);
}

#[test]
fn a_write_cycle_is_g0() {
    among(
        "G0",
        &together(vec![
            (Committed, vec![append("x", 1), append("y", 1)]),
            (Committed, vec![append("x", 2), append("y", 2)]),
            (Committed, vec![list("x", &[1, 2]), list("y", &[2, 1])]),
        ]),
    );
}

#[test]
fn a_read_of_what_was_not_committed_is_g1a() {
    for outcome in [Aborted, Conflict] {
        for (writes, reads) in [
            (append("x", 1), list("x", &[1])),
            (write("x", 1), read("x", 1)),
            (add("x", 1), sum("x", 1)),
            (raise("x"), seen("x", true)),
            (raise("p/x"), listed("p/", &["p/x"])),
        ] {
            only(
                "G1a",
                &together(vec![(outcome, vec![writes]), (Committed, vec![reads])]),
            );
        }
    }
}

#[test]
fn a_read_of_what_nobody_wrote_is_garbage() {
    for reads in [list("x", &[1]), read("x", 1), sum("x", 1), seen("x", true)] {
        let reader = vec![reads];
        if matches!(reader[..], [Op::Seen(..)]) {
            // A flag that nobody ever touched has no name to the checker but the reader's.
            let history = together(vec![(Committed, reader)]);
            only("garbage", &history);
        } else {
            only("garbage", &together(vec![(Committed, reader)]));
        }
    }
}

#[test]
fn an_intermediate_read_is_g1b() {
    for (one, two, reads) in [
        (append("x", 1), append("x", 2), list("x", &[1])),
        (write("x", 1), write("x", 2), read("x", 1)),
        (add("x", 1), add("x", 2), sum("x", 1)),
    ] {
        among(
            "G1b",
            &together(vec![(Committed, vec![one, two]), (Committed, vec![reads])]),
        );
    }
}

#[test]
fn circular_information_is_g1c() {
    only(
        "G1c",
        &together(vec![
            (Committed, vec![append("x", 1), list("y", &[2])]),
            (Committed, vec![append("y", 2), list("x", &[1])]),
        ]),
    );
    only(
        "G1c",
        &together(vec![
            (Committed, vec![add("x", 1), seen("f", true)]),
            (Committed, vec![raise("f"), sum("x", 1)]),
        ]),
    );
}

#[test]
fn read_skew_is_g_single() {
    for (write_y, old_y) in [
        (append("y", 1), list("y", &[])),
        (add("y", 1), sum("y", 0)),
        (raise("y"), seen("y", false)),
    ] {
        only(
            "G-single",
            &together(vec![
                (Committed, vec![append("x", 1), write_y]),
                (Committed, vec![list("x", &[1]), old_y.clone()]),
                (Committed, vec![list("x", &[1])]),
            ]),
        );
    }
}

#[test]
fn read_skew_of_one_that_conflicted_is_found_too() {
    only(
        "G-single",
        &together(vec![
            (Committed, vec![append("x", 1), append("y", 1)]),
            (Conflict, vec![list("x", &[1]), list("y", &[])]),
        ]),
    );
}

#[test]
fn a_lost_update_is_found() {
    among(
        "lost update",
        &together(vec![
            (Committed, vec![read("x", None), write("x", 1)]),
            (Committed, vec![read("x", None), write("x", 2)]),
        ]),
    );
    among(
        "lost update",
        &in_turn(vec![
            vec![raise("f")],
            vec![seen("f", true), lower("f")],
            vec![seen("f", true), lower("f")],
        ]),
    );
}

#[test]
fn write_skew_on_items_is_g2_item() {
    only(
        "G2-item",
        &together(vec![
            (Committed, vec![list("x", &[]), append("y", 1)]),
            (Committed, vec![list("y", &[]), append("x", 1)]),
            (Committed, vec![list("x", &[1]), list("y", &[1])]),
        ]),
    );
}

#[test]
fn write_skew_on_listings_is_g2() {
    only(
        "G2",
        &together(vec![
            (Committed, vec![listed("p/", &[]), raise("p/one")]),
            (Committed, vec![listed("p/", &[]), raise("p/two")]),
        ]),
    );
}

#[test]
fn a_stale_read_breaks_real_time() {
    only(
        "G-single-realtime",
        &in_turn(vec![
            vec![read("x", None), write("x", 1)],
            vec![read("x", None)],
        ]),
    );
    only(
        "G-single-realtime",
        &in_turn(vec![vec![raise("f")], vec![seen("f", false)]]),
    );
    only(
        "G-single-realtime",
        &in_turn(vec![
            vec![raise("f")],
            vec![lower("f")],
            vec![seen("f", true)],
        ]),
    );
}

#[test]
fn versions_against_real_time_are_g0_realtime() {
    only(
        "G0-realtime",
        &in_turn(vec![
            vec![append("x", 1)],
            vec![append("x", 2)],
            vec![list("x", &[2, 1])],
        ]),
    );
}

#[test]
fn a_value_from_the_future_is_g1c_realtime() {
    only(
        "G1c-realtime",
        &in_turn(vec![vec![list("x", &[1])], vec![append("x", 1)]]),
    );
}

#[test]
fn a_long_fork_is_found() {
    only(
        "G2-item",
        &together(vec![
            (Committed, vec![append("x", 1)]),
            (Committed, vec![append("y", 1)]),
            (Committed, vec![list("x", &[1]), list("y", &[])]),
            (Committed, vec![list("x", &[]), list("y", &[1])]),
        ]),
    );
}

#[test]
fn a_lost_append_is_found() {
    among(
        "lost append",
        &in_turn(vec![
            vec![append("x", 1)],
            vec![append("x", 2)],
            vec![list("x", &[2])],
        ]),
    );
    among(
        "lost add",
        &in_turn(vec![
            vec![add("x", 1)],
            vec![add("x", 2)],
            vec![sum("x", 2)],
        ]),
    );
}

#[test]
fn a_duplicate_append_is_found() {
    among(
        "duplicate append",
        &in_turn(vec![vec![append("x", 1)], vec![list("x", &[1, 1])]]),
    );
    among(
        "lost add",
        &in_turn(vec![vec![add("x", 1)], vec![sum("x", 2)]]),
    );
}

#[test]
fn incompatible_orders_are_found() {
    among(
        "incompatible orders",
        &together(vec![
            (Committed, vec![append("x", 1)]),
            (Committed, vec![append("x", 2)]),
            (Committed, vec![list("x", &[1, 2])]),
            (Committed, vec![list("x", &[2])]),
        ]),
    );
}

#[test]
fn a_transaction_that_contradicts_itself_is_found() {
    for ops in [
        vec![list("x", &[]), list("x", &[9])],
        vec![append("x", 1), list("x", &[])],
        vec![read("r", None), write("r", 1), read("r", None)],
        vec![add("c", 1), sum("c", 0)],
        vec![raise("p/f"), seen("p/f", false)],
        vec![raise("p/f"), listed("p/", &[])],
        vec![seen("p/g", true), listed("p/", &[])],
    ] {
        let extra = vec![append("x", 9), raise("p/g")];
        among(
            "internal",
            &together(vec![(Committed, extra), (Committed, ops)]),
        );
    }
}

#[test]
fn a_cycle_is_told_in_words() {
    let found = check(&in_turn(vec![
        vec![read("x", None), write("x", 1)],
        vec![read("x", None)],
    ]));
    let story = "T1 read x without what T0 wrote; T0 ended before T1 began; \
                 so each comes before itself";
    assert_eq!(found[0].story, story);
}

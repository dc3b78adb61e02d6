//! The merge of sums, extremes and closures on keys.

use super::fixture::check;
use crate::value::Arithmetic::{Add, Max, Min};

// C2.9
#[test]
fn counters_count_on_what_is_there() {
    const ONE: &str = "a#1 p/1{k=5}";
    check(&[
        (
            "add",
            ONE,
            "a#1 p/2{k=7}",
            |e| e.count("p", "k", Add(3)),
            "a#1 p/9{k=10}",
        ),
        (
            "add where there is none",
            ONE,
            "a#1",
            |e| e.count("p", "k", Add(3)),
            "a#1 p/9{k=3}",
        ),
        (
            "add nothing",
            ONE,
            "a#1 p/2{k=7}",
            |e| e.count("p", "k", Add(0)),
            "a#1 p/2{k=7}",
        ),
        (
            "a greater one",
            ONE,
            "a#1 p/2{k=7}",
            |e| e.count("p", "k", Max(8)),
            "a#1 p/9{k=8}",
        ),
        (
            "none greater than what came",
            ONE,
            "a#1 p/2{k=9}",
            |e| e.count("p", "k", Max(8)),
            "a#1 p/2{k=9}",
        ),
        (
            "a lesser one",
            ONE,
            "a#1 p/2{k=7}",
            |e| e.count("p", "k", Min(-2)),
            "a#1 p/9{k=-2}",
        ),
        (
            "steps in their order",
            ONE,
            "a#1 p/2{k=7}",
            |e| {
                e.count("p", "k", Add(3))
                    .count("p", "k", Min(8))
                    .count("p", "k", Add(1))
            },
            "a#1 p/9{k=9}",
        ),
        (
            "on what the transaction put",
            ONE,
            "a#1 p/2{k=7}",
            |e| e.put("p", "k", "1").count("p", "k", Add(3)),
            "a#1 p/9{k=4}",
        ),
        (
            "on what the transaction removed",
            ONE,
            "a#1 p/2{k=7}",
            |e| e.remove("p", "k").count("p", "k", Add(3)),
            "a#1 p/9{k=3}",
        ),
        (
            "on a package that the transaction cleared",
            ONE,
            "a#1 p/2{k=7}",
            |e| e.clear("p").count("p", "k", Add(3)),
            "a#1 p/9{k=3}",
        ),
        (
            "on a text that came",
            ONE,
            "a#1 p/2{k=x}",
            |e| e.count("p", "k", Add(3)),
            "TypeMismatch p.k",
        ),
        (
            "beyond what there is",
            ONE,
            "a#1 p/2{k=9223372036854775807}",
            |e| {
                e.count("p", "k", Add(i64::MAX))
                    .count("p", "k", Add(i64::MAX))
            },
            "Overflow p.k",
        ),
    ]);
}

// C2.9
#[test]
fn a_closure_runs_again_where_its_value_changed() {
    const ONE: &str = "a#1 p/1{j=1,k=1}";
    check(&[
        (
            "its value is what it was",
            ONE,
            "a#1 p/2{j=5,k=1}",
            |e| e.commute("p", "k", ("1", 2)),
            "a#1 p/9{j=5,k=2}",
        ),
        (
            "its value changed",
            ONE,
            "a#1 p/2{j=1,k=5}",
            |e| e.commute("p", "k", ("1", 2)),
            "again 2 from 5",
        ),
        (
            "its value is gone",
            ONE,
            "a#1",
            |e| e.commute("p", "k", ("1", 2)),
            "again 2 from",
        ),
        (
            "there was no value, and is none",
            "a#1",
            "a#1",
            |e| e.commute("p", "k", ("", 2)),
            "a#1 p/9{k=2}",
        ),
        (
            "there was no value, and is one",
            "a#1",
            ONE,
            |e| e.commute("p", "k", ("", 2)),
            "again 2 from 1",
        ),
        (
            "one closure after the other",
            ONE,
            ONE,
            |e| e.commute("p", "k", ("1", 2)).commute("p", "k", ("2", 3)),
            "a#1 p/9{j=1,k=3}",
        ),
        (
            "the first of them is run again first",
            ONE,
            "a#1 p/2{k=4}",
            |e| e.commute("p", "k", ("1", 2)).commute("p", "k", ("2", 3)),
            "again 2 from 4",
        ),
        (
            "a counter before it counts on what is there",
            ONE,
            "a#1 p/2{k=4}",
            |e| e.count("p", "k", Add(1)).commute("p", "k", ("2", 3)),
            "again 3 from 5",
        ),
        (
            "all that are to run again are told at once",
            "a#1 p/1{j=1,k=1} q/1{k=1}",
            "a#1 p/2{j=5,k=6} q/2{k=7}",
            |e| {
                e.commute("p", "j", ("1", 2)).commute("p", "k", ("1", 3));
                e.commute("q", "k", ("1", 4))
            },
            "again 2 from 5, again 3 from 6, again 4 from 7",
        ),
        (
            "what was read conflicts first",
            ONE,
            "a#1 p/2{j=5,k=6}",
            |e| e.read("p", "j").commute("p", "k", ("1", 2)),
            "Conflict p.j",
        ),
    ]);
}

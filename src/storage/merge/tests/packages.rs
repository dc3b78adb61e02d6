//! The merge of packages and their keys.

use super::edit::Edit;
use super::fixture::check;
use crate::storage::SessionEnd;

// C2.7
#[test]
fn what_was_read_must_still_hold_its_bytes() {
    const ONE: &str = "a#1 p/1{j=1,k=1}";
    check(&[
        (
            "nothing changed",
            ONE,
            ONE,
            |e| e.read("p", "k").put("p", "k", "2"),
            "a#1 p/9{j=1,k=2}",
        ),
        (
            "another key changed",
            ONE,
            "a#1 p/2{j=5,k=1}",
            |e| e.read("p", "k").put("p", "k", "2"),
            "a#1 p/9{j=5,k=2}",
        ),
        (
            "the key changed",
            ONE,
            "a#1 p/2{j=1,k=7}",
            |e| e.read("p", "k").put("p", "l", "2"),
            "Conflict p.k",
        ),
        (
            "the key was written with what it held",
            ONE,
            "a#1 p/3{j=2,k=1}",
            |e| e.read("p", "k").put("p", "k", "2"),
            "a#1 p/9{j=2,k=2}",
        ),
        (
            "the key was removed",
            ONE,
            "a#1 p/2{j=1}",
            |e| e.read("p", "k").put("p", "l", "2"),
            "Conflict p.k",
        ),
        (
            "the package was removed",
            ONE,
            "a#1",
            |e| e.read("p", "k").put("p", "l", "2"),
            "Conflict p.k",
        ),
        (
            "the key was not there and is",
            ONE,
            "a#1 p/2{j=1,k=1,l=1}",
            |e| e.read("p", "l").put("p", "l", "2"),
            "Conflict p.l",
        ),
        (
            "neither the package nor the key was there",
            "a#1",
            "a#1 p/2{j=1}",
            |e| e.read("p", "k").put("p", "k", "2"),
            "a#1 p/9{j=1,k=2}",
        ),
        (
            "the package was not there, and the key is",
            "a#1",
            "a#1 p/2{k=1}",
            |e| e.read("p", "k").put("p", "k", "2"),
            "Conflict p.k",
        ),
        (
            "of several keys the first in their order is named",
            ONE,
            "a#1 p/2{j=5,k=5}",
            |e| e.read("p", "k").read("p", "j").put("p", "l", "2"),
            "Conflict p.j",
        ),
        (
            "many absent keys were read, none of them is there",
            "a#1 p/1{k=1}",
            "a#1 p/2{k=2}",
            |e| {
                "abcd"
                    .chars()
                    .fold(e, |e, k| e.read("p", &k.to_string()))
                    .put("p", "k", "3")
            },
            "a#1 p/9{k=3}",
        ),
        (
            "many absent keys were read, one of them is there",
            "a#1 p/1{k=1}",
            "a#1 p/2{c=1,k=1}",
            |e| {
                "abcd"
                    .chars()
                    .fold(e, |e, k| e.read("p", &k.to_string()))
                    .put("p", "k", "3")
            },
            "Conflict p.c",
        ),
        (
            "a package that is read only",
            "a#1 p/1{k=1} q/1{k=1}",
            "a#1 p/2{k=2} q/1{k=1}",
            |e| e.read("p", "k").put("q", "k", "3"),
            "Conflict p.k",
        ),
        (
            "a package in another container",
            "a#1 p/1{k=1} s:a#1 s/1{k=1}",
            "a#1 p/1{k=1} s:a#1 s/2{k=2}",
            |e| e.read("s", "k").put("p", "k", "3"),
            "Conflict s.k",
        ),
    ]);
}

// C2.7
#[test]
fn listing_a_package_reads_all_of_it() {
    const ONE: &str = "a#1 p/1{j=1,k=1}";
    let list: fn(&mut Edit) -> &mut Edit = |e| e.list("p").put("p", "k", "2");
    check(&[
        ("nothing changed", ONE, ONE, list, "a#1 p/9{j=1,k=2}"),
        (
            "it was written with what it held",
            ONE,
            "a#1 p/4{j=1,k=1}",
            list,
            "a#1 p/9{j=1,k=2}",
        ),
        ("a key changed", ONE, "a#1 p/2{j=1,k=2}", list, "Conflict p"),
        (
            "a key came",
            ONE,
            "a#1 p/2{i=1,j=1,k=1}",
            list,
            "Conflict p",
        ),
        ("a key went", ONE, "a#1 p/2{j=1}", list, "Conflict p"),
        ("it went", ONE, "a#1", list, "Conflict p"),
        ("it came", "a#1", ONE, list, "Conflict p"),
        ("it is absent still", "a#1", "a#1", list, "a#1 p/9{k=2}"),
    ]);
}

// C2.8
#[test]
fn what_was_not_read_merges() {
    const ONE: &str = "a#1 p/1{j=1,k=1}";
    check(&[
        (
            "a blind write wins",
            ONE,
            "a#1 p/2{j=2,k=2}",
            |e| e.put("p", "k", "3"),
            "a#1 p/9{j=2,k=3}",
        ),
        (
            "a blind write beside one that came",
            "a#1",
            ONE,
            |e| e.put("p", "l", "x"),
            "a#1 p/9{j=1,k=1,l=x}",
        ),
        (
            "a blind write into what was removed",
            ONE,
            "a#1",
            |e| e.put("p", "k", "3"),
            "a#1 p/9{k=3}",
        ),
        (
            "a package beside one that came",
            "a#1",
            "a#1 q/2{k=1}",
            |e| e.put("p", "k", "3"),
            "a#1 p/9{k=3} q/2{k=1}",
        ),
        (
            "the value that is there already writes nothing",
            ONE,
            "a#1 p/2{j=1,k=3}",
            |e| e.put("p", "k", "3"),
            "a#1 p/2{j=1,k=3}",
        ),
        (
            "a key is removed",
            ONE,
            "a#1 p/2{j=2,k=2}",
            |e| e.remove("p", "k"),
            "a#1 p/9{j=2}",
        ),
        (
            "a key that is gone is removed",
            ONE,
            "a#1 p/2{j=2}",
            |e| e.remove("p", "k"),
            "a#1 p/2{j=2}",
        ),
        (
            "the last key is removed, and the package with it",
            ONE,
            "a#1 p/2{k=2} q/1{k=1}",
            |e| e.remove("p", "k"),
            "a#1 q/1{k=1}",
        ),
        (
            "a package is cleared of what came, too",
            ONE,
            "a#1 p/2{j=1,k=1,l=1}",
            |e| e.clear("p"),
            "a#1",
        ),
        (
            "a package that is gone is cleared",
            ONE,
            "a#1",
            |e| e.clear("p"),
            "a#1",
        ),
        (
            "a package is cleared and written",
            ONE,
            "a#1 p/2{j=1,l=1}",
            |e| e.clear("p").put("p", "k", "3"),
            "a#1 p/9{k=3}",
        ),
        (
            "a package is cleared and written as it was",
            ONE,
            "a#1 p/2{k=3}",
            |e| e.clear("p").put("p", "k", "3"),
            "a#1 p/2{k=3}",
        ),
    ]);
}

// C5.3
#[test]
fn limits_hold_after_merging() {
    const FULL: &str = "a#1 p/1{j=1,k=1,l=1}";
    check(&[
        (
            "a key too many",
            "a#1 p/1{j=1,k=1}",
            FULL,
            |e| e.put("p", "m", "1"),
            "TooLarge p",
        ),
        (
            "a key for a key",
            FULL,
            FULL,
            |e| e.put("p", "m", "1").remove("p", "j"),
            "a#1 p/9{k=1,l=1,m=1}",
        ),
        (
            "of more than there may be, a key changes",
            "a#1 p/1{i=1,j=1,k=1,l=1}",
            "a#1 p/1{i=1,j=1,k=1,l=1}",
            |e| e.put("p", "i", "2"),
            "a#1 p/9{i=2,j=1,k=1,l=1}",
        ),
        (
            "a package too many",
            "a#1",
            "a#1 p/1{k=1} q/1{k=1}",
            |e| e.put("r", "k", "1"),
            "TooLarge r",
        ),
        (
            "a package for a package",
            "a#1",
            "a#1 p/1{k=1} q/1{k=1}",
            |e| e.put("r", "k", "1").clear("q"),
            "a#1 p/1{k=1} r/9{k=1}",
        ),
        (
            "of more than there may be, a package changes",
            "a#1 p/1{k=1} q/1{k=1} r/1{k=1}",
            "a#1 p/1{k=1} q/1{k=1} r/1{k=1}",
            |e| e.put("r", "k", "2"),
            "a#1 p/1{k=1} q/1{k=1} r/9{k=2}",
        ),
        (
            "a package of too many bytes",
            "a#1",
            "a#1",
            |e| e.put("p", "k", &"x".repeat(100)),
            "TooLarge p",
        ),
    ]);
}

// C5.4
#[test]
fn a_listed_package_without_its_row_is_damage() {
    check(&[
        (
            "it is written",
            "a#1 p?",
            "a#1 p?",
            |e| e.put("p", "k", "1"),
            "Corrupt p",
        ),
        (
            "it is read",
            "a#1 p? q/1{k=1}",
            "a#1 p? q/1{k=1}",
            |e| e.read("p", "k").put("q", "k", "2"),
            "Corrupt p",
        ),
        (
            "another is written",
            "a#1 p? q/1{k=1}",
            "a#1 p? q/1{k=1}",
            |e| e.put("q", "k", "2"),
            "a#1 p? q/9{k=2}",
        ),
        (
            "the session is destroyed",
            "a#1 p?",
            "a#1 p?",
            |e| e.ends(SessionEnd::Destroyed),
            "a!110",
        ),
    ]);
}

//! The operations of the visitors of a store, and how they are drawn.

use super::spec::{At, ModelContainer, Policy};
use proptest::prelude::*;

pub(super) const PACKAGES: [&str; 2] = ["p", "q"];
pub(super) const KEYS: [&str; 3] = ["a", "b", "c"];

/// Which of the three transactions that may be open, and which of the two visitors.
pub(super) type T = usize;
pub(super) type C = usize;

#[derive(Clone, Copy, Debug)]
pub enum Op {
    Begin(T),
    Get(T, C, At),
    Insert(T, C, At, i64),
    Remove(T, C, At),
    Clear(T, C, At),
    Keys(T, C, At),
    Add(T, C, At, i64),
    Max(T, C, At, i64),
    Commute(T, C, At, i64),
    Exists(T, C),
    ExistsIn(T, C, ModelContainer),
    WhoAmI(T, C),
    Rotate(T, C),
    Destroy(T, C),
    SetTimeout(T, C, Option<u64>),
    Savepoint(T),
    RollBack(T, usize),
    /// And then the visitors keep their old ids, or take the new ones that they were given.
    Commit(T, Cookies),
    Abort(T),
    Advance(u64),
    Sweep(ModelContainer),
    Reopen,
    /// A container gets other settings.
    Configure(ModelContainer, Policy),
    /// All transactions commit at once, so that they wait in one group.
    Together,
    /// A visitor comes without a cookie.
    Forget(C),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cookies {
    Kept,
    Taken,
}

/// The store that a case runs on.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    pub(super) file: bool,
    /// Whether the second container lives in memory.
    pub(super) ram: bool,
    /// Bytes of redb's cache. Where there are few, a checkpoint takes several commits of redb.
    pub(super) cache: usize,
    pub(super) policies: [Policy; 2],
}

fn at() -> impl Strategy<Value = At> {
    // Unevenly, so that transactions meet.
    let container =
        prop_oneof![2 => Just(ModelContainer::First), 1 => Just(ModelContainer::Second)];
    let package = prop_oneof![3 => Just(0_usize), 1 => Just(1)];
    let key = prop_oneof![3 => Just(0_usize), 2 => Just(1), 1 => Just(2)];
    (container, package, key).prop_map(|(container, package, key)| At {
        container,
        package,
        key,
    })
}

pub fn op() -> impl Strategy<Value = Op> {
    let container = || prop_oneof![Just(ModelContainer::First), Just(ModelContainer::Second)];
    let cookies = prop_oneof![1 => Just(Cookies::Kept), 3 => Just(Cookies::Taken)];
    let (t, c, n) = (|| 0..3_usize, || 0..2_usize, || 0..5_i64);
    let timeout = prop_oneof![
        Just(None),
        Just(Some(0)),
        Just(Some(15_000)),
        Just(Some(90_000))
    ];
    let time = prop_oneof![
        Just(1),
        Just(4_000),
        Just(11_000),
        Just(31_000),
        Just(61_000)
    ];
    prop_oneof![
        3 => t().prop_map(Op::Begin),
        8 => (t(), c(), at()).prop_map(|(t, c, at)| Op::Get(t, c, at)),
        12 => (t(), c(), at(), n()).prop_map(|(t, c, at, n)| Op::Insert(t, c, at, n)),
        3 => (t(), c(), at()).prop_map(|(t, c, at)| Op::Remove(t, c, at)),
        2 => (t(), c(), at()).prop_map(|(t, c, at)| Op::Clear(t, c, at)),
        3 => (t(), c(), at()).prop_map(|(t, c, at)| Op::Keys(t, c, at)),
        4 => (t(), c(), at(), n()).prop_map(|(t, c, at, n)| Op::Add(t, c, at, n)),
        2 => (t(), c(), at(), n()).prop_map(|(t, c, at, n)| Op::Max(t, c, at, n)),
        3 => (t(), c(), at(), n()).prop_map(|(t, c, at, n)| Op::Commute(t, c, at, n)),
        2 => (t(), c()).prop_map(|(t, c)| Op::Exists(t, c)),
        1 => (t(), c(), container()).prop_map(|(t, c, container)| Op::ExistsIn(t, c, container)),
        1 => (t(), c()).prop_map(|(t, c)| Op::WhoAmI(t, c)),
        2 => (t(), c()).prop_map(|(t, c)| Op::Rotate(t, c)),
        2 => (t(), c()).prop_map(|(t, c)| Op::Destroy(t, c)),
        1 => (t(), c(), timeout).prop_map(|(t, c, timeout)| Op::SetTimeout(t, c, timeout)),
        1 => t().prop_map(Op::Savepoint),
        2 => (t(), 0..3_usize).prop_map(|(t, n)| Op::RollBack(t, n)),
        12 => (t(), cookies).prop_map(|(t, cookies)| Op::Commit(t, cookies)),
        1 => t().prop_map(Op::Abort),
        5 => time.prop_map(Op::Advance),
        1 => container().prop_map(Op::Sweep),
        1 => Just(Op::Reopen),
        1 => (container(), policy()).prop_map(|(container, policy)| Op::Configure(container, policy)),
        2 => Just(Op::Together),
        1 => c().prop_map(Op::Forget),
    ]
}

const LONG: Policy = Policy {
    timeout: 60_000,
    resolution: 10_000,
    max_lifetime: None,
};
const SHORT: Policy = Policy {
    timeout: 30_000,
    resolution: 0,
    max_lifetime: Some(120_000),
};
const ENDLESS: Policy = Policy {
    timeout: 0,
    resolution: 10_000,
    max_lifetime: None,
};

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![3 => Just(LONG), 3 => Just(SHORT), 1 => Just(ENDLESS)]
}

/// Scenes for transactions that meet: mostly in memory.
pub fn scene() -> impl Strategy<Value = Scene> {
    let file = prop_oneof![1 => Just(true), 7 => Just(false)];
    scene_on(file)
}

/// Scenes on a disk.
pub fn scene_on_disk() -> impl Strategy<Value = Scene> {
    scene_on(Just(true))
}

fn scene_on(file: impl Strategy<Value = bool>) -> impl Strategy<Value = Scene> {
    let cache = prop_oneof![Just(1 << 20), Just(1 << 15)];
    let scene = (file, any::<bool>(), cache, policy(), policy());
    scene.prop_map(|(file, ram, cache, first, second)| Scene {
        file,
        ram,
        cache,
        policies: [first, second],
    })
}

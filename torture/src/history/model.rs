//! What a run leaves behind: transactions and what they did, as plain data. Knows no store.

use std::sync::Arc;

/// A moment: the value of one counter that all threads take from, so that of two ticks the lesser was
/// taken first.
pub type Tick = u64;

/// An object's name, `client/package/key`. Flags with the same `client/package/` are listed together.
pub type Name = Arc<str>;

/// One transaction, or one attempt of it.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Taken before it began.
    pub begin: Tick,
    /// Taken after its outcome was known.
    pub end: Tick,
    /// What became of it.
    pub outcome: Outcome,
    /// What it did, in order.
    pub ops: Vec<Op>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The commit said so.
    Committed,
    /// Given up on purpose.
    Aborted,
    /// Refused.
    Conflict,
    /// It may have been committed, then or later.
    Unknown,
}

/// One operation of a transaction. Of the transactions that write one value to an object, at most one is committed, and
/// the outcome of the others is known.
#[derive(Clone, Debug)]
pub enum Op {
    /// Read a list, to which elements are only ever appended.
    ReadList(Name, Vec<u64>),
    /// Appended to a list, having read it or not.
    Append(Name, u64),
    /// Read a register.
    Read(Name, Option<u64>),
    /// Replaced the value of a register.
    Write(Name, u64),
    /// Read a counter.
    Sum(Name, u64),
    /// Added a power of two that is its own to a counter.
    Add(Name, u64),
    /// Read whether a flag is up: whether a key, or a session, is there.
    Seen(Name, bool),
    /// Read which flags of a prefix are up.
    Listed(Name, Vec<Name>),
    /// Put a flag up. One that came down is never put up again.
    Raise(Name),
    /// Took a flag down.
    Lower(Name),
    /// Set a savepoint.
    Savepoint,
    /// Rolled back to a savepoint, by its place among those there are.
    RollBack(usize),
}

/// A rule that the history breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// The name of the phenomenon, after Adya and Elle: `G1a`, `G-single-realtime`, `lost update`, ….
    pub name: String,
    /// The cycle in words.
    pub story: String,
}

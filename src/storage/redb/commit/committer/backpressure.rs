//! How much of the bounds of the journal and of memory is used, and how commits are held up before they are reached.

use crate::storage::redb::JournalRules;
use crate::storage::redb::commit::committer::core::Committer;
use crate::storage::redb::commit::queue::MAX_GROUP_BYTES;
use std::time::Duration;

/// Batches are held up from this much of the bounds on.
const SLOWED: f64 = 0.75;
/// Work that is not urgent pauses from this much of the bounds on.
const PAUSED: f64 = 0.7;
/// How long a batch is held up at most while a checkpoint falls behind, before it has to wait for the checkpoint.
const SLOWEST: Duration = Duration::from_millis(4);

impl Committer {
    /// How many more bytes the bounds of the active memtable allow, in its journal file and in memory.
    fn space(&self) -> usize {
        let rows = self.state.rows();
        let used = rows.map_or(0, |rows| rows.view.active.memory_size());
        let memory = (self.rules.memory / 2).saturating_sub(used);
        let file = (self.state.journal()).map_or(u64::MAX, |journal| journal.remaining());
        usize::try_from(file).map_or(memory, |file| file.min(memory))
    }

    /// After how many bytes a batch ends, so that it stays within the bounds but is not too small.
    pub(super) fn enough(&self) -> usize {
        let JournalRules { size, memory, .. } = self.rules;
        let least = usize::try_from(size).map_or(memory, |size| size.min(memory)) / 32;
        let most = MAX_GROUP_BYTES.min(self.rules.largest_group);
        self.space().max(least).min(most)
    }

    /// How much of the bounds of the active memtable is used: 1 is all of it.
    pub(super) fn filled(&self) -> f64 {
        let Some(rows) = self.state.rows() else {
            return 0.0;
        };
        if rows.active.is_full {
            return 1.0;
        }
        let journal = rows.journal.as_ref();
        let journal = journal.map_or(0.0, |(journal, _)| journal.filled());
        let active = rows.view.active.memory_size() as f64;
        let memory = active / (self.rules.memory / 2).max(1) as f64;
        journal.max(memory)
    }

    /// How much of the bounds of both memtables is used while there is an immutable one, else 0.
    fn used(&self) -> f64 {
        let rows = self.state.rows();
        match rows.and_then(|rows| rows.view.immutable.as_ref()) {
            Some(_) => (1.0 + self.filled()) / 2.0,
            None => 0.0,
        }
    }

    /// Holds a batch up while checkpoints do not keep pace, and until there is space for its first commit.
    pub(super) fn make_space_for(&mut self, bytes: usize) {
        // A commit that is larger than all the space there ever is gets an empty memtable.
        let lacks_space = bytes > self.space();
        if let Some(rows) = self.state.rows_mut() {
            rows.active.is_full = lacks_space && !rows.view.active.is_empty();
        }
        self.slow_down();
        if let Some(rows) = self.state.rows_mut() {
            rows.active.is_full = false;
        }
    }

    /// From three quarters of the bounds on, waits the longer the more is used; at the bounds, until there is space.
    fn slow_down(&mut self) {
        let used = self.used();
        if used > SLOWED && used < 1.0 {
            let over = (used - SLOWED) / (1.0 - SLOWED);
            std::thread::sleep(SLOWEST.mul_f64(over));
            self.collect();
        }
        while self.filled() >= 1.0 {
            if !self.state.is_checked_out() {
                self.give_tasks();
            }
            // A checkpoint that begins makes space at once. One that runs has to end.
            if !self.state.is_checked_out() || self.filled() < 1.0 {
                break;
            }
            self.await_checkpointer();
        }
    }

    /// Tells work that is not urgent to pause before batches are held up. It does not wait for a checkpoint that
    /// failed.
    pub(super) fn update_backpressure(&self) {
        if self.state.is_checked_out() && self.used() > PAUSED {
            self.shared.io.begin_backpressure();
        } else {
            self.shared.io.end_backpressure();
        }
    }
}

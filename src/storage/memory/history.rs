//! The versions of one row that snapshots may still read.

/// The contents of a row, each with the revision from which it holds. `None`: the row is removed.
#[derive(Debug)]
pub(super) struct RowHistory<T> {
    /// In the order of the revisions.
    contents: Vec<(u64, Option<T>)>,
}

impl<T> Default for RowHistory<T> {
    fn default() -> Self {
        Self {
            contents: Vec::new(),
        }
    }
}

impl<T> RowHistory<T> {
    pub(super) fn newest(&self) -> Option<&T> {
        self.contents.last()?.1.as_ref()
    }

    /// The content as of a revision.
    pub(super) fn at(&self, revision: u64) -> Option<&T> {
        let known = self.contents.partition_point(|(from, _)| *from <= revision);
        self.contents.get(known.checked_sub(1)?)?.1.as_ref()
    }

    /// Puts a content in that holds from `revision` on. What no snapshot from `oldest` on can read goes.
    pub(super) fn put(&mut self, revision: u64, content: Option<T>, oldest: u64) {
        if self
            .contents
            .last()
            .is_some_and(|(from, _)| *from == revision)
        {
            self.contents.pop();
        }
        self.contents.push((revision, content));
        self.forget(oldest);
    }

    /// Drops what no snapshot from `oldest` on can read. Returns whether anything is left.
    pub(super) fn forget(&mut self, oldest: u64) -> bool {
        let readable = self.contents.partition_point(|(from, _)| *from <= oldest);
        self.contents.drain(..readable.saturating_sub(1));
        if let [(from, None)] = &*self.contents
            && *from <= oldest
        {
            self.contents.clear();
        }
        !self.contents.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C2.1
    #[test]
    fn each_revision_shows_its_own_content() {
        let mut row = RowHistory::default();
        row.put(2, Some('a'), 0);
        row.put(4, None, 0);
        row.put(6, Some('b'), 0);
        let seen: Vec<_> = (1..=7).map(|revision| row.at(revision).copied()).collect();
        let expected = [None, Some('a'), Some('a'), None, None, Some('b'), Some('b')];
        assert_eq!(seen, expected);
        assert_eq!(row.newest(), Some(&'b'));
    }

    #[test]
    fn what_no_snapshot_can_read_is_dropped() {
        let mut row = RowHistory::default();
        row.put(1, Some('a'), 0);
        row.put(2, Some('b'), 0);
        row.put(3, None, 2);
        assert_eq!((row.contents.len(), row.at(2)), (2, Some(&'b')));
        assert!(!row.forget(3));
        assert_eq!(row.at(3), None);
    }

    #[test]
    fn a_row_written_twice_in_one_commit_has_the_later_content() {
        let mut row = RowHistory::default();
        row.put(1, None, 0);
        row.put(1, Some('a'), 0);
        assert_eq!((row.contents.len(), row.at(1)), (1, Some(&'a')));
    }
}

//! How much may wait to be committed: so many change sets, and so many bytes of them. Pure; knows no
//! queue and no one who waits.

/// What may wait at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmissionBounds {
    pub(crate) commits: usize,
    pub(crate) bytes: usize,
}

/// What waits.
#[derive(Debug)]
pub(crate) struct Admission {
    bounds: AdmissionBounds,
    pub(crate) commits: usize,
    pub(crate) bytes: usize,
}

impl Admission {
    pub(crate) fn new(bounds: AdmissionBounds) -> Self {
        Self {
            bounds,
            commits: 0,
            bytes: 0,
        }
    }

    /// Takes in a change set if there is room. One that is too large by itself gets in when nothing
    /// else is there, so that every one does in the end.
    pub(crate) fn admit(&mut self, bytes: usize) -> bool {
        let sum = self.bytes.saturating_add(bytes);
        let fits = self.commits < self.bounds.commits && sum <= self.bounds.bytes;
        if self.commits > 0 && !fits {
            return false;
        }
        self.commits += 1;
        self.bytes = sum;
        true
    }

    pub(crate) fn release(&mut self, commits: usize, bytes: usize) {
        let is_theirs = self.commits >= commits && self.bytes >= bytes;
        debug_assert!(is_theirs, "left twice");
        self.commits = self.commits.saturating_sub(commits);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(commits: usize, bytes: usize) -> Admission {
        Admission::new(AdmissionBounds { commits, bytes })
    }

    #[test]
    fn there_is_room_up_to_either_bound() {
        let mut room = room(3, 100);
        assert!(room.admit(40));
        assert!(room.admit(60));
        assert!(!room.admit(1), "bytes");
        room.release(1, 60);
        assert!(room.admit(1));
        assert!(room.admit(1));
        assert!(!room.admit(0), "commits");
        assert_eq!((room.commits, room.bytes), (3, 42));
    }

    #[test]
    fn what_is_too_large_for_any_room_gets_in_alone() {
        let mut room = room(3, 100);
        assert!(room.admit(1));
        assert!(!room.admit(101));
        room.release(1, 1);
        assert!(room.admit(101));
        assert!(!room.admit(0));
        room.release(1, 101);
        assert_eq!((room.commits, room.bytes), (0, 0));
    }

    #[test]
    fn bounds_of_zero_let_one_in_at_a_time() {
        let mut room = room(0, 0);
        assert!(room.admit(7));
        assert!(!room.admit(0));
        room.release(1, 7);
        assert!(room.admit(7));
    }
}

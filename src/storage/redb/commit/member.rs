//! A member of a batch, and its outcome.

use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind};
use crate::storage::redb::commit::job::CommitJob;
use crate::storage::{ChangeSet, Outcome, StaleCommute};

/// The decision about a member of a batch.
pub(crate) enum BatchVerdict {
    /// Nothing yet. This ends as an error, however the batch ends.
    Undecided,
    /// Its rows are in the batch. It is committed once they are durable.
    Accepted(Box<ChangeSet>),
    /// It writes nothing. Where one client's session was at fault, its key.
    Refused(Error, Option<ClientKey>),
    /// It writes nothing: a commute must be computed again.
    Stale(Box<ChangeSet>, Vec<StaleCommute>),
}

/// A job in a batch.
pub(crate) struct Member {
    pub(crate) job: CommitJob,
    pub(crate) verdict: BatchVerdict,
}

impl From<CommitJob> for Member {
    fn from(job: CommitJob) -> Self {
        Self {
            job,
            verdict: BatchVerdict::Undecided,
        }
    }
}

impl Member {
    /// The outcome if the batch is durable and visible.
    pub(crate) fn ended(self) -> (CommitJob, Outcome) {
        let outcome = match self.verdict {
            BatchVerdict::Accepted(set) => Outcome::Committed(set),
            BatchVerdict::Refused(error, client) => Outcome::Failed(error, client),
            BatchVerdict::Stale(set, commutes) => Outcome::Stale(set, commutes, None),
            BatchVerdict::Undecided => Outcome::Failed(undecided(), None),
        };
        (self.job, outcome)
    }

    /// The outcome if the batch failed. `error` is for the members whose rows were in it.
    pub(crate) fn failed(self, error: &Error) -> (CommitJob, Outcome) {
        let outcome = match self.verdict {
            BatchVerdict::Accepted(_) => Outcome::Failed(error.clone(), None),
            // It may have been refused because of another member, which was not committed.
            BatchVerdict::Refused(..) | BatchVerdict::Undecided => {
                Outcome::Failed(not_written(error.clone()), None)
            }
            BatchVerdict::Stale(set, commutes) => Outcome::Stale(set, commutes, None),
        };
        (self.job, outcome)
    }
}

pub(crate) fn not_written(cause: Error) -> Error {
    if cause.kind() == ErrorKind::NotWritten {
        return cause;
    }
    Error::new(
        ErrorKind::NotWritten,
        "storage failed; nothing of the commit was kept",
    )
    .with_source(cause)
}

fn undecided() -> Error {
    Error::new(
        ErrorKind::NotWritten,
        "the store's writer did not decide about the commit; nothing of it was kept",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::redb::commit::queue::tests::set;

    fn member(verdict: BatchVerdict) -> Member {
        Member {
            verdict,
            ..Member::from(CommitJob::new(set(), Box::new(drop)))
        }
    }

    fn kind_of((_, outcome): (CommitJob, Outcome)) -> Option<ErrorKind> {
        match outcome {
            Outcome::Failed(error, _) => Some(error.kind()),
            Outcome::Committed(_) | Outcome::Stale(..) => None,
        }
    }

    // C2.2
    #[test]
    fn only_an_accepted_member_of_a_durable_group_is_committed() {
        let refused = || BatchVerdict::Refused(Error::new(ErrorKind::Conflict, "refused"), None);
        let unknown = Error::new(ErrorKind::OutcomeUnknown, "not synced");
        let (_, outcome) = member(BatchVerdict::Accepted(set())).ended();
        assert!(matches!(outcome, Outcome::Committed(_)));
        assert_eq!(
            kind_of(member(refused()).ended()),
            Some(ErrorKind::Conflict)
        );
        let kind = kind_of(member(BatchVerdict::Accepted(set())).failed(&unknown));
        assert_eq!(kind, Some(ErrorKind::OutcomeUnknown));
        let kind = kind_of(member(refused()).failed(&unknown));
        assert_eq!(kind, Some(ErrorKind::NotWritten));
        let stale = || member(BatchVerdict::Stale(set(), Vec::new()));
        for (_, outcome) in [stale().ended(), stale().failed(&unknown)] {
            assert!(matches!(outcome, Outcome::Stale(..)));
        }
    }

    // C2.2
    #[test]
    fn an_undecided_member_ends_as_an_error_however_its_group_ends() {
        let undecided = || Member::from(CommitJob::new(set(), Box::new(drop)));
        let not_written = Some(ErrorKind::NotWritten);
        assert_eq!(kind_of(undecided().ended()), not_written);
        let unknown = Error::new(ErrorKind::OutcomeUnknown, "not synced");
        assert_eq!(kind_of(undecided().failed(&unknown)), not_written);
    }
}
